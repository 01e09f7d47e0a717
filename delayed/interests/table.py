"""The interests of queues, as they stand on Redis."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import msgpack

from ..base.checks import is_whole
from ..base.later import Later
from ..errors import ConfigurationError
from ..redis.keys import Keys

if TYPE_CHECKING:
    from . import pattern as patterns
else:
    patterns = Later("delayed.interests.pattern")

EVERYTHING = (("*", "*"),)  # whatever has an entry
MOST_PAIRS = 100  # of one interest
MOST_QUEUES = 1000  # that have one
_PREFIX = 20  # digits of a place, at most
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Interest:
    """What a queue wants to get of what is published.

    Args:
        queue: its name.
        match: pairs of a pattern for the key of an entry and one for its value. One that fits is enough.
        function: the path of the function that is called with what was published.
        retry: how often a failed call is repeated.

    Raises:
        ConfigurationError: the queue's name, a pattern, the path or the number cannot be used.
    """

    queue: str
    match: Pairs
    function: str
    retry: int = 0

    def __post_init__(self) -> None:
        Keys(self.queue)
        if not self.match or len(self.match) > MOST_PAIRS:
            raise ConfigurationError(f"an interest has 1 to {MOST_PAIRS} pairs of patterns, not {len(self.match)}")
        for pair in self.match:
            for pattern in pair:
                patterns.matcher(pattern)
        module, colon, function = self.function.partition(":")
        package, _, name = self.function.rpartition(".")
        if not (module and function if colon else package and name):
            raise ConfigurationError(
                f"{self.function!r} is no path: write module.path:function (Python) or package/path.Function (Go)"
            )
        if not is_whole(self.retry):
            raise ConfigurationError(f"retry is a number of repetitions, not {self.retry!r}")

    @classmethod
    def of(cls, queue: str, match: object, function: str, retry: int = 0) -> Self:
        """An interest; `match` is `"*"`, or patterns for keys and patterns for values, as a mapping or in pairs."""
        pairs = match.items() if isinstance(match, Mapping) else EVERYTHING if match == "*" else match
        try:
            found = tuple((key, value) for key, value in cast(Iterable[tuple[object, object]], pairs))
        except (TypeError, ValueError):
            found = ()
        texts = [(key, value) for key, value in found if isinstance(key, str) and isinstance(value, str)]
        if not found or len(texts) < len(found):
            raise ConfigurationError(
                f'what a queue has an interest in is "*", or a mapping of patterns for keys to patterns for values, as in '
                f'{{"event": "order.*"}}, not {match!r:.200}'
            )
        return cls(queue, tuple(texts), function, retry)

    def packed(self) -> bytes:
        """What stands on Redis."""
        record: dict[str, Any] = {"function": self.function, "match": [list(pair) for pair in self.match]}
        if self.retry:
            record["retry"] = self.retry
        data: bytes = msgpack.packb(record)
        return data

    @classmethod
    def unpacked(cls, queue: str, data: bytes) -> Self:
        """The opposite of `packed`.

        Raises:
            ConfigurationError: it is something else.
        """
        try:
            record = msgpack.unpackb(data)
            match = [(key, value) for key, value in record["match"]]
            return cls.of(queue, match, record["function"], record.get("retry", 0))
        except ConfigurationError:
            raise
        except Exception as error:  # any program may have written anything
            raise ConfigurationError(f"the interest of {queue!r} cannot be read: {error!r}") from error


class _Ready(NamedTuple):
    interest: Interest
    pairs: Sequence[tuple[Callable[[str], bool], Callable[[str], bool]]]

    @classmethod
    def of(cls, interest: Interest) -> Self:
        return cls(interest, [(patterns.matcher(key), patterns.matcher(value)) for key, value in interest.match])

    def fits(self, entries: Sequence[tuple[str, str]]) -> bool:
        return any(is_key(key) and is_value(value) for is_key, is_value in self.pairs for key, value in entries)


class Table:
    """All interests, in the order in which the queues had their first.

    Args:
        fields: the fields of the hash and their values, in turn, as Redis gives them.
    """

    def __init__(self, fields: Sequence[bytes] = ()) -> None:
        found = dict(zip(fields[::2], fields[1::2], strict=True))
        self.version = found.pop(b"", b"")
        self.faults: dict[str, str] = {}  # those that cannot be read, and why
        placed: list[tuple[int, Interest]] = []
        for name, value in found.items():
            queue = name.decode(errors="surrogateescape")
            try:
                placed.append(_placed(queue, value))
            except ConfigurationError as error:
                self.faults[queue] = str(error)
        placed.sort(key=lambda each: each[0])
        self.interests = [interest for _, interest in placed]
        self._ready = [_Ready.of(each) for each in self.interests]

    def fitting(self, entries: Sequence[tuple[str, str]]) -> list[Interest]:
        """Those that something with these entries is for."""
        return [each.interest for each in self._ready if each.fits(entries)]


def _placed(queue: str, value: bytes) -> tuple[int, Interest]:
    place, _, record = value.partition(b" ")
    if not place.isdigit() or len(place) > _PREFIX:
        raise ConfigurationError(f"the interest of {queue!r} has no place among the others")
    return int(place), Interest.unpacked(queue, record)
