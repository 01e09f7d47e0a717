"""What CouchQueue's action `status` shows, and how a task looks to its clients."""

import uuid
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ...base.clock import now
from ...errors import ConfigurationError, DelayedError
from ...task.decode import path_and_headers
from ..access import Grant
from ..leases import Lease
from ..links import Links
from ..mapping import plain
from .couch_store import FAILED, QUEUES, CouchStore, Record, Worker, is_own_queue, own_queue
from .plain_json import is_shallow

FUNCTION = "couchqueue:task"  # what workers of ours call with a task
REGEX = "regex:"
WAITING = "pending"
_HIDDEN = ("token", "held", "bytes", "place", "function")
_ORDER = (
    "status", "createdAt", "publisher", "data", "runAt", "scope", "singularlyEnqueue", "singularlyRun", "taskId", "enquedAt",
    "queue", "workerId", "startedAt",
)  # fmt: skip
Fields = dict[str, Any]


class Status:
    """What there is.

    Args:
        links: the queues.
        store: what CouchQueue has beside them.
    """

    def __init__(self, links: Links, store: CouchStore) -> None:
        self._links, self._store = links, store

    async def show(self, given: Mapping[str, Any], grant: Grant) -> Fields:
        """The parts that somebody asks for, if they may see them."""
        found: Fields = {}
        for part, show in self._parts.items():
            if part in given:
                found[part] = await show(self, given, grant)
        return found

    async def _show_workers(self, given: Mapping[str, Any], grant: Grant) -> Fields:  # noqa: ARG002  # all have them
        grant.check("read")
        workers = await self._store.workers()
        return {each.id: shown_worker(each) for each in workers if all(map(grant.covers, each.queues))}

    async def _show_queues(self, given: Mapping[str, Any], grant: Grant) -> Fields:  # noqa: ARG002
        grant.check("read")
        known = (name.decode(errors="replace") for name in await self._store.call("SMEMBERS", QUEUES))
        names = sorted(filter(grant.covers, known))
        counts = await self._store.batch([("LLEN", name) for name in names])
        return dict(zip(names, counts, strict=True))

    async def _show_interests(self, given: Mapping[str, Any], grant: Grant) -> Fields:  # noqa: ARG002
        grant.check("read")
        table = await self._links["couchqueue"].queue.interests()
        return {
            each.queue: {key.removeprefix(REGEX): value.removeprefix(REGEX) for key, value in each.match}
            for each in table.interests
            if grant.covers(each.queue)
        }

    async def _show_running(self, given: Mapping[str, Any], grant: Grant) -> Fields:  # noqa: ARG002
        grant.check("read")
        running = await self._store.running()
        return {each["taskId"]: shown(each) for each in running if grant.covers(str(each.get("queue")))}

    async def _show_queue(self, given: Mapping[str, Any], grant: Grant) -> list[Record]:
        grant.check("read", queue := str(given["queue"]))
        return await self._waiting(queue, given)

    async def _show_worker_queue(self, given: Mapping[str, Any], grant: Grant) -> list[Record]:
        """What is for one worker alone: tasks of its queues."""
        identity = str(given["workerQueue"])
        queues = {each.id: each.queues for each in await self._store.workers()}
        check_all(grant, "read", queues.get(identity) or [own_queue(identity)])
        return await self._waiting(own_queue(identity), given)

    async def _waiting(self, queue: str, given: Mapping[str, Any]) -> list[Record]:
        try:
            link = self._links[queue]
        except ConfigurationError:
            return []
        first = given["offset"]
        tasks = await self._store.call("LRANGE", link.keys.queue, first, first + min(given["limit"], 1000) - 1)
        return (
            [shown(record_in(Lease("", queue, data, 0.0, path_and_headers(data)))) for data in tasks] if given["limit"] else []
        )

    async def _show_failed(self, given: Mapping[str, Any], grant: Grant) -> list[Record]:
        """The tasks of a queue that have failed, the last one first."""
        grant.check("read", queue := str(given["failedQueue"]))
        ids = [each.decode() for each in await self._store.call("ZREVRANGE", FAILED, 0, -1)]
        found = [each for each in await self._store.records(ids) if each is not None and each.get("queue") == queue]
        return [shown(each) for each in found[given["offset"] : given["offset"] + given["limit"]]]

    async def _show_task(self, given: Mapping[str, Any], grant: Grant) -> Record | None:
        record = await self._store.record(str(given["task"]))
        grant.check("read", None if record is None else record.get("queue"))
        return None if record is None else shown(record)

    _parts: Mapping[str, Callable[["Status", Mapping[str, Any], Grant], Awaitable[Any]]] = {
        "workers": _show_workers,
        "queues": _show_queues,
        "interests": _show_interests,
        "tasksInProgress": _show_running,
        "queue": _show_queue,
        "workerQueue": _show_worker_queue,
        "failedQueue": _show_failed,
        "task": _show_task,
    }


def shown(record: Record) -> Record:
    """A task as clients see it."""
    names = [*(name for name in _ORDER if name in record), *(name for name in record if name not in _ORDER)]
    return {name: record[name] for name in names if name not in _HIDDEN}


def shown_worker(worker: Worker) -> Fields:
    """A worker as clients see it."""
    return {"workerId": worker.id, "queues": worker.queues}


def record_in(lease: Lease) -> Record:
    """The record in a task, or one for a task that somebody else has enqueued."""
    try:
        fields = lease.task
    except DelayedError:
        fields = None
    match fields:
        case [str(path), [dict(record)], *_] if path == FUNCTION and _is_of(lease.queue, record) and is_shallow(record):
            return record
    value = plain(lease.data)
    if not is_shallow(value):
        value = {"$msgpack": b64encode(lease.data).decode()}
    moment = round(now() * 1000)
    return {
        "status": WAITING, "createdAt": moment, "publisher": "delayed", "data": value, "runAt": moment - 1, "scope": "any",
        "singularlyEnqueue": False, "singularlyRun": False, "taskId": str(uuid.uuid4()), "enquedAt": moment,
        "queue": lease.queue,
    }  # fmt: skip


def _is_of(queue: str, record: Record) -> bool:
    """Whether a record may stand in a task of this queue: others can write one, and rights go by the queue that it names."""
    named = record.get("queue")
    return isinstance(record.get("taskId"), str) and isinstance(named, str) and (named == queue or is_own_queue(queue))


def check_all(grant: Grant, right: str, queues: Sequence[str]) -> None:
    """See that somebody has a right to all of some queues, and if there are none, to any."""
    grant.check(right)
    for queue in queues:
        grant.check(right, queue)
