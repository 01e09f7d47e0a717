"""Tasks as clients write them, and as they read them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgpack

from ..backoff import Constant, Exponential, Linear
from ..dead_letters.letter import DeadLetter
from ..errors import InvalidTask, Unrunnable
from ..ops.tasks import TaskView
from ..task.decode import headers_of, is_python_path, path_of
from ..task.edit import elements_of
from ..task.headers import TRACE, any_id_in, member_in, metadata_in, milliseconds_in, trace_in
from ..task.task import GoTask, PyTask, Task
from ..workflow.pages import run_id
from .leases import Lease
from .mapping import plain, shown

_BACKOFFS = {"constant": Constant, "linear": Linear, "exponential": Exponential}
_OTHERS = ("function", "args", "kwargs", "id", "retry")


def task_of(body: Mapping[str, Any]) -> Task:
    """The task that a client describes, in the form that its schema says.

    Raises:
        InvalidTask: it could not be run.
    """
    options = {name: value for name, value in body.items() if name not in _OTHERS}
    if "delay" in options:
        options["after"] = options.pop("delay")
    for name, option in (("at", "at"), ("expires_at", "expires")):
        if name in options:
            options[option] = moment_of(options.pop(name), name)
    if "backoff" in options:
        backoff = dict(options["backoff"])
        kind = _BACKOFFS[backoff.pop("kind")]
        backoff.setdefault("cap", max(3600.0, backoff["base"]))
        options["backoff"] = kind(**backoff)
    for name in ("retry_on", "give_up_on"):
        if name in options:
            options[name] = tuple(options[name])
    path, args, retry = body["function"], body.get("args"), body.get("retry")
    retry = None if retry is None else int(retry)
    if "concurrency" in options:
        options["concurrency"] = int(options["concurrency"])
    if is_python_path(path):
        return PyTask(path, args, by_name(body), retry, **options)
    if body.get("kwargs"):
        raise InvalidTask(f"{path} is a Go function, which has no arguments by name")
    return GoTask(path, args, retry, **options)


def by_name(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments by name of a call that a client describes, which are in an object.

    Raises:
        InvalidTask: a name is none, as of a map with other keys.
    """
    found: dict[str, Any] | None = body.get("kwargs")
    if found and not all(type(name) is str for name in found):
        raise InvalidTask("kwargs: the names of arguments are texts")
    return found


def moment_of(text: str, name: str) -> datetime:
    """The time that a text means, which has the form of one.

    Raises:
        InvalidTask: it is none, such as February the 30th.
    """
    try:
        moment = datetime.fromisoformat(text.upper())
        moment.timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidTask(f"{name} is no time: {error}") from None
    return moment


def call_of(data: bytes, path: str | None = None) -> dict[str, Any]:
    """What a task calls: function, arguments, and arguments by name. Its path may be known."""
    path = path_of(data) if path is None else path
    if is_python_path(path) and type(whole := plain(data)) is list:
        _, args, kwargs, *_ = *whole, None, None
        return {"function": path, "args": args or [], "kwargs": kwargs or {}}
    try:
        raw = elements_of(data)
    except Unrunnable:
        return {"function": path, "args": plain(data), "kwargs": {}}
    if not is_python_path(path):
        return {"function": path, "args": _payload(raw[1]) if len(raw) > 1 else None, "kwargs": {}}
    args = plain(raw[1]) if len(raw) > 1 else None
    kwargs = plain(raw[2]) if len(raw) > 2 else None
    return {"function": path, "args": args or [], "kwargs": kwargs or {}}


def _payload(packed: bytes) -> Any:
    """The arguments of a Go task, which are MessagePack in a byte string."""
    payload = msgpack.unpackb(packed, unicode_errors="surrogateescape", strict_map_key=False, ext_hook=msgpack.ExtType)
    return plain(payload) if type(payload) is bytes and payload else None


def lease_shown(lease: Lease) -> dict[str, Any]:
    """A lease, for who has taken it."""
    return {
        "token": lease.token,
        "queue": text(lease.queue),
        **call_of(lease.data, lease.path),
        "deadline": lease.deadline,
        **(_in_headers(lease, headers) if (headers := lease.headers) else _WITHOUT),
    }


_WITHOUT: dict[str, Any] = {"id": None, "attempt": 1, "workflow": None, "metadata": {}, "timeout": None, "trace": None}


def _in_headers(lease: Lease, headers: dict[str, Any]) -> dict[str, Any]:
    timeout = milliseconds_in(headers, "timeout") or milliseconds_in(headers, "hard_timeout")
    return {
        "id": lease.id,
        "attempt": lease.attempt,
        "workflow": run_id(member.flow) if (member := member_in(headers)) is not None else None,
        "metadata": {text(name): text(value) for name, value in metadata_in(headers).items()},
        "timeout": timeout / 1000 if timeout else None,
        "trace": trace_of(lease) or None,
    }


def trace_of(lease: Lease) -> dict[str, str]:
    """The W3C trace context in which a task was enqueued, by the names of its headers; empty for none."""
    found = trace_in(lease.headers) or ("", "")
    return {name: value for name, value in zip(TRACE, found, strict=True) if value}


def letter_shown(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter."""
    return {
        "letter": letter.id,
        "time": letter.time,
        "reason": text(letter.reason),
        "detail": text(letter.detail),
        "worker": text(letter.worker),
        "id": any_id_in(headers_of(letter.data)),
        "attempts": letter.attempts,
        **call_of(letter.data),
    }


def task_shown(task: TaskView) -> dict[str, Any]:
    """A task in a listing."""
    call = call_of(task.data) if task.data else {"function": task.task, "args": [], "kwargs": {}}
    found = {name: getattr(task, name) for name in ("queue", "state", "where", "due", "since", "attempt", "error", "worker")}
    return {
        **{name: text(value) if isinstance(value, str) else value for name, value in found.items()},
        "id": task.id or None,
        **call,
    }


def text(value: str) -> str:
    """A text that may be another program's bytes, for people."""
    return value if isinstance(shown(value), str) else value.encode(errors="surrogateescape").decode(errors="backslashreplace")
