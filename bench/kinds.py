"""The kinds of tasks that are measured: what each asks for, how it is run, and what we want of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from delayed import PyTask
from delayed.backoff import Exponential
from delayed.task.options import Options

PLAIN, RESULT = "plain", "result"
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
        states: whether Redis keeps what became of it, so that this can be checked.
        drain: the share of plain's drain that we want.
        many: the share of plain's enqueue_many that we want.
    """

    name: str
    options: Callable[[int], Options] | None = None
    retry: int | None = None
    function: str = "mark"
    worker: Mapping[str, int] = field(default_factory=dict)
    states: bool = False
    drain: float | None = None
    many: float | None = None

    def tasks(self, count: int, path: str = "") -> Iterator[PyTask]:
        """So many tasks, each with its number as its argument; of another function if there is a `path`."""
        path = path or f"marks:{self.function}"
        if self.options is None:
            return (PyTask(path, (i,), None, self.retry) for i in range(count))
        options = self.options
        return (PyTask.with_options(path, (i,), None, self.retry, options(i)) for i in range(count))

    @property
    def returns(self) -> bool:
        """Whether a task returns its number."""
        return self.function.endswith("echo")


def _all(options: Options) -> Callable[[int], Options]:
    """The same for each task, as those of a decorated function are."""
    return lambda _: options


_LOOP = {"async_tasks": 100}
_KEPT = _all(Options(result_ttl=60))

KINDS = {
    kind.name: kind
    for kind in (
        Kind(PLAIN),
        Kind("uid", _all(Options().with_id()), drain=0.75, many=0.6),
        Kind("retry+backoff", _all(Options(backoff=Exponential(1))), 3, drain=0.75, many=0.6),
        Kind("timeout", _all(Options(timeout=30)), drain=0.75, many=0.6),
        Kind("tracked", _all(Options(track=True)), states=True, drain=0.25),
        Kind(RESULT, _KEPT, function="echo", states=True, drain=0.25),
        Kind("unique", lambda i: Options(unique=f"u{i}"), drain=0.4),
        Kind("group", lambda i: Options(group=f"g{i % _FEW}"), drain=0.4),
        Kind("key", lambda i: Options(concurrency_key=f"k{i % _FEW}", concurrency=4), drain=0.4),
        Kind("async", function="coroutine_mark", worker=_LOOP, drain=0.25),
        Kind("async+result", _KEPT, function="coroutine_echo", worker=_LOOP, states=True, drain=0.12),
        Kind("threads", worker={"threads": 8}, drain=0.25),
    )
}
GO_KINDS = (PLAIN, "uid", "retry+backoff", "timeout", "tracked", RESULT, "unique", "group", "key")
