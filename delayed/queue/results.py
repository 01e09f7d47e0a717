"""The results of many tasks, a hundred for each question."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TypeVar

from ..base.clock import monotonic
from ..redis.command import is_outage, redis_errors
from .handle import Handle
from .waits import NotYet, answer_in, undecided

R = TypeVar("R")
_AT_ONCE = 100  # handles that are asked about in one round trip


def results(
    handles: Iterable[Handle[R]], timeout: float | None = None, *, return_exceptions: bool = False
) -> Iterator[R | BaseException]:
    """What each of these tasks has returned, in their order: as `Handle.result` of each, in a round trip for each hundred that
    have ended.

    Args:
        handles: of the tasks.
        timeout: seconds to wait at most, for all together; None for as long as it takes.
        return_exceptions: whether the error of a task that did not succeed stands in the place of its result, as in
            `asyncio.gather`. Else the first one is raised.

    Raises:
        TaskFailed, TaskExpired, TaskCancelled, NotDone, UnknownTask, NoResult: as `Handle.result`.
    """
    deadline = None if timeout is None else monotonic() + timeout
    coming = iter(handles)
    while some := list(islice(coming, _AT_ONCE)):
        known = _looked_up(some)
        for handle in some:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            try:
                value = known[handle]() if handle in known else handle.result(left)
            except Exception as error:
                if not return_exceptions:
                    raise
                yield error
            else:
                yield value


def _looked_up(handles: list[Handle[R]]) -> dict[Handle[R], Callable[[], R]]:
    """Those of the tasks that have ended, and what gives their results or raises what there is to say."""
    found: dict[Handle[R], Callable[[], R]] = {}
    for queue in {id(handle.queue): handle.queue for handle in handles}.values():
        ours = [handle for handle in handles if handle.queue is queue and handle.tracked]
        try:
            answers = map(answer_in, queue.store.outcomes([handle.id or "" for handle in ours]))
        except redis_errors.RedisError as error:
            if not is_outage(error):
                raise
            continue  # each is asked about again, for as long as there is time
        found.update(
            (handle, partial(handle.value_in, answer))
            for handle, answer in zip(ours, answers, strict=True)
            if answer is not NotYet and not undecided(answer)  # a workflow may know more
        )
    return found
