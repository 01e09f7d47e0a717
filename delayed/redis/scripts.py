"""The Lua scripts. The folder is the list: each file is a script, and `Queue` has a method of the same name for it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Argument = str | bytes | int | float


def _folder() -> Path:
    """`delayed/lua` in an installed package, `lua` beside `delayed` in a checkout."""
    here = Path(__file__).parent.parent
    return next(folder for folder in (here / "lua", here.parent / "lua") if (folder / "enqueue.lua").is_file())


@dataclass(frozen=True, slots=True)
class Script:
    """A script as the server knows it."""

    name: str
    source: bytes
    sha: str

    def command(self, keys: tuple[str, ...], arguments: tuple[Argument, ...] = ()) -> tuple[Argument, ...]:
        """The Redis command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)

    def with_source(self, command: tuple[Argument, ...]) -> tuple[Argument, ...]:
        """The same command for a server that does not have the script (yet, or any more)."""
        return ("EVAL", self.source, *command[2:])

    def evaluate(self, keys: tuple[str, ...], arguments: Sequence[Argument]) -> tuple[Argument, ...]:
        """The command that runs it on any server, whether that has the script or not."""
        return self.with_source(self.command(keys, tuple(arguments)))


def _load(path: Path) -> Script:
    source = path.read_bytes()
    return Script(path.stem, source, hashlib.sha1(source, usedforsecurity=False).hexdigest())


SCRIPTS = {path.stem: _load(path) for path in sorted(_folder().glob("*.lua"))}
