"""What an operator does to tasks that wait or run: cancels them, removes them, and gives them another time."""

from collections.abc import Iterable, Sequence

from ..base.checks import as_time, is_number
from ..base.escape import escaped
from ..base.ids import ID_FORM, is_id
from ..base.text import counted
from ..errors import InvalidAct, NoResult, UnknownTask
from ..queue.handle import Handle
from ..queue.queue import Queue
from ..queue.waiting import LOOKED_AT, Waiting, Wanted, at, cancel, find, move, remove, search
from .audit import Actor, Done, audited, chosen, named
from .overview import server_time
from .tasks import of_waiting

_LAST = 253402300800.0  # seconds since 1970: the year 10000, of which ISO dates say nothing


def checked_ids(ids: Sequence[str]) -> Sequence[str]:
    """The ids of tasks.

    Raises:
        InvalidAct: there are none, or one of them has not their form.
    """
    for each in ids:
        if not is_id(each):
            raise InvalidAct(f"{each!r:.100} is no id of a task: {ID_FORM}")
    if not ids:
        raise InvalidAct("name the tasks by their ids")
    return ids


def cancel_tasks(queue: Queue, by: Actor, ids: Sequence[str], *, hard: bool = False) -> Done:
    """Cancel tasks by their ids: what waits is removed, what runs is told. `says` has the state of each before that."""

    def do() -> Done:
        states, left = list[str](), list[str]()
        for each in ids:
            try:
                states.append(_cancelled(queue, each, hard))
            except (UnknownTask, NoResult) as error:
                left.append(str(error))
        return Done("task.cancel", queue.name, len(states), "\n".join(states), "\n".join(left))

    return audited(queue, by, "task.cancel", named(ids) + (" (hard)" if hard else ""), do)


def _cancelled(queue: Queue, identity: str, hard: bool) -> str:
    """Cancel a task, and return the state in which it was."""
    try:
        return Handle(queue, identity).cancel(hard=hard)
    except UnknownTask:
        waits = find(queue, identity) if is_id(identity) else None
        if waits is None or not cancel(queue, waits):
            raise
        return waits.where


def cancel_matching(queue: Queue, by: Actor, wanted: Wanted, look_at: int = LOOKED_AT) -> Done:
    """Cancel the waiting tasks that fit, of those that have an id."""

    def do() -> Done:
        found = list(search(queue, wanted, look_at))
        count = sum(cancel(queue, each) for each in found)
        left = sum(not each.id and each.where in ("queue", "group") for each in found)
        note = (
            ""
            if not left
            else (
                f"{counted(left, 'task waits', 'tasks wait')} in the queue without an id, and cannot be cancelled; "
                f"`delayed task delete` removes them"
            )
        )
        return Done("task.cancel", queue.name, count, f"{counted(count, 'task')} cancelled", note=note)

    return audited(queue, by, "task.cancel", chosen(wanted), do)


def delete_tasks(queue: Queue, by: Actor, which: Sequence[str]) -> Done:
    """Remove waiting tasks, by their ids or their positions in the queue itself (1 is taken next)."""

    def do() -> Done:
        found = [waiting_task(queue, each) for each in which]  # all of them, before positions change
        return _deleted(queue, found)

    return audited(queue, by, "task.delete", named(which), do)


def delete_matching(queue: Queue, by: Actor, wanted: Wanted, look_at: int = LOOKED_AT) -> Done:
    """Remove the waiting tasks that fit, with or without an id."""
    return audited(queue, by, "task.delete", chosen(wanted), lambda: _deleted(queue, list(search(queue, wanted, look_at))))


def _deleted(queue: Queue, found: Sequence[Waiting]) -> Done:
    gone = [each for each in found if remove(queue, each)]
    left = len(found) - len(gone)
    says = f"{counted(len(gone), 'task')} removed"
    why = f"{counted(left, 'task')} did not wait there any more" if left else ""
    tasks = tuple(of_waiting(queue.name, each) for each in gone)
    return Done("task.delete", queue.name, len(gone), says, why, tasks=tasks)


def waiting_task(queue: Queue, which: str) -> Waiting:
    """The task with an id, or at a position.

    Raises:
        InvalidAct: there is none, or it is neither an id nor a position.
    """
    if is_id(which):
        found, says = find(queue, which), f"no waiting task of {queue.name!r} has the id {which}; it may run, or have ended"
    elif is_position(which):
        found, says = at(queue, int(which)), f"{counted(queue.len(), 'task waits', 'tasks wait')} in {queue.name!r} itself"
    else:
        raise InvalidAct(f"{which!r:.100} is no id of a task ({ID_FORM}), and no position, from 1 on")
    if found is None:
        raise InvalidAct(says)
    return found


def is_position(text: str) -> bool:
    """Whether this is a position in a queue; the first is 1."""
    return text.isdecimal() and text.isascii() and len(text) < 10 and int(text) > 0


def move_tasks(queue: Queue, by: Actor, ids: Sequence[str], moment: float | None = None) -> Done:
    """Give tasks in the schedule another time; without a `moment` (seconds since 1970) they run now."""
    checked_ids(ids)

    def do() -> Done:
        found = [waits for each in ids if (waits := find(queue, each)) is not None]
        return _moved(queue, found, len(ids), moment)

    return audited(queue, by, _name(moment), f"{named(ids)}{_to(moment)}", do)


def move_matching(queue: Queue, by: Actor, wanted: Wanted, moment: float | None = None, look_at: int = LOOKED_AT) -> Done:
    """Likewise, those that fit."""

    def do() -> Done:
        return _moved(queue, search(queue, wanted, look_at), None, moment)

    return audited(queue, by, _name(moment), f"{chosen(wanted)}{_to(moment)}", do)


def _moved(queue: Queue, found: Iterable[Waiting], named: int | None, moment: float | None) -> Done:
    when = checked_moment(queue, moment)
    count = sum(move(queue, each, when) for each in list(found))
    left = 0 if named is None else named - count
    why = f"{counted(left, 'task was', 'tasks were')} not in the schedule of {escaped(queue.name)}" if left else ""
    says = f"{counted(count, 'task is', 'tasks are')} due at {as_time(when)}"
    return Done(_name(moment), queue.name, count, says, why)


def checked_moment(queue: Queue, moment: float | None) -> float:
    """When tasks are moved to: by default now.

    Raises:
        InvalidAct: it is no time.
    """
    if moment is None:
        return server_time(queue)
    if not is_number(moment) or not 0 <= moment < _LAST:
        raise InvalidAct(f"a time is a number of seconds since 1970, before the year 10000, not {moment!r}")
    return moment


def _name(moment: float | None) -> str:
    return "task.run" if moment is None else "task.move"


def _to(moment: float | None) -> str:
    return "" if moment is None or not is_number(moment) or not 0 <= moment < _LAST else f" to {as_time(moment)}"
