"""Reads the register of living workers and sweepers, a bounded part of it in few commands."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ..base.checks import is_number
from ..queue.queue import Queue
from ..redis.command import pairs
from ..worker.scoreboard import description
from .checks import pages
from .reading import asked

_TOGETHER = 1000  # leases in one command
_LEAST = 20  # entries of each of many registers that are read
MOST = 2000  # entries of a queue's register that are read
_LARGE = 2**63  # a number beyond it is not ours
COUNTS = ("succeeded", "retried", "failed", "buried", "superseded")


@dataclass(frozen=True, slots=True)
class Process:
    """A living worker or sweeper, once, whichever queues it serves."""

    kind: str  # worker or sweeper
    language: str  # python, go, …
    host: str
    pid: int | None
    queues: tuple[str, ...]  # that it serves
    started: float | None  # seconds since 1970
    running: str | None  # function path of the task in execution
    running_for: float | None  # seconds
    in_hand: int  # tasks taken and not begun
    rss: int | None  # bytes
    ended: dict[str, int]  # tasks since `started`, by what became of them

    @property
    def place(self) -> str:
        """As logs name it."""
        return self.host if self.pid is None else f"{self.host}:{self.pid}"


def entries(queue: Queue, most: int = MOST) -> dict[str, dict[str, Any]]:
    """Own lease → description, of the processes of a queue that live; of so many entries, from the first."""
    found: dict[str, dict[str, Any]] = {}
    call, keys, cursor, seen = queue.store.call, queue.keys, -1, 0
    while cursor and seen < most:
        cursor, names = queue.store.page(keys.workers, max(cursor, 0))
        seen += len(names)
        if ours := [name for name in names if keys.owns_lease(name)]:
            known, alive = call("HMGET", keys.workers, *ours), call("MGET", *ours)
            for lease, about, lives in zip(ours, known, alive, strict=True):
                if about is not None and lives is not None:
                    found[lease] = description(about)
    return found


def described(queues: Sequence[Queue], most: int = MOST) -> list[list[dict[str, Any]]]:
    """What the living processes of each queue say of themselves, by two commands, or a few more if the queues are hundreds.
    So many entries are read of all registers together, about."""
    share = max(_LEAST, most // max(1, len(queues)))
    names: dict[str, dict[str, bytes]] = {}
    for queue, (page,) in zip(
        queues, asked(queues, lambda each: [("HSCAN", each.keys.workers, 0, "COUNT", share)]), strict=True
    ):
        entries = ((name.decode(errors="surrogateescape"), about) for name, about in pairs(page[1]).items())
        names[queue.name] = {name: about for name, about in entries if queue.keys.owns_lease(name)}
    alive = asked(queues, lambda each: [("MGET", *some) for some in pages(list(names[each.name]), _TOGETHER)])
    found = list[list[dict[str, Any]]]()
    for queue, replies in zip(queues, alive, strict=True):
        lives = chain.from_iterable(replies)
        entered = names[queue.name].values()
        found.append([description(about) for about, life in zip(entered, lives, strict=True) if life is not None])
    return found


def merged(found: Iterable[tuple[str, dict[str, Any]]]) -> list[Process]:
    """Each process once.

    Args:
        found: the queue in whose register it stands, and what it says of itself.
    """
    queues: dict[tuple[str, str, float | None], list[str]] = {}
    latest: dict[tuple[str, str, float | None], dict[str, Any]] = {}
    for queue, about in found:
        key = (_text(about, "kind"), _text(about, "place"), number_in(about, "started"))
        queues.setdefault(key, []).append(queue)
        latest[key] = about
    return [_process(about, tuple(dict.fromkeys(queues[key]))) for key, about in sorted(latest.items(), key=_order)]


def _order(item: tuple[tuple[str, str, float | None], dict[str, Any]]) -> tuple[bool, str, float]:
    (kind, place, started), _ = item
    return kind != "worker", place, started or 0.0


def _process(about: dict[str, Any], queues: tuple[str, ...]) -> Process:
    host, colon, pid = _text(about, "place").rpartition(":")
    numbered = colon and pid.isascii() and pid.isdecimal() and len(pid) < 20
    return Process(
        kind=_text(about, "kind"),
        language=_text(about, "language"),
        host=host if numbered else _text(about, "place"),
        pid=int(pid) if numbered else None,
        queues=queues,
        started=number_in(about, "started"),
        running=_text(about, "running") or None,
        running_for=number_in(about, "running_for"),
        in_hand=int(number_in(about, "in_hand") or 0),
        rss=None if (rss := number_in(about, "rss")) is None else int(rss),
        ended={name: int(count) for name in COUNTS if (count := number_in(about, name))},
    )


def _text(about: dict[str, Any], name: str) -> str:
    value = about.get(name)
    return value if isinstance(value, str) else ""


def number_in(about: dict[str, Any], name: str) -> float | None:
    """A number that a process says of itself; None if it does not."""
    value = about.get(name)
    return float(value) if isinstance(value, int | float) and is_number(value) and abs(value) < _LARGE else None
