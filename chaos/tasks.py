"""What the workers run."""

import time

from delayed.job import current_task

from .notes import BEGUN, ENDED, note


def execute(number: int, microseconds: int) -> None:
    """Note that task `number` begins, take a while, note that it ends."""
    note(BEGUN, number)
    if microseconds:
        time.sleep(microseconds / 1e6)
    note(ENDED, number)


def execute_again(number: int, microseconds: int) -> None:
    """As `execute`, but the first attempt fails before it begins."""
    job = current_task()
    if job is not None and job.attempt == 1:
        raise RuntimeError("not yet")
    execute(number, microseconds)
