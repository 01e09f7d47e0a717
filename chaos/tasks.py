"""What the workers run."""

import asyncio
import os
import random
import time
from collections.abc import Awaitable
from pathlib import Path

from delayed.base.clock import now
from delayed.job.job import current_task
from tests.support.clock import VARIABLE, ahead

from .notes import BEGUN, ENDED, LATE, note
from .odd import Later, worst
from .wishes import GRACE_LATE

TICK = 20_000  # microseconds that the task of a schedule takes: some shall be killed
_TALK = 2000  # characters
EVERY, PERIOD = (
    5,
    300,
)  # seconds: a schedule for every fifth second of five minutes, so that an occurrence is known by its schedule
HALF = "DELAYED_STORM_HALF"  # environment variable: this worker has not heard of some functions yet


def _server_time() -> float:
    """Seconds since 1970, by the clock of Redis, which the storm sets."""
    path = os.environ.get(VARIABLE)
    return now() + (ahead(Path(path).read_bytes()) if path else 0)


def execute(number: int, microseconds: int) -> None:
    """Note that task `number` begins, take a while, note that it ends."""
    note(BEGUN, number)
    if microseconds:
        time.sleep(microseconds / 1e6)
    note(ENDED, number)


def execute_again(number: int, microseconds: int) -> None:
    """As `execute`, but the first attempt fails before it begins."""
    if current_task().attempt == 1:
        raise RuntimeError("not yet")
    execute(number, microseconds)


def execute_in_time(number: int, microseconds: int) -> None:
    """As `execute`, and note it if the task should have expired instead."""
    job = current_task()
    if _server_time() * 1000 > job.headers["expires"] + GRACE_LATE:
        note(LATE, number)
    execute(number, microseconds)


def execute_odd(number: int, microseconds: int) -> None:
    """As `execute`, but every second attempt raises what no exception should be."""
    if random.random() < 0.5:
        raise worst()
    execute(number, microseconds)


def execute_later(number: int, microseconds: int) -> Awaitable[None]:
    """As `execute`, but it returns what is to be awaited."""

    async def later() -> None:
        note(BEGUN, number)
        await asyncio.sleep(microseconds / 1e6)
        note(ENDED, number)

    return Later(later()) if number % 2 else later()


def execute_loudly(number: int, microseconds: int) -> None:
    """As `execute`, and say much meanwhile."""
    note(BEGUN, number)
    print(f"{number} " * (_TALK // len(f"{number} ")), flush=True)
    time.sleep(microseconds / 1e6)
    note(ENDED, number)


def tick(second: int) -> None:
    """The task of the schedule for one second of each five minutes. Its number is its occurrence: the time at which it was
    this second, in seconds since 1970, that is nearest now. (The numbers of other tasks are far below.)"""
    execute(occurrence_of(second), TICK)


def occurrence_of(second: int) -> int:
    """See `tick`."""
    present = int(_server_time())
    occurrence = present - (present - second) % PERIOD
    return occurrence + (PERIOD if present - occurrence > PERIOD // 2 else 0)


if os.environ.get(HALF):
    del execute_again, execute_in_time, execute_loudly, tick
