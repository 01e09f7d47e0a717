"""The kinds of tasks that are measured: what each asks for, how it is run, and what we want of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from delayed import PyTask
from delayed.backoff import Exponential
from delayed.task.options import Options

PLAIN, TRACKED, RESULT, UNIQUE, LIMIT = "plain", "tracked", "result", "unique", "limit"
ASYNC_RESULT = "async+result"
SUPERVISED = ", supervised"  # behind the name of a kind
QUEUE = "bench"
_FEW = 50  # groups and concurrency keys: so many customers have tasks at once


@dataclass(frozen=True)
class Kind:
    """One kind of task, with functions of bench/peers/marks.py.

    Args:
        name: what its row is called.
        options: those of the task with a number; None for a task without headers.
        retry: how often it would be repeated.
        function: what is called.
        worker: options of the worker.
        supervised: whether the worker has a supervisor.
        queues: what the tasks are spread over, in order of priority.
        limit: how many tasks of its queue all workers together may hold at once, so that they have to count.
        states: whether Redis keeps what became of it, so that this can be checked.
        drain: the share of plain's drain that we want.
        many: the share of plain's enqueue_many that we want.
        rate: tasks/s that we want of its drain.
    """

    name: str
    options: Callable[[int], Options] | None = None
    retry: int | None = None
    function: str = "mark"
    worker: Mapping[str, int] = field(default_factory=dict)
    supervised: bool = False
    queues: tuple[str, ...] = (QUEUE,)
    limit: int | None = None
    states: bool = False
    drain: float | None = None
    many: float | None = None
    rate: float | None = None

    def tasks(self, numbers: Iterable[int], path: str = "") -> Iterator[PyTask]:
        """A task for each number, which is its argument; of another function if there is a `path`."""
        path = path or f"marks:{self.function}"
        if self.options is None:
            return (PyTask(path, (i,), None, self.retry) for i in numbers)
        options = self.options
        return (PyTask.with_options(path, (i,), None, self.retry, options(i)) for i in numbers)

    @property
    def returns(self) -> bool:
        """Whether a task returns its number."""
        return self.function.endswith("echo")


def _all(options: Options) -> Callable[[int], Options]:
    """The same for each task, as those of a decorated function are."""
    return lambda _: options


def _of_few(options: Callable[[int], Options]) -> Callable[[int], Options]:
    """Those of so many customers: tasks that ask for the same share them, as `PyTask(…, group=…)` has it."""
    shared = [options(customer) for customer in range(_FEW)]
    return lambda i: shared[i % _FEW]


_LOOP, _POOL = {"async_tasks": 100}, {"threads": 8}
_KEPT, _TRACKED = _all(Options(result_ttl=60)), _all(Options(track=True))


def _unique(i: int) -> Options:
    return Options(unique=f"u{i}")


KINDS = {
    kind.name: kind
    for kind in (
        Kind(PLAIN),
        Kind(PLAIN + SUPERVISED, supervised=True, rate=250_000),
        Kind("uid", _all(Options().with_id()), drain=0.75, many=0.6),
        Kind("retry+backoff", _all(Options(backoff=Exponential(1))), 3, drain=0.75, many=0.6),
        Kind("timeout", _all(Options(timeout=30)), drain=0.75, many=0.6),
        Kind(TRACKED, _TRACKED, states=True, drain=0.25),
        Kind(TRACKED + SUPERVISED, _TRACKED, states=True, supervised=True),
        Kind(RESULT, _KEPT, function="echo", states=True, drain=0.25),
        Kind(RESULT + SUPERVISED, _KEPT, function="echo", states=True, supervised=True),
        Kind(UNIQUE, _unique, drain=0.4),
        Kind("group", _of_few(lambda i: Options(group=f"g{i}")), drain=0.4, many=0.6),
        Kind("key", _of_few(lambda i: Options(concurrency_key=f"k{i}", concurrency=4)), drain=0.4),
        Kind(LIMIT, limit=1000, drain=0.4),
        Kind("priority", queues=(f"{QUEUE}.high", QUEUE, f"{QUEUE}.low"), drain=0.4),
        Kind("async", function="coroutine_mark", worker=_LOOP, rate=25_000),
        Kind(ASYNC_RESULT, _KEPT, function="coroutine_echo", worker=_LOOP, states=True, rate=12_000),
        Kind("threads", worker=_POOL, rate=25_000),
        Kind("threads+result", _KEPT, function="echo", worker=_POOL, states=True),
    )
}
GO_KINDS = (PLAIN, "uid", "retry+backoff", "timeout", TRACKED, RESULT, UNIQUE, "group", "key", LIMIT)
