"""Inspects a queue and its processes, for people."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..base.checks import as_time, is_whole
from ..base.clock import now
from ..base.text import counted
from ..errors import Unrunnable
from ..queue.queue import Queue
from ..redis.command import ResponseError
from ..redis.keys import STATS
from ..redis.store import scored
from ..task.decode import headers_of, is_python_path, path_of, readable, show
from ..task.headers import MOST, id_in
from ..worker.scoreboard import description

_LEASES_SHOWN = 100
_HEADS = 10  # of the waiting tasks, from the first, that are asked how old they are


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


def inspect(queue: Queue) -> QueueInfo:
    """Look at a queue."""
    call, keys = queue.store.call, queue.keys
    stats = dict(zip(STATS, call("HMGET", keys.stats, *STATS), strict=True))
    living = processes(queue)
    return QueueInfo(
        queue=queue.name,
        waiting=queue.len(),
        notifications=int(call("LLEN", keys.noti)),
        held=int(call("HLEN", keys.processing)),
        dead=int(call("XLEN", keys.dead)),
        recovered=int(stats["recovered"] or 0),
        buried=int(stats["buried"] or 0),
        processes=list(living.values()),
        leases=_leases(queue, living),
        **_waiting(queue),
    )


def server_time(queue: Queue) -> float:
    """Seconds since 1970 by the server's clock; by ours, if we may not ask for that."""
    try:
        seconds, microseconds = queue.store.call("TIME")
        return int(seconds) + int(microseconds) / 1e6
    except ResponseError:
        return now()


def _waiting(queue: Queue) -> dict[str, Any]:
    """What waits elsewhere than in the queue itself, and for how long the oldest has waited."""
    call, keys = queue.store.call, queue.keys
    moment = server_time(queue)
    overdue = int(call("ZCOUNT", keys.scheduled, "-inf", round(moment * 1000)))
    first = scored(call("ZRANGE", keys.scheduled, 0, 0, "WITHSCORES"))
    since = [score / 1000 for _, score in first if overdue]
    heads = call("LRANGE", keys.queue, 0, _HEADS - 1)
    heads += [call("LINDEX", keys.group(group), 0) for group in queue.store.grouped(1)]
    dated = [(headers["enqueued"], id_in(headers)) for headers in map(headers_of, filter(None, heads)) if _is_dated(headers)]
    if dated:
        enqueued, identity = min(dated, key=lambda each: each[0])
        due = call("HGET", keys.task(identity), "due") if identity is not None else None
        since.append(max(enqueued, float(due) if due is not None and due.isdigit() else 0) / 1000)
    return {
        "scheduled": int(call("ZCARD", keys.scheduled)),
        "overdue": overdue,
        "groups": int(call("LLEN", keys.groups)),
        "awaited": int(call("HLEN", keys.waited)),
        "oldest": max(0.0, moment - min(since)) if since else None,
    }


def _is_dated(headers: dict[str, Any]) -> bool:
    return is_whole(headers.get("enqueued")) and 0 < headers["enqueued"] < MOST


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
        if is_go:
            yield f"args:   {rest.get(1)!r}"
        else:
            yield f"args:   {', '.join(_arguments(rest.get(1), rest.get(2))) or '(none)'}"
            if rest.get(3):
                yield f"retry:  {rest[3] if rest[3] != -1 else 'until it succeeds'}"
        for name, value in headers_of(data).items():
            yield f"{str(name) + ':':7} {_option(name, value)}"


def arguments(data: bytes) -> str:
    """The arguments of a task, as they are written in a call; nothing, if it is none or they cannot be shown."""
    try:
        fields = readable(data)
        if not isinstance(fields, list) or not fields or not isinstance(fields[0], str):
            return ""
        rest = dict(enumerate(fields[1:], 1))
        return ", ".join(_arguments(rest.get(1), rest.get(2) if is_python_path(fields[0]) else None))
    except (Unrunnable, RecursionError):
        return ""


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


def lines(queue: QueueInfo) -> Iterator[str]:
    """A queue in lines of text."""
    yield (
        f"{queue.queue}: {queue.waiting} waiting, {queue.held} held, {queue.dead} dead; "
        f"{queue.recovered} recovered and {queue.buried} buried by sweepers; {counted(queue.notifications, 'notification')}"
    )
    if elsewhere := ", ".join(_elsewhere(queue)):
        yield f"  {elsewhere}"
    for kind in ("worker", "sweeper"):
        processes = [process for process in queue.processes if process.get("kind") == kind]
        if not processes:
            yield f"  no {kind} is running"
        for process in processes:
            yield f"  {kind} {_process_line(process)}"
    for lease in queue.leases:
        ends = "dead" if not lease.alive else f"expires in {lease.expires_in or 0:.1f} s"
        beat = "" if lease.beat_ago is None else f", beat {lease.beat_ago:.1f} s ago"
        yield f"  lease {lease.lease}: {lease.task} by {lease.held_by or 'nobody'}, {ends}{beat}"


def _elsewhere(queue: QueueInfo) -> Iterator[str]:
    """What waits, beside what the first line counts."""
    if queue.scheduled:
        yield f"{queue.scheduled} scheduled ({queue.overdue} overdue)"
    if queue.groups:
        yield f"{counted(queue.groups, 'group has', 'groups have')} waiting tasks"
    if queue.awaited:
        yield f"tasks wait for {counted(queue.awaited, 'key')}"
    if queue.oldest is not None:
        yield f"the oldest has waited for {queue.oldest:.1f} s, or longer"


def _process_line(process: dict[str, Any]) -> str:
    parts = [
        f"{process.get('place')} ({process.get('language')})",
        f"up {now() - (process.get('started') or now()):.0f} s",
        f"{(process.get('rss') or 0) / 2**20:.0f} MB",
    ]
    if process.get("running"):
        parts.append(
            f"runs {process['running']} for {process.get('running_for') or 0:.1f} s, {process.get('in_hand') or 0} in hand"
        )
    elif process.get("kind") == "worker":
        parts.append("idle")
    counts = ("succeeded", "retried", "failed", "buried", "superseded")
    parts += [f"{process[name]} {name}" for name in counts if process.get(name)]
    return ", ".join(parts)


def processes(queue: Queue) -> dict[str, dict[str, Any]]:
    """Own lease → description, of the processes that live."""
    found: dict[str, dict[str, Any]] = {}
    for leases in filter(None, queue.store.pages(queue.keys.workers)):
        for lease, about in zip(leases, queue.store.call("HMGET", queue.keys.workers, *leases), strict=True):
            if about is not None and queue.store.alive([lease]):
                found[lease] = description(about)
    return found


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
