"""Assertions on what was enqueued."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, overload

from ..app import App, Calls
from ..app.task import PRIORITIES
from ..delay import Delayable
from ..errors import ConfigurationError
from ..queue.async_queue import AsyncQueue
from ..queue.queue import Queue
from ..task.decode import is_python_path
from ..task.options import OPTIONS, Options
from ..task.task import GoTask, PyTask
from .enqueued import Enqueued, enqueued, has, wire
from .targets import Target, queues_of

__tracebackhide__ = True  # pytest shows the line of the test that asserts
_SHOWN = 20
_BESIDE = frozenset({"times", "queue", "priority"})  # what else can be asked about a call of an application's task


class _Wanted(NamedTuple):
    """What should wait."""

    words: str  # as the message says it
    path: str
    fits: Callable[[Enqueued], bool]  # whether the arguments do
    options: dict[str, Any]

    def count(self, there: Sequence[Enqueued]) -> int:
        """How many of these tasks it is."""
        rest = dict(self.options)
        retry = rest.pop("retry", None)
        chosen = Options.of(rest)
        return sum(
            each.task == self.path and retry in (None, each.retry) and self.fits(each) and has(each, chosen) for each in there
        )


@overload
def assert_enqueued(task: Callable[..., Any], /, *args: Any, **named: Any) -> None: ...
@overload
def assert_enqueued(
    queue: Target,
    func: Callable[..., Any] | str,
    /,
    args: Any = None,
    kwargs: Any = None,
    *,
    times: int | None = None,
    **options: Any,
) -> None: ...
def assert_enqueued(what: Any, /, *args: Any, **named: Any) -> None:
    """Assert that a call waits: `assert_enqueued(welcome, 7, total="9.50", queue="mail", times=1)`, or, of any function, also
    one of Go, `assert_enqueued(queue, "main.Resize", ["a.png", 200], {}, times=1)`.

    Of a task that has a `delay`, arguments are compared as the function takes them: positional or named, given or default.
    Without any, all calls of it count. `unittest.mock.ANY` stands for any value. Names that the function does not take are:

    - `times`: how many such calls there are; else at least one.
    - `queue` and `priority`, of a task of an `App`: where they are; else all its queues count.
    - `retry` and other options that it was given; those that are not named may have any value. Of `after` and `expires`, a
      minute that has passed since then is allowed.

    With the queue (or the `App`) as the first argument, the function or its path follows, and then `args` and `kwargs`, which
    are compared as they were given; None for any.

    Raises:
        AssertionError: it does not; the message shows what is there.
        InvalidTask: there is no such option.
        TypeError: the function does not take these arguments.
    """
    if isinstance(what, Queue | AsyncQueue | App):
        _assert_in(what, *args, **named)
    else:
        _assert_call(what, args, named)


def _assert_in(
    target: Target, func: Any, args: Any = None, kwargs: Any = None, *, times: int | None = None, **options: Any
) -> None:
    path = (GoTask if isinstance(func, str) and not is_python_path(func) else PyTask)(func).func_path

    def fits(task: Enqueued) -> bool:
        return (args is None or wire(args) == wire(task.args)) and (kwargs is None or kwargs == task.kwargs)

    given = {"args": args, "kwargs": kwargs, **options}
    words = ", ".join([path, *(f"{name}={value!r}" for name, value in given.items() if value is not None)])
    _check(_Wanted(words, path, fits, options), target, enqueued(target), times)


def _assert_call(func: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    calls = getattr(getattr(func, "delay", None), "__self__", None)
    if not isinstance(calls, Calls | Delayable):
        raise ConfigurationError(
            f"assert_enqueued takes a task, which has a .delay(), or a queue and a function, and not {func!r:.200} first"
        )
    signature = inspect.signature(func)
    kwargs, options = _parted(signature, named, _BESIDE if isinstance(calls, Calls) else frozenset({"times"}))
    times, queue, priority = (options.pop(name, None) for name in ("times", "queue", "priority"))
    target: Any = calls._app if isinstance(calls, Calls) else calls._queue
    there = enqueued(target)
    if isinstance(calls, Calls) and (queue is not None or priority is not None):
        bands: Any = PRIORITIES if priority is None else [priority]
        names = {calls._app.queue_of(queue or calls._queue, band) for band in bands}
        there = [each for each in there if each.queue in names]
    wanted = _bound(signature, args, kwargs) if args or kwargs else None
    where = {name: value for name, value in (("queue", queue), ("priority", priority)) if value is not None}
    path = calls.path if isinstance(calls, Calls) else calls._path
    shown = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    said = [f"{path}({', '.join(shown) if wanted is not None else '…'})"]
    said += [f"{name}={value!r}" for name, value in (where | options).items()]
    fits = partial(_fits, signature, wanted)
    _check(_Wanted(", ".join(said), path, fits, options), target, there, times)


def _parted(
    signature: inspect.Signature, named: dict[str, Any], beside: frozenset[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the function, and options."""
    taken = {
        name for name, each in signature.parameters.items() if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }
    are_options = {name for name in named if name in OPTIONS | beside and name not in taken}
    return (
        {name: value for name, value in named.items() if name not in are_options},
        {name: value for name, value in named.items() if name in are_options},
    )


def _bound(signature: inspect.Signature, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments as the function gets them; raises TypeError if it does not take them."""
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return {name: wire(value) for name, value in bound.arguments.items()}


def _fits(signature: inspect.Signature, wanted: dict[str, Any] | None, task: Enqueued) -> bool:
    try:
        return wanted is None or wanted == _bound(signature, task.args, task.kwargs)
    except TypeError:
        return False


def _check(wanted: _Wanted, target: Target, there: list[Enqueued], times: int | None) -> None:
    """Raise an AssertionError if not so many are there."""
    count = wanted.count(there)
    if count == times or (times is None and count):
        return
    many = len(queues_of(target)) > 1
    all_there = enqueued(target)  # what waits in another queue than it should says most
    lines = [f"  {each.queue}: {each}" if many else f"  {each}" for each in all_there[:_SHOWN]] or ["  nothing"]
    if len(all_there) > _SHOWN:
        lines.append(f"  and {len(all_there) - _SHOWN} more")
    often = "it does not wait" if count == 0 else f"it waits {count} times, not {times}"
    where = f"{target!r}" if isinstance(target, App) else f"{target.name!r}"
    raise AssertionError("\n".join([f"{wanted.words}: {often} in {where}. There is:", *lines]))
