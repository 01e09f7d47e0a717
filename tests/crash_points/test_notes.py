"""A supervised worker is killed at each of its steps: what it has noted is said for it, and nothing else."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from delayed.errors import NoResult
from delayed.job.allow import AllowAny
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.redis.channel import Channel
from delayed.supervisor.recoverer import Recoverer
from delayed.task.task import PyTask
from delayed.worker.completer import Completer
from delayed.worker.leases import Lease
from delayed.worker.options import WorkerOptions
from delayed.worker.scoreboard import Scoreboard
from delayed.worker.worker import Worker
from tests.conftest import burst
from tests.support.waiting import eventually

TASKS, HAND = 13, 4
KINDS: dict[str, Callable[[int], dict[str, Any]]] = {  # options of the tasks
    "plain": lambda _: {},
    "result": lambda _: {"result_ttl": 600},
    "tracked": lambda _: {"track": True},
    "concurrency key": lambda number: {"concurrency_key": f"k{number % 5}", "concurrency": 3},
    "key and result": lambda number: {"concurrency_key": f"k{number % 5}", "concurrency": 3, "result_ttl": 600},
    "unique": lambda number: {"unique": f"u{number}"},
    "unique and key": lambda number: {"unique": f"u{number}", "concurrency_key": f"k{number}"},
}
KINDS["mixed"] = lambda number: list(KINDS.values())[number % 7](number)


def noted(path: str, number: int) -> int:
    """The task."""
    with Path(path).open("a") as file:
        file.write(f"{number}\n")
    return number


class Ghost:
    """The end of a lease that has been released before Redis knew of it."""

    gone = False

    def __init__(self, ending: Any) -> None:
        self._ending, self.more, self.script = ending, ending.more, ending.script
        self.done, self.hash, self.field = ending.done, ending.hash, ending.field

    def together(self, some: "Sequence[Ghost]") -> bytes:
        found: bytes = self._ending.together([each._ending for each in some])
        return found

    def answered(self, reply: Any, repeated: bool) -> None:
        pass


def too_early(self: Completer, ending: Any) -> None:
    """A wrong design: the lease is used again as soon as its end is noted."""
    self._channel.delay(Ghost(ending))
    lease: Lease = ending if isinstance(ending, Lease) else ending._lease
    lease.pool.release(lease)


WRONG: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "none": lambda _: None,
    "names are used again before their endings are confirmed": lambda patch: patch.setattr(Completer, "_delay", too_early),
    "notes are not cleared": lambda patch: patch.setattr(Scoreboard, "clear", lambda _: None),
}


class Steps:
    """Counts the steps of a process, and kills it at one of them."""

    def __init__(self, last: int) -> None:
        self._left = last

    def step(self) -> None:
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any) -> Any:
            self.step()
            found = method(*args)
            self.step()
            return found

        return stepped


def run_until(queue: Queue, scoreboard: Scoreboard, step: int) -> bool:
    """Work in another process; returns whether it was killed."""
    child = os.fork()
    if not child:
        try:
            steps = Steps(step)
            own = Queue(queue.name, queue.conn)
            worker = Worker.of(WorkerOptions(queues=(own,), allow=AllowAny(), burst=True), scoreboard)
            worker._parts.fetcher.size = HAND
            for pool in worker.state.pools:
                pool.prefetch.learn = lambda *_: HAND  # type: ignore[method-assign]
                pool.prefetch.size, pool.prefetch.known = HAND, True
            channel = worker._parts.channel
            channel._send = steps.around(channel._send)  # type: ignore[method-assign]
            scoreboard.note = steps.around(scoreboard.note)  # type: ignore[method-assign]
            scoreboard.clear = steps.around(scoreboard.clear)  # type: ignore[method-assign]
            worker.run()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def settle(recoverer: Recoverer) -> None:
    def settled() -> bool:
        recoverer.tend([])
        return recoverer.done

    eventually(settled)


def is_told(handle: Handle[Any], number: int) -> bool:
    """Whether its state, if it has one, says how the task has ended."""
    if not handle.tracked:
        return True
    if handle.status().state != "succeeded":
        return False
    try:
        return bool(handle.result(timeout=0) == number)
    except NoResult:  # only its state is kept
        return True


def every_kill(queue: Queue, path: Path, kind: str) -> Iterator[tuple[Counter[int], int]]:
    """How often each task ran, if the worker is killed at its first step, at its second …; of how many that is not told."""
    step, killed = 0, True
    while killed:
        path.write_text("")
        tasks = [PyTask(noted, (str(path), number), **KINDS[kind](number)) for number in range(TASKS)]
        handles = [queue.enqueue(task) for task in tasks]
        scoreboard = Scoreboard(1, supervised=True)
        if killed := run_until(queue, scoreboard, step):
            recoverer = Recoverer([queue], interval=3, ttl=10, limit=3)
            recoverer.add(scoreboard, "here:1", "killed")
            settle(recoverer)
            recoverer.close()
            burst(queue)
        ran = Counter(map(int, path.read_text().split()))
        yield ran, sum(ran[number] and not is_told(handle, number) for number, handle in enumerate(handles))
        step += 1
    assert step > 3 * TASKS


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        pytest.param(wrong, kind, marks=() if (wrong, kind) in (("none", "plain"), ("none", "mixed")) else pytest.mark.slow)
        for wrong in WRONG
        for kind in (KINDS if wrong == "none" else ("plain", "result"))
    ],
)
def test_what_is_noted_is_neither_lost_nor_repeated(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, kind: str
) -> None:
    WRONG[wrong](monkeypatch)
    lost = repeated = 0
    for counts, untold in every_kill(queue, tmp_path / "ran", kind):
        lost += TASKS - len(counts) + untold
        assert counts.total() - len(counts) <= 1, "it repeats at most what it was executing"
        repeated += counts.total() - len(counts)
    if wrong == "none":
        assert lost == 0
        assert repeated > 0, "one was killed between its end and its note"
    else:
        assert lost > 0, "this design loses tasks: these kills do not find it"


def test_without_a_supervisor_nothing_is_delayed(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Channel, "delay", lambda *_: pytest.fail("nobody would say it"))
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(10))
    assert burst(queue).finished == 10
