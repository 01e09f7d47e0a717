"""What the workers run."""

import time

from .notes import BEGUN, ENDED, note


def execute(number: int, microseconds: int) -> None:
    """Note that task `number` begins, take a while, note that it ends."""
    note(BEGUN, number)
    if microseconds:
        time.sleep(microseconds / 1e6)
    note(ENDED, number)
