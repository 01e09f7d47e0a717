"""Groups, chains and graphs: what people write."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, Self, TypedDict, Unpack, runtime_checkable

from ..base.checks import is_number
from ..base.clock import now
from ..base.ids import FLOW, token
from ..errors import Duplicate, InvalidTask
from ..events import BUS, Event, Kind
from ..queue.queue import Queue
from ..task.task import GoTask, PyTask, Task
from .carry import Carrier
from .graph import Block, Graph, Policy, Ref, When, too_deep
from .layout import Layout
from .pages import PATIENCE, digest_of, run_id, store_workflow
from .run import Run

KEEP = 86400.0  # seconds that a workflow is kept after its end


class Call(Protocol):
    """A call of a task of an `App`, with its arguments: what `f.s(…)` returns."""

    @property
    def task(self) -> Task:
        """What is run."""

    @property
    def place(self) -> Any:
        """In which queue of the application."""

    @property
    def app(self) -> Any:
        """The application."""


@runtime_checkable
class Each(Protocol):
    """A task of an `App`, of which a map makes a call with each element."""

    def each(self) -> Any:
        """That call."""


class On(NamedTuple):
    """A call in a queue that is named."""

    queue: str
    part: Any


def on(queue: str, part: "Part") -> On:
    """The same calls in the queue of this name on Redis, for tasks that no `App` knows."""
    return On(queue, part)


class FlowOptions(TypedDict, total=False):
    """The options of a workflow: see `Flow`."""

    on_failure: Policy
    unique: str | None
    join: bool
    keep: float | timedelta
    then_success: Sequence["Part"]
    then_complete: Sequence["Part"]
    then_failure: Sequence["Part"]


class Chain(NamedTuple):
    """Calls one after the other, each finds the result of the one before it in `current_task().previous`."""

    parts: tuple[Any, ...]

    def then(self, part: "Part") -> "Chain":
        """The same, with something after it."""
        return Chain((*self.parts, part))

    def submit(self, queue: Queue | None = None, **options: Unpack[FlowOptions]) -> Run:
        """Start it. See `Flow` for the options; `queue` is its home, if no call in it is one of an `App`."""
        return _submit(self, queue, options)


class Group(NamedTuple):
    """Calls beside each other; what comes after them finds all their results."""

    parts: tuple[Any, ...]

    def then(self, part: "Part") -> Chain:
        """The same, with something after all of them."""
        return Chain((self, part))

    def submit(self, queue: Queue | None = None, **options: Unpack[FlowOptions]) -> Run:
        """As `Chain.submit`."""
        return _submit(self, queue, options)


class Linked(NamedTuple):
    """A call, and what comes after it as it succeeds or fails."""

    part: Any
    on_success: tuple[Any, ...]
    on_error: tuple[Any, ...]

    def submit(self, queue: Queue | None = None, **options: Unpack[FlowOptions]) -> Run:
        """As `Chain.submit`."""
        return _submit(self, queue, options)


_WHOLES = (Chain, Group, Linked)  # parts that have parts
Part = PyTask | GoTask | Call | On | Chain | Group | Linked


def chain(*parts: Part) -> Chain:
    """Calls one after the other.

    Raises:
        InvalidTask: there are none.
    """
    if not parts:
        raise InvalidTask("a chain has one part at least")
    return Chain(parts)


def group(*parts: Part | Iterable[Part]) -> Group:
    """Calls beside each other: as arguments, or one iterable of them."""
    if len(parts) == 1 and isinstance(parts[0], Iterable) and not isinstance(parts[0], tuple):
        return Group(tuple(parts[0]))
    if len(parts) == 1 and type(parts[0]) is tuple:
        return Group(parts[0])
    return Group(parts)


def linked(part: Part, *, on_success: Sequence[Part] = (), on_error: Sequence[Part] = ()) -> Linked:
    """A call with others that run after it has succeeded, or after its last attempt has failed: then it has not failed its
    workflow.

    Raises:
        InvalidTask: `on_success` or `on_error` is no list.
    """
    return Linked(part, _listed("on_success", on_success), _listed("on_error", on_error))


class Flow:
    """A workflow that is being put together.

    ```python
    with app.workflow("import") as flow:
        page = flow.add(fetch.s(url))
        flow.add(store.s(), after=page)
    run = flow.submit()
    ```

    Args:
        home: the queue that has its keys.
        name: what people call it.
        on_failure: what happens to nodes behind one that has failed: `stop` skips them, `stop_now` cancels what runs as well,
            `continue` runs them; with `any` and `quorum(k)` one success, or `k`, among the nodes before will do (or all, where
            there are fewer), and the whole has succeeded if so many of the last ones have.
        unique: a key. While a workflow with it is known, no second one is created.
        join: a second one is not refused: `submit` returns the first.
        keep: seconds that it is kept after its end.
        then_success, then_complete, then_failure: calls that are enqueued when it has succeeded, when it has ended, and at the
            first failure that nothing provides for.
        base: the numbers from which on its sets, gates and nodes are counted, where it becomes a part of another.
    """

    def __init__(
        self,
        home: Queue,
        name: str = "",
        *,
        on_failure: Policy = "stop",
        unique: str | None = None,
        join: bool = False,
        keep: float | timedelta = KEEP,
        then_success: Sequence[Part] = (),
        then_complete: Sequence[Part] = (),
        then_failure: Sequence[Part] = (),
        base: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        seconds = keep.total_seconds() if isinstance(keep, timedelta) else keep
        if not is_number(seconds) or not 1 <= seconds <= 1e9:
            raise InvalidTask(f"keep must be a number of seconds from 1 on, not {keep!r}")
        self.home, self.name = home, name
        self.unique, self.join, self.keep = unique, join, seconds
        self.trace: tuple[str, str] | None = None  # of its tasks: see `Options.trace`
        self.once = ""  # by which the request is known that has made it, if it may be repeated
        self.patience = PATIENCE  # see `store_workflow`
        self._callbacks = {"success": then_success, "complete": then_complete, "failure": then_failure}
        self.graph = Graph(on_failure, base)

    @property
    def size(self) -> int:
        """How many nodes it has, so far as that is known; those of maps come later."""
        return sum(each.size for each in self.graph.blocks if each.kind != "c")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is submitted by itself."""

    def add(
        self,
        part: Part,
        *,
        after: Ref | Iterable[Ref] | None = None,
        when: When | None = None,
        name: str = "",
        on_success: Sequence[Part] = (),
        on_error: Sequence[Part] = (),
    ) -> Ref:
        """Add a call, a chain or a group.

        Args:
            part: what to run.
            after: the nodes that it waits for, and finds the results of.
            when: the policy of these edges, if it is not the workflow's: `stop`, `stop_now`, `continue`, `any`, `failure`, or
                `quorum(k)`.
            name: what people call it; by default its function.
            on_success, on_error: calls that run after it has succeeded, or failed.

        Returns:
            What `after=` takes.

        Raises:
            InvalidTask: that is no part of a workflow.
        """
        whole = linked(part, on_success=on_success, on_error=on_error) if on_success or on_error else part
        return self._lay(whole, _refs(after), when, name)

    def map(self, part: "Part | Each", *, over: Ref, when: When | None = None, name: str = "") -> Ref:
        """Call something with each element of a result, as its first argument: with those of a list, or with the results of a
        group. How many these are is known when it is there.

        Args:
            part: a task of an `App`, or (with further arguments) `f.each("de")`, or a `PyTask` or `GoTask`.
            over: the node, or the group.
            when: the policy of that edge, if it is not the workflow's.
            name: what people call it.

        Raises:
            InvalidTask: it is not one call.
        """
        task, queue = self._leaf(part.each() if isinstance(part, Each) else part)
        if task is None:
            raise InvalidTask("flow.map takes one call, such as f.s(), not a group or a chain")
        block = self.graph.block([task], queue, "m", name)
        block.many = True
        self.graph.connect(block, [over], when)
        return Ref((block,))

    def wait(
        self, signal: str = "", *, after: Ref | Iterable[Ref] | None = None, timeout: float | timedelta | None = None
    ) -> Ref:
        """A node that ends when a signal comes, also one that has come before, or after some time: then it has failed, unless
        it only waits for that time.

        Args:
            signal: its name, a word; '' to wait for `timeout` alone.
            after: the nodes after which it begins to wait.
            timeout: seconds that it waits at most.

        Raises:
            InvalidTask: it would wait for ever, or for nothing.
        """
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        if seconds is not None and (not is_number(seconds) or not 0.001 <= seconds <= 1e9):
            raise InvalidTask(f"timeout must be a number of seconds above 0, not {timeout!r}")
        if not signal and seconds is None:
            raise InvalidTask("flow.wait needs the name of a signal, or a timeout")
        if any(character.isspace() for character in signal):
            raise InvalidTask(f"the name of a signal is a word, not {signal!r}")
        block = self.graph.block([], self.home.name, "w", f"wait for {signal or f'{seconds:g} s'}")
        block.wait = (round((seconds or 0) * 1000), signal)
        self.graph.connect(block, _refs(after))
        return Ref((block,))

    def _store(self, flow: str, layout: Layout, about: dict[str, str | bytes]) -> None:
        layout.trace = self.trace
        if self.home.tracing is None:
            store_workflow(self.home.store, flow, layout, about, self.patience)
            return
        with self.home.tracing.sending(self.home.name, None) as sending:
            layout.trace = sending.trace
            store_workflow(self.home.store, flow, layout, about, self.patience)
            sending.all_done(sum(each.size for each in self.graph.blocks), run_id(flow))

    def submit(self) -> Run:
        """Store it, and start it. Up to 1,000 nodes go in at once; more in pages, of which the last one starts it.

        Raises:
            Duplicate: another workflow has its unique key.
            UnknownTask: it was removed before it was whole, as its pages came too slowly.
            NotEncodable: an argument cannot be sent.
            redis.exceptions.RedisError: as `Queue.enqueue`.
        """
        if (elsewhere := self.home.workflows) is not None:
            run: Run = elsewhere.submit(self)
            return run
        flow = token()[:FLOW].replace("_", "A")
        about: dict[str, str | bytes] = {
            "name": self.name, "policy": str(self.graph.policy), "keep": str(round(self.keep * 1000)),
        }  # fmt: skip
        if self.once:
            about["once"] = self.once
        ends = self.graph.ends()
        self.graph.close(ends)
        for event, tasks, queue in self.callbacks():
            about[f"on_{event}"] = str(self.graph.block(tasks, queue, "c").number)
        self.graph.number()
        if len(ends) == 1 and ends[0].size == 1 and not ends[0].many:
            about["out"] = str(ends[0].first)
        if self.unique is not None:
            about["unique"] = digest_of(self.unique)
        layout = Layout(self.graph, self.home.name, flow, [])
        try:
            self._store(flow, layout, about)
        except Duplicate as error:
            if not self.join:
                raise
            flow = error.id[:FLOW]
        else:
            self.tell_started(run_id(flow))
        Carrier(self.home.store).carry(flow)
        return Run(self.home, run_id(flow))

    def tell_started(self, identity: str) -> None:
        """Tell who listens that it has been made, under this id."""
        if BUS.listeners(Kind.FLOW_STARTED):
            BUS.emit(Event(Kind.FLOW_STARTED, self.home.name, now(), task=self.name, flow=identity, tasks=self.size))

    def callbacks(self) -> Iterator[tuple[str, list[Task], str]]:
        """What is called when it ends: the event (success, complete, failure), and the tasks with their queue.

        Raises:
            InvalidTask: that cannot be called.
        """
        for event, parts in self._callbacks.items():
            leaves = [self._leaf(each) for each in _listed(f"then_{event}", parts)]
            queues = {queue for _, queue in leaves}
            tasks = [task for task, _ in leaves if task is not None]
            if leaves and (len(tasks) < len(leaves) or len(queues) != 1):
                raise InvalidTask("callbacks of a workflow are calls, all in one queue")
            if leaves:
                yield event, tasks, queues.pop()

    def _leaf(self, part: Any, queue: str | None = None) -> tuple[Task | None, str]:
        """The task of a part that is a call, and its queue; None for what is none."""
        kind = type(part)
        if kind is PyTask or kind is GoTask:
            return part, queue or self.home.name
        if kind is On:
            return self._leaf(part.part, part.queue)
        if kind in _WHOLES:
            return None, ""
        task, place = getattr(part, "task", None), getattr(part, "place", None)
        if task is None or place is None:
            raise InvalidTask(f"a workflow is made of calls such as f.s(1), PyTask and GoTask, not of {part!r:.200}")
        return task, queue or part.app.queue_of(*place)

    def _lay(self, part: Any, after: list[Ref], when: When | None, name: str = "", depth: int = 0) -> Ref:
        if isinstance(part, Chain | Group | Linked):
            too_deep(depth)
        while isinstance(part, On) and isinstance(part.part, On):  # the inner one is nearer
            part = part.part
        if isinstance(part, On) and type(part.part) in _WHOLES:
            part = _everywhere(part.part, part.queue)
        if isinstance(part, Chain):
            for each in part.parts:
                after, when = [self._lay(each, after, when, name, depth + 1)], None
            return after[0]
        if isinstance(part, Group):
            return self._lay_group(part, after, when, name, depth)
        if isinstance(part, Linked):
            made = self._lay(part.part, after, when, name, depth + 1)
            for each in part.on_success:
                self._lay(each, [made], "stop", depth=depth + 1)
            for each in part.on_error:
                self._lay(each, [made], "failure", depth=depth + 1)
            return made
        task, queue = self._leaf(part)
        assert task is not None
        return self._connected(self.graph.block([task], queue, label=name), after, when)

    def _lay_group(self, part: Group, after: list[Ref], when: When | None, name: str, depth: int) -> Ref:
        """Calls in one queue, one after the other, are one set of nodes."""
        blocks: list[Block] = []
        some: list[Task] = []
        place = self.home.name
        for each in part.parts:
            task, queue = self._leaf(each)
            if some and (task is None or queue != place):
                blocks += self._connected(self.graph.block(some, place, label=name), after, when).blocks
                some = []
            if task is None:
                blocks += self._lay(each, after, when, name, depth + 1).blocks
            else:
                some.append(task)
                place = queue
        if some or not blocks:
            blocks += self._connected(self.graph.block(some, place, label=name), after, when).blocks
        for block in blocks:
            block.many = block.many or len(blocks) == 1
        return Ref(tuple(blocks))

    def _connected(self, block: Block, after: list[Ref], when: When | None) -> Ref:
        self.graph.connect(block, after, when)
        return Ref((block,))


