"""Gives a queue on which nobody works another name."""

from ..base.text import counted
from ..errors import ConfigurationError
from ..queue.queue import Queue
from ..queue.waiting import Wanted, candidates
from ..redis.command import ResponseError, is_cluster, same_slot
from ..task.decode import headers_of
from ..task.headers import member_in
from .checks import Snapshot

_MOST = 10_000  # groups whose lists move in one step


def rename(queue: Queue, new: Queue) -> None:
    """Move all that a queue has, in one step: its waiting and scheduled tasks, dead letters, schedules, limits and counts.

    Raises:
        ConfigurationError: nothing was moved, as that would not be safe: somebody serves the queue, tasks are held, something
            is kept of tracked tasks (whose handles know the old name), or the new name is in use.
    """
    there = Snapshot(queue).suffixed
    reason = _obstacle(queue, new, there)
    if reason is None:
        groups = [key[-40:] for key in there if queue.keys.owns_group(key)]
        reason = {
            0: "tasks are held: stop its workers, and let a sweeper bring back what they left",
            2: _taken(new),
            3: "its groups change: stop its producers",
        }.get(queue.store.rename(new.keys, groups, [key for key in there if queue.keys.owns_stats(key)]))
    if reason is not None:
        raise ConfigurationError(f"{queue.name!r} cannot be renamed: {reason}")
    try:
        _take_interest(queue, new)
        queue.store.forget()
    except ResponseError:  # there are rules (ACL) that forbid it: the register forgets it by itself
        return


def _take_interest(queue: Queue, new: Queue) -> None:
    """Its interest in what is published goes with it; for a moment both have it."""
    for interest in queue.interests().interests:
        if interest.queue == queue.name:
            new.set_interest(interest.match, interest.function, retry=interest.retry)
            queue.remove_interest()


def _obstacle(queue: Queue, new: Queue, there: list[str]) -> str | None:
    """Why that would not be safe."""
    keys = queue.keys
    if is_cluster(queue.store.conn) and not same_slot(queue.name, new.name):
        return "the new name lies in another slot of the cluster; it needs the same {tag}"
    if any(new.keys.owns_lease(key) or _is_own(new, key) for key in Snapshot(new).suffixed):
        return _taken(new)
    if lives := sum(keys.owns_lease(key) for key in there):
        return f"its workers or sweepers live ({counted(lives, 'lease')}): stop them first; leases run out within seconds"
    if kept := sum(keys.owns_for_a_task(key) or keys.owns_waits(key) for key in there):
        return (
            f"{counted(kept, 'key')} of tracked tasks would not be found any more, as handles know the old name: "
            f"wait until they have ended and their results have run out, or purge the queue"
        )
    if sum(map(keys.owns_group, there)) > _MOST:
        return f"it has more than {_MOST:,} groups"
    return _workflow(queue, there)


def _workflow(queue: Queue, there: list[str]) -> str | None:
    if any(map(queue.keys.owns_flow, there)):
        return "it is the home of workflows, whose tasks know the old name: wait until they have ended and are forgotten"
    if any(b"flow" in each.data and member_in(headers_of(each.data)) for each in candidates(queue, Wanted())):
        return "tasks of workflows wait in it, which know the old name: wait until they have ended"
    return None


def _is_own(queue: Queue, key: str) -> bool:
    return (
        queue.keys.owns_for_a_task(key)
        or queue.keys.owns_group(key)
        or queue.keys.owns_waits(key)
        or queue.keys.owns_stats(key)
        or queue.keys.owns_flow(key)
    )


def _taken(new: Queue) -> str:
    return f"there are keys of {new.name!r} already: choose a name that is free"
