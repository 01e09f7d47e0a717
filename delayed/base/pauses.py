"""The pause before a process tries again."""

import random


def pause_before_another(failures: int, first: float, longest: float) -> float:
    """Seconds until a process of ours tries again what has failed so often in a row: `first`, twice that, … up to `longest`,
    of which it waits for half at least."""
    return min(first * 2.0 ** min(failures - 1, 10), longest) * random.uniform(0.5, 1)
