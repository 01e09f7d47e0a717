"""What the workers run."""

import time

from delayed.clock import now
from delayed.job import current_task

from .notes import BEGUN, ENDED, LATE, note
from .wishes import GRACE_LATE

_TICK = 20_000  # microseconds that the task of a schedule takes: some shall be killed
MINUTE = 60  # seconds


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
    if now() * 1000 > job.headers["expires"] + GRACE_LATE:
        note(LATE, number)
    execute(number, microseconds)


def tick(second: int) -> None:
    """The task of the schedule for one second of each minute. Its number is its occurrence: the last time that it was this
    second, in seconds since 1970. (The numbers of other tasks are far below.)"""
    present = int(now())
    execute(present - (present - second) % MINUTE, _TICK)
