"""Tasks and values in the forms that a server takes and gives."""

from datetime import UTC, datetime
from typing import Any

from ..errors import NotEncodable
from ..queue.waits import ENDED
from ..server.mapping import plain
from ..task.codec import dumps, loads
from ..task.options import UNIQUE_FOR, Options, type_name
from ..task.result import State, failure, success
from ..task.task import GoTask, Task

_SAME = (  # options that have the same name and form there
    "timeout", "hard_timeout", "result_ttl", "group", "concurrency_key", "concurrency", "rate_key", "rate", "unique",
)  # fmt: skip
_NEVER = "0001-01-01T00:00:00Z"


def body_of_task(task: Task, identity: str | None) -> dict[str, Any]:
    """A task as a server takes it: NewTask.

    Raises:
        NotEncodable: it has no form in JSON.
    """
    body: dict[str, Any] = {"function": task.func_path}
    if task.args is not None and (isinstance(task, GoTask) or task.args):
        body["args"] = shown(task.args)
    if not isinstance(task, GoTask) and task.kwargs:
        body["kwargs"] = shown(task.kwargs)
    if task.retry:
        body["retry"] = task.retry
    if identity is not None:
        body["id"] = identity
    return body if task.options is None else body | _options(task.options, task.retry)


def shown(value: Any) -> Any:
    """A value as it is sent.

    Raises:
        NotEncodable: it has no form in JSON.
    """
    found = plain(dumps(value))
    if isinstance(found, dict) and "$msgpack" in found:
        raise NotEncodable("the arguments are nested too deeply to be sent over HTTP: 100 levels")
    return found


def _options(options: Options, retry: int) -> dict[str, Any]:
    found = {name: value for name in _SAME if (value := getattr(options, name)) is not None}
    if options.backoff is not None:
        kind, base, cap, jitter = options.backoff.header()
        found["backoff"] = {"kind": kind, "base": base, "cap": cap, "jitter": jitter}
    for name in ("retry_on", "give_up_on"):
        if kinds := getattr(options, name):
            found[name] = [each if isinstance(each, str) else type_name(each) for each in kinds]
    if found.keys() & {"backoff", "retry_on", "give_up_on"}:
        found["retry"] = retry  # also if it is 0: somebody has said so
    if options.unique is not None:
        found |= {"unique_mode": options.unique_mode, "join": options.join}
        if options.unique_for != UNIQUE_FOR:
            found["unique_for"] = options.unique_for
    if options.track:
        found["track"] = True
    if options.metadata:
        found["metadata"] = dict(options.metadata)
    return found | _times(options)


def _times(options: Options) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options.at is not None:
        found["at"] = _instant(options.at)
    if options.after is not None:
        found["delay"] = options.after
    if isinstance(options.expires, datetime):
        found["expires_at"] = _instant(options.expires)
    elif options.expires is not None:
        found["expires"] = options.expires
    return found


def _instant(moment: datetime | float) -> str:
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(max(moment, 0.001), UTC)  # what has passed has passed
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def value_in(found: Any) -> Any:
    """The value that a server shows: what a task gets, or has returned."""
    return loads(dumps(found))


def outcome_of(found: dict[str, Any] | None) -> list[bytes | None]:
    """State, error and result of a task as Redis has them, from a Result; nothing is known of None."""
    if found is None:
        return [None, None, None]
    state = str(found.get("state", ""))
    if found.get("unreadable") or (
        state == State.SUCCEEDED and isinstance(found.get("result"), dict) and "$msgpack" in found["result"]
    ):
        return [state.encode(), None, b"\xc1"]
    result: bytes | None = None
    if state == State.SUCCEEDED:
        result = success(found.get("result"), kept=bool(found.get("kept")))
    elif state == State.FAILED:
        error = found.get("error") or {}
        result = failure(*(str(error.get(name, "")) for name in ("kind", "message", "traceback")))
    elif state.encode() in ENDED:
        result = dumps([state])
    return [state.encode(), None, result]
