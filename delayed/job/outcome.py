"""The outcomes of an execution: returned, failed, to be retried, or ended otherwise."""

from dataclasses import dataclass
from typing import Any

from ..errors import Reason
from ..task.result import State
from .job import Waits


@dataclass(slots=True)  # a frozen one takes four times as long to make
class Done:
    """The function returned."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """The function raised, or could not be run."""

    error: BaseException
    reason: Reason
    detail: str
    ready: bool = True  # False: it did not begin, and may be able to in another worker, or later


@dataclass(frozen=True, slots=True)
class Again:
    """The task must run again."""

    pause: float  # seconds
    error: str  # why
    counted: bool  # it uses up one of the retries
    cause: BaseException | None = None  # what was raised


@dataclass(frozen=True, slots=True)
class Ended:
    """The task ended in another way."""

    state: State
    result: bytes
    reason: Reason | None  # of its dead letter
    detail: str
    error: str = ""  # what `Status.error` says of one that failed


Outcome = Done | Failed | Again | Ended | Waits
