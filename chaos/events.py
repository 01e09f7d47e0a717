"""What was done to whom, and when."""

from dataclasses import asdict, dataclass
from typing import Any

KILL, STOP, CUT = "kill", "stop", "cut"
MUTE = "block"  # nobody reads what the process says
SLOW, FLAP, STEP, FULL = "slow", "flap", "clock", "full"  # what happens to all sweepers' links, and to Redis
FORWARD, BACK = "forward", "back"  # how a clock is set
WEATHER = (SLOW, FLAP, STEP, FULL)  # it explains no repeat

SUPERVISOR, WORKER, GO_WORKER, SWEEPER, PRODUCER = "supervisor", "worker", "go worker", "sweeper", "producer"  # who is hit
SERVER, CONSUMER = "server", "consumer"  # likewise: of tasks over HTTP and the text protocol


@dataclass(frozen=True)
class Event:
    """One blow. Moments are nanoseconds of CLOCK_MONOTONIC."""

    what: str
    kind: (
        str  # of process: child, supervisor, worker, go worker, sweeper, producer, server, consumer; of a step: forward, back
    )
    pids: tuple[int, ...]  # those that were hit; the children of each of them are hit as well
    begin: int  # just before it
    end: int  # just after it; of what lasts: when all was well again
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)
