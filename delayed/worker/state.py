"""The state of a worker."""

import contextlib
from collections import Counter, deque
from typing import Any, cast

from ..base.clock import monotonic, now
from ..base.ids import token
from ..base.place import place
from ..job.job import Job
from ..redis.server_time import ServerTime
from ..system.process import resident_size
from ..system.signals import Stop
from ..task.decode import Call, parse, path_of
from .execution import Execution
from .leases import Lease, LeasePool
from .options import WorkerOptions
from .scoreboard import Scoreboard


class WorkerState:
    """What a worker has and how far it is: its loop writes this, and its heartbeat reads it.

    Below, "the loop" is the thread that takes tasks: the one that calls `Worker.run`, or the dispatcher's. Every access from
    another thread is one atomic operation of an attribute, a dict, a list or a deque.

    Args:
        options: what the worker is asked for.
        scoreboard: where its supervisor looks.
    """

    def __init__(self, options: WorkerOptions, scoreboard: Scoreboard) -> None:
        store = options.queues[0].store
        self._fresh_for = options.ttl / 2
        self._slots = options.slots
        # Fixed when the worker is made.
        self.name = token()  # of its own lease, and the value of all its leases
        self.place = place()
        self.started = now()
        self.ttl = options.ttl  # seconds that a lease lives after a beat
        self.endings_at_once = options.endings_at_once or options.several
        self.longest_round = 0.0  # seconds that a round of the loop may take while no task runs
        self.pools: list[LeasePool] = []  # of each queue; `LeasePool` says who writes what in it
        self.scoreboard = scoreboard
        scoreboard.set_name(self.name)
        # Any thread.
        self.stop = Stop()  # set by whoever wants it to end
        # The heartbeat.
        self.leave_by: float | None = None  # monotonic time at which the grace is over, once it has begun
        self.returning = False  # what waited behind a slow task is on its way back to its queue
        self.clock = ServerTime(lambda: cast(Any, store.call("TIME")))
        # The loop.
        self.rounds = 0  # how often it went round
        self.finished = 0  # tasks ended
        self.running: Lease | None = None  # one at a time: what runs,
        self.job: Job | None = None  # and, if it has headers, what it is
        self.began = 0.0  # one at a time: monotonic time at which the last task ended, which is when the next one begins
        self.in_flight: dict[str, Execution] = {}  # what runs, by lease, if it holds more than that, has a hard timeout, or
        # others run beside it; until its ending has been handed to the connection
        self.waiting: deque[Execution] = deque()  # several at once: those for which no executor has a free place
        self.deadline: float | None = None  # monotonic time at which the first of what runs must have ended
        self.abandoned: list[Lease] = []  # tasks that broke the worker itself: nobody gives them back, they count as lost
        self.drained = False  # the queues were empty, with `burst`
        self.left = False  # it takes nothing any more; also written by the thread that calls `run`
        # The loop, and the heartbeat.
        self.buffer: deque[Lease] = deque()  # taken and not begun; filled by the loop, which takes from the left; the
        # heartbeat may empty it from the right
        self.fresh_at = 0.0  # monotonic time at which all leases lived; the heartbeat's, and the loop's when it makes others
        self.counts: Counter[str] = Counter()  # endings but successes, whose name is ''; the heartbeat's on a forced exit

    def is_fresh(self, moment: float) -> bool:
        """Whether the leases live for certain at this monotonic time, so that nobody can have swept what they hold."""
        return moment - self.fresh_at < self._fresh_for

    # The loop

    def launch(self, execution: Execution, *, hard: bool = True) -> bool:
        """From now on it runs; `hard`: and must have ended when its hard timeout is over. Returns whether it has one."""
        self.in_flight[execution.lease.name] = execution
        limit = execution.job.milliseconds("hard_timeout") if hard and execution.job is not None else 0
        if limit:
            execution.deadline = monotonic() + limit / 1000
            self.note_deadline()
        return limit > 0

    def note_deadline(self) -> None:
        """What is in flight has changed."""
        first = min((execution.deadline for execution in self.in_flight.values()), default=float("inf"))
        self.deadline = first if first < float("inf") else None
        self.scoreboard.end_by(self.deadline or 0)

    def abandon(self, lease: Lease) -> None:
        """Nobody gives it back."""
        lease.pool.made.pop(lease.name, None)
        self.abandoned.append(lease)

    def current_job(self) -> Job | None:
        """What runs in the thread that runs one task at a time: see `job.current_task`."""
        lease = self.running
        if self.job is not None:
            return self.job
        return None if lease is None or lease.data is None else Job(lease.pool.queue, Call(*parse(lease.data)))

    # The heartbeat

    def begun(self) -> set[str]:
        """The leases whose tasks have begun."""
        running = self.running
        return set(self.in_flight) if running is None else {running.name, *self.in_flight}

    def tracked(self) -> list[str]:
        """The keys with the state of the tracked tasks that run."""
        return [each.state_key for each in list(self.in_flight.values()) if each.state_key is not None]

    def take_unstarted(self) -> list[Lease]:
        """Take away what has not begun."""
        leases: list[Lease] = []
        with contextlib.suppress(IndexError):
            while True:
                leases.insert(0, self.buffer.pop())
        return leases

    # Whoever looks

    def counted(self) -> dict[str, int]:
        """How many of the finished tasks ended in which way."""
        counts = dict(self.counts)  # of one moment
        others = sum(counts[name] for name in counts if name not in ("", "superseded"))
        named = {name: counts.get(name, 0) for name in ("retried", "failed", "buried", "superseded")}
        return {"succeeded": self.finished - others, **named}

    def describe(self) -> dict[str, Any]:
        """What stands in the register of workers."""
        lease, began = self.running, self.began
        in_flight = list(self.in_flight.values())
        if in_flight:
            lease, began = in_flight[0].lease, in_flight[0].began  # it runs for longest
        data = None if lease is None else lease.data
        running = None if data is None else path_of(data)
        return {
            "kind": "worker",
            "language": "python",
            "place": self.place,
            "ttl": self.ttl,
            "queues": [pool.store.name for pool in self.pools],
            "started": self.started,
            "running": running,
            "running_for": monotonic() - began if running else None,
            "in_flight": len(in_flight) or int(running is not None),
            "slots": self._slots,
            "in_hand": len(self.buffer) + len(self.waiting),
            "rss": resident_size(),
            **self.counted(),
        }
