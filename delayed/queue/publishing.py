"""What is published: a copy for each queue that has an interest in it."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..backoff import Exponential
from ..base.clock import now
from ..base.ids import new_id
from ..errors import ConfigurationError, TaskTooLarge
from ..events import BUS, Event, Kind
from ..interests.entries import entries
from ..interests.table import MOST_QUEUES, Interest, Table
from ..redis.keys import Keys
from ..redis.scripts import Argument
from ..task.codec import dumps, not_encodable
from ..task.decode import is_python_path
from ..task.options import Options
from ..task.task import GoTask, PyTask

_PLAIN = Options().with_id()
_RETRIED = Options(backoff=Exponential(1.0, cap=600.0)).with_id()  # as an application's tasks
_SMALL = 20_000  # comparisons of a character with a pattern that an event loop may wait for


class Copies(NamedTuple):
    """What one call of the script adds."""

    keys: tuple[str, ...]
    arguments: Sequence[Argument]
    ids: dict[str, str]  # of the copies, by the names of the queues


class Publication:
    """Something that is published.

    Args:
        data: what: mostly a map.
        table: the key of the interests.
        most: bytes that a task may have.

    Raises:
        NotEncodable: MessagePack has no form for it.
        InvalidTask: it has too many entries.
    """

    def __init__(self, data: Any, table: str, most: int) -> None:
        try:
            packed = dumps(data)
        except (TypeError, ValueError, OverflowError) as error:
            raise not_encodable("publish", {"data": data}, error) from error
        self._data, self._table, self._most = data, table, most
        self._entries = entries(packed)
        self.trace: tuple[str, str] | None = None  # the context in which it is published: see `Options.trace`
        self._characters = sum(len(key) + len(value) for key, value in self._entries)

    def is_large(self, table: Table) -> bool:
        """Whether it may take so long to find the interested queues that an event loop should not wait for it."""
        return self._characters * sum(len(each.match) for each in table.interests) > _SMALL

    def interested(self, table: Table) -> list[Interest]:
        """Those interested."""
        return table.fitting(self._entries)

    def copies(self, interested: Iterable[Interest], table: Table) -> Copies:
        """The copies for those interested, by this table."""
        keys, arguments, ids = [self._table], list[Argument]([table.version]), dict[str, str]()
        for interest in interested:
            own = Keys(interest.queue)
            identity = ids[own.queue] = new_id()
            keys += (own.queue, own.noti)
            arguments.append(self._task(interest, identity))
        return Copies(tuple(keys), arguments, ids)

    def _task(self, interest: Interest, identity: str) -> bytes:
        retry, options = (interest.retry, _RETRIED) if interest.retry else (None, _PLAIN)
        task: PyTask | GoTask
        if is_python_path(interest.function):
            task = PyTask.with_options(interest.function, (self._data,), None, retry, options)
        else:
            task = GoTask.with_options(interest.function, self._data, retry, options)
        if self.trace is not None:
            task = task.traced(*self.trace)
        data = task.serialize(identity)
        if len(data) > self._most:
            raise TaskTooLarge(
                f"the task for {interest.function} in {interest.queue!r} has {len(data):,} bytes, of {self._most:,}: "
                f"keep the data elsewhere and publish where it is"
            )
        return data


def tell(interested: Iterable[Interest], ids: dict[str, str]) -> None:
    """Those who listen hear of copies that are on Redis."""
    for each in interested:
        BUS.emit(Event(Kind.ENQUEUED, each.queue, now(), task=each.function, id=ids[each.queue]))


def checked_interests(interest: Interest, reply: int) -> Interest:
    """`interest`, which the script has noted."""
    if reply < 0:
        raise ConfigurationError(f"{MOST_QUEUES:,} queues have an interest already: remove one (`delayed interest remove`)")
    return interest
