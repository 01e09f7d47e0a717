"""A cached snapshot of a queue's keys, and the form of an invariant."""

import re
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from ..queue.queue import Queue
from ..redis.command import is_cluster, same_slot
from ..redis.keys import TYPES

PAGE = 100  # names at a time,
LARGE = 10  # values at a time that may be large,
_SCAN = 1000  # and keys of the server at a time


class When(StrEnum):
    """When an invariant holds."""

    ALWAYS = "always"  # between any two commands
    SOON = "soon"  # not while a command is on its way, or a sweep is due: what breaks it does not stay
    AT_REST = "at rest"  # when no process works, and a sweep has been done since the last one ended


class Finding(NamedTuple):
    """An invariant that does not hold."""

    invariant: str
    subject: str  # the key, or what in it: the same at the next look if it is the same fault
    says: str  # what is wrong with it


class Snapshot:
    """A snapshot of a queue. Keys that several checks need are read once.

    Args:
        queue: the queue.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.keys = queue.keys

    @cached_property
    def types(self) -> dict[str, str]:
        """What a key is called in `Keys` → the type that it has, or 'none'."""
        keys = self.keys.all()
        replies = self.queue.store.batch(*(("TYPE", key) for key in keys.values()))
        return {part: kind.decode() for part, kind in zip(keys, replies, strict=True)}

    @cached_property
    def suffixed(self) -> list[str]:
        """All keys of the server that begin with the queue's name and an underscore."""
        pattern = re.sub(r"([][*?^\\-])", r"\\\1", self.keys.queue) + "_*"
        found: set[str] = set()
        cursor = b""
        while cursor != b"0":
            cursor, keys = self.queue.store.call("SCAN", cursor or b"0", "MATCH", pattern, "COUNT", _SCAN)
            found.update(key.decode(errors="surrogateescape") for key in keys)
        return sorted(found)

    @property
    def leases(self) -> list[str]:
        """The keys of leases, except those of the older packages, which have any name."""
        return [key for key in self.suffixed if self.keys.owns_lease(key)]

    def names(self, key: str) -> Iterator[Sequence[str]]:
        """The names of the fields of a hash, in pages."""
        for names in self.queue.store.pages(key, PAGE):
            yield from pages(names, PAGE)  # a small hash comes in one page, whatever was asked for

    def fields(self, key: str) -> Iterator[tuple[str, bytes]]:
        """The fields of a hash and their values, a few at a time."""
        for names in self.names(key):
            for some in pages(names, LARGE):
                for name, value in zip(some, self.queue.store.call("HMGET", key, *some), strict=True):
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
        return sum(map(self.queue.store.alive, self._askable(key)))

    def dead(self, key: str) -> Iterator[str]:
        """The leases in a hash that are dead."""
        for ours in self._askable(key):
            if self.queue.store.alive(ours) < len(ours):
                # An ended lease goes from the hash first: one that is dead and still there was dead while it was there.
                gone = [name for name in ours if not self.queue.store.alive([name])]
                yield from (name for name in gone if self.queue.store.call("HEXISTS", key, name))


def pages(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """`names`, so many at a time."""
    return (names[start : start + size] for start in range(0, len(names), size))


Check = Callable[[Snapshot], Iterator[tuple[str, str]]]  # what is wrong: a subject and a sentence
Repair = Callable[[Queue, list[str]], object]  # takes the subjects


class Invariant(NamedTuple):
    """A rule that must hold for a queue's keys, and how to check it."""

    name: str
    when: When
    sentence: str
    parts: tuple[str, ...]  # the keys that it is about: it is not looked at if they have wrong types
    check: Check
    repair: str = ""  # what can be done about it while processes work; empty: nothing, an operator has to look
    mend: Repair | None = None
    grave: bool = True  # else an operator may have good reasons

    def look(self, snapshot: Snapshot) -> Iterator[Finding]:
        """What is wrong at the moment."""
        if all(snapshot.types[part] in ("none", TYPES[part]) for part in self.parts):
            yield from (Finding(self.name, subject, says) for subject, says in self.check(snapshot))
