"""What a scrape asks of queues: some commands for each, none of which takes longer the more tasks wait.

For a hundred queues they take two round trips; three if tasks wait in groups or for keys, four if one says since when.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..base.clock import monotonic, now
from ..queue.queue import Queue
from ..redis.command import Command, is_cluster, pairs
from ..redis.keys import STATS
from ..workflow.run import NEVER
from .ages import Since
from .overview import SETS, groups_of, lines_of
from .processes import MOST as MOST_PROCESSES

LIMITS = ("concurrency", "rate")
SCHEDULES = 10  # of a queue, the next ones
_AT_ONCE = 100  # queues in a round trip


class Server(NamedTuple):
    """What one question has told of the server."""

    time: float  # seconds since 1970 by its clock; by ours, if we may not ask for that
    asked: float  # monotonic time at which that was so
    round_trip: float | None  # seconds that the answer took
    ahead: float | None  # seconds of its clock before ours

    @property
    def now(self) -> float:
        """Its time at this moment."""
        return self.time + monotonic() - self.asked


def server_of(queue: Queue) -> Server:
    """Ask the server of a queue for its time, once.

    Raises:
        redis.exceptions.RedisError: it cannot be reached.
    """
    ours, began = now(), monotonic()
    (reply,) = queue.store.exchange(("TIME",))
    took = monotonic() - began
    if isinstance(reply, Exception):
        return Server(ours, began, None, None)
    time = int(reply[0]) + int(reply[1]) / 1e6
    return Server(time, began + took / 2, took, time - (ours + took / 2))


class Scraped:
    """One queue, as a scrape finds it. What may not be read, or is another program's, is None.

    Args:
        queue: which.
        replies: to `commands`.
    """

    def __init__(self, queue: Queue, replies: Sequence[Any]) -> None:
        self.queue = queue
        self.waiting, self.scheduled, self.held, self.letters, self.groups = replies[:5]
        self._head, self.first, self.letter, self.stats, self.control, self.total, self.cron = replies[5:12]
        about, turns, waited, self.flows = replies[12:]
        self.flows_going: int | None = 0
        self.about: Sequence[bytes] = about[1][1::2] if about else []
        self._groups = groups_of(queue, turns or [])
        self._lines = lines_of(queue, waited) if waited else []
        self.grouped: int | None = None if turns is None else 0
        self.for_keys: int | None = None if waited is None else 0
        self._counts_all = (self.groups or 0) <= SETS and (
            not waited or (len(pairs(waited[1])) <= SETS and not int(waited[0]))
        )
        self._since = Since(queue, ())
        self._waits_since: float | None = None

    def second(self) -> list[Command]:
        """How many wait in groups and for keys, how many workflows go on, and the first task of the next group."""
        commands: list[Command] = [("LLEN", group) for group in self._groups]
        commands += [("ZCARD", line) for line in self._lines]
        if self.flows:
            commands.append(("ZCOUNT", self.queue.keys.flow_ids, NEVER, "+inf"))
        return commands + [("LINDEX", group, 0) for group in self._groups[:1]]

    def learn(self, replies: Sequence[Any]) -> None:
        """What `second` has asked."""
        groups, lines = len(self._groups), len(self._lines)
        if groups:
            self.grouped = sum(each or 0 for each in replies[:groups])
        if lines:
            self.for_keys = sum(each or 0 for each in replies[groups : groups + lines])
        rest = list(replies[groups + lines :])
        if self.flows:
            self.flows_going = rest.pop(0)
        heads = [head for head in (self._head, *rest) if head is not None]
        self._since = Since(self.queue, heads)

    def third(self) -> list[Command]:
        """When that task was due, if it is tracked: it may have been planned."""
        return self._since.question()

    def date(self, replies: Sequence[Any]) -> None:
        """What `third` has asked."""
        self._waits_since = self._since.moment(replies)

    def waited(self, moment: float) -> float | None:
        """For how many seconds the next task has waited; 0 if none waits, None if it does not say."""
        if not self.waiting and not self.groups:
            return 0.0
        return None if self._waits_since is None else max(0.0, moment - self._waits_since)

    # What the totals need, as a `statistics.Standing`

    @property
    def is_whole(self) -> bool:
        """Whether all that wait have been counted, wherever they do."""
        return self._counts_all and None not in (
            self.waiting, self.grouped, self.for_keys, self.scheduled, self.held, self.letters, self.stats, self.total,
        )  # fmt: skip

    @property
    def pending(self) -> int:
        """Tasks that wait, wherever."""
        return sum(each or 0 for each in (self.waiting, self.grouped, self.for_keys, self.scheduled))

    @property
    def running(self) -> int:
        """Tasks that workers hold."""
        return self.held or 0

    @property
    def dead(self) -> int:
        """Dead letters."""
        return self.letters or 0

    @property
    def recovered(self) -> int:
        """Lost tasks that were put back."""
        return self._counted("recovered")

    @property
    def buried(self) -> int:
        """Lost tasks that were buried."""
        return self._counted("buried")

    def _counted(self, name: str) -> int:
        text = (self.stats or [b"0"] * len(STATS))[STATS.index(name)] or b"0"
        return int(text) if text.isdigit() else 0


def commands(queue: Queue) -> list[Command]:
    """What is asked of one queue at first: each takes the same time however much waits."""
    own = queue.keys
    return [
        ("LLEN", own.queue), ("ZCARD", own.scheduled), ("HLEN", own.processing), ("XLEN", own.dead), ("LLEN", own.groups),
        ("LINDEX", own.queue, 0), ("ZRANGE", own.scheduled, 0, 0, "WITHSCORES"), ("XRANGE", own.dead, "-", "+", "COUNT", 1),
        ("HMGET", own.stats, *STATS), ("HMGET", own.control, "paused", *LIMITS), ("HGETALL", own.stats_total),
        ("ZRANGE", own.cron_due, 0, SCHEDULES - 1, "WITHSCORES"), ("HSCAN", own.workers, 0, "COUNT", MOST_PROCESSES),
        ("LRANGE", own.groups, 0, SETS - 1), ("HSCAN", own.waited, 0, "COUNT", SETS),
        ("ZCARD", own.flow_ids),
    ]  # fmt: skip


def scraped(queues: Sequence[Queue]) -> list[Scraped]:
    """Look at queues, which are on one server.

    Raises:
        redis.exceptions.RedisError: it cannot be reached.
    """
    found = [Scraped(queue, replies) for queue, replies in zip(queues, _asked(queues, map(commands, queues)), strict=True)]
    for each, replies in zip(found, _asked(queues, [each.second() for each in found]), strict=True):
        each.learn(replies)
    for each, replies in zip(found, _asked(queues, [each.third() for each in found]), strict=True):
        each.date(replies)
    return found


def _asked(queues: Sequence[Queue], given: Iterable[Sequence[Command]]) -> list[list[Any]]:
    """The replies to the commands of each queue, of which none holds up Redis for long; None for an error."""
    asks = [(place, each) for place, each in enumerate(given) if each]
    found = [list[Any]() for _ in queues]
    at_once = 1 if queues and is_cluster(queues[0].conn) else _AT_ONCE
    for first in range(0, len(asks), at_once):
        some = asks[first : first + at_once]
        replies = iter(queues[some[0][0]].store.exchange(*(command for _, each in some for command in each)))
        for place, each in some:
            found[place] = [None if isinstance(reply, Exception) else reply for _, reply in zip(each, replies, strict=False)]
    return found
