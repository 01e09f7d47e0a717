"""The events of this process, for logs, metrics and alarms. `table` makes the table in docs/events.md."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from inspect import isasyncgen, isasyncgenfunction, isawaitable, iscoroutinefunction, isgenerator, isgeneratorfunction
from types import CoroutineType
from typing import Any, NamedTuple

from .base.escape import escaped, indented
from .base.text import name_of, traceback_of
from .errors import ConfigurationError, TimedOut
from .logger import logger


class Kind(StrEnum):
    """The kind of an event."""

    ENQUEUED = "enqueued"
    FLOW_STARTED = "flow_started"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    RETRYING = "retrying"
    FAILED = "failed"
    BURIED = "buried"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    LOST = "lost"
    WORKER_UP = "worker_up"
    WORKER_DOWN = "worker_down"
    SWEEPER_UP = "sweeper_up"
    SWEEPER_DOWN = "sweeper_down"


class Event(NamedTuple):
    """An event. Fields that mean nothing for its kind keep these defaults."""

    kind: Kind
    queue: str  # its name; of a process: the names of its queues, with commas
    time: float  # seconds since 1970
    task: str = ""  # function path
    id: str | None = None  # of a tracked task
    attempt: int = 1  # counted from 1; of a task without headers always 1
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = {}
    worker: str = ""  # host:pid
    value: Any = None  # what the function returned
    error: BaseException | None = None  # what it raised
    reason: str = ""  # of the dead letter
    detail: str = ""  # likewise
    seconds: float = 0.0  # that the function ran; 0 if it did not begin
    tasks: int = 1  # how many
    pause: float = 0.0  # seconds until the next attempt
    waited: float | None = None  # seconds between the enqueue and the beginning of this attempt; None if the task does not say
    flow: str | None = None  # the id of its workflow, if it is a node of one


_CALL = ("task", "id", "attempt", "args", "kwargs", "worker", "waited", "flow")
_ENDED = (*_CALL, "seconds")
ABOUT: dict[Kind, tuple[str, str, tuple[str, ...]]] = {
    Kind.ENQUEUED: ("producer", "A task is in Redis.", ("task", "id")),
    Kind.FLOW_STARTED: (
        "producer",
        "A workflow is in Redis: `task` is its name, `tasks` says how many nodes it has.",
        ("flow", "task", "tasks"),
    ),
    Kind.STARTED: ("worker", "Its function is about to be called.", _CALL),
    Kind.SUCCEEDED: ("worker", "Its function has returned.", (*_ENDED, "value")),
    Kind.RETRYING: ("worker", "An attempt failed; there will be another one.", (*_ENDED, "error", "detail", "pause")),
    Kind.FAILED: (
        "worker",
        "An attempt failed, and there will be no other; `buried` follows.",
        (*_ENDED, "error", "reason", "detail"),
    ),
    Kind.BURIED: (
        "worker, sweeper",
        "Tasks have become dead letters: they failed, expired, could not be run or (says a sweeper) were lost too often.",
        (*_ENDED, "error", "reason", "detail", "tasks"),
    ),
    Kind.CANCELLED: (
        "producer, worker",
        "It was cancelled: emitted by whoever cancels it if it had not begun (only `id` is set), else by the worker.",
        ("task", "id", "attempt", "worker", "waited", "seconds", "flow"),
    ),
    Kind.SUPERSEDED: ("worker", "Its lease was lost while it ran, so another worker may run it as well.", ("task", "worker")),
    Kind.LOST: ("sweeper", "Tasks of dead workers have been put back.", ("worker", "tasks")),
    Kind.WORKER_UP: ("worker", "A worker begins.", ("worker",)),
    Kind.WORKER_DOWN: ("worker", "A worker has stopped.", ("worker",)),
    Kind.SWEEPER_UP: ("sweeper", "A sweeper begins.", ("worker",)),
    Kind.SWEEPER_DOWN: ("sweeper", "A sweeper has stopped.", ("worker",)),
}
Callback = Callable[[Event], object]


class Bus:
    """The subscribers of this process."""

    def __init__(self) -> None:
        self._listeners: dict[Kind, list[Callback]] = {kind: [] for kind in Kind}
        self.version = 0  # another one whenever somebody begins or ceases to listen
        self.heard = False  # whether anybody listens to anything

    def listeners(self, kind: Kind) -> list[Callback]:
        """The list of those who listen: always the same one, empty or not, so that a hot path can keep it."""
        return self._listeners[kind]

    def subscribe(self, callback: Callback, kinds: Iterable[Kind | str] | None = None) -> Callable[[], None]:
        """Have `callback` called with each event of this process, in the thread in which it happens: be quick.

        What it raises is logged and changes nothing.

        Args:
            callback: takes an `Event`.
            kinds: which, or a single one; None for all.

        Returns:
            A function that ends it; it may be called twice.

        Raises:
            ValueError: there is no such kind.
            ConfigurationError: `callback` cannot be called.
        """
        if not callable(callback):
            raise ConfigurationError(f"subscribe takes a function, which is called with each event, not {callback!r}")
        if iscoroutinefunction(callback) or isgeneratorfunction(callback) or isasyncgenfunction(callback):
            raise ConfigurationError(f"subscribe takes a plain function, for which nobody has to wait, not {callback!r}")
        chosen = list(Kind) if kinds is None else [_kind(kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
        for kind in chosen:
            self._listeners[kind].append(callback)
        self._changed()

        def unsubscribe() -> None:
            for kind in chosen:
                if callback in self._listeners[kind]:
                    self._listeners[kind].remove(callback)
            chosen.clear()
            self._changed()

        return unsubscribe

    def _changed(self) -> None:
        self.version += 1
        self.heard = any(self._listeners.values())

    def emit(self, event: Event) -> None:
        """Tell those who listen."""
        for callback in tuple(self._listeners[event.kind]):
            notify(callback, event)


def _kind(word: str) -> Kind:
    try:
        return Kind(word)
    except ValueError:
        close = get_close_matches(str(word), list(Kind), 1)
        meant = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(Kind)}"
        raise ValueError(f"{word!r} is no kind of event; {meant}") from None


def notify(callback: Callback, event: Event) -> None:
    """Call a callback; an error in it is logged and changes nothing."""
    try:
        returned = callback(event)
        if returned is not None:
            _see_that_it_ran(returned)
    except (TimedOut, KeyboardInterrupt):  # it is the task's time that is over, or the program's
        raise
    except BaseException as error:
        whose, trace = escaped(event.task or event.queue), indented(traceback_of(error))
        logger.error("A callback for %r of %s failed; nothing else changes\n%s", str(event.kind), whose, trace)


def _see_that_it_ran(returned: object) -> None:
    if isawaitable(returned) or isgenerator(returned) or isasyncgen(returned):
        if type(returned) is CoroutineType:
            returned.close()
        raise ConfigurationError(f"it returned {name_of(type(returned))}, so nothing of it has run: make it a plain function")


def table() -> str:
    """The table of events for docs/events.md, in Markdown."""
    rows = [
        f"| `{kind}` | {where} | {text} | {', '.join(f'`{name}`' for name in names)} |"
        for kind, (where, text, names) in ABOUT.items()
    ]
    return "\n".join(["| event | from | | fields |", "| --- | --- | --- | --- |", *rows])


BUS = Bus()
subscribe = BUS.subscribe
