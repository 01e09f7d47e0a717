"""The leases of one worker on one queue.

A lease is a key with a TTL; `Q_processing` maps it to the task held under it. It is used again only when the command that
ended it is known to have been carried out: until then nobody can know whether the field is free.
"""

from collections import deque
from collections.abc import Callable, Container, Sequence
from typing import Any

from ..base.ids import token
from ..queue.queue import Queue
from ..redis.channel import Channel
from ..redis.command import bulk, pack
from ..redis.store_taking import TakeResult
from ..redis.together import Part, together
from .prefetch import Prefetch
from .recorder import Recorder
from .tally import Totals


class Lease:
    """One lease, and the task that it holds; a `channel.Ending`."""

    __slots__ = ("data", "done", "field", "gone", "hash", "name", "number", "pool", "suspect")
    more = False
    script = ""

    def __init__(self, pool: "LeasePool", name: str, number: int) -> None:
        self.pool = pool
        self.name, self.number = name, number
        self.hash, self.field = pool.hash, bulk(name)
        self.done = pack("HDEL", pool.store.keys.processing, name)  # ends it, if its task has no lost count
        self.data: bytes | None = None  # the task, if it holds one
        self.suspect = False  # the task has a lost count
        self.gone = False  # its key was found gone: somebody else may have the task

    def answered(self, reply: Any, repeated: bool) -> None:
        """The command that ended the lease has been carried out.

        Args:
            reply: 1, or 0 if the lease held nothing any more.
            repeated: the command was sent twice, so that 0 may only mean that it worked the first time.
        """
        if reply != 1 and not repeated:
            self.pool.superseded(self)
        self.pool.release(self)


class Finish:
    """The end of a lease whose task holds something; a `channel.Ending`.

    Args:
        lease: the lease.
        done: the command that ends it.
    """

    __slots__ = ("answered", "done", "field", "gone", "hash")
    more = True

    def __init__(self, lease: Lease, done: bytes) -> None:
        self.done, self.hash, self.field, self.answered = done, lease.hash, lease.field, lease.answered
        self.gone = False


class Noted:
    """As `Finish`, of one that may end with others.

    Args:
        lease: the lease.
        part: what it adds to the command that ends them.
    """

    __slots__ = ("_lease", "answered", "field", "hash", "part", "script")
    more = True

    def __init__(self, lease: Lease, part: Part) -> None:
        self._lease, self.part, self.script = lease, part, part.script
        self.hash, self.field, self.answered = lease.hash, lease.field, lease.answered

    @property
    def gone(self) -> bool:
        """Whether its lease will not be used again."""
        return self._lease.gone

    @gone.setter
    def gone(self, gone: bool) -> None:
        self._lease.gone = gone

    @property
    def done(self) -> bytes:
        """The command that ends it alone."""
        return self.together([self])

    def together(self, some: "Sequence[Noted]") -> bytes:
        """The command that ends these, of the same queue and script."""
        return together(self._lease.pool.queue.keys, [each.part for each in some])


class LeasePool:
    """The leases that a worker has made on one queue over one connection. Only the worker's loop changes it; the heartbeat
    reads `made`, hands leases back through `returned`, and learns what operators want.

    Args:
        queue: the queue.
        channel: the connection.
        superseded: called with a lease that was lost while its task ran.
        publish: called with a token and a number: from now on leases with this token and numbers below that may be used.
        index: which of the worker's queues it is.
    """

    def __init__(
        self,
        queue: Queue,
        channel: Channel,
        superseded: Callable[[Lease], None],
        publish: Callable[[str, int], None],
        index: int = 0,
    ) -> None:
        self.index = index
        self.queue = queue  # for the tasks themselves: the connection is the worker's
        self.store = queue.store.over(channel)
        self.take: Callable[..., TakeResult] = self.store.take  # or one that keeps limits: see `queue_order`
        self.limited = False  # operators want it limited: `take` counts tokens, say
        self.grouped = False  # groups may have tasks waiting
        self.deferred = False  # tasks are noted that could not run somewhere
        self.ran: set[str] = set()  # SHA-1 of those that have run here since the last beat, as long as there are such notes
        self.totals = Totals()  # what is counted of functions
        self.recorder: Recorder  # of what its tasks come to: see `Histories.attach`
        self.hash = bulk(queue.keys.processing)
        self.prefetch = Prefetch()
        self.made: dict[str, Lease] = {}  # all that may hold something or have a key
        self.free: deque[Lease] = deque()  # those of them that hold nothing
        self.returned: deque[Lease] = deque()  # those whose task the heartbeat has given back
        self.superseded = superseded
        self._publish = publish
        self._token = token()
        self._serial = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is held for certain: under a lease that is not free a task may be that we know nothing of, as a take
        may have had no reply."""
        return len(self.free) == len(self.made)

    def tasks(self) -> dict[str, bytes]:
        """Lease → the task that it holds, as far as we know."""
        return {name: lease.data for name, lease in list(self.made.items()) if lease.data is not None}

    def take_ran(self) -> list[str]:
        """`ran`, which begins anew."""
        ran, self.ran = self.ran, set()
        return list(ran)

    def get(self, count: int) -> tuple[list[Lease], int]:
        """`count` leases that hold nothing, and how many of them, from the first, should have a living key."""
        free = self.free
        self.take_returned()
        leases = [free.popleft() for _ in range(min(count, len(free)))]
        living = len(leases)
        if living < count:
            self._publish(self._token, self._serial + count - living)
        while len(leases) < count:
            lease = Lease(self, self.store.keys.lease(self._token, self._serial), self._serial)
            self._serial += 1
            self.made[lease.name] = lease
            leases.append(lease)
        return leases, living

    def take_returned(self) -> None:
        """What the heartbeat has given back holds nothing any more."""
        while self.returned:
            self.release(self.returned.popleft())

    @property
    def holding(self) -> bool:
        """Whether there are tasks that have not ended, or that the heartbeat is about to give back."""
        return any(lease.data is not None for lease in self.made.values())

    def unused(self, leases: list[Lease], living: int) -> None:
        """Take back the last of the leases that `get` gave, which hold nothing; the first `living` of them have a key."""
        self.free.extendleft(reversed(leases[:living]))
        for lease in leases[living:]:
            del self.made[lease.name]
            self._serial -= 1

    def release(self, lease: Lease) -> None:
        """`lease` holds nothing any more; it may be used again, unless the pool began anew meanwhile."""
        lease.data = None
        if lease.gone:
            self.made.pop(lease.name, None)
        elif lease.name in self.made:
            self.free.append(lease)

    def renew(self, keep: Container[str] = ()) -> list[str]:
        """Begin anew under other names. Returns the old ones, but for those to `keep`, under which tasks run: nothing will be
        taken under them again."""
        old = [name for name in list(self.made) if name not in keep]
        for name in old:
            del self.made[name]
        self.free.clear()
        if not self.made:  # else numbers go on: the supervisor knows one token of each queue
            self._token, self._serial = token(), 0
        return old
