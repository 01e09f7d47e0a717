"""The application object: Redis, queues, tasks, middlewares, and what runs when workers begin and end."""

import asyncio
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, cast, overload

from ..backoff import Exponential
from ..base.escape import listed
from ..delay import ScheduleOptions
from ..errors import ConfigurationError, InvalidTask, UnknownTask
from ..hooks import NAMES, Hooks
from ..job.allow import AllowList
from ..job.middleware import AsyncMiddleware, Middleware, check_middlewares
from ..queue.async_queue import AsyncQueue
from ..queue.handle import AsyncHandle, Handle
from ..queue.origin import Origin
from ..queue.queue import Queue
from ..queue.status import not_waiting
from ..queue.tracing import Tracing
from ..redis.command import AsyncClient, Client
from ..redis.connect import client_of
from ..redis.environment import url_of_environment
from ..task.decode import is_python_path
from ..task.options import Options, TaskOptions
from ..task.paths import path_of_function
from ..task.result import State
from ..task.task import GoTask, PyTask
from ..task.types import by_annotation, encoder
from .task import PRIORITIES, BoundCall, Calls, DefinitionOptions, Destination, P, Priority, R, Task

if TYPE_CHECKING:
    from ..workflow.compose import Flow, FlowOptions
    from ..workflow.run import Run

Wire = Literal["delayed", "upstream"]
T = TypeVar("T")
_OF_WORKERS = ("dequeue_timeout", "keep_alive_timeout")  # what a queue for asyncio, which serves producers, does not take
_TWO_KINDS = "the queue {!r} cannot be one of this application's own and have tasks that other programs run: use another name"
_NORMAL: tuple[Priority, ...] = ("normal",)
_HTTP = ("http://", "https://")  # beginnings of the URLs of servers
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 600.0  # seconds, of the back-off that an application's retries have by default