def _refs(after: Ref | Iterable[Ref] | None) -> list[Any]:
    return [] if after is None else [after] if isinstance(after, Ref | str) or not isinstance(after, Iterable) else list(after)


def _listed(name: str, parts: Any) -> tuple[Any, ...]:
    """Several calls. (One call is a tuple, too.)"""
    if type(parts) not in (list, tuple):
        raise InvalidTask(f"{name} is a list of calls, not {parts!r:.200}")
    return tuple(parts)


def _everywhere(part: Any, queue: str) -> Any:
    """A chain or a group with all its calls in one queue."""
    if isinstance(part, Chain | Group):
        return type(part)(tuple(_everywhere(each, queue) for each in part.parts))
    if isinstance(part, Linked):
        return Linked(_everywhere(part.part, queue), part.on_success, part.on_error)
    return part if isinstance(part, On) else On(queue, part)


def _first_app(part: Any) -> tuple[Any, Any] | None:
    """The application and the place of the first call of one."""
    if isinstance(part, On):
        return _first_app(part.part)
    if isinstance(part, Linked):
        return _first_app(part.part)
    if isinstance(part, Chain | Group):
        return next(filter(None, map(_first_app, part.parts)), None)
    app = getattr(part, "app", None)
    return None if app is None else (app, part.place)


def _submit(part: Any, queue: Queue | None, options: FlowOptions) -> Run:
    found = _first_app(part)
    if queue is None:
        if found is None:
            raise InvalidTask("say in which queue it has its home: submit(queue)")
        queue = found[0].queue(*found[1])
    assert queue is not None
    return flow_of(part, queue, options).submit()


def flow_of(part: Part, home: Queue, options: FlowOptions) -> Flow:
    """A workflow of one part, which has not been submitted.

    Raises:
        InvalidTask: it can be no part, or an option cannot work.
    """
    flow = Flow(home, **options)
    flow.add(part)
    return flow
