"""TaskQ's interface over HTTP: `/apps/taskq/QUEUE/tasks`."""

import asyncio
import json
import re
from base64 import b64encode

from ...base.text import traceback_of
from ...errors import DelayedError
from ...logger import logger
from ...redis.command import RedisError
from ..access import Access
from ..http import Disconnected, Problem, Receive, Request, Response, Scope, Send, deliver
from ..numbers import NumberedTasks, Peer
from ..text.bodies import Wrapping

PREFIX = "/apps/taskq"
EMPTY, UNKNOWN = "taskq: no task in queue", "taskq: no such task"
_TEXT = "text/plain; charset=utf-8"
_MOST_ID = 2**64 - 1
_PATIENCE = 30.0  # seconds for an answer
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_NOT_FOUND = "404 page not found"


class TaskQ:
    """The interface, as an ASGI application.

    Args:
        numbered: hands out tasks by numbers.
        access: says who may do what.
        most: bytes that a task may have.
    """

    def __init__(self, numbered: NumberedTasks, access: Access, most: int) -> None:
        self._numbered, self._access, self._most = numbered, access, most
        self._wrapping = Wrapping()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive, self._most)
        try:
            async with asyncio.timeout(_PATIENCE):
                response = await self._answer(request)
        except Disconnected:
            return
        except TimeoutError:
            response = _said("the server did not answer in time", 500)
        await deliver(request, response, send)

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._handled(request)
        except Problem as problem:
            response = _said(problem.detail, problem.status)
            response.headers = {**problem.headers, **({"connection": "close"} if problem.close else {})}
            return response
        except Disconnected:
            raise
        except (DelayedError, RedisError) as error:
            return _said(str(error), 500)
        except Exception as error:
            logger.error("%s %.200r failed\n%s", request.method, "/".join(request.segments), traceback_of(error))
            return _said("the server failed at this request; its log has more", 500)

    async def _handled(self, request: Request) -> Response:
        raw = request.path
        if b"//" in raw:
            return _moved(re.sub(rb"/+", b"/", raw).decode("latin-1"))
        match request.segments[2:]:
            case [queue, "tasks"] if request.method == "POST" and "/" not in queue:
                return await self._enqueue(request, queue)
            case [queue, "tasks", "deque"] if request.method == "POST" and "/" not in queue:
                return await self._dequeue(request, queue)
            case [queue, "tasks", number] if request.method == "DELETE" and _DIGITS.fullmatch(number) and "/" not in queue:
                return await self._acknowledge(request, queue, number)
        return _said(_NOT_FOUND, 404)

    async def _enqueue(self, request: Request, queue: str) -> Response:
        grant = await self._access.grant(request)
        grant.check("enqueue", queue)
        grant.check_function(self._wrapping.function)
        number = await self._numbered.enqueue(queue, [await request.body()], self._wrapping)
        return _said(f"task {number} enqueued")

    async def _dequeue(self, request: Request, queue: str) -> Response:
        (await self._access.grant(request)).check("consume", queue)
        found = await self._numbered.take(queue, _peer(request), 1)
        if not found:
            return _said(EMPTY, 500)
        (task,) = found
        name = queue.encode(errors="surrogateescape").decode(errors="replace")
        fields = {"id": task.number, "queue": name, "body": b64encode(task.body).decode()}
        response = _said(json.dumps(fields, separators=(",", ":"), ensure_ascii=False))
        response.undelivered = lambda: self._numbered.give_back(queue, task)
        return response

    async def _acknowledge(self, request: Request, queue: str, text: str) -> Response:
        (await self._access.grant(request)).check("consume", queue)
        digits = text.lstrip("0")
        if len(digits) > 20 or int(digits or 0) > _MOST_ID:  # as many as that number has
            return _said(f'invalid task id: strconv.ParseUint: parsing "{text:.1000}": value out of range', 400)
        number = int(digits or 0)
        (ended,) = await self._numbered.acknowledge(queue, _peer(request), [(number, None)])
        return _said(f"task {number} acknowledged") if ended else _said(UNKNOWN, 500)


def _peer(request: Request) -> Peer:
    """Who asks: there is one connection from an address and port."""
    host, port = request.client
    return Peer(f"{host}:{port}", host)


def _said(text: str, status: int = 200) -> Response:
    return Response(text.encode() + b"\n", status, kind=_TEXT)


def _moved(path: str) -> Response:
    return Response(b"", 301, headers={"location": path}, kind=_TEXT)