class App:
    """An application's tasks and queues. Nothing connects to Redis before the first task is enqueued.

    ```python
    app = App("redis://localhost:6379/0")

    @app.task(queue="mail", retry=5)
    def welcome(user: int) -> None: ...

    welcome.delay(7)
    ```

    Args:
        redis: a URL, or a client as for `Queue`; None for DELAYED_REDIS_URL_FILE, DELAYED_REDIS_URL or REDIS_URL of the
            environment, else localhost. The URL of a server (`http://…`, `https://…`), or a `delayed.remote.Remote`: then it
            produces over HTTP, and workers of its queues are started elsewhere, with a URL of Redis.
        queue: where tasks go that name no queue.
        queues: queues that no task is defined with, and to which calls go by `options(queue=…)`.
        wire: `delayed`: every task has an id. `upstream`: tasks are byte for byte those of the older packages, which may
            serve the same queues; then they have neither ids nor options but `retry`.
        include: modules with further tasks, which workers import.
        middlewares: what wraps the execution of every task; the first is outermost.
        priorities: queues whose tasks may have a priority. Each has three lists, and workers look into all of them.
        prefix: what the names of all queues begin with, for several applications on one Redis.
        queue_options: what else `Queue` takes, such as `durability`.

    Raises:
        ConfigurationError: something of that cannot work.
    """

    def __init__(
        self,
        redis: Client | Origin | str | None = None,
        *,
        queue: str = "default",
        queues: Sequence[str] = (),
        wire: Wire = "delayed",
        include: Sequence[str] = (),
        middlewares: Sequence[Middleware | AsyncMiddleware] = (),
        priorities: Collection[str] = (),
        prefix: str = "",
        **queue_options: Any,
    ) -> None:
        if wire not in ("delayed", "upstream"):
            raise ConfigurationError(f"wire is 'delayed' or 'upstream', not {wire!r}")
        if any(isinstance(names, str) for names in (queues, priorities, include)):
            raise ConfigurationError("queues, priorities and include are lists of names, such as ['mail']")
        check_middlewares(middlewares)
        self._redis, self._default, self.wire, self._prefix = redis, queue, wire, prefix
        self._client: Client | None = None
        self._server: Origin | None = None
        self._options = queue_options
        self._priorities, self._include = tuple(priorities), tuple(include)
        self.middlewares = list(middlewares)
        self.tasks: dict[str, Task[..., Any]] = {}  # by the paths by which workers find them
        self._names = dict.fromkeys([*queues, *priorities])  # of the queues, in the order in which they came
        self._declared: dict[str, None] = {}  # likewise, of those that other programs serve
        self._queues: dict[str, Queue] = {}
        self._async_queues: dict[str, AsyncQueue] = {}
        self._starts: list[Callable[[], object]] = []
        self._stops: list[Callable[[], object]] = []
        self._tracing: Tracing | None = None

    def __repr__(self) -> str:
        return f"App({', '.join(map(repr, self.queue_names()))})"

    # Tasks

    @overload
    def task(self, func: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self, func: None = None, /, *, retry: int | None = None, **options: Unpack[DefinitionOptions]
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...
    def task(self, func: Callable[..., Any] | None = None, /, *, retry: int | None = None, **options: Any) -> Any:
        """Make a function a task of this application: `@app.task`, or `@app.task(queue="mail", retry=5)`.

        The options are those of `delayed.task.options.Options`, `queue`, `priority`, and `on_start`, `on_success`,
        `on_failure` and `on_retry` (see `delayed.hooks.Hooks`). With `retry` and without `backoff` the pauses grow from a
        second to ten minutes, with jitter.

        Raises:
            InvalidTask, ConfigurationError: an option that there is not, or that cannot work.
        """
        hooks = Hooks.taken_from(options)
        queue, priority = options.pop("queue", self._default), options.pop("priority", "normal")
        chosen = self._chosen(options, retry, (*NAMES, "queue", "priority"))
        if queue in self._declared:
            raise ConfigurationError(_TWO_KINDS.format(queue))

        def wrap(function: Callable[..., Any]) -> Any:
            return self._add(function, Calls(self, function, retry, chosen, queue=queue, priority=priority), hooks)

        return wrap if func is None else wrap(func)

    def declare(
        self,
        path: str,
        /,
        *,
        queue: str,
        priority: Priority = "normal",
        retry: int | None = None,
        **options: Unpack[TaskOptions],
    ) -> Calls[..., Any]:
        """Calls of a function that other programs run: one of Go (`main.Deliver`), or of another application in Python
        (`module.path:function`). Workers of this application leave its queue alone.

        ```python
        deliver = app.declare("main.Deliver", queue="webhooks", retry=5)
        deliver.delay("https://…", 7)
        ```

        Raises:
            InvalidTask, ConfigurationError: an option that cannot work, or the queue is one of this application's own.
        """
        if queue in self._names:
            raise ConfigurationError(f"{path}: {_TWO_KINDS.format(queue)}")
        GoTask(path) if not is_python_path(path) else PyTask(path)
        calls = Calls[..., Any](self, path, retry, self._chosen(options, retry), queue=queue, priority=priority)
        self._declared.setdefault(queue)
        return calls

    def _chosen(self, options: Mapping[str, object], retry: int | None, beside: Sequence[str] = ()) -> Options:
        """The options with what the tasks of an application have by default."""
        chosen = Options.of(options, beside)
        if self.wire == "delayed":
            backoff = chosen.backoff or (Exponential(FIRST_PAUSE, cap=LONGEST_PAUSE) if retry else None)
            chosen = chosen.but({"backoff": backoff}).with_id()
        return chosen

    def _add(self, function: Callable[..., Any], calls: Calls[..., Any], hooks: Hooks) -> Task[..., Any]:
        marked: Any = function
        try:
            for name in ("delay", "adelay", "call", "s", "each", "options", "handle", "ahandle"):
                setattr(marked, name, getattr(calls, name))
            hooks.put_on(function)
        except (AttributeError, TypeError) as error:  # it is not written in Python
            path = path_of_function(function)
            raise InvalidTask(f"{path} cannot have a .delay(): write a function that calls it") from error
        if self.wire == "delayed":
            by_annotation(function)
        self.tasks[calls.path] = marked
        self._names.setdefault(calls._queue)
        return cast(Task[..., Any], marked)

    def cron(
        self,
        expression: str,
        *,
        tz: str = "UTC",
        catch_up: str = "skip",
        name: str | None = None,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        queue: str | None = None,
        retry: int | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> Callable[[Callable[P, R]], Task[P, R]]:
        """Make a function a task that is enqueued by a schedule: `@app.cron("30 2 * * *", tz="Europe/Zurich")`. Nothing is
        written to Redis here: workers do it when they begin, or `delayed cron sync --app` does.

        Args:
            expression, tz, catch_up, name, args, kwargs, retry, options: as for `delayed.delay.Decorator.cron`.
            queue: where it is enqueued; by default where tasks go that name no queue.

        Raises:
            InvalidSchedule: it could not run as written.
        """
        schedules: Any = import_module("..cron.definition", __package__)  # most producers need no clocks of the world
        when = schedules.Cron(expression, tz, catch_up)
        settings = {name: value for name, value in options.items() if name not in NAMES}

        def wrap(function: Callable[..., Any]) -> Any:
            task = PyTask(path_of_function(function), tuple(args), kwargs, retry, **cast(Any, settings))
            schedules.record(self.queue(queue), name or task.func_path, schedules.define(task, when))
            return self.task(retry=retry, queue=queue or self._default, **cast(Any, options))(function)

        return wrap

    def load(self) -> None:
        """Import the modules of `include`.

        Raises:
            ImportError: there is none of that name; and whatever else a module raises.
        """
        for name in self._include:
            import_module(name)

    # Queues

    def queue_names(self) -> list[str]:
        """The names on Redis of all queues of this application, in the order in which workers look into them."""
        return [self.queue_of(*place) for place in self._places(self._names or [self._default])]

    def _places(self, names: Iterable[str]) -> Iterator[tuple[str, Priority]]:
        """Each queue with each priority that its tasks may have."""
        for name in names:
            for priority in PRIORITIES if name in self._priorities else _NORMAL:
                yield name, priority

    def queue_of(self, name: str, priority: Priority) -> str:
        """The name on Redis of the queue `name`, for tasks of this priority."""
        return self._prefix + name + ("" if priority == "normal" else f".{priority}")

    def queue(self, name: str | None = None, priority: Priority = "normal") -> Queue:
        """The queue of this name, or the one for tasks that name none; made once.

        Raises:
            ConfigurationError: the application has no such queue, so that no worker of it would serve that; or the name cannot
                work.
        """
        full = self._see_that_it_is_ours(name, priority)
        if full not in self._queues:
            origin = self._origin()
            made = Queue(full, self.redis, **self._options) if origin is None else origin.queue(full, **self._of_producers)
            made.tracing = self._tracing
            self._queues[full] = made
        return self._queues[full]

    def async_queue(self, name: str | None = None, priority: Priority = "normal") -> AsyncQueue:
        """As `queue`, for asyncio; the queue may be used in any number of event loops."""
        full = self._see_that_it_is_ours(name, priority)
        if full not in self._async_queues:
            self._async_queues[full] = self._async_queue(full)
            self._async_queues[full].tracing = self._tracing
        return self._async_queues[full]

    def _async_queue(self, full: str) -> AsyncQueue:
        if (origin := self._origin()) is not None:
            return origin.async_queue(full, **self._of_producers)
        where = self._redis if self._redis is not None else url_of_environment()
        if not isinstance(where, str | AsyncClient):
            raise ConfigurationError("for asyncio, give App the URL of Redis instead of a client")
        return AsyncQueue(full, where, **self._of_producers)

    @property
    def _of_producers(self) -> dict[str, Any]:
        return {name: value for name, value in self._options.items() if name not in _OF_WORKERS}

    def _origin(self) -> Origin | None:
        """The server where the queues are; None if they are on a Redis of our own."""
        if isinstance(self._redis, Origin):
            return self._redis
        if self._server is None:
            where = self._redis if self._redis is not None else url_of_environment()
            if isinstance(where, str) and where.startswith(_HTTP):
                remote: Any = import_module("..remote", __package__)  # most applications have no use for it
                self._server = remote.Remote(where)
        return self._server

    def _see_that_it_is_ours(self, name: str | None, priority: Priority) -> str:
        if name is not None and name != self._default and name not in self._names and name not in self._declared:
            known = ", ".join(map(repr, self._names or [self._default]))
            raise ConfigurationError(
                f"this application has no queue {name!r}, which its workers would not serve: it has {known}. Define a task "
                f"with it, or name it in App(queues=[…])"
            )
        return self.queue_of(name or self._default, priority)

    @property
    def redis(self) -> Client:
        """The client, which is made when it is needed first.

        Raises:
            ConfigurationError: the queues are on a server.
        """
        if self._client is None:
            if (origin := self._origin()) is not None:
                raise ConfigurationError(
                    f"this application produces over HTTP ({origin!r}): what needs Redis, such as a worker, takes the URL of "
                    f"that (`delayed worker --redis`, or App.use)"
                )
            self._client = client_of(self._redis or url_of_environment())
        return self._client

    def queues(self) -> list[Queue]:
        """All queues, in the order of `queue_names`."""
        return [self.queue(*place) for place in self._places(self._names or [self._default])]

    def all_queues(self) -> list[Queue]:
        """Also those of declared functions, which other programs serve: what a sweeper sweeps."""
        return [*self.queues(), *(self.queue(*place) for place in self._places(self._declared))]

    async def aclose(self) -> None:
        """Close the connections of this event loop; its end does that, too (`asyncio.run`)."""
        for queue in self._async_queues.values():
            await queue.aclose()

    def use(self, redis: Client | Origin | str) -> None:
        """Go to another Redis than the one that the application was made with; call it before anything is enqueued."""
        self._redis, self._client, self._server = redis, None, None
        self._queues.clear()
        self._async_queues.clear()

    def enqueue_many(self, calls: Iterable[BoundCall]) -> list[Handle[Any]]:
        """Enqueue calls (`task.call(…)`), in order, in chunks as `Queue.enqueue_many` does, each with its options. Returns a
        handle for each; raises as that does."""
        handles: list[Handle[Any]] = []
        for place, some in groupby(calls, _where):
            together = list(some)
            found = self.queue(*place).enqueue_all(call.task for call in together)
            for call, handle in zip(together, found, strict=True):
                handle.convert = call.convert
            handles += found
        return handles

    async def aenqueue_many(self, calls: Iterable[BoundCall]) -> list[AsyncHandle[Any]]:
        """As `enqueue_many`, for asyncio."""
        handles: list[AsyncHandle[Any]] = []
        for place, some in groupby(calls, _where):
            together, queue = list(some), self.queue(*place)
            found = await self.async_queue(*place).enqueue_all(call.task for call in together)
            for call, handle in zip(together, found, strict=True):
                handle.convert, handle.place = call.convert, queue
            handles += found
        return handles

    def publish(self, data: Any) -> dict[str, str]:
        """Put a copy of `data` into each queue that has an interest in it, whoever serves that: see `Queue.publish`."""
        return self.queue().publish(data)

    async def apublish(self, data: Any) -> dict[str, str]:
        """As `publish`, for asyncio."""
        return await self.async_queue().publish(data)

    def workflow(self, name: str = "", *, queue: str | None = None, **options: "Unpack[FlowOptions]") -> "Flow":
        """A workflow that is to be put together: see `delayed.workflow.compose.Flow`.

        Args:
            name: what people call it.
            queue: its home, which has its keys; by default the queue of tasks that name none.
            options: the rest, as for `Flow`.

        Raises:
            InvalidTask: an option that cannot work.
        """
        compose: Any = import_module("..workflow.compose", __package__)
        made: Flow = compose.Flow(self.queue(queue), name, **options)
        return made

    def run(self, flow_id: str) -> "Run":
        """The handle of a workflow that was submitted somewhere else, by its id or that of one of its nodes.

        Raises:
            UnknownTask: none of this application's queues knows it.
        """
        runs: Any = import_module("..workflow.run", __package__)
        for queue in self.all_queues():
            run: Run = runs.run_of(queue, flow_id)
            with suppress(UnknownTask):
                run.status()
                return run
        names = listed([queue.name for queue in self.all_queues()])
        raise UnknownTask(f"no workflow {flow_id} is known in {names}")

    def cancel(self, task_id: str, *, hard: bool = False) -> State:
        """Cancel the task that has this id, in whichever queue of this application it is; see `Handle.cancel`.

        Returns:
            In which state it was.

        Raises:
            UnknownTask: nothing is known of it, and it does not wait.
        """
        queues = self.all_queues()
        for tracked in (True, False):  # those are looked up, these are looked for
            for queue in queues:
                with suppress(UnknownTask):
                    return queue.handle(task_id, tracked=tracked).cancel(hard=hard)
        raise not_waiting(listed([queue.name for queue in queues]), task_id)

    async def acancel(self, task_id: str, *, hard: bool = False) -> State:
        """As `cancel`, for asyncio: in another thread."""
        return await asyncio.to_thread(partial(self.cancel, task_id, hard=hard))

    def refused(self, options: Options, queue: str, priority: Priority) -> str | None:
        """Why tasks of this application cannot have these options; None if they can."""
        if self.wire == "upstream" and options != Options():
            return "with wire='upstream' a task has no option but retry, as the older packages know no other"
        if priority != "normal" and queue not in self._priorities:
            return f"a priority needs App(…, priorities=[{queue!r}]), so that workers look into the queue's three lists"
        return None

    def encoder(self, kind: type[T], code: int, *, encode: Callable[[T], Any], decode: Callable[[Any], T]) -> None:
        """Let tasks and results carry values of one more type; see `delayed.task.types.encoder`, which it is for the whole
        process, as its code is.

        Args:
            kind: the type.
            code: from 32 to 127, the same in all programs.
            encode: makes of a value one that can be sent,
            decode: and of that a value again.

        Raises:
            ConfigurationError: the code is out of range or taken, or MessagePack carries the type by itself.
        """
        encoder(kind, code, encode, decode)

    # Workers

    @property
    def allow(self) -> AllowList:
        """Exactly the tasks of this application.

        Raises:
            ConfigurationError: it has none.
        """
        if not self.tasks:
            raise ConfigurationError(
                "this application has no tasks: decorate functions with @app.task, or name their modules in include"
            )
        return AllowList(sorted(self.tasks))

    def middleware(self, func: Middleware) -> Middleware:
        """Wrap every task in this one, too, inside of those before."""
        check_middlewares([func])
        self.middlewares.append(func)
        return func

    def trace(self, tracing: Tracing) -> None:
        """Tell this of each enqueue, in all queues; see `delayed.otel.instrument`.

        Raises:
            ConfigurationError: the tasks of this application are those of the older packages, and can carry nothing more.
        """
        if self.wire == "upstream":
            raise ConfigurationError("tasks with wire='upstream' have no place for a trace context: they cannot be traced")
        self._tracing = tracing
        for queue in (*self._queues.values(), *self._async_queues.values()):
            queue.tracing = tracing

    def on_start(self, func: Callable[[], object]) -> Callable[[], object]:
        """Call this in each worker process, after the fork and before its first task. What it raises ends the process."""
        self._starts.append(func)
        return func

    def on_stop(self, func: Callable[[], object]) -> Callable[[], object]:
        """Call this in each worker process when it ends in order, in the opposite order of definition."""
        self._stops.append(func)
        return func

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around the life of a worker process: `on_start` before, `on_stop` after."""
        for each in self._starts:
            each()
        try:
            yield
        finally:
            for each in reversed(self._stops):
                each()


def _where(call: BoundCall) -> Destination:
    if not isinstance(call, BoundCall):
        raise InvalidTask(f"enqueue_many takes calls of tasks, such as task.call(1, 2), not {call!r:.200}")
    return call.place


def find_app(reference: str) -> App:
    """The application at `module:attribute`, imported as `python -m` would, with all that it includes.

    Raises:
        ConfigurationError: there is none.
        ImportError: and whatever else its modules raise.
    """
    module_path, _, name = reference.partition(":")
    if not module_path or not name:
        raise ConfigurationError(f"--app is module.path:attribute, such as shop.jobs:app, not {reference!r}")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    found: Any = import_module(module_path)
    applications = [known for known, value in vars(found).items() if isinstance(value, App)]
    for part in name.split("."):
        if not hasattr(found, part):
            others = f"; its applications: {', '.join(applications)}" if applications else ""
            raise ConfigurationError(f"{module_path} has no {name!r}{others}")
        found = getattr(found, part)
    if not isinstance(found, App):
        raise ConfigurationError(f"{reference!r} is no delayed.App, but {type(found).__name__}")
    found.load()
    return found
