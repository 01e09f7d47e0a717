"""What was done to whom, and when."""

from dataclasses import asdict, dataclass
from typing import Any

KILL, STOP, CUT = "kill", "stop", "cut"


@dataclass(frozen=True)
class Event:
    """One blow. Moments are nanoseconds of CLOCK_MONOTONIC."""

    what: str  # KILL, STOP or CUT
    kind: str  # of process: child, supervisor, worker, go worker, sweeper, producer
    pids: tuple[int, ...]  # those that were hit; the children of each of them are hit as well
    begin: int  # just before it
    end: int  # just after it; of STOP and CUT: when all was well again
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)
