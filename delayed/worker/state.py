"""What a worker shows its heartbeat."""

from collections.abc import Callable, Collection
from typing import Any, Protocol

from ..redis.channel import Channel
from ..redis.server_time import ServerTime
from ..redis.store import Store
from .leases import Lease
from .scoreboard import Scoreboard


class Holder(Protocol):
    """What the heartbeat needs to know of a worker. All of it is read and changed from two threads: each access is one
    atomic operation of a dict or a deque."""

    name: str  # the token of its own lease, and the value of all its leases
    turns: int  # how often its loop went round
    finished: int  # tasks ended
    running: Lease | None
    left: bool  # its loop has ended
    fresh_at: float  # monotonic time at which all its leases lived
    scoreboard: Scoreboard  # what its supervisor sees
    deadline: float | None  # monotonic time at which the task that runs must have ended
    abandoned: list[Lease]  # tasks that broke the worker itself: they count as lost
    clock: ServerTime
    longest_round: float  # seconds that a round of its loop may take while no task runs

    def holdings(self) -> list[tuple[Store, dict[str, Lease]]]:
        """Its leases on each queue."""

    def begun(self) -> set[str]:
        """The leases whose tasks have begun."""

    def learn(self, index: int, reply: list[Any]) -> None:
        """What operators want of a queue: see `Store.beat`."""

    def ran(self, index: int) -> list[str]:
        """The SHA-1 of tasks of a queue that have run here since this was asked last, if anybody wants to know."""

    def unstarted(self) -> list[Lease]:
        """Take from it what it has not begun."""

    def describe(self) -> dict[str, Any]:
        """What stands in the register of workers."""

    def give_up_connection(self) -> None:
        """Break its connection, so that it makes another."""

    def stop(self) -> None:
        """Ask it to stop."""

    def tracked(self) -> list[str]:
        """The keys with the state of the tracked tasks that run."""

    def end_early(self, channel: Channel, cancelled: Collection[str]) -> list[Callable[[], None]]:
        """End the leases of tasks that run for too long, and of those whose state is under a key of `cancelled`. Returns what
        tells those who listen."""
