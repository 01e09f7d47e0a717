"""The options of tasks as keyword arguments, for type checkers: what `Unpack[…]` in a signature allows.

What they mean and what may stand in them is told and checked in `delayed.options.Options`; a type checker reads no dataclass
as keywords, so the names stand here again, and tests/unit/test_options.py compares. `retry` is a parameter of its own
everywhere, as PyTask takes it by position, too.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import TypedDict

from .backoff import Backoff
from .events import Callback
from .keys import UniqueMode

ErrorType = type[BaseException] | str


class HookOptions(TypedDict, total=False):
    """What a function may have called; see `delayed.hooks.Hooks`."""

    on_start: Callback | str | None
    on_success: Callback | str | None
    on_failure: Callback | str | None
    on_retry: Callback | str | None


class CommonOptions(TypedDict, total=False):
    """What any task may ask for, also one that comes again and again."""

    backoff: Backoff | None
    retry_on: ErrorType | Iterable[ErrorType]
    give_up_on: ErrorType | Iterable[ErrorType]
    timeout: float | None
    hard_timeout: float | None
    expires: datetime | float | None
    group: str | None
    concurrency_key: str | None
    concurrency: int | None


class TaskOptions(CommonOptions, total=False):
    """What one task may ask for."""

    result_ttl: float | None
    track: bool
    at: datetime | float | None
    after: float | None
    unique: str | None
    unique_mode: UniqueMode
    unique_for: float | None
    join: bool


class FunctionOptions(TaskOptions, HookOptions, total=False):
    """What stands where a function is defined."""


class ScheduleOptions(CommonOptions, HookOptions, total=False):
    """What stands where a schedule is defined: not what makes each task another one."""
