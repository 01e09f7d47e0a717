"""Wraps the functions of plain tasks that have subscribers."""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any


class Observed:
    """Wraps a task's function to emit events for its calls. Functions without subscribers are not wrapped, and cost nothing.

    Args:
        function: the function.
        before: called before it with its arguments.
        after: called with its arguments and its value, when it has returned; it returns what comes of that.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        before: Callable[["Observed", tuple[Any, ...], Mapping[str, Any]], None],
        after: Callable[["Observed", tuple[Any, ...], Mapping[str, Any], Any], Any],
    ) -> None:
        self.__wrapped__ = function
        self._before, self._after = before, after

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it, and say so."""
        self._before(self, args, kwargs)
        return self._after(self, args, kwargs, self.__wrapped__(*args, **kwargs))


_CODE = Observed.__call__.__code__


def inside(trace: TracebackType | None) -> TracebackType | None:
    """What comes after the frames of ours in a traceback: the task's own code."""
    while trace is not None and trace.tb_frame.f_code is _CODE:
        trace = trace.tb_next
    return trace
