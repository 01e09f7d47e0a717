"""What must be left when all is at rest, and what the storm itself notes then."""

import time
from collections.abc import Iterator

import redis

from delayed.errors import Reason
from delayed.handle import ENDED_FOR
from delayed.info import dead_letters
from delayed.keys import Keys
from delayed.queue import Queue
from delayed.results import CANCELLED, State
from delayed.task import PyTask
from delayed.wire import headers_of, readable

from .notes import EXPIRED, LIMITED, SENDING, SENT, Note, Writer
from .wishes import keys, limited

_STORM = Writer(0, 0, 0)  # who writes these notes


def noted(kind: int, *tasks: int) -> Iterator[Note]:
    """What the storm has done itself."""
    return (Note(task, _STORM, kind, time.monotonic_ns(), False) for task in tasks)


def sent(*tasks: int) -> list[Note]:
    """That these tasks have been enqueued for certain."""
    return [*noted(SENDING, *tasks), *noted(SENT, *tasks)]


def at_rest(queue: Queue) -> bool:
    """Whether nothing waits, for its turn, its time or a key, and nothing is held. A task goes from the schedule, its group or
    those that wait for a key to the queue, and may come back when it has been held: so those are looked at first and last."""
    keys = queue.keys
    return not any(
        (
            queue.call("ZCARD", keys.scheduled),
            queue.call("HLEN", keys.waited),
            queue.call("LLEN", keys.groups),
            queue.len(),
            queue.call("HLEN", keys.processing),
            queue.call("LLEN", keys.groups),
            queue.call("HLEN", keys.waited),
            queue.call("ZCARD", keys.scheduled),
        )
    )


def enqueue_last(queue: Queue) -> list[Note]:
    """One more task with each concurrency key: its begin strikes out the slots that killed workers have left."""
    for number in keys():
        queue.enqueue(PyTask("chaos.tasks:execute", (number, 0), **limited(number)))
    return [*sent(*keys()), *noted(LIMITED, *keys())]


def only_sweepers(queue: Queue, count: int) -> bool:
    """Whether the register has forgotten all others, also the sweepers that were killed."""
    registered = int(queue.call("HLEN", queue.keys.workers))
    return registered == count and int(queue.call("LLEN", queue.keys.noti)) == 0


def expired(queue: Queue) -> tuple[list[Note], int]:
    """The dead letters of tasks that expired, as notes, and how many others there are."""
    since = time.monotonic_ns() - time.time_ns()
    notes, others = list[Note](), 0
    for letter in dead_letters(queue):
        if letter.reason != Reason.EXPIRED or "expires" not in headers_of(letter.data):
            others += 1
            continue
        moment = int(letter.id.partition("-")[0]) * 1_000_000 + 999_999 + since  # it is a whole number of milliseconds
        notes.append(Note(readable(letter.data)[1][0], _STORM, EXPIRED, moment, False))
    return notes, others


def keys_left(client: redis.Redis, names: list[str]) -> list[str]:
    """All keys but those that are meant to stay: statistics, dead letters, and for a while what became of cancelled tasks."""
    stay = {key for name in names for key in (Keys(name).stats, Keys(name).dead)}
    found = {key.decode() for key in client.scan_iter(count=1000)} - stay
    return sorted(key for key in found if not _of_cancelled(client, key))


def _of_cancelled(client: redis.Redis, key: str) -> bool:
    if not 0 < client.pttl(key) <= 1000 * ENDED_FOR:
        return False
    kind = client.type(key)
    if kind == b"hash":
        return client.hget(key, "state") == State.CANCELLED.encode()
    return kind == b"list" and client.lindex(key, 0) == CANCELLED
