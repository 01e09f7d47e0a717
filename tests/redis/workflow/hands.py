"""Takes and ends tasks of workflows one by one, as a worker does: what happens between two scripts is for the test to say."""

from dataclasses import dataclass
from typing import Any

from delayed.queue.queue import Queue
from delayed.redis.keys import home_of
from delayed.sweeper.sweep import sweep
from delayed.task.decode import decode, headers_of
from delayed.task.headers import Holds, Member, holds_in
from delayed.task.result import CANCELLED, State, failure, success
from delayed.workflow.carry import Carrier
from delayed.workflow.run import Run
from delayed.workflow.tend import tend

_KEEP = 60_000  # milliseconds


@dataclass(frozen=True)
class Held:
    """A task under a lease."""

    queue: Queue
    lease: str
    data: bytes

    @property
    def holds(self) -> Holds:
        return holds_in(headers_of(self.data))

    @property
    def member(self) -> Member:
        found = self.holds.member
        assert found is not None
        return found

    @property
    def label(self) -> Any:
        """Its first argument, or None."""
        return next(iter(decode(self.data).args), None)

    def begin(self) -> bool:
        """False if it has been cancelled."""
        return self.queue.store.start(self.lease, self.holds) == 1

    def succeed(self, value: Any = None) -> bool:
        packed = b"" if value is None else success(value, kept=True)
        return self._end(State.SUCCEEDED, success(None, kept=False), value=packed)

    def fail(self, *, buried: bool = True) -> bool:
        return self._end(State.FAILED, failure("ValueError", "no", ""), reason="failed" if buried else None)

    def expire(self) -> bool:
        return self._end(State.EXPIRED, b"\x91\xa7expired", reason="expired")

    def cancel(self) -> bool:
        return self._end(State.CANCELLED, CANCELLED)

    def _end(self, state: State, result: bytes, reason: str | None = None, value: bytes | None = None) -> bool:
        named: Any = {"reason": reason, "detail": "no" if reason else "", "worker": "w", "value": value}
        return self.queue.store.conclude(self.lease, self.holds, state=state, result=result, keep=_KEEP, **named)


class Hands:
    """Takes tasks of some queues.

    Args:
        queues: which.
    """

    def __init__(self, *queues: Queue) -> None:
        self.queues, self._taken = queues, 0

    def take(self) -> Held | None:
        """The next task that waits, from the first queue that has one."""
        for queue in self.queues:
            self._taken += 1
            lease = queue.keys.lease("hands", self._taken)
            tasks = queue.store.take([lease], "t", 60, waiting=True).tasks
            if tasks:
                return Held(queue, lease, tasks[0])
        return None

    def take_all(self) -> list[Held]:
        """All that wait."""
        found = []
        while (held := self.take()) is not None:
            found.append(held)
        return found

    def lose(self, held: Held, limit: int = 1) -> None:
        """Its worker dies; a sweeper finds it."""
        held.queue.store.call("DEL", held.lease)
        sweep(held.queue.store, limit)

    def finish(self, runs: int = 10_000) -> list[Any]:
        """Let all that waits succeed, and carry on after each. Returns the first arguments, in their order."""
        labels = []
        while (held := self.take()) is not None:
            if held.begin():
                labels.append(held.label)
                assert held.succeed()
            else:
                assert held.cancel()
            self.carry()
            assert len(labels) < runs
        return labels

    def carry(self) -> None:
        """Carry on the workflows of all queues, as a sweeper does."""
        for queue in self.queues:
            tend(queue.store)


def say(run: Run, *entries: str | bytes) -> None:
    """Let a workflow hear something, as anybody may write it."""
    run.queue.store.call("RPUSH", run.queue.keys.joins(run.flow), *entries)
    run.queue.store.call("RPUSH", run.queue.keys.flow_outbox, run.flow)


def carry(run: Run) -> None:
    """Carry it on."""
    assert Carrier(run.queue.store).carry(run.flow)


def states(run: Run) -> dict[str, str]:
    """The state of each node, by what it is called; callbacks are none."""
    callbacks = {
        index for _, found, _ in run.sets() if found.kind == "c" for index in range(found.first, found.first + found.size)
    }
    return {node.label: node.state for node in run.nodes() if node.number not in callbacks}


def home(queue: Queue, name: str) -> Queue:
    """Another queue on the same server."""
    keys = home_of(name)
    assert keys is not None
    return Queue(name, queue.conn, dequeue_timeout=0.5)
