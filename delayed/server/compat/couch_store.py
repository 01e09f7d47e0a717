"""What CouchQueue's interface keeps in Redis, beside the queues: workers, the names of queues, and records of tasks."""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import msgpack

from ...base.clock import now
from ...redis.async_pool import AsyncPooled
from ...redis.command import Command, RedisError
from ...redis.keys import COUCHQUEUE
from ..links import Links

WORKERS = f"{COUCHQUEUE}:workers"  # hash: a worker's id → its queues, and until when it is known (MessagePack)
QUEUES = f"{COUCHQUEUE}:queues"  # set: the queues that have been made
RUNNING = f"{COUCHQUEUE}:running"  # hash: a task's id → the id of the worker that has it
FAILED = f"{COUCHQUEUE}:failed"  # sorted set: ids of tasks that have failed, by when (milliseconds)
_TASK = f"{COUCHQUEUE}:task:"  # string with a TTL: the record of a task (MessagePack)
_OWN = "couchqueue-worker-"  # begins the name of a queue that is for one worker
IDLE = 3600.0  # seconds after which a worker is removed of which nothing is heard and which has no task
HOLD = 3600.0  # seconds in which a worker has to end a task
KEPT = 7 * 86_400_000  # milliseconds that the record of a task is kept
_MOST_FAILED = 10_000
Record = dict[str, Any]


class Worker(NamedTuple):
    """A worker."""

    id: str
    queues: list[str]
    until: float  # seconds since 1970


def own_queue(worker: str) -> str:
    """The queue of the tasks that are for one worker."""
    return f"{_OWN}{worker}"


def is_own_queue(queue: str) -> bool:
    """Whether a queue has the tasks of one worker."""
    return queue.startswith(_OWN)


class CouchStore:
    """The records.

    Args:
        links: the way to Redis.
    """

    def __init__(self, links: Links) -> None:
        self._pooled = AsyncPooled(links.clients, COUCHQUEUE)

    async def call(self, *command: str | bytes | float) -> Any:
        """Send a command."""
        return await self._pooled.call(*command)

    async def batch(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands at once."""
        replies = await self._pooled.batch(*commands) if commands else []
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply
        return replies

    # Workers

    async def register(self, queues: list[str]) -> Worker:
        """Make a worker."""
        worker = Worker(str(uuid.uuid4()), queues, now() + IDLE)
        await self._write(worker)
        return worker

    async def _write(self, worker: Worker) -> None:
        await self.call("HSET", WORKERS, worker.id, msgpack.packb([worker.queues, worker.until]))

    async def worker(self, identity: str) -> Worker | None:
        """A worker; from now on it is known for as long as if it had just come."""
        found = _worker(identity, await self.call("HGET", WORKERS, identity))
        if found is None or found.until < now():
            return None
        if found.until < now() + IDLE - 1:
            found = found._replace(until=now() + IDLE)
            await self._write(found)
        return found

    async def holds(self, worker: Worker) -> None:
        """A worker has got a task, and is known at least for as long as it may have it."""
        await self._write(worker._replace(until=now() + HOLD + IDLE))

    async def workers(self) -> list[Worker]:
        """All that are known. Those of whom nothing was heard for long are removed."""
        fields = await self.call("HGETALL", WORKERS)
        pairs = fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=True)
        found = [worker for name, value in pairs if (worker := _worker(name.decode(), value)) is not None]
        return [worker for worker in found if worker.until >= now()]

    async def idle(self) -> list[str]:
        """The workers to be removed."""
        fields = await self.call("HGETALL", WORKERS)
        pairs = fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=True)
        return [
            name.decode() for name, value in pairs if (each := _worker(name.decode(), value)) is None or each.until < now()
        ]

    async def forget(self, worker: str) -> bool:
        """Remove a worker. False if there was none."""
        return bool(await self.call("HDEL", WORKERS, worker))

    # Tasks

    async def record(self, identity: str) -> Record | None:
        """What is known of a task."""
        (found,) = await self.records([identity])
        return found

    async def records(self, ids: Sequence[str]) -> list[Record | None]:
        """Likewise, of several."""
        if not ids:
            return []
        return [_record(data) for data in await self.call("MGET", *(_TASK + each for each in ids))]

    async def write(self, records: Iterable[Record]) -> None:
        """Note what is known of tasks."""
        await self.batch([noted(each) for each in records])

    async def begun(self, record: Record) -> None:
        """A worker has a task."""
        await self.batch([noted(record), ("HSET", RUNNING, record["taskId"], record["workerId"])])

    async def ended(self, record: Record, *, failed: bool) -> None:
        """It has ended it."""
        commands: list[Command] = [noted(record), ("HDEL", RUNNING, record["taskId"])]
        if failed:
            commands.append(("ZADD", FAILED, round(now() * 1000), record["taskId"]))
            commands.append(("ZREMRANGEBYRANK", FAILED, 0, -_MOST_FAILED - 1))
        else:
            commands.append(("ZREM", FAILED, record["taskId"]))
        await self.batch(commands)

    async def running(self) -> list[Record]:
        """The tasks that workers have. What they have lost is not among them."""
        fields = await self.call("HKEYS", RUNNING)
        ids = [name.decode() for name in fields]
        found = await self.records(ids)
        kept = [each for each in found if each is not None and each.get("held", 0) >= now()]
        gone = {*ids} - {each["taskId"] for each in kept}
        if gone:
            await self.call("HDEL", RUNNING, *gone)
        return kept


def noted(record: Record) -> Command:
    """The command that notes what is known of a task."""
    return ("SET", _TASK + record["taskId"], msgpack.packb(record, unicode_errors="surrogateescape"), "PX", KEPT)


def _record(data: Any) -> Record | None:
    try:
        found = msgpack.unpackb(data, strict_map_key=False, unicode_errors="surrogateescape")
    except Exception:  # there is none, or another program wrote it
        return None
    return cast(Record, found) if isinstance(found, dict) and "taskId" in found else None


def _worker(identity: str, data: Any) -> Worker | None:
    try:
        queues, until = msgpack.unpackb(data)
        return Worker(identity, [str(each) for each in queues], float(until))
    except Exception:  # likewise
        return None
