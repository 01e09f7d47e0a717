"""The allow-list: decides which functions may run, since importing and calling any path would be code execution."""

import re
from collections.abc import Iterable
from fnmatch import translate

from ..errors import ConfigurationError


class AllowList:
    """Function paths that may run.

    Args:
        patterns: as the shell's, matched against the whole path `module.path:function`, for example `myapp.tasks:*`.
            `*` also matches dots, so `myapp.*:*` covers all modules below `myapp`. A function whose name begins with two
            underscores has to be named in full.

    Raises:
        ConfigurationError: a pattern without a colon, or with a comma or a blank, which could never match as meant, or none
            at all.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        if not self.patterns:
            raise ConfigurationError("an empty allow-list would bury every task; name at least one, like 'myapp.tasks:*'")
        for pattern in self.patterns:
            if re.search(r"[,\s]", pattern):
                raise ConfigurationError(
                    f"{pattern!r} in the allow-list has a comma or a blank, which no path has: give each pattern by itself "
                    f"(allow=['a:*', 'b:*'], or --allow 'a:*' --allow 'b:*')"
                )
            if ":" not in pattern:
                raise ConfigurationError(
                    f"{pattern!r} in the allow-list has no colon; paths are 'module.path:function', so write "
                    f"'{pattern}:*' for all functions of a module"
                )
        self._match = re.compile("|".join(map(translate, self.patterns))).match

    def __contains__(self, path: object) -> bool:
        if not isinstance(path, str):
            return False
        if path.partition(":")[2].startswith("__"):  # what Python gives to every module is no task
            return path in self.patterns
        return self._match(path) is not None


class AllowAny:
    """Allows everything: whoever can write to the queue can run any importable function in the worker."""

    patterns = ("*",)

    def __contains__(self, path: object) -> bool:
        return True
