"""The handle of a workflow: status, nodes, result, cancel, retry, signal, forget."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from ..base.ids import FLOW, index_of, node_id
from ..errors import InvalidTask, NoResult, TaskCancelled, TaskFailed, UnknownTask
from ..queue.handle import Handle
from ..redis.store import Store
from ..task.codec import dumps
from ..task.result import State, success, value_of
from .again import RetryMode, run_again
from .carry import Carrier
from .graph import Ref
from .layout import MARKS, NodeSet, texts
from .pages import run_id
from .tend import remove

_PAGE = 1000
NEVER = 9007199254740991  # when a workflow is forgotten that has not ended
_TRIES = 3  # to forget what others carry on meanwhile
_COUNTS = ("failed", "expired", "cancelled", "skipped")
_FIELDS = ("state", "name", "created", "ended", "total", "left", *_COUNTS)


class _Place(Protocol):
    @property
    def store(self) -> Store: ...


class FlowStatus(NamedTuple):
    """A workflow at one moment. Times are seconds since 1970."""

    state: str  # building, running, failing, cancelling, succeeded, failed or cancelled
    name: str
    created: float
    ended: float | None
    total: int  # nodes
    left: int  # of them that have not ended
    failed: int
    expired: int
    cancelled: int
    skipped: int

    @classmethod
    def of(cls, found: Sequence[bytes | None]) -> "FlowStatus | None":
        """What the values of the fields say; None if there is no such workflow."""
        if found[0] is None:
            return None
        state, name, created, ended, *numbers = [(each or b"").decode(errors="replace") for each in found]
        moments = int(created) / 1000, int(ended) / 1000 if ended else None
        return cls(state, name, *moments, *(int(each or 0) for each in numbers))

    @property
    def succeeded(self) -> int:
        """How many nodes have."""
        return self.total - self.left - self.failed - self.expired - self.cancelled - self.skipped


class NodeStatus(NamedTuple):
    """One node of a workflow."""

    id: str
    number: int
    label: str  # its function, or what it was called
    queue: str
    state: str


class Run:
    """A workflow that has been submitted.

    Args:
        queue: its home: the queue that has its keys.
        id: its id; that of one of its nodes will do, too.
    """

    def __init__(self, queue: Any, id: str) -> None:  # noqa: A002  # its name everywhere
        if len(id) != len(run_id("0" * FLOW)):
            raise InvalidTask(f"the id of a workflow has 16 characters, not {id!r:.100}")
        self.flow = id[:FLOW]
        self.id = run_id(self.flow)
        self.queue = queue
        self._store: Store = queue.store

    def __repr__(self) -> str:
        return f"Run({self.queue.name!r}, {self.id!r})"

    @property
    def handle(self) -> Handle[Any]:
        """The workflow as a task: its state, and the result of its last node."""
        return Handle(self.queue, self.id)

    def status(self) -> FlowStatus:
        """Where it is, by one command.

        Raises:
            UnknownTask: nothing is known of it.
        """
        found = FlowStatus.of(self._store.call(*self.asks_status()))
        if found is None:
            raise self._unknown()
        return found

    def asks_status(self) -> tuple[str, ...]:
        """The command whose reply `FlowStatus.of` reads."""
        return ("HMGET", self._store.keys.flow(self.flow), *_FIELDS)

    def _unknown(self) -> UnknownTask:
        return UnknownTask(
            f"no workflow {self.id} is known in {self.queue.name!r}: it is elsewhere, or what was kept has run out"
        )

    def result(self, timeout: float | None = None) -> Any:
        """Wait for its end, and return what its last node has returned; None if it has several of these: see `results`.

        Args:
            timeout: seconds to wait at most; None for as long as it takes.

        Raises:
            TaskFailed: a node has failed.
            TaskCancelled: it was cancelled.
            NotDone: it has not ended in time.
            UnknownTask: nothing is known of it.
        """
        self.wait(timeout)
        found = self._store.call("HGET", self._store.keys.task(self.id), "result")
        if found is None:
            raise self._unknown()
        return None if found == success(None, kept=False) else value_of(found, f"workflow {self.id}")

    def wait(self, timeout: float | None = None) -> str:
        """Wait for its end. Returns how it has ended: succeeded, failed or cancelled; raises as `result` what is no end."""
        with contextlib.suppress(TaskFailed, TaskCancelled, NoResult):
            self.handle.result(timeout)
        return self.status().state

    def sets(self) -> Iterator[tuple[int, NodeSet, str]]:
        """Its sets of nodes: number, what is stored, what people call it."""
        key = self._store.keys.flow(self.flow)
        count = int(self._store.call("HGET", key, "sets") or 0)
        for at in range(0, count, _PAGE):
            numbers = range(at, min(at + _PAGE, count))
            found = self._store.call("HMGET", key, *(f"{kind}{each}" for each in numbers for kind in "sl"))
            for number, record, label in zip(numbers, found[::2], found[1::2], strict=True):
                if record is not None:
                    yield number, NodeSet.of(record), (label or b"").decode(errors="replace")

    def nodes(self, state: str | None = None, after: int | None = None) -> Iterator[NodeStatus]:
        """Its nodes in their order, read in pages.

        Args:
            state: only those in this state.
            after: only those behind the node of this number.
        """
        keys, names = self._store.keys, Carrier(self._store).queues(self.flow)
        for _, found, label in self.sets():
            begin = 0
            if after is not None:
                if not found.first <= after < found.first + found.size:
                    continue
                begin, after = after - found.first + 1, None
            for at in range(begin, found.size, _PAGE):
                first, last = found.first + at, found.first + min(at + _PAGE, found.size) - 1
                marks = self._store.call("GETRANGE", keys.marks(self.flow), first, last).decode("latin-1")
                for index, mark in zip(range(first, last + 1), marks.ljust(last - first + 1, "\0"), strict=True):
                    if state is None or MARKS.get(mark) == state:
                        queue = names[found.queue - 1] if 0 < found.queue <= len(names) else ""
                        yield NodeStatus(node_id(self.flow, index), index, label, queue, MARKS.get(mark, "waiting"))

    def node(self, which: Ref | int | str) -> NodeStatus:
        """One node.

        Args:
            which: what `flow.add` has returned, its index, its id, or its name; of a group or a map that is the first one.

        Raises:
            UnknownTask: there is none.
        """
        for number, found, label in self.sets():
            index = _index(which, self.flow, number, found, label)
            if found.first <= index < found.first + found.size:
                mark = self._store.call("GETRANGE", self._store.keys.marks(self.flow), index, index).decode("latin-1")
                return self._node(index, found, label, mark)
        raise UnknownTask(f"workflow {self.id} has no node {which!r:.100}")

    def _node(self, index: int, found: NodeSet, label: str, mark: str) -> NodeStatus:
        names = Carrier(self._store).queues(self.flow)
        queue = names[found.queue - 1] if 0 < found.queue <= len(names) else ""
        return NodeStatus(node_id(self.flow, index), index, label, queue, MARKS.get(mark, "waiting"))

    def value(self, which: Ref | int | str) -> Any:
        """What a node has returned that has ended.

        Raises:
            TaskFailed, TaskExpired, TaskCancelled: it has not succeeded.
            UnknownTask: it is not there, or has not ended.
        """
        node = self.node(which)
        found = self._store.call("HGET", self._store.keys.flow(self.flow), f"r{node.number}")
        if found is not None:
            return value_of(found, f"node {node.id}")
        if node.state != State.SUCCEEDED:
            raise UnknownTask(f"node {node.id} of workflow {self.id} has no result: it is {node.state}")
        return None

    def cancel(self) -> None:
        """Cancel it: what waits will not begin, what runs is told.

        Raises:
            UnknownTask: nothing is known of it.
        """
        self._tell("X")

    def signal(self, name: str, payload: Any = None) -> bool:
        """Let a `flow.wait(name)` go on, also one that is still to come. Returns whether this was the first; others change
        nothing.

        Args:
            name: of the signal.
            payload: what the wait returns.

        Raises:
            UnknownTask: no such workflow is known.
        """
        return self._tell(f"G{checked_signal(name)}", f"!{name}", dumps([State.SUCCEEDED, payload]))

    def retry(self, mode: RetryMode = "failed_only") -> int:
        """Let a workflow that has ended go on.

        Args:
            mode: `failed_only` runs what has failed or was cancelled, `failed_and_downstream` also what came after that and
                has run nevertheless, `all` everything; a map keeps the nodes that it has.

        Returns:
            How many nodes have not ended now.

        Raises:
            InvalidTask: it has not ended, or nothing in it has failed.
            UnknownTask: nothing is known of it.
        """
        count = run_again(self, mode)
        Carrier(self._store).carry(self.flow)
        return count

    def forget(self) -> None:
        """Remove a workflow that has ended, before `keep` is over: its state, its results, its tasks. Its unique key is free
        at once. Callbacks that have not begun run all the same, and find nothing of it; dead letters of its nodes stay.

        Raises:
            InvalidTask: it has not ended: cancel it first, or wait.
            UnknownTask: nothing is known of it.
        """
        for _ in range(_TRIES):
            Carrier(self._store).carry(self.flow)  # its callbacks have to be enqueued, or a dead letter has opened it again
            status = self.status()
            if status.ended is None:
                raise InvalidTask(f"workflow {self.id} has not ended: it is {status.state}; cancel it first, or wait")
            if remove(self._store, self.flow, lists=[self._store.keys.task(self.id)], unwanted=True):
                return
        raise InvalidTask(f"workflow {self.id} has something left to do: wait a moment, and forget it then")

    def _tell(self, entry: str, field: str = "", payload: bytes = b"") -> bool:
        keys = self._store.keys
        names = (keys.flow(self.flow), keys.joins(self.flow), keys.flow_outbox, keys.flow_due)
        said = self._store.run("flow_tell", names, self.flow, entry, field, payload, "")
        if not said:
            raise self._unknown()
        Carrier(self._store).carry(self.flow)
        return bool(said == 1)

    def fields(self) -> dict[str, str]:
        """All that is stored but for tasks and results, for whoever draws it."""
        key = self._store.keys.flow(self.flow)
        found: dict[str, str] = {}
        cursor = b""
        while cursor != b"0":
            cursor, page = self._store.call("HSCAN", key, cursor or b"0", "MATCH", "[^tr]*", "COUNT", _PAGE)
            found |= texts(page)
        return found


def _index(which: Ref | int | str, flow: str, number: int, found: NodeSet, label: str) -> int:
    """The index of the node that is meant, if it is in this set; -1 if it is elsewhere."""
    if isinstance(which, Ref):
        return found.first if which.blocks[0].number == number else -1
    if which == label:
        return found.first
    if isinstance(which, int):
        return which
    return index_of(which) if which.startswith(flow) and len(which) == len(run_id(flow)) else -1


def checked_signal(name: str) -> str:
    """The name of a signal.

    Raises:
        InvalidTask: it is no word.
    """
    if not name or any(character.isspace() for character in name):
        raise InvalidTask(f"the name of a signal is a word, not {name!r}")
    return name


def run_of(queue: Any, identity: str) -> Run:
    """The handle of a workflow whose home is a queue, wherever that is."""
    run: Run = Run(queue, identity) if queue.workflows is None else queue.workflows.run(identity)
    return run


def runs(queue: Any, *, ended: bool = True) -> Iterator[Run]:
    """The workflows whose home is a queue, in pages; those that have `ended`, too."""
    if queue.workflows is not None:
        yield from queue.workflows.runs(ended)
        return
    store, at = queue.store, 0
    least = "-inf" if ended else NEVER
    while page := store.call("ZREVRANGEBYSCORE", store.keys.flow_ids, "+inf", least, "LIMIT", at, _PAGE):
        for flow in page:
            yield Run(queue, run_id(flow.decode(errors="replace")))
        at += _PAGE
