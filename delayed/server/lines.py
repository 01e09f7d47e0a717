"""Many tasks in one request, one on each line: they are enqueued as they come."""

from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

from ..errors import Duplicate, InvalidTask, NotDurable, TaskTooLarge
from ..queue.async_queue import AsyncQueue
from ..queue.once import KnownId, Request, enqueue_chunk_once, enqueue_once
from ..queue.producer import Chunk
from ..redis.durability import MEMORY, TIMEOUT
from ..task.decode import is_python_path
from ..task.headers import trace_in
from ..task.options import Options
from ..task.task import PyTask, Task
from .calls import Call
from .forms import by_name, task_of
from .http import Problem, Response, aside
from .links import Link
from .mapping import NotJSON, parse
from .schema import Validator
from .schemas import SCHEMAS

DAY = 86400.0  # seconds that a request is remembered at most, and if it does not say for how long
_LONGEST_KEY = 255
_TASK = Validator(SCHEMAS)
_CALL = {"function", "args", "kwargs"}


def request_of(call: Call) -> Request | None:
    """By which the request can be repeated; None if it says nothing.

    Raises:
        Problem: what it says is no key, or no time.
    """
    key, keep = key_of(call), call.request.headers.get("idempotency-for")
    if key is None:
        if keep is not None:
            raise Problem(422, "the header Idempotency-For goes with an Idempotency-Key")
        return None
    if keep is None:
        return Request(key, DAY)
    if not (keep.isascii() and keep.isdecimal() and len(keep) < 6 and 1 <= int(keep) <= DAY):
        raise Problem(422, f"the header Idempotency-For is a number of seconds from 1 to {DAY:.0f}")
    return Request(key, float(keep))


def key_of(call: Call) -> str | None:
    """What stands in the header Idempotency-Key; None if it is not there.

    Raises:
        Problem: it is no key.
    """
    key = call.request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= _LONGEST_KEY:
        raise Problem(422, f"the header Idempotency-Key has 1 to {_LONGEST_KEY} characters")
    return key


def queue_of(call: Call) -> AsyncQueue:
    """The queue that stands in the path, with the durability that the client wants."""
    return durable(call, call.link)


def durable(call: Call, link: Link) -> AsyncQueue:
    """A queue with the durability that the client wants."""
    return link.durable(*durability_of(call))


def durability_of(call: Call) -> tuple[str, float]:
    """What the enqueue waits for, as the client wants it, and for how many seconds at most."""
    return call.query.get("durability", MEMORY), call.query.get("durability_timeout", TIMEOUT)


def task_in(call: Call, body: Any) -> Task:
    """The task that a client describes, which it may enqueue.

    Raises:
        Problem: it could not be run, or this client may not.
    """
    return _checked(call, lambda: task_of(body))


def _checked(call: Call, made: Callable[[], Task]) -> Task:
    try:
        task = made()
    except InvalidTask as error:
        raise invalid(error) from None
    call.grant.check_function(task.func_path)
    trace = trace_in(call.request.headers)
    return task if trace is None else task.traced(*trace)


def invalid(error: InvalidTask) -> Problem:
    """What a client hears of a task that cannot be run."""
    too_large = isinstance(error, TaskTooLarge)
    return Problem(413 if too_large else 422, str(error), "task-too-large" if too_large else "invalid-task")


def has_id(task: Task, identity: str | None) -> Task:
    """The task, which has this id though it may not be tracked: for logs, events and dead letters."""
    options = task.options or Options()
    if identity is not None and not options.tracked:
        task.options = options.with_id()
    return task


