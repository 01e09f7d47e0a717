"""What a worker is told, checked."""

import warnings
from collections.abc import Iterable, Sequence

from ..errors import ConfigurationError
from ..job.allow import AllowAny, AllowList
from ..queue.queue import Queue
from ..redis.command import check_cluster

KEEP_ALIVE_INTERVAL = 3.0  # seconds
KEEP_ALIVE_TIMEOUT = 10.0  # seconds
GRACE = 25.0  # seconds


def check_same_server(queues: Sequence[Queue]) -> None:
    """A worker has one connection for all its queues.

    Raises:
        ConfigurationError: they are on different servers, or one is named twice.
    """
    first = queues[0]
    for queue in queues[1:]:
        if queue.conn is not first.conn:
            raise ConfigurationError("the queues of a worker share one connection: give them the same `conn`")
        check_cluster(queue.conn, first.name, queue.name)
    if len({queue.name for queue in queues}) < len(queues):
        raise ConfigurationError("a queue is named twice")


def check_times(interval: float, grace: float) -> None:
    """What a worker is told about time.

    Raises:
        ConfigurationError: a number that cannot work.
    """
    if not interval > 0:
        raise ConfigurationError(f"keep_alive_interval must be a number of seconds above 0, not {interval:g}")
    if not grace >= 0:
        raise ConfigurationError(f"grace must be a number of seconds, 0 or more, not {grace:g}")


def lease_ttl(queues: Sequence[Queue], interval: float) -> float:
    """How long the leases of a worker live that beats at `interval`, both in seconds.

    Raises:
        ConfigurationError: a lease would run out between two beats.
    """
    chosen = [queue.keep_alive_timeout for queue in queues if queue.keep_alive_timeout is not None]
    ttl = min(chosen) if chosen else max(KEEP_ALIVE_TIMEOUT, 3 * interval)
    if ttl < 2 * interval:
        raise ConfigurationError(
            f"a lease of {ttl:g} s (keep_alive_timeout) would run out between beats {interval:g} s apart "
            f"(keep_alive_interval): make the first at least twice the second"
        )
    return ttl


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
