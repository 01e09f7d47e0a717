"""What operators do with a queue that is on a server: waiting tasks and dead letters."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from ..dead_letters.search import Search
from ..errors import ConfigurationError, Unrunnable
from .asks import Answer, Ask, at, body_of, checked
from .values import value_in

_PAGE = 100
_ALL = Search()


class RemoteTask(NamedTuple):
    """A task as the server shows it. What is not known is None or empty."""

    id: str
    state: str  # waiting, scheduled, retrying, running, dead
    where: str  # of those that wait: queue, group, key, scheduled
    task: str  # function path
    args: Any
    kwargs: dict[str, Any]
    due: float | None  # seconds since 1970, in the schedule
    since: float | None  # seconds since 1970: when it was enqueued, began, or became a dead letter
    attempt: int | None
    error: str
    worker: str  # host:pid


class RemoteLetter(NamedTuple):
    """A dead letter as the server shows it."""

    id: str
    time: float  # seconds since 1970
    task: str  # function path
    args: Any
    kwargs: dict[str, Any]
    reason: str
    detail: str
    worker: str
    task_id: str | None
    attempts: int | None


class Operating:
    """The part of a `RemoteQueue` that needs functions beside a `Queue` (see `delayed.dead_letters`, `delayed.waiting`)."""

    name: str

    def ask(self, ask: Ask) -> Answer:
        """Send a request to the server."""
        raise NotImplementedError

    def _found(self, ask: Ask) -> Any:
        return checked(self.ask(ask), ask).value

    def tasks(
        self, state: str = "all", *, function: str | None = None, text: str | None = None, limit: int = 50
    ) -> list[RemoteTask]:
        """The first tasks that fit.

        Args:
            state: `waiting`, `scheduled`, `retrying`, `key`, `running`, `dead`, or `all` that wait.
            function: a pattern for the function's path.
            text: part of the task as it is shown, with its arguments.
            limit: how many at most, up to 1,000.
        """
        given = {"state": state, "function": function, "text": text, "limit": limit}
        return [_task_of(each) for each in self._found(self._get(given, "tasks"))["tasks"]]

    def peek(self, count: int = 1) -> list[RemoteTask]:
        """The tasks of the queue that are next, at most so many."""
        return self.tasks("waiting", limit=count)

    def find(self, task_id: str) -> dict[str, Any] | None:
        """What is known of a task, also of one that is not tracked: its state, function, dead letter and so on, as
        `GET /v1/queues/Q/tasks/ID` says it; None if nothing is."""
        ask = Ask("GET", at(self.name, "tasks", task_id))
        answer = self.ask(ask)
        if answer.status == 404:
            return None
        found: dict[str, Any] = checked(answer, ask).value
        return found

    def purge(self) -> int:
        """Remove all tasks that wait. Returns how many those were."""
        return int(self._found(Ask("POST", at(self.name, "purge"), b"{}", repeatable=False))["count"])

    def dead_letters(self, count: int | None = None, wanted: Search = _ALL) -> Iterator[RemoteLetter]:
        """Dead letters, newest first, a page at a time.

        Args:
            count: how many at most; None for all.
            wanted: which.
        """
        after: str | None = None
        while count is None or count > 0:
            given = {**_filters(wanted), "limit": min(_PAGE, count or _PAGE), "after": after}
            page = self._found(self._get(given, "dead"))
            yield from (_letter_of(each) for each in page["letters"])
            count = None if count is None else count - len(page["letters"])
            after = page["next"]
            if after is None:
                return

    def dead_letter(self, letter_id: str) -> RemoteLetter | None:
        """One of them, if it is there."""
        ask = Ask("GET", at(self.name, "dead", letter_id))
        answer = self.ask(ask)
        return None if answer.status == 404 else _letter_of(checked(answer, ask).value)

    def retry_dead(self, which: Search | Sequence[str]) -> int:
        """Put dead letters back to the end of the queue: those with these ids, or those that fit; all fit `Search()`. Returns
        how many went."""
        return self._letters("retry", which)

    def remove_dead(self, which: Search | Sequence[str]) -> int:
        """Remove dead letters for good, likewise."""
        return self._letters("remove", which)

    def _letters(self, act: str, which: Search | Sequence[str]) -> int:
        if isinstance(which, str):
            raise ConfigurationError(f"dead letters are named by a list of ids, such as [{which!r}], or by a Search")
        path = at(self.name, "dead", act)
        if isinstance(which, Search):
            chosen = {name: value for name, value in _filters(which).items() if value is not None} or {"all": True}
            # Said again, it would also be about letters that have come since.
            return int(self._found(Ask("POST", path, body_of(chosen), repeatable=False))["count"])
        pages = [which[start : start + 1000] for start in range(0, len(which), 1000)]
        return sum(int(self._found(Ask("POST", path, body_of({"ids": list(page)})))["count"]) for page in pages)

    def _get(self, given: dict[str, Any], *parts: str) -> Ask:
        query = urlencode({name: value for name, value in given.items() if value is not None})
        return Ask("GET", f"{at(self.name, *parts)}?{query}", invalid=ConfigurationError)


def _filters(wanted: Search) -> dict[str, Any]:
    """As the server calls them."""
    if wanted.anywhere is not None:
        raise ConfigurationError("over HTTP dead letters are not searched for what is anywhere: give text, or error")
    if wanted.worker is not None or wanted.group is not None:
        raise ConfigurationError("over HTTP dead letters are not searched for their worker or group")
    since, until = (
        None if each is None else datetime.fromtimestamp(each, UTC).isoformat() for each in (wanted.since, wanted.until)
    )
    return {
        "function": wanted.task, "error": wanted.error, "text": wanted.text, "reason": wanted.reason, "since": since,
        "until": until, "cause": wanted.cause,
    }  # fmt: skip


def _arguments(found: dict[str, Any]) -> tuple[Any, Any]:
    try:
        return value_in(found["args"]), value_in(found["kwargs"])
    except Unrunnable:  # a type that this process does not know
        return found["args"], found["kwargs"]


def _task_of(found: dict[str, Any]) -> RemoteTask:
    args, kwargs = _arguments(found)
    same = {name: found[name] for name in ("state", "where", "due", "since", "attempt", "error", "worker")}
    return RemoteTask(id=found["id"] or "", task=found["function"], args=args, kwargs=kwargs, **same)


def _letter_of(found: dict[str, Any]) -> RemoteLetter:
    args, kwargs = _arguments(found)
    same = {name: found[name] for name in ("time", "reason", "detail", "worker", "attempts")}
    return RemoteLetter(id=found["letter"], task=found["function"], args=args, kwargs=kwargs, task_id=found["id"], **same)
