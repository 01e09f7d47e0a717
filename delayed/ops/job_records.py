"""Operators' jobs as they stand in Redis: acts on many tasks, of which each page is done once, whoever works on them."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import msgpack

from ..base.clock import now
from ..base.ids import token
from ..errors import InvalidAct
from ..queue.queue import Queue
from ..redis.command import pairs
from ..task.hidden import hides_all
from .audit import Actor, chosen, write
from .checks import Invariant, Snapshot, When
from .reading import asked

KEPT = 50  # jobs of a queue that have ended
_OPEN = "open:"
_MOST = 1000  # fields that are read, should another program have written more


@dataclass(slots=True)
class Job:
    """An act on many tasks of a queue, and how far it is. Times are seconds since 1970."""

    id: str
    queue: str
    act: str  # as in the audit
    wanted: dict[str, Any]  # the fields of a filter: a `Search` of dead letters, or a `Wanted` of waiting tasks
    who: str
    origin: str
    created: float
    total: int  # letters or tasks that were there when it began, of those that may have to be looked at
    moment: float | None = None  # to which tasks are moved; None for now
    newest: str = ""  # the newest dead letter of them
    state: str = "open"  # open, done, stopped or failed
    cursor: str = ""  # the last dead letter that was looked at
    doing: list[str] = field(default_factory=list)  # the letters of the page that is being done
    unsure: int = 0  # tasks that a killed runner may have done, or not
    trying: int = 0  # tasks of the page that is being done
    looked: int = 0
    done: int = 0
    left: int = 0  # that fit, and could not be done
    runner: str = ""  # who works on it, or worked on it last
    started: float | None = None
    ended: float | None = None
    says: str = ""  # why it has failed
    blind: bool = False  # whoever has begun it may see no arguments: no filter looks into them

    @property
    def by(self) -> Actor:
        """Who has begun it."""
        return Actor(self.who, self.origin)

    @property
    def what(self) -> str:
        """What it is done to."""
        return f"job {self.id}: {chosen(self.wanted)}"

    def pack(self) -> bytes:
        """For Redis."""
        return bytes(msgpack.packb(asdict(self), unicode_errors="surrogateescape"))

    def as_dict(self) -> dict[str, Any]:
        """In the form of JSON."""
        said = asdict(self)
        del said["doing"], said["trying"]
        return said


_NAMES = {each.name for each in fields(Job)}


def unpacked(data: bytes) -> Job | None:
    """A job as it stands in Redis; None if another program, or another version, has written it."""
    with contextlib.suppress(ValueError, TypeError, AttributeError, msgpack.UnpackException):
        found = msgpack.unpackb(data, unicode_errors="surrogateescape")
        return Job(**{name: value for name, value in found.items() if name in _NAMES})
    return None


def create(queue: Queue, by: Actor, act: str, wanted: dict[str, Any], *, total: int, newest: str, moment: float | None) -> Job:
    """Write a job that somebody may begin with."""
    job = Job(
        token().replace("-", "_")[:12], queue.name, act, wanted, by.who, by.origin, now(), total, moment, newest,
        blind=hides_all(),
    )  # fmt: skip
    _forget_old(queue)
    queue.store.call("HSET", queue.keys.bulk_jobs, job.id, job.pack(), _OPEN + job.id, "go")
    write(queue, by, act, job.what, result="begun")
    return job


def _forget_old(queue: Queue) -> None:
    ended = [job for job in jobs(queue) if job.state != "open"]
    if old := [job.id for job in ended[KEPT - 1 :]]:
        queue.store.call("HDEL", queue.keys.bulk_jobs, *old)


def jobs(queue: Queue) -> list[Job]:
    """The jobs of a queue, the newest first."""
    names = [name for name in _names(queue) if not name.startswith(_OPEN)]
    found = queue.store.call("HMGET", queue.keys.bulk_jobs, *names) if names else []
    known = [job for data in found if data is not None and (job := unpacked(data)) is not None]
    return sorted(known, key=lambda job: job.created, reverse=True)


def jobs_of_all(queues: Sequence[Queue]) -> list[Job]:
    """The jobs of several queues, the newest first, by one command, or a few more if they are hundreds."""
    pages = asked(queues, lambda queue: [("HSCAN", queue.keys.bulk_jobs, 0, "COUNT", _MOST)])
    found = (data for (page,) in pages for name, data in pairs(page[1]).items() if not name.startswith(_OPEN.encode()))
    known = [job for data in found if (job := unpacked(data)) is not None]
    return sorted(known, key=lambda job: job.created, reverse=True)


def open_ids(queue: Queue) -> list[str]:
    """The ids of the jobs that have not ended."""
    return [name.removeprefix(_OPEN) for name in _names(queue) if name.startswith(_OPEN)]


def _names(queue: Queue) -> list[str]:
    return queue.store.page(queue.keys.bulk_jobs, 0, _MOST)[1][:_MOST]


def job_of(queue: Queue, identity: str) -> Job:
    """One job.

    Raises:
        InvalidAct: there is none of this id.
    """
    data = queue.store.call("HGET", queue.keys.bulk_jobs, identity)
    job = None if data is None or identity.startswith(_OPEN) else unpacked(data)
    if job is None:
        raise InvalidAct(f"{queue.name} has no job {identity!r:.100}; `delayed job list {queue.name}` shows what it has")
    return job


def close(queue: Queue, identity: str) -> None:
    """Forget that a job is open: it has ended, or there is none."""
    queue.store.call("HDEL", queue.keys.bulk_jobs, _OPEN + identity)


def stop(queue: Queue, by: Actor, identity: str) -> Job:
    """Ask a job to stop: it does so after the page at hand; one that nobody has begun with, when somebody would.

    Raises:
        InvalidAct: there is no such job, or it has ended.
    """
    job = job_of(queue, identity)
    if job.state != "open":
        raise InvalidAct(f"job {job.id} has ended: it is {job.state}")
    if not queue.store.call("HEXISTS", queue.keys.bulk_jobs, _OPEN + identity):
        raise InvalidAct(f"job {job.id} has ended meanwhile")
    queue.store.call("HSET", queue.keys.bulk_jobs, _OPEN + identity, "stop")
    write(queue, by, "job.stop", job.what, result="done")
    return job


def _sound(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    key, ids = snapshot.keys.bulk_jobs, set[str]()
    found = list(snapshot.fields(key))
    for name, value in found:
        if not name.startswith(_OPEN):
            ids.add(name)
            if unpacked(value) is None:
                yield f"{key} {name}", "no job that this version knows"
    for name, value in found:
        if name.startswith(_OPEN) and (name.removeprefix(_OPEN) not in ids or value not in (b"go", b"stop")):
            yield f"{key} {name}", "it says that a job is open, and there is no such job, or not what to do"


JOB_INVARIANTS = (
    Invariant(
        "bulk-jobs",
        When.ALWAYS,
        "A field of `Q_bulk_jobs` is a job, or `open:<id>` with `go` or `stop`, and there is a job of this id.",
        ("bulk_jobs",),
        _sound,
    ),
)
