"""What CouchQueue's actions do."""

import asyncio
import contextlib
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from ...base.clock import now
from ...base.ids import digest
from ...errors import ConfigurationError, Duplicate, InvalidAct, Reason
from ...interests.table import Interest
from ...ops import actions
from ...ops.audit import Actor
from ...ops.purge import purge
from ...task.decode import is_python_path
from ...task.task import GoTask, PyTask
from ..access import Grant
from ..consumer import Bury, Consumer, Ending, Release, Retry, Succeed
from ..http import aside
from ..later import Later
from ..leases import Lease
from ..links import Links
from ..sweeping import Sweeping
from .couch_operate import Client, fingerprint, retry_record
from .couch_parameters import ACTIONS, InternalError, Refusal, is_true, json_in
from .couch_status import FUNCTION, REGEX, WAITING, Fields, Status, check_all, record_in, shown, shown_worker
from .couch_store import FAILED, HOLD, QUEUES, CouchStore, Record, Worker, own_queue

_EVERYTHING = {"^.*": "^.*"}
_LONGEST = 100 * 366 * 86400.0  # seconds from now
_PROCESSING, _COMPLETE, _FAILED = "processing", "complete", "failed"


class _Event(NamedTuple):
    """What is to be put into queues, by somebody who may."""

    given: Mapping[str, Any]
    data: Any
    created: float  # seconds since 1970
    due: float | None  # likewise
    interested: list[Interest]


