"""The options of a worker, checked once."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from ..errors import ConfigurationError
from ..hooks import NONE, Hooks
from ..job.allow import AllowAny, AllowList
from ..job.middleware import AsyncMiddleware, Middleware, check_middlewares
from ..queue.queue import Queue
from ..redis.command import check_cluster
from .deferral import PATIENCE

KEEP_ALIVE_INTERVAL = 3.0  # seconds
KEEP_ALIVE_TIMEOUT = 10.0  # seconds
GRACE = 25.0  # seconds


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """The options of a worker, which its supervisor and the command line share; `Worker` says what each means.

    Raises:
        ConfigurationError: numbers, queues or middlewares that cannot work.
    """

    queues: Sequence[Queue]
    allow: AllowList | AllowAny
    keep_alive_interval: float = KEEP_ALIVE_INTERVAL
    grace: float = GRACE
    burst: bool = False
    max_tasks: int | None = None
    max_rss: int | None = None
    middlewares: Sequence[Middleware | AsyncMiddleware] = ()
    hooks: Hooks = NONE
    weights: Sequence[float] | None = None
    async_tasks: int = 1
    threads: int = 0
    unready_for: float = PATIENCE
    endings_at_once: bool = False
    log_starts: bool = False
    # Around the life of each process:
    lifespan: Callable[[], AbstractContextManager[None]] = nullcontext

    def __post_init__(self) -> None:
        self._check_queues()
        self._check_times()
        if not (self.max_tasks is None or self.max_tasks > 0) or not (self.max_rss is None or self.max_rss > 0):
            raise ConfigurationError("max_tasks and max_rss must be above 0, or None for no limit")
        if self.async_tasks < 1 or self.threads < 0:
            raise ConfigurationError("async_tasks must be above 0, and threads not below 0")
        check_middlewares(self.middlewares)

    def _check_queues(self) -> None:
        if not self.queues:
            raise ConfigurationError("a worker needs at least one queue")
        first = self.queues[0]
        for queue in self.queues[1:]:
            if queue.conn is not first.conn:
                raise ConfigurationError("the queues of a worker share one connection: give them the same `conn`")
            check_cluster(queue.conn, first.name, queue.name)
        if len({queue.name for queue in self.queues}) < len(self.queues):
            raise ConfigurationError("a queue is named twice")
        weights = self.weights
        if weights is not None and (len(weights) != len(self.queues) or not all(0 < each < float("inf") for each in weights)):
            raise ConfigurationError(f"weights must be numbers above 0, one for each queue, not {list(weights)!r}")

    def _check_times(self) -> None:
        if not 0 < self.keep_alive_interval < 1e9:
            raise ConfigurationError(
                f"keep_alive_interval must be a number of seconds above 0, not {self.keep_alive_interval:g}"
            )
        if not self.grace >= 0:
            raise ConfigurationError(f"grace must be a number of seconds, 0 or more, not {self.grace:g}")
        if not 0 <= self.unready_for < 1e9:
            raise ConfigurationError(f"unready_for must be a number of seconds, 0 or more, not {self.unready_for:g}")
        if self.ttl < 2 * self.keep_alive_interval:
            raise ConfigurationError(
                f"a lease of {self.ttl:g} s (keep_alive_timeout) would run out between beats {self.keep_alive_interval:g} s "
                f"apart (keep_alive_interval): make the first at least twice the second"
            )

    @property
    def ttl(self) -> float:
        """Seconds that a lease lives after a beat."""
        chosen = [queue.keep_alive_timeout for queue in self.queues if queue.keep_alive_timeout is not None]
        return min(chosen) if chosen else max(KEEP_ALIVE_TIMEOUT, 3 * self.keep_alive_interval)

    @property
    def wait(self) -> float:
        """Seconds that an idle worker waits at a time."""
        return min(queue.dequeue_timeout for queue in self.queues)

    @property
    def several(self) -> bool:
        """Whether several tasks may run at once."""
        return self.async_tasks > 1 or self.threads > 0

    @property
    def slots(self) -> int:
        """How many tasks may run at once: plain functions, and coroutine functions beside them."""
        return max(self.threads, 1) + (self.async_tasks if self.async_tasks > 1 else 0)


def allow_list(allow: Iterable[str] | AllowList | AllowAny | None) -> AllowList | AllowAny:
    """What a worker may run; None means everything, with a warning."""
    if allow is None:
        warnings.warn(
            "this worker runs any importable function that a task names, so whoever can write to the queue can run code "
            "here; pass allow=['myapp.tasks:*'], or allow=AllowAny() if that is meant",
            stacklevel=3,
        )
        return AllowAny()
    return allow if isinstance(allow, AllowList | AllowAny) else AllowList(allow)
