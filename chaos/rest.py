"""What must be left when all is at rest, and what the storm itself notes then."""

import re
import time
from collections.abc import Container, Iterator
from pathlib import Path

import redis

from delayed.dead_letters.letter import dead_letters
from delayed.errors import Reason
from delayed.queue.queue import Queue
from delayed.redis.keys import REGISTER, Keys
from delayed.task.decode import headers_of, readable
from delayed.task.options import TRACKED_FOR
from delayed.task.result import CANCELLED, State
from delayed.task.task import PyTask

from .notes import BURIED, EXPIRED, LIMITED, SENDING, SENT, Note, Writer
from .wishes import keys, limited

_STORM = Writer(0, 0, 0)  # who writes these notes
_A_MINUTE, _A_DAY = 60_000, 86_400_000  # ms
_ENDED = {each.encode() for each in (State.SUCCEEDED, State.FAILED, State.EXPIRED, State.CANCELLED)}
_DEFERRED_FOR = _A_DAY  # ms that a queue remembers which tasks its workers did not know
_MOST_DEFERRED = 100_000
_SAID = re.compile(r"; (\d+) ends? said that it had noted, ")
_DEFERRED = re.compile(rb"([0-9a-f]{40}|(?s:.{20})) \d+:\d+:\d+")


def said_in(log: Path) -> int:
    """How many ends a supervisor says in its log that it has said for killed processes."""
    return sum(map(int, _SAID.findall(log.read_text(errors="replace")))) if log.exists() else 0


def noted(kind: int, *tasks: int) -> Iterator[Note]:
    """What the storm has done itself."""
    return (Note(task, _STORM, kind, time.monotonic_ns(), False) for task in tasks)


def sent(*tasks: int) -> list[Note]:
    """That these tasks have been enqueued for certain."""
    return [*noted(SENDING, *tasks), *noted(SENT, *tasks)]


def left(queue: Queue) -> dict[str, int]:
    """What waits, for its turn, its time or others to end, and what is held; nothing at rest. A task goes from the schedule or
    its group to the queue, and may come back when it has been held: so those are looked at first and last."""
    keys = queue.keys
    counts = {
        "scheduled": queue.store.call("ZCARD", keys.scheduled),
        "groups": queue.store.call("LLEN", keys.groups),
        "keys that are waited for": queue.store.call("HLEN", keys.waited),
        "waiting": queue.len(),
        "held": queue.store.call("HLEN", keys.processing),
        "keys that are waited for, still": queue.store.call("HLEN", keys.waited),
        "groups, still": queue.store.call("LLEN", keys.groups),
        "scheduled, still": queue.store.call("ZCARD", keys.scheduled),
    }
    return {what: int(count) for what, count in counts.items() if count}


def enqueue_last(queue: Queue) -> list[Note]:
    """One more task with each concurrency key: its begin strikes out the slots that killed workers have left."""
    for number in keys():
        queue.enqueue(PyTask("chaos.tasks:execute", (number, 0), **limited(number)))
    return [*sent(*keys()), *noted(LIMITED, *keys())]


def strangers(queue: Queue, sweepers: int) -> dict[str, int]:
    """What there is beside so many sweepers in the register: others, or fewer of them, and notifications."""
    counts = {
        "registered but for the sweepers": int(queue.store.call("HLEN", queue.keys.workers)) - sweepers,
        "notifications": int(queue.store.call("LLEN", queue.keys.noti)),
    }
    return {what: count for what, count in counts.items() if count}


def ends(queue: Queue, spoiled: Container[int], *, may_lose: bool = False) -> tuple[list[Note], list[str]]:
    """The dead letters of tasks that expired, that a consumer buried or of which a middleware raised (`spoiled`), or, if that
    may be (`may_lose`), that were lost three times, as notes, and what the others say. A letter is the last that became of its
    task; when it was written can no longer be said, as clocks may have been set."""
    moment = time.monotonic_ns()
    notes, others = list[Note](), list[str]()
    for letter in dead_letters(queue):
        number = _number(letter.data)
        if letter.reason == Reason.EXPIRED and "expires" in headers_of(letter.data):
            notes.append(Note(number, _STORM, EXPIRED, moment, False))
        elif (letter.reason == Reason.FAILED and number in spoiled) or (letter.reason == Reason.LOST and may_lose):
            notes.append(Note(number, _STORM, BURIED, moment, False))
        else:
            others.append(f"{letter.task} ({number}), {letter.reason}: {letter.detail.strip().rpartition(chr(10))[2]:.200}")
    return notes, others


def _number(data: bytes) -> int:
    """Of the task, if it can be read; else 0, which no task has."""
    arguments = readable(data)[1]
    match arguments:
        case [bytes(body), *_]:  # of the text protocol
            return int(body.split()[0])
        case [int(number), *_]:
            return number
    return 0


def keys_left(client: redis.Redis, names: list[str]) -> list[str]:
    """All keys but those that are meant to stay: statistics, histories, dead letters, and for a while what became of cancelled
    tasks and of those that a server knows by the keys of requests, and what workers did not know."""
    queues = [Keys(name) for name in names]
    stay = {
        REGISTER,
        *(key for each in queues for key in (each.stats, each.stats_total, each.history, each.dead, each.numbers)),
    }
    deferred = {f"{name}_deferred" for name in names}
    found = {key.decode(errors="backslashreplace") for key in client.scan_iter(count=1000)} - stay
    found = {key for key in found if not any(each.owns_stats(key) for each in queues)}
    return sorted(key for key in found if not (_of_deferred(client, key) if key in deferred else _of_known(client, key)))


def _of_deferred(client: redis.Redis, key: str) -> bool:
    """Whether it will be gone in a day, and has few enough entries, each of the digest of a task and when it was put off."""
    if not 0 < client.pttl(key) <= _DEFERRED_FOR or client.hlen(key) > _MOST_DEFERRED:
        return False
    return all(_DEFERRED.fullmatch(name + b" " + value) for name, value in client.hscan_iter(key))


def _of_known(client: redis.Redis, key: str) -> bool:
    """Whether it is what became of a cancelled task, or of one that a server knows by its id or the key of a request, for an
    hour or a day."""
    lives = client.pttl(key)
    if not 0 < lives <= 1000 * TRACKED_FOR:
        return False
    if _A_MINUTE < lives <= _A_DAY:
        return client.type(key) != b"hash" or client.hget(key, "state") in _ENDED
    kind = client.type(key)
    if kind == b"hash":
        return client.hget(key, "state") == State.CANCELLED.encode()
    return kind == b"list" and client.lindex(key, 0) == CANCELLED
