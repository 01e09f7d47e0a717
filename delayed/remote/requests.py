"""What a queue asks a server for, whoever sends it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode
from weakref import proxy

from ..base.clock import now
from ..base.ids import token
from ..errors import ConfigurationError, InvalidTask
from ..events import BUS, Event, Kind
from ..interests.table import Interest, Table
from ..queue.limits import Limits
from ..queue.producer import LISTENERS, Chunk, Producer, checked_id
from ..queue.publishing import Publication
from ..queue.status import Status
from ..queue.timeline import Happening
from ..queue.waits import Answer as Outcome
from ..queue.waits import answer_in
from ..redis.durability import Durability
from ..server.mapping import plain
from ..task.codec import dumps
from ..task.result import State
from ..task.task import GoTask, PyTask, Task
from .asks import JSON, NDJSON, Answer, Ask, at, body_of, checked
from .values import body_of_task, outcome_of

T = TypeVar("T")
LONGEST_WAIT = 20.0  # seconds of one request that waits
_LONGEST_PROOF = 30.0  # seconds that a server waits for a disk or for replicas
_BY_REDIS = "{} is on a server, {}: this needs a way to Redis, which only a Queue or an App with a URL of Redis has"


class NoRedis:
    """Stands where a queue has its way to Redis.

    Args:
        queue: its name.
        place: of its server.
    """

    def __init__(self, queue: str, place: object) -> None:
        self._says = _BY_REDIS.format(repr(queue), place)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ConfigurationError(self._says)


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """A request, and what its answer means.

    Args:
        ask: the request.
        read: what the answer says; raises what a queue raises if it is none.
    """

    ask: Ask
    read: Callable[[Answer], T]


def request(ask: Ask, read: Callable[[Any], T]) -> Request[T]:
    """A request of whose answer the value is read."""
    return Request(ask, lambda answer: read(checked(answer, ask).value))


@dataclass(frozen=True, slots=True)
class Sent:
    """The enqueue of one task."""

    ask: Ask
    task: Task
    data: bytes
    identity: str | None
    is_own: bool  # the id was given

    def handle(self, answer: Answer) -> tuple[str | None, bool, str, bool]:
        """What its handle has: id, whether it is known, path, whether it is tracked."""
        found = checked(answer, self.ask).value
        identity, options = found["id"], self.task.options
        tracked = options is not None and options.tracked
        # Of an id that nobody else has: an answer to what was sent before was lost.
        known = found["known"] and (self.is_own or identity != self.identity)
        return identity, known, self.task.func_path, tracked


@dataclass(frozen=True, slots=True)
class Batch:
    """The enqueue of some tasks."""

    ask: Ask
    ids: Sequence[tuple[str | None, str, bool]]  # of each task: id, path, whether it is tracked
    data: Sequence[bytes]

    def count_in(self, answer: Answer) -> int:
        """How many of them are in the queue, as durable as they shall be, by this answer; by one that refuses others, too."""
        if answer.status < 300:
            return len(self.ids)
        return int(answer.says.get("enqueued", 0)) - int(answer.says.get("not_durable", 0))


class Added:
    """What an `enqueue_many` has added so far.

    Args:
        queue: to which.
        kind: of the handles.
        handles: takes one for each task; None: nobody wants them.
    """

    def __init__(self, queue: Producer, kind: Callable[..., Any], handles: list[Any] | None) -> None:
        self._queue, self._kind, self._handles = queue, kind, handles
        self.count = 0

    def answered(self, each: Sent | Batch, answer: Answer) -> None:
        """The answer to one of its requests is there; raises what the server refused."""
        if isinstance(each, Batch):
            self.count += each.count_in(answer)
            checked(answer, each.ask)
            self._keep((identity, False, path, tracked) for identity, path, tracked in each.ids)
            if LISTENERS:
                self._queue._tell(each.data)
        else:
            self._keep([each.handle(answer)])
            self.count += 1

    def _keep(self, some: Iterable[tuple[str | None, bool, str, bool]]) -> None:
        if self._handles is not None:
            self._handles += [self._kind(self._queue, *about) for about in some]


class Requests:
    """Those of one queue.

    Args:
        queue: the queue.
        keep: seconds for which the server shall know an enqueue again.
    """

    def __init__(self, queue: Producer, keep: int) -> None:
        self._queue: Producer = proxy(queue)  # which has this: a circle would live on until somebody looks for such
        self.keep = keep
        self._name = queue.name
        # On Redis Cluster others with the same {tag} are meant.
        self._like = urlencode({"like": queue.name}, errors="surrogateescape") if "{" in queue.name else ""
        durability = queue._durability
        self._proof, self._wait = "", 0.0  # what follows the path of an enqueue, and how long it may take for that
        if durability.waits:
            asked = {"durability": durability.text, "durability_timeout": durability.seconds}
            self._proof, self._wait = f"?{urlencode(asked)}", durability.seconds

    # Producers

    def enqueue(self, task: Task, identity: str | None) -> Sent:
        """Enqueue one task, which is one; raises as `Queue.enqueue` before it does."""
        if identity is not None:
            checked_id(task, identity)
        data, own = self._queue.written(task, identity)
        body = body_of(body_of_task(task, own))
        trace = None if task.options is None else task.options.trace
        ask = self.adding(at(self._name, "tasks"), body, trace=trace)
        return Sent(ask, task, data, own, identity is not None)

    def adding(
        self, path: str, body: bytes, media: str = JSON, *, trace: tuple[str, str] | None = None, repeatable: bool = True
    ) -> Ask:
        """A request that adds tasks once, however often it is sent, and that waits until they are durable."""
        path, key = path + self._proof, token()
        return Ask("POST", path, body, media, key, self.keep, repeatable, wait=self._wait, trace=trace)

    def enqueue_many(self, tasks: Iterable[Task]) -> Iterator[Sent | Batch]:
        """Enqueue tasks: those with unique keys one by one, of whose answers each counts, and the others in batches."""
        if isinstance(tasks, PyTask | GoTask):
            raise InvalidTask(f"enqueue_many takes several tasks, not one: enqueue({tasks!r}), or a list of it")
        chunk, lines = Chunk(tracked=False), list[bytes]()
        ids, written = list[tuple[str | None, str, bool]](), list[bytes]()
        trace: tuple[str, str] | None = None  # of all tasks of a batch

        def batch() -> Batch:
            ask = self.adding(at(self._name, "tasks"), b"\n".join(lines), NDJSON, trace=trace)
            return Batch(ask, tuple(ids), tuple(written))

        for task in tasks:
            self._queue._check(task)
            options = task.options
            if options is not None and options.unique is not None:
                if ids:
                    yield batch()
                    chunk, lines, ids, written = Chunk(tracked=False), [], [], []
                yield self.enqueue(task, None)
                continue
            data, identity = self._queue.written(task)
            line = body_of(body_of_task(task, identity))
            own = None if options is None else options.trace
            if not chunk.takes(tracked=False, size=len(line)) or (ids and own != trace):
                yield batch()
                chunk, lines, ids, written = Chunk(tracked=False), [], [], []
            trace = own
            chunk.add(line, None, None)
            lines.append(line)
            ids.append((identity, task.func_path, options is not None and options.tracked))
            written.append(data)
        if ids:
            yield batch()

    def publish(self, data: Any) -> Request[dict[str, str]]:
        """Publish something; raises as `Queue.publish` before it does."""
        self.publication(data)
        body = body_of({"data": plain(dumps(data))})
        path = f"/v1/publish{self._proof}"
        if self._like:
            path += ("&" if self._proof else "?") + self._like
        return request(Ask("POST", path, body, repeatable=False, wait=self._wait), copies_in)

    def publication(self, data: Any) -> Publication:
        """Something to publish."""
        return Publication(data, "", self._queue.max_task_size)

    # Handles

    def _state(self, identity: str) -> Ask:
        return Ask("GET", at(self._name, "tasks", identity, "state"))

    def status(self, identity: str) -> Request[Status]:
        """Where a tracked task is."""
        return request(self._state(identity), status_in)

    def timeline(self, identity: str) -> Request[list[Happening]]:
        """What has happened to it."""
        return request(self._state(identity), timeline_in)

    def result(self, identity: str, seconds: float) -> Ask:
        """How a task has ended; wait for so many seconds if it has not."""
        wait = min(seconds, LONGEST_WAIT)
        return Ask("GET", f"{at(self._name, 'tasks', identity, 'result')}?wait={wait:.3f}", wait=wait, patience=seconds)

    def results(self, ids: Sequence[str]) -> Request[list[list[bytes | None]]]:
        """How many tasks have ended, as Redis has it."""
        ask = Ask("POST", at(self._name, "results"), body_of({"ids": list(ids)}))
        return request(ask, lambda found: [outcome_of(each) for each in found["results"]])

    def cancel(self, identity: str, hard: bool) -> Request[State]:
        """Cancel a task. In which state it was comes back."""
        ask = Ask("POST", at(self._name, "tasks", identity, "cancel"), body_of({"hard": hard}))
        return request(ask, lambda found: State(found["state"]))

    # Operators

    def _look(self) -> Ask:
        return Ask("GET", at(self._name), invalid=ConfigurationError)

    def len(self) -> Request[int]:
        """How many tasks wait."""
        return request(self._look(), lambda found: int(found["waiting"]))

    def limits(self) -> Request[Limits]:
        """The limits of the queue."""
        return request(self._look(), lambda found: Limits(**found["limits"]))

    def act(self, what: str) -> Request[None]:
        """Pause it, or let it go on."""
        return request(Ask("POST", at(self._name, what), b"{}", invalid=ConfigurationError), lambda _: None)

    def limit(self, concurrency: int | None, rate: float | None, burst: int | None) -> Request[None]:
        """Set all its limits."""
        given = {"concurrency": concurrency, "rate": rate, "burst": burst}
        ask = Ask("PUT", at(self._name, "limits"), body_of(given), invalid=ConfigurationError)
        return request(ask, lambda _: None)

    def interests(self) -> Request[Table]:
        """All interests."""
        return request(Ask("GET", "/v1/interests" + (f"?{self._like}" if self._like else "")), table_in)

    def set_interest(self, match: object, function: str, retry: int) -> Request[Interest]:
        """Let the queue have an interest, which comes back."""
        interest = Interest.of(self._name, match, function, retry)
        body = {"match": [list(pair) for pair in interest.match], "function": interest.function, "retry": interest.retry}
        ask = Ask("PUT", at(self._name, "interest"), body_of(body), invalid=ConfigurationError)
        return request(ask, lambda _: interest)

    def remove_interest(self) -> Request[bool]:
        """Let it have none. Whether it had one comes back."""
        ask = Ask("DELETE", at(self._name, "interest"))
        return Request(ask, lambda answer: answer.status != 404 and bool(checked(answer, ask)))


# What the answers mean


def prepare(queue: Producer, name: str, max_task_size: int, durability: Durability) -> None:
    """Make the part of a queue that needs no server.

    Raises:
        ConfigurationError: it cannot work.
    """
    if durability.waits and durability.seconds > _LONGEST_PROOF:
        raise ConfigurationError(
            f"over HTTP durability_timeout is {_LONGEST_PROOF:g} s at most, as a server waits, not {durability.seconds:g} s"
        )
    Producer.__init__(queue, name, None, max_task_size, durability)


def status_in(found: dict[str, Any]) -> Status:
    """A status, from a TaskState."""
    fields = {name: found.get(name) for name in Status._fields if name != "state"}
    return Status(state=State(found["state"]), **fields)  # type: ignore[arg-type]


def timeline_in(found: dict[str, Any]) -> list[Happening]:
    """What has happened to it, likewise."""
    return [Happening(**{name: each.get(name) for name in Happening._fields}) for each in found["timeline"]]


def outcome_in(answer: Answer, ask: Ask) -> Outcome:
    """How a task has ended, as waits for results have it."""
    if answer.status == 404 and answer.says.get("code") == "unknown-task":
        return None
    found = checked(answer, ask).value
    return answer_in(outcome_of(found))


def table_in(found: dict[str, Any]) -> Table:
    """The interests."""
    fields: list[bytes] = []
    for number, each in enumerate(found["interests"]):
        interest = Interest.of(each["queue"], [tuple(pair) for pair in each["match"]], each["function"], each["retry"])
        fields += (interest.queue.encode(errors="surrogateescape"), b"%d %b" % (number, interest.packed()))
    return Table(fields)


def copies_in(found: dict[str, Any]) -> dict[str, str]:
    """Queue → id of its copy. Those who listen hear of them."""
    if LISTENERS:
        for each in found["copies"]:
            BUS.emit(Event(Kind.ENQUEUED, each["queue"], now(), task=each["function"], id=each["id"]))
    return {each["queue"]: each["id"] for each in found["copies"]}
