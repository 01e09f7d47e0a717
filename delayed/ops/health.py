"""Checks whether Redis, the processes of a host and queues are well, for probes."""

import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..base.text import counted
from ..queue.queue import Queue
from ..redis.command import RedisError, ResponseError, is_outage
from .overview import QueueView, observed
from .processes import entries, merged


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked."""

    about: str  # redis, or a queue
    ok: bool
    says: str

    def as_dict(self) -> dict[str, Any]:
        """In the form of JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What must be so.

    Args:
        live: a process of this host serves each queue; unknown while Redis cannot be reached, which is no failure: a process
            waits for Redis, and to restart it would not help.
        ready: the same, and Redis can be reached.
        kind: which processes: `worker`, `sweeper`, or None for both.
        workers: at least so many workers, on any host, serve each queue.
        max_age: no task of a queue has waited for longer, in seconds. Where tasks do not say that, what waits must
            not take longer at the rate at which attempts have ended lately.
        max_dead: no queue has more dead letters.
        host: this host, as the register names it.
    """

    live: bool = False
    ready: bool = False
    kind: str | None = None
    workers: int = 0
    max_age: float | None = None
    max_dead: int | None = None
    host: str = ""


def health(queues: Iterable[Queue], wanted: Wanted, ping: Callable[[], object]) -> list[Check]:
    """Check what is wanted of the queues.

    Args:
        queues: which.
        wanted: what must be so.
        ping: a command to Redis.

    Raises:
        redis.exceptions.RedisError: Redis refuses a command, other than because it is away.
    """
    try:
        ping()
        found = [Check("redis", True, "answers")]
        for queue in queues:
            found += _queue(queue, wanted)
    except RedisError as error:
        if isinstance(error, ResponseError) and not is_outage(error):
            raise
        excused = wanted.live and not wanted.ready and is_outage(error)
        hint = "; that is no reason to restart a worker, which waits for it" if excused else ""
        return [Check("redis", excused, f"cannot be asked: {error}{hint}")]
    return found


def _queue(queue: Queue, wanted: Wanted) -> Iterator[Check]:
    if wanted.live or wanted.ready or wanted.workers:
        yield from _processes(queue, wanted)
    if wanted.max_age is not None or wanted.max_dead is not None:
        view, _ = observed(queue)
        if wanted.max_age is not None:
            yield _age(view, wanted.max_age)
        if wanted.max_dead is not None:
            says = f"{counted(view.dead, 'dead letter')} (at most {wanted.max_dead})"
            yield Check(queue.name, view.dead <= wanted.max_dead, says)


def _age(view: QueueView, most: float) -> Check:
    """Whether no task has waited for longer; of tasks that do not say since when, whether they will soon be taken."""
    waits = view.waiting + view.grouped + view.for_keys
    unknown = "oldest" in view.at_least
    said = [] if unknown else ["no task waits"]
    if view.oldest is not None:
        said = [f"the oldest task that says so: {view.oldest:.1f} s"]
    if unknown:
        said.append(
            f"{counted(waits, 'task waits', 'tasks wait')}, and the first does not say since when: {_pace(view, waits)}"
        )
    ok = (view.oldest or 0) <= most and (not unknown or _is_free(view) or waits <= most * view.rate)
    return Check(view.queue, ok, f"{'; '.join(said)} (at most {most:g} s){'; it is paused' if view.limits.paused else ''}")


def _is_free(view: QueueView) -> bool:
    """Whether a worker has nothing in hand, and so takes at once what waits."""
    return view.workers > view.running and not view.limits.paused


def _pace(view: QueueView, waits: int) -> str:
    if view.rate:
        return f"at the present rate they take {waits / view.rate:.1f} s"
    if _is_free(view):
        return "a worker has nothing in hand"
    return "no attempt has ended in this minute and the one before; see `delayed info`, and track tasks to know their age"


def _processes(queue: Queue, wanted: Wanted) -> Iterator[Check]:
    living = merged((queue.name, about) for about in entries(queue).values())
    if wanted.live or wanted.ready:
        host = wanted.host or socket.gethostname()
        here = [each for each in living if each.host == host and wanted.kind in (None, each.kind)]
        what = wanted.kind or "process"
        says = f"{', '.join(each.place for each in here)} serves it" if here else f"no {what} of {host} serves it"
        yield Check(queue.name, bool(here), says)
    if wanted.workers:
        count = sum(each.kind == "worker" for each in living)
        says = f"{counted(count, 'worker serves', 'workers serve')} it (at least {wanted.workers})"
        yield Check(queue.name, count >= wanted.workers, says)
