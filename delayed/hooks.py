"""Callbacks of one task, or of one worker: `@task(on_success=…)`, `Worker(hooks=Hooks(…))`."""

from functools import cache
from importlib import import_module
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, NamedTuple, Self

from .errors import InvalidTask
from .events import Callback, Kind
from .task.decode import SEPARATOR, is_python_path

_ATTRIBUTE = "delayed_hooks"
NAMES = ("on_start", "on_success", "on_failure", "on_retry")  # in the order of the fields


class _Fields(NamedTuple):
    on_start: Callback | str | None = None
    on_success: Callback | str | None = None
    on_failure: Callback | str | None = None
    on_retry: Callback | str | None = None


class Hooks(_Fields):
    """Callbacks that get the `Event`, in the worker's process: functions, or their paths `module.path:function`.

    Args:
        on_start: the function is about to be called.
        on_success: it has returned.
        on_failure: the task has become a dead letter in this worker, whatever the reason: its last attempt failed, it had
            expired, its arguments do not fit, its result cannot be stored. A cancelled task has not failed. Of a task that was
            lost too often a sweeper makes a dead letter: it has no functions of yours, so it emits the event `buried` instead.
        on_retry: an attempt failed, and there will be another one.

    A task may run more than once, and so may its callbacks. They are called before Redis knows of the success.

    Raises:
        InvalidTask: one is neither a function nor the path of one.
    """

    __slots__ = ()

    def __new__(
        cls,
        on_start: Callback | str | None = None,
        on_success: Callback | str | None = None,
        on_failure: Callback | str | None = None,
        on_retry: Callback | str | None = None,
    ) -> Self:
        """See that they can be called."""
        found = super().__new__(cls, on_start, on_success, on_failure, on_retry)
        for name, hook in zip(NAMES, found, strict=True):
            if hook is not None and not callable(hook) and not (isinstance(hook, str) and is_python_path(hook)):
                raise InvalidTask(f"{name} must be a function or the path of one, 'module.path:function', not {hook!r}")
            if iscoroutinefunction(hook) or isgeneratorfunction(hook) or isasyncgenfunction(hook):
                raise InvalidTask(f"{name} is called, and nobody waits for it: make {hook!r} a plain function")
        return found

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Self:
        """The hooks among the options of a decorator, which are removed there."""
        return cls(**{name: options.pop(name) for name in NAMES if name in options})

    @classmethod
    def of(cls, function: Any) -> "Hooks":
        """Those of a function."""
        try:
            found = getattr(function, _ATTRIBUTE, None)
        except BaseException:  # it may be an object of anybody's making
            return NONE
        return found if type(found) is Hooks else NONE

    def put_on(self, function: Any) -> None:
        """Keep them on the function, where workers find them."""
        if any(self):
            setattr(function, _ATTRIBUTE, self)

    def hook(self, kind: Kind) -> Callback | None:
        """What to call for an event of this kind; a path is followed at the first call."""
        name = _HOOKS.get(kind)
        hook = getattr(self, name) if name else None
        return _at(hook) if isinstance(hook, str) else hook


NONE = Hooks()
_HOOKS = {
    Kind.STARTED: "on_start",
    Kind.SUCCEEDED: "on_success",
    Kind.BURIED: "on_failure",
    Kind.RETRYING: "on_retry",
}


@cache
def _at(path: str) -> Callback:
    module, _, name = path.partition(SEPARATOR)
    try:
        found: Callback = getattr(import_module(module), name)
    except Exception as error:
        raise InvalidTask(f"no function at {path!r}: {error}") from error
    return found
