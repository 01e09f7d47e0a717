"""What a queue's keys hold at the moment, read in pages of bounded size."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

from .connection import is_cluster, same_slot
from .queue import Queue

PAGE = 100  # names at a time,
LARGE = 10  # values at a time that may be large,
_SCAN = 1000  # and keys of the server at a time


class View:
    """One look at a queue. What several checks need is read once.

    Args:
        queue: the queue.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.keys = queue.keys

    @cached_property
    def types(self) -> dict[str, str]:
        """What a key is called in `Keys` → the type that it has, or 'none'."""
        return {part: self.queue.call("TYPE", key).decode() for part, key in self.keys.all().items()}

    @cached_property
    def suffixed(self) -> list[str]:
        """All keys of the server that begin with the queue's name and an underscore."""
        pattern = re.sub(r"([][*?^\\-])", r"\\\1", self.keys.queue) + "_*"
        found: set[str] = set()
        cursor = b""
        while cursor != b"0":
            cursor, keys = self.queue.call("SCAN", cursor or b"0", "MATCH", pattern, "COUNT", _SCAN)
            found.update(key.decode(errors="surrogateescape") for key in keys)
        return sorted(found)

    @property
    def leases(self) -> list[str]:
        """The keys of leases, but for upstream's, which are called anything."""
        return [key for key in self.suffixed if self.keys.owns_lease(key)]

    def names(self, key: str) -> Iterator[Sequence[str]]:
        """The names of the fields of a hash, in pages."""
        cursor = -1
        while cursor:
            cursor, names = self.queue.page(key, max(cursor, 0), PAGE)
            yield from pages(names, PAGE)  # a small hash comes in one page, whatever was asked for

    def fields(self, key: str) -> Iterator[tuple[str, bytes]]:
        """The fields of a hash and their values, a few at a time."""
        for names in self.names(key):
            for some in pages(names, LARGE):
                for name, value in zip(some, self.queue.call("HMGET", key, *some), strict=True):
                    if value is not None:  # else it has gone meanwhile
                        yield name, value

    def in_slot(self, key: str) -> bool:
        """Whether a script of the queue can ask for `key`: on a cluster, it cannot for those of other slots."""
        return not is_cluster(self.queue.conn) or same_slot(key, self.keys.queue)

    def _askable(self, key: str) -> Iterator[list[str]]:
        for names in self.names(key):
            yield [name for name in names if self.in_slot(name)]

    def alive(self, key: str) -> int:
        """How many of the leases in a hash live."""
        return sum(map(self.queue.alive, self._askable(key)))

    def dead(self, key: str) -> Iterator[str]:
        """The leases in a hash that are dead."""
        for ours in self._askable(key):
            if self.queue.alive(ours) < len(ours):
                # An ended lease goes from the hash first: one that is dead and still there was dead while it was there.
                gone = [name for name in ours if not self.queue.alive([name])]
                yield from (name for name in gone if self.queue.call("HEXISTS", key, name))


def pages(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """`names`, so many at a time."""
    return (names[start : start + size] for start in range(0, len(names), size))
