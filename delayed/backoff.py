"""How long a failed task waits before its next attempt.

All of them are jittered in full: the pause is drawn evenly from 0 to the computed one, so that tasks which failed together
do not come back together (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). With `jitter=False` it
is the computed one.
"""

import contextlib
import random
from dataclasses import dataclass
from typing import Any

from .base.checks import is_number
from .errors import InvalidTask

_LONGEST = 10 * 365 * 86400.0  # seconds: of what has no end nothing can be drawn
_MOST_DOUBLINGS = 60  # beyond that, every cap has long been reached


@dataclass(frozen=True)
class Backoff:
    """What the kinds have in common.

    Args:
        base: seconds before the first repetition.
        cap: seconds that no pause exceeds.
        jitter: whether to draw from 0 to the pause.

    Raises:
        InvalidTask: a number that cannot be a pause.
    """

    base: float
    cap: float = 3600.0
    jitter: bool = True

    kind = ""

    def __post_init__(self) -> None:
        numbers = is_number(self.base) and is_number(self.cap)
        if not numbers or not 0 < self.base <= self.cap:
            raise InvalidTask(f"a back-off begins above 0 s and not above its cap, so {self!r} cannot work")
        if not isinstance(self.jitter, bool):
            raise InvalidTask(f"jitter is True or False, not {self.jitter!r}")

    def _pause(self, attempt: int) -> float:
        raise NotImplementedError

    def pause(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt`, counted from 1, has failed."""
        longest = min(self._pause(attempt), self.cap, _LONGEST)
        return random.uniform(0, longest) if self.jitter else longest

    def header(self) -> list[Any]:
        """As it stands in a task: the same bytes whether a number of seconds was given as 1 or as 1.0."""
        return [self.kind, float(self.base), float(self.cap), self.jitter]


@dataclass(frozen=True)
class Constant(Backoff):
    """`base` seconds each time."""

    kind = "constant"

    def _pause(self, attempt: int) -> float:  # noqa: ARG002  # the others need it
        return self.base


@dataclass(frozen=True)
class Linear(Backoff):
    """`base`, twice `base`, three times `base` … seconds."""

    kind = "linear"

    def _pause(self, attempt: int) -> float:
        return self.base * attempt


@dataclass(frozen=True)
class Exponential(Backoff):
    """`base`, twice, four times, eight times `base` … seconds."""

    kind = "exponential"

    def _pause(self, attempt: int) -> float:
        return self.base * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS)


KINDS: dict[str, type[Backoff]] = {kind.kind: kind for kind in (Constant, Linear, Exponential)}


def backoff_from(header: Any) -> Backoff | None:
    """The back-off that a task carries, or None if this is none that we know."""
    match header:
        case [str(kind), base, cap, bool(jitter)] if kind in KINDS and is_number(base) and is_number(cap):
            with contextlib.suppress(InvalidTask):
                return KINDS[kind](float(base), float(cap), jitter)
    return None
