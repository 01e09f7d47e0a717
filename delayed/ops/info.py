"""Inspects a queue and its processes, for people."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..base.checks import as_time, is_whole
from ..errors import Unrunnable
from ..queue.queue import Queue
from ..redis.command import ResponseError
from ..task.decode import headers_of, is_python_path, path_of, readable, show
from ..task.hidden import HIDDEN, is_hidden, said_of
from .overview import look
from .processes import entries

_LEASES_SHOWN = 100


class LeaseInfo(NamedTuple):
    """A lease with a task, and whether it is alive."""

    lease: str
    task: str  # function path
    held_by: str  # host:pid, or the holder's token if it is not in the register
    alive: bool
    expires_in: float | None  # seconds, if nobody beats any more
    beat_ago: float | None  # seconds since the holder's last beat, if it says how often it beats


class QueueInfo(NamedTuple):
    """A queue at one moment. Each number is right by itself; they were not read in one instant."""

    queue: str
    waiting: int
    notifications: int
    held: int
    dead: int
    recovered: int
    buried: int
    processes: list[dict[str, Any]]  # living workers and sweepers, as they describe themselves
    leases: list[LeaseInfo]  # the first hundred
    scheduled: int = 0  # tasks that wait for their time
    overdue: int = 0  # of them: their time has come, and nobody has moved them yet
    groups: int = 0  # groups with waiting tasks, which do not count as `waiting` until it is their turn
    awaited: int = 0  # concurrency keys and unique keys for which tasks wait, which do not count either
    oldest: float | None = None  # seconds that a task has waited since it was due, at least; None if none of them tells
    grouped: int = 0  # tasks in the groups,
    for_keys: int = 0  # and tasks that wait for keys
    retrying: int = 0  # scheduled tasks that are after a failed attempt
    at_least: tuple[str, ...] = ()  # the fields that count only the first of them, and there may be more


def inspect(queue: Queue) -> QueueInfo:
    """Look at a queue."""
    living = entries(queue)
    view = look(queue)
    return QueueInfo(
        queue=queue.name,
        waiting=view.waiting,
        notifications=int(queue.store.call("LLEN", queue.keys.noti)),
        held=view.running,
        dead=view.dead,
        recovered=view.recovered,
        buried=view.buried,
        processes=list(living.values()),
        leases=_leases(queue, living),
        scheduled=view.scheduled,
        overdue=view.overdue,
        groups=view.groups,
        awaited=view.keys,
        oldest=view.oldest,
        grouped=view.grouped,
        for_keys=view.for_keys,
        retrying=view.retrying,
        at_least=view.at_least,
    )


_TIMES = {"enqueued", "expires"}  # headers in milliseconds since 1970,
_SPANS = {"timeout", "hard_timeout", "result_ttl"}  # and in milliseconds


def described(data: bytes) -> Iterator[str]:
    """A task in lines of text: its function, its arguments and what it asks for, with times as people write them."""
    try:
        fields = readable(data)
    except Unrunnable:
        fields = None
    if not isinstance(fields, list) or not fields or not isinstance(fields[0], str):
        yield f"task:   {show(data)}"
        return
    is_go = not is_python_path(fields[0])
    rest = dict(enumerate(fields[1:], 1))
    yield f"task:   {fields[0]}{' (Go)' if is_go else ''}"
    with contextlib.suppress(RecursionError):  # too deeply nested to be shown
        if is_hidden(fields[0]):
            yield f"args:   {HIDDEN}"
        elif is_go:
            yield f"args:   {rest.get(1)!r}"
        else:
            yield f"args:   {', '.join(_arguments(rest.get(1), rest.get(2))) or '(none)'}"
        if not is_go and rest.get(3):
            yield f"retry:  {rest[3] if rest[3] != -1 else 'until it succeeds'}"
        for name, value in headers_of(data).items():
            shown = said_of(fields[0], str(value)) if name == "error" else _option(name, value)
            yield f"{str(name) + ':':7} {shown}"


def arguments(data: bytes) -> str:
    """The arguments of a task, as they are written in a call; nothing, if it is none or they cannot be shown."""
    try:
        fields = readable(data)
        if not isinstance(fields, list) or not fields or not isinstance(fields[0], str):
            return ""
        if is_hidden(fields[0]):
            return HIDDEN
        rest = dict(enumerate(fields[1:], 1))
        return ", ".join(_arguments(rest.get(1), rest.get(2) if is_python_path(fields[0]) else None))
    except (Unrunnable, RecursionError):
        return ""


def hexed(data: bytes) -> str:
    """The bytes of a task in hexadecimal, unless its arguments are hidden."""
    return HIDDEN if is_hidden(path_of(data)) else data.hex()


def _arguments(args: Any, kwargs: Any) -> Iterator[str]:
    yield from map(repr, args) if isinstance(args, list) else [repr(args)] * (args is not None)
    yield from (f"{name}={value!r}" for name, value in kwargs.items()) if isinstance(kwargs, dict) else ()


def _option(name: Any, value: Any) -> str:
    """What a task asks for; as it stands, if it has not the form that it should have."""
    match name, value:
        case str(), int() if name in _TIMES and is_whole(value):
            return as_time(value / 1000)
        case str(), int() if name in _SPANS:
            return f"{value / 1000:g} s"
        case "unique", [key, mode, int(bound)]:
            return f"{key!r}, {mode}, for at most {bound / 1000:g} s"
        case "concurrency", [key, int(limit)]:
            return f"{key!r}, {limit} at once"
        case "backoff", [kind, int() | float() as base, int() | float() as cap, jitter]:
            return f"{kind}, {base:g} s, at most {cap:g} s{', with jitter' if jitter else ''}"
    return value if isinstance(value, str) else repr(value)


def _leases(queue: Queue, processes: dict[str, dict[str, Any]]) -> list[LeaseInfo]:
    _, names = queue.store.page(queue.keys.processing, 0, _LEASES_SHOWN)
    return [info for name in names[:_LEASES_SHOWN] if (info := _lease(queue, name, processes)) is not None]


def _lease(queue: Queue, name: str, processes: dict[str, dict[str, Any]]) -> LeaseInfo | None:
    data = queue.store.call("HGET", queue.keys.processing, name)
    if data is None:
        return None
    ttl = int(queue.store.call("PTTL", name))
    value = b""
    with contextlib.suppress(ResponseError):  # a key of the application with the number of an old worker as its name
        value = queue.store.call("GET", name) or b""
    holder = value.decode(errors="replace")
    about = processes.get(queue.keys.lease(holder), {}) if holder else {}
    beat_ago = about["ttl"] - ttl / 1000 if "ttl" in about and ttl > 0 else None
    return LeaseInfo(name, path_of(data), about.get("place", holder), ttl != -2, ttl / 1000 if ttl >= 0 else None, beat_ago)
