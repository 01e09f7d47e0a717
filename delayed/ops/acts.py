"""What forms of the web UI and of `delayed top` do: a table of acts, with the role that each needs and what it asks first."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..base.text import clipped, counted
from ..dead_letters.retry import edited
from ..dead_letters.search import Search
from ..errors import DelayedError, InvalidAct
from ..queue.queue import Queue
from ..queue.waiting import Wanted
from ..task.decode import is_python_path, path_of, readable
from ..task.hidden import is_hidden
from ..workflow.run import Run
from . import actions
from .audit import Actor, Done, chosen
from .dead_actions import delete_letters, letter_named, retry_edited, retry_letters
from .job_records import Job
from .jobs import begin, stop_job
from .overview import server_time
from .task_actions import cancel_tasks, checked_ids, delete_tasks, move_tasks

ROLES = ("view", "operate", "admin")  # each may do what those before it may
_LONGEST = 1 << 20  # characters of JSON in a form
_MOST = 1000  # things that one form names


class Forbidden(InvalidAct):
    """Who asks for an act may not do this; nothing has happened."""


class Form:
    """The fields of a form. What is empty is not there.

    Args:
        fields: name → values, as they came.
        refusal: why who sends it may not enqueue calls of the function with a path; empty if they may.
    """

    def __init__(self, fields: Mapping[str, Sequence[str]], refusal: Callable[[str], str] = lambda _: "") -> None:
        self._refusal = refusal
        self._fields = {name: [each for each in values if each.strip()] for name, values in fields.items()}

    def __iter__(self) -> Any:
        """Names and values, each pair by itself."""
        return ((name, value) for name, values in self._fields.items() for value in values)

    def check_function(self, path: str) -> None:
        """See that who sends it may enqueue calls of this function.

        Raises:
            Forbidden: they may not.
        """
        if says := self._refusal(path):
            raise Forbidden(says)

    def text(self, name: str) -> str | None:
        """The value of a field, if it has one."""
        return next(iter(self._fields.get(name, ())), None)

    def texts(self, name: str) -> list[str]:
        """All values of a field.

        Raises:
            InvalidAct: there are none, or too many.
        """
        found = self._fields.get(name, [])
        if not found:
            raise InvalidAct("nothing is chosen: mark what the act is for, or choose all that match")
        if len(found) > _MOST:
            raise InvalidAct(f"at most {_MOST:,} can be named at once: choose all that match instead")
        return found

    def is_set(self, name: str) -> bool:
        """Whether a box is marked."""
        return self.text(name) is not None

    def whole(self, name: str) -> int | None:
        """A whole number."""
        text = (self.text(name) or "").strip()
        if not text:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) < 16):
            raise InvalidAct(f"{name}: write a whole number, not {text!r:.100}")
        return int(text)

    def number(self, name: str) -> float | None:
        """A number."""
        text = self.text(name)
        if text is None:
            return None
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            raise InvalidAct(f"{name}: write a number, not {text!r:.100}")
        return found

    def value(self, name: str) -> Any:
        """What a field says in JSON; None if it is empty."""
        text = self.text(name)
        if text is None:
            return None
        try:
            return json.loads(clipped(text, _LONGEST))
        except (ValueError, RecursionError) as error:
            raise InvalidAct(f"{name}: this is no JSON: {error}; a text stands between quotes") from None


Do = Callable[[Queue, Actor, Form], Done | Job]


@dataclass(frozen=True, slots=True)
class Act:
    """Something that a form does.

    Args:
        name: as in the audit.
        role: the least that may do it.
        do: does it.
        asks: what is asked before; None: nothing, as it can be undone, or removes nothing.
        rights: what somebody's token must allow who comes with one, instead of a role: what it must allow over HTTP.
    """

    name: str
    role: str
    do: Do
    asks: Callable[[Queue, Form], str] | None = None
    rights: tuple[str, ...] = ("operate",)


def may(role: str, needed: str) -> bool:
    """Whether who has a role may do what needs another."""
    return role in ROLES and ROLES.index(role) >= ROLES.index(needed)


def highest(roles: Iterable[str]) -> str:
    """The one of these roles that may do most; empty if there are none."""
    return max(roles, key=ROLES.index, default="")


def search_in(form: Form) -> Search:
    """The filter of dead letters that a form says."""
    return Search(
        task=form.text("task"), error=form.text("error"), text=form.text("text"), reason=form.text("reason"),
        since=form.number("since"), until=form.number("until"), cause=form.text("cause"), anywhere=form.text("anywhere"),
        worker=form.text("worker"), group=form.text("group"),
    )  # fmt: skip


def wanted_in(form: Form) -> Wanted:
    """The filter of waiting tasks that a form says."""
    where, state = form.text("where"), form.text("state")
    if where not in (None, "queue", "group", "key", "scheduled"):
        raise InvalidAct(f"{where!r:.100} is no place where tasks wait")
    if state not in (None, "waiting", "scheduled", "retrying"):
        raise InvalidAct(f"{state!r:.100} is no state of tasks that wait")
    return Wanted(
        task=form.text("task"), text=form.text("text"), overdue=form.is_set("overdue"), where=where, state=state,
        error=form.text("error"), group=form.text("group"),
    )  # fmt: skip


def _letters(act: str, named: Callable[[Queue, Actor, Sequence[str]], Done]) -> Do:
    """Done at once to those that are named; to all that match, by a job."""

    def do(queue: Queue, by: Actor, form: Form) -> Done | Job:
        if form.is_set("matching"):
            return begin(queue, by, act, search_in(form))
        return named(queue, by, form.texts("id"))

    return do


def _tasks(act: str, named: Callable[[Queue, Actor, Sequence[str]], Done]) -> Do:
    def do(queue: Queue, by: Actor, form: Form) -> Done | Job:
        if form.is_set("matching"):
            return begin(queue, by, act, wanted_in(form))
        return named(queue, by, checked_ids(form.texts("id")))

    return do


def _move(queue: Queue, by: Actor, form: Form) -> Done | Job:
    moment, after = form.number("moment"), form.number("after")
    if moment is None and after is not None:
        moment = server_time(queue) + after
    if moment is None:
        raise InvalidAct("say when the tasks shall run")
    if form.is_set("matching"):
        return begin(queue, by, "task.move", wanted_in(form), moment)
    return move_tasks(queue, by, checked_ids(form.texts("id")), moment)


def _cancel(queue: Queue, by: Actor, form: Form) -> Done | Job:
    return _tasks("task.cancel", lambda queue, by, ids: cancel_tasks(queue, by, ids, hard=form.is_set("hard")))(
        queue, by, form
    )


def _edit(queue: Queue, by: Actor, form: Form) -> Done:
    letter = letter_named(queue, *form.texts("id")[:1])
    form.check_function(path_of(letter.data))  # a call with other arguments is another call
    if is_hidden(letter.task):
        raise InvalidAct(f"the arguments of {letter.task} are hidden, and so cannot be edited here; `delayed dead retry` can")
    args, kwargs = form.value("args"), form.value("kwargs")
    if args is None and kwargs is None:
        raise InvalidAct("say other arguments, or retry it as it is")
    return retry_edited(queue, by, letter.id, args, kwargs)


def _limit(queue: Queue, by: Actor, form: Form) -> Done:
    given = {"concurrency": form.whole("concurrency"), "rate": form.number("rate"), "burst": form.whole("burst")}
    return actions.limit_queue(queue, by, lift=form.is_set("lift"), **given)  # type: ignore[arg-type]


def _run(queue: Queue, form: Form) -> Run:
    return Run(queue, form.texts("id")[0])


def _signal(queue: Queue, by: Actor, form: Form) -> Done:
    return actions.signal_flow(_run(queue, form), by, form.text("name") or "", form.value("payload"))


def _schedule(act: Callable[[Queue, Actor, str], Done]) -> Do:
    return lambda queue, by, form: act(queue, by, form.texts("name")[0])


def _many(noun: str, says: str, filter_in: Callable[[Form], Search | Wanted]) -> Callable[[Queue, Form], str]:
    def asks(queue: Queue, form: Form) -> str:
        if not form.is_set("matching"):
            return f"{says} {counted(len(form.texts('id')), noun)} of the queue {queue.name}, for good?"
        which = chosen(filter_in(form))
        what = f"all {noun}s" if which == "all" else f"all {noun}s that match ({which})"
        return f"{says} {what} of the queue {queue.name}, for good?"

    return asks


ACTS = {
    each.name: each
    for each in (
        Act("queue.pause", "operate", lambda queue, by, _: actions.pause_queue(queue, by)),
        Act("queue.resume", "operate", lambda queue, by, _: actions.resume_queue(queue, by)),
        Act("queue.limit", "operate", _limit),
        Act(
            "queue.purge", "admin", lambda queue, by, _: begin(queue, by, "queue.purge"),
            lambda queue, _: f"Remove all tasks that wait in the queue {queue.name}, for good?",
        ),
        Act("dead.retry", "operate", _letters("dead.retry", retry_letters)),
        Act("dead.edit", "operate", _edit, rights=("operate", "enqueue")),
        Act("dead.delete", "admin", _letters("dead.delete", delete_letters), _many("dead letter", "Remove", search_in)),
        Act("task.cancel", "operate", _cancel, _many("task", "Cancel", wanted_in)),
        Act("task.delete", "admin", _tasks("task.delete", delete_tasks), _many("task", "Remove", wanted_in)),
        Act("task.run", "operate", _tasks("task.run", move_tasks)),
        Act("task.move", "operate", _move),
        Act(
            "flow.cancel", "operate", lambda queue, by, form: actions.cancel_flow(_run(queue, form), by),
            lambda _, form: f"Cancel the workflow {form.texts('id')[0]:.100}?",
        ),
        Act(
            "flow.retry", "operate",
            lambda queue, by, form: actions.retry_flow(_run(queue, form), by, form.text("mode") or "failed_only"),
        ),
        Act("flow.signal", "operate", _signal, rights=("enqueue",)),
        Act("cron.pause", "operate", _schedule(actions.pause_schedule)),
        Act("cron.resume", "operate", _schedule(actions.resume_schedule)),
        Act("cron.run", "operate", _schedule(actions.run_schedule)),
        Act(
            "cron.remove", "admin", _schedule(actions.remove_schedule),
            lambda queue, form: f"Remove the schedule {form.texts('name')[0]:.100} of the queue {queue.name}?",
        ),
        Act(
            "interest.remove", "admin", lambda queue, by, _: actions.remove_interest(queue, by),
            lambda queue, _: f"Remove the interest of the queue {queue.name} in what is published?",
        ),
        Act("fsck.repair", "admin", lambda queue, by, _: begin(queue, by, "fsck.repair")),
        Act("job.stop", "operate", lambda queue, by, form: stop_job(queue, by, form.texts("id")[0])),
    )
}  # fmt: skip


def editable(data: bytes) -> dict[str, str] | None:
    """The arguments of a task in JSON, for a form in which they are edited: `args`, and of a Python function `kwargs`. None if
    they are hidden, or JSON has no form for them that means the same."""
    try:
        fields = readable(data)
        if not isinstance(fields, list) or not fields or not isinstance(fields[0], str) or is_hidden(fields[0]):
            return None
        python = is_python_path(fields[0])
        rest = dict(enumerate(fields[1:]))
        said = {"args": rest.get(0) or [], **({"kwargs": rest.get(1) or {}} if python else {})}
        texts = {name: json.dumps(value, ensure_ascii=False) for name, value in said.items()}
        same = edited(data, **{name: json.loads(text) for name, text in texts.items()})
    except (DelayedError, ValueError, TypeError, RecursionError):
        return None
    return texts if same == data else None