class Actions:
    """Carries actions out.

    Args:
        links: the queues.
        consumer: hands out tasks.
        sweeping: brings back what workers have left.
        later: enqueues what clients do not wait for.
    """

    def __init__(self, links: Links, consumer: Consumer, sweeping: Sweeping, later: Later) -> None:
        self._links, self._consumer, self._sweeping, self._later = links, consumer, sweeping, later
        self._store = CouchStore(links)
        self._shown = Status(links, self._store)

    async def run(self, action: str, given: Mapping[str, Any], client: Client) -> Fields:
        """Carry an action out.

        Raises:
            Refusal, InternalError: it was not.
        """
        known = ACTIONS.get(action)
        if known is None:
            raise Refusal(f"Error: {action} is not a known action.")
        for name in known.required:
            if name not in given and not (action == "workerDelete" and "queue" in given):
                raise Refusal(f"Error: {name} is a required parameter for this action")
        run: Callable[[Mapping[str, Any], Client], Awaitable[Fields]] = getattr(self, f"_{_snake(action)}")
        return await run(given, client)

    # Tasks

    async def _task_create(self, given: Mapping[str, Any], client: Client) -> Fields:
        grant = client.grant
        grant.check("enqueue")
        text, created = given["data"], now()
        data = await aside(len(text) if isinstance(text, str) else 0, partial(json_in, text))
        due = _due(given.get("runAt"), created)
        interested = await self._links["couchqueue"].queue.interested(data)
        for interest in interested:
            grant.check("enqueue", interest.queue)
            grant.check_function(interest.function)
        event = _Event(given, data, created, due, interested)
        if is_true(given.get("fastPost")) and self._later.takes(size := len(text)):
            self._later.add("a task of CouchQueue's interface", lambda: self._publish(event), size, again=False)
            return {"interestedSubscriptions": []}
        return {"interestedSubscriptions": await self._publish(event)}

    async def _publish(self, event: _Event) -> list[str]:
        """Put copies into the queues that are interested. Returns their names."""
        given, data, created, due, interested = event
        everybody = str(given.get("scope", "any")).lower() == "all"
        workers = await self._store.workers() if everybody and interested else []
        for interest in interested:
            record = {
                "status": WAITING,
                "createdAt": round(created * 1000),
                "publisher": given["publisher"],
                "data": data,
                "runAt": given.get("runAt", round(created * 1000) - 1),
                "scope": given.get("scope", "any"),
                "singularlyEnqueue": given.get("singularlyEnqueue", False),
                "singularlyRun": given.get("singularlyRun", False),
            }
            places = [own_queue(each.id) for each in workers if interest.queue in each.queues] or [interest.queue]
            for place in places:
                copy = {**record, "taskId": str(uuid.uuid4()), "enquedAt": round(now() * 1000), "queue": interest.queue}
                await self._enqueue(place, copy, interest, due)
        if interested:
            await self._store.call("SADD", QUEUES, *(each.queue for each in interested))
        return [each.queue for each in interested]

    async def _enqueue(self, place: str, record: Record, interest: Interest, due: float | None) -> None:
        options: dict[str, Any] = {}
        event = digest(json.dumps(record["data"], sort_keys=True, default=str))
        if is_true(record["singularlyEnqueue"]):
            options |= {"unique": event, "unique_mode": "while_queued"}
        if is_true(record["singularlyRun"]):
            options |= {"concurrency_key": event, "concurrency": 1}
        if due is not None:
            options["at"] = due
        argument = record if interest.function == FUNCTION else record["data"]
        task: PyTask | GoTask
        if is_python_path(interest.function):
            task = PyTask(interest.function, (argument,), retry=interest.retry or None, **options)
        else:
            task = GoTask(interest.function, argument, retry=interest.retry or None, **options)
        await self._store.write([{**record, "place": place, "function": interest.function}])
        try:
            await self._links[place].queue.enqueue(task)
        except Duplicate:  # one of these events is there already
            await self._store.write([{**record, "status": "duplicate", "place": place}])

    async def _task_get(self, given: Mapping[str, Any], client: Client) -> Fields:
        worker = await self._worker(given)
        # First of all: its own queue has tasks of these, and who knows its id need not have registered it.
        check_all(client.grant, "consume", worker.queues)
        for name in (own_queue(worker.id), *worker.queues):
            self._sweeping.note(name)
            try:
                leases = await self._consumer.take(name, 1, ttl=HOLD)
            except ConfigurationError:  # no queue can have this name
                continue
            if leases:
                return {"worker": shown_worker(worker), "task": await self._begin(leases[0], worker)}
        raise Refusal("no tasks found", worker=shown_worker(worker))

    async def _begin(self, lease: Lease, worker: Worker) -> Record:
        record = record_in(lease)
        times = {"startedAt": round(now() * 1000), "workerId": worker.id}
        held = {"token": lease.token, "held": now() + HOLD, "place": lease.queue, "function": lease.path}
        held["bytes"] = fingerprint(lease.data)
        record = {**record, **held, "status": _PROCESSING, **times}
        await self._store.begun(record)
        await self._store.holds(worker)
        return shown(record)

    async def give_back(self, task: str) -> None:
        """Put a task back that `taskGet` could not deliver."""
        record = await self._store.record(task)
        if record is not None and record.get("status") == _PROCESSING:
            await self._store.ended(_waiting_again(record), failed=False)  # who takes it writes after this
            await self._consumer.end_many([(record["token"], Release())])

    async def _task_update(self, given: Mapping[str, Any], client: Client) -> Fields:
        state = given["state"]
        if state not in ("fail", "success"):
            raise Refusal("state must be fail,success")
        worker = await self._worker(given)
        record = await self._store.record(str(given["taskId"]))
        if record is None:
            raise InternalError
        again = is_true(given.get("reEnqueue"))
        if record.get("status") in (_COMPLETE, _FAILED) and again and record.get("workerId") == worker.id:
            await (self._retry(record, client) if record["status"] == _FAILED else self._again(record, client.grant))
            return {}
        if record.get("workerId") != worker.id or record.get("status") != _PROCESSING:
            raise Refusal("this worker is not working on this task")
        client.grant.check("consume", record["queue"])
        if state == "success" and again:  # before anything has happened
            _check_again(record, client.grant)
        reason = str(given.get("failReason", "")) or "the worker said no more"
        if state == "fail" and again:
            await self._put_back(record, reason, given.get("failReason", ""))
            return {}
        await self._end(record, Succeed() if state == "success" else Bury(reason, Reason.FAILED))
        changed = {**record, "status": _COMPLETE if state == "success" else _FAILED, "updatedAt": round(now() * 1000)}
        if state == "fail":
            changed["failReason"] = given.get("failReason", "")
        await self._store.ended(changed, failed=state == "fail")
        if again:
            await self._again(changed, client.grant)
        return {}

    async def _end(self, record: Record, ending: Ending) -> None:
        """End the lease under which a worker has a task."""
        (ended,) = await self._consumer.end_many([(record["token"], ending)])
        if ended is None:
            raise Refusal("this worker is not working on this task")

    async def _put_back(self, record: Record, reason: str, said: object) -> None:
        """Let a task wait again on which a worker has failed."""
        waiting = {**_waiting_again(record), "updatedAt": round(now() * 1000), "failReason": said}
        await self._store.ended(waiting, failed=False)  # who takes it writes after this
        try:
            await self._end(record, Retry(reason, delay=0, counted=False))
        except BaseException:
            if await self._store.record(record["taskId"]) == waiting:  # nobody else has it
                await self._store.begun(record)
            raise

    async def _again(self, record: Record, grant: Grant) -> None:
        """Put a task back that has been done."""
        _check_again(record, grant)
        interest = Interest.of(record["queue"], "*", record.get("function", FUNCTION))
        await self._enqueue(record["queue"], _waiting_again(record), interest, None)

    async def _retry(self, record: Record, client: Client) -> None:
        """Put a task back that has failed: the dead letter itself, so that there is not one more of it."""
        _check_again(record, client.grant)
        place = str(record.get("place", record["queue"]))
        await self._store.write([{**_waiting_again(record), "place": place}])  # who takes it writes after this
        try:
            await asyncio.to_thread(retry_record, self._links[place].blocking, client.actor, record)
        except BaseException as error:
            await self._store.write([record])
            if isinstance(error, InvalidAct):
                raise Refusal(str(error)) from None
            raise
        await self._store.call("ZREM", FAILED, record["taskId"])

    async def _worker(self, given: Mapping[str, Any]) -> Worker:
        worker = await self._store.worker(str(given["workerId"]))
        if worker is None:
            raise Refusal("no worker with that workerId")
        return worker

    # Workers, interests, queues

    async def _worker_register(self, given: Mapping[str, Any], client: Client) -> Fields:
        value = given["queues"]
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        queues = [each for each in re.sub(r"\s", "", text).split(",") if each]
        if "*" in queues:
            raise Refusal("Error: queues is a list of names: * is not allowed")
        check_all(client.grant, "consume", queues)
        await self._remove_idle()
        worker = await self._store.register(queues)
        return {"workerId": worker.id, "queues": worker.queues}

    async def _remove_idle(self) -> None:
        for identity in await self._store.idle():
            await self._store.forget(identity)
            await self._emptied(own_queue(identity))

    async def _worker_delete(self, given: Mapping[str, Any], client: Client) -> Fields:
        queues = {each.id: each.queues for each in await self._store.workers()}
        if "workerId" in given:
            ids = [str(given["workerId"])]
        else:
            ids = [identity for identity, theirs in queues.items() if given["queue"] in theirs]
        check_all(client.grant, "consume", [queue for identity in ids for queue in queues.get(identity, ())])
        gone = [identity for identity in ids if await self._store.forget(identity)]
        if not gone:
            raise Refusal("Error: child does not exist")
        for identity in gone:
            await self._emptied(own_queue(identity))
        return {}

    async def _interest_create(self, given: Mapping[str, Any], client: Client) -> Fields:
        client.grant.check("operate", queue := str(given["queue"]))
        client.grant.check_function(FUNCTION)
        value = given["interests"]
        wanted = _EVERYTHING if value == "*" else value if isinstance(value, dict) else json_in(value)
        if not isinstance(wanted, dict):
            raise InternalError
        texts = {key: each if isinstance(each, str) else json.dumps(each) for key, each in wanted.items()}
        pairs = [(REGEX + key, REGEX + text) for key, text in texts.items()]
        try:
            await asyncio.to_thread(actions.set_interest, self._links[queue].blocking, client.actor, pairs, FUNCTION)
        except ConfigurationError as error:
            raise Refusal(f"Error: {error}") from None
        await self._store.call("SADD", QUEUES, queue)
        return {}

    async def _interest_delete(self, given: Mapping[str, Any], client: Client) -> Fields:
        client.grant.check("operate", queue := str(given["queue"]))
        # No queue can have this name, or it has no interest.
        with contextlib.suppress(ConfigurationError, InvalidAct):
            await asyncio.to_thread(actions.remove_interest, self._links[queue].blocking, client.actor)
        return {}

    async def _queue_delete(self, given: Mapping[str, Any], client: Client) -> Fields:
        client.grant.check("operate", queue := str(given["queue"]))
        known = await self._store.call("SREM", QUEUES, queue)
        if not await self._emptied(queue, client.actor) and not known:
            raise Refusal("Error: child does not exist")
        return {}

    async def _emptied(self, queue: str, by: Actor | None = None) -> bool:
        """Remove what waits in a queue, on behalf of an operator or because nobody can take it. Whether there was anything."""
        try:
            link = self._links[queue]
        except ConfigurationError:
            return False
        if by is None:
            return await asyncio.to_thread(purge, link.blocking) > 0
        return (await asyncio.to_thread(actions.purge_queue, link.blocking, by)).count > 0

    # Status

    async def _status(self, given: Mapping[str, Any], client: Client) -> Fields:
        return {"status": await self._shown.show(given, client.grant)}

    async def _actions_view(self, given: Mapping[str, Any], client: Client) -> Fields:  # noqa: ARG002
        return {
            "actions": {
                name: {"description": each.description, "inputs": {"required": each.required, "optional": each.optional}}
                for name, each in ACTIONS.items()
            }
        }


_OF_A_RUN = ("token", "held", "bytes", "startedAt", "workerId", "failReason", "updatedAt")


def _check_again(record: Record, grant: Grant) -> None:
    """See that somebody may put a task back that has ended: that is one more."""
    grant.check("enqueue", record["queue"])
    grant.check_function(record.get("function", FUNCTION))


def _waiting_again(record: Record) -> Record:
    """The record of a task that had ended."""
    copy = {name: value for name, value in record.items() if name not in _OF_A_RUN}
    return {**copy, "status": WAITING, "enquedAt": round(now() * 1000)}


def _due(value: object, moment: float) -> float | None:
    """When a task may run: seconds since 1970; None for now."""
    if value is None or str(value).strip().lower() in ("null", "none", "now"):
        return None
    try:
        due = float(str(value))
    except ValueError:
        raise Refusal("Error: runAt is a time in seconds since 1970") from None
    if not due <= moment + _LONGEST:
        raise Refusal("Error: runAt is a time in seconds since 1970, and this one is too far away")
    return due if due > moment else None


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda each: f"_{each[0].lower()}", name)