async def enqueue_lines(call: Call) -> Response:
    """Enqueue tasks as they come in, a line for each."""
    queue, number = queue_of(call), 0
    tasks = _Tasks(queue, request_of(call))
    try:
        async for line in _lines(call):
            number += 1
            if line.strip():
                await tasks.add(*await aside(len(line), partial(_of_line, call, line)), number)
        await tasks.flush()
    except (InvalidTask, Duplicate, NotDurable, KnownId, Problem) as error:
        problem = problem_of(error)
        problem.more |= {"enqueued": tasks.count, "line": number}
        if tasks.not_durable:
            problem.more["not_durable"] = tasks.not_durable
        raise problem from None
    return Response({"queue": call.names["queue"], "count": tasks.count}, 201)


def problem_of(error: Exception) -> Problem:
    """What a client hears of an enqueue that failed."""
    match error:
        case InvalidTask():
            return invalid(error)
        case Duplicate():
            return Problem(409, str(error), "duplicate", id=error.id)
        case NotDurable():
            return Problem(503, str(error), "not-durable", acknowledged=error.acknowledged)
        case KnownId():
            return Problem(409, "a task with one of these ids is known already; none of them was enqueued", "known-id")
    assert isinstance(error, Problem)
    return error


class _Tasks:
    """The tasks of a request. Those that need nothing else go in together; the same lines always do.

    Args:
        queue: where they go.
        request: by which it can be repeated.
    """

    def __init__(self, queue: AsyncQueue, request: Request | None) -> None:
        self._queue, self._request = queue, request
        self._chunk = Chunk(tracked=False)
        self._first = 0  # the number of its first line
        self.count = 0  # of tasks that are in the queue
        self.not_durable = 0  # of those, the last ones that are nowhere else yet

    async def add(self, task: Task, identity: str | None, number: int) -> None:
        """One more, from the line with this number."""
        options = task.options
        if options is not None and (options.scheduled or options.unique is not None):
            await self.flush()
            await self._counted(1, enqueue_once(self._queue, task, identity, self._request, number))
            return
        if options is not None and options.needs_time:
            await self._queue.ask_time()
        tracked = options is not None and options.tracked
        is_again = tracked and identity is not None and identity in self._chunk.ids  # so it is known when that has gone in
        data, identity = self._queue.written(task, identity)
        if is_again or not self._chunk.takes(tracked, len(data)):
            await self.flush()
        if not self._chunk.ids:
            self._chunk, self._first = Chunk(tracked), number
        self._chunk.add(data, identity, None if options is None else options.group)

    async def flush(self) -> None:
        """Enqueue those that wait for others."""
        if self._chunk.ids:
            chunk, self._chunk = self._chunk, Chunk(tracked=False)
            await self._counted(len(chunk.ids), enqueue_chunk_once(self._queue, chunk, self._request, self._first))

    async def _counted(self, count: int, enqueuing: Coroutine[Any, Any, object]) -> None:
        try:
            await enqueuing
        except NotDurable:  # they are in the queue nevertheless
            self.count, self.not_durable = self.count + count, count
            raise
        self.count += count


def _of_line(call: Call, line: bytes) -> tuple[Task, str | None]:
    try:
        body = parse(line)
    except NotJSON as error:
        raise Problem(400, f"a line cannot be read: {error}", "not-json") from None
    if type(body) is dict and body.keys() <= _CALL and type(body.get("kwargs", {})) is dict:
        path = body.get("function")
        if type(path) is str and is_python_path(path):  # most lines are no more than this, and the schema says no more of it
            return _checked(call, lambda: PyTask(path, body.get("args"), by_name(body))), None
    wrong = _TASK.first(body, "NewTask")
    if wrong is not None:
        raise Problem(422, wrong)
    identity = body.get("id")
    return has_id(task_in(call, body), identity), identity


async def _lines(call: Call) -> AsyncIterator[bytes]:
    """The lines of the body, as they come in."""
    rest, most = b"", call.request.most
    async for data in call.request.chunks():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield _fitting(line, most)
        _fitting(rest, most)
    if rest:
        yield rest


def _fitting(line: bytes, most: int) -> bytes:
    if len(line) > most:
        raise Problem(413, f"a line has {most:,} bytes at most", close=True)
    return line
