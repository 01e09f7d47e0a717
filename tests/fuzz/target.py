"""The function that fuzzed tasks may call."""

import random

_random = random.Random(1)


def count(*args: object, fail: object = None, **kwargs: object) -> None:
    """Nothing; fails now and then if told to."""
    if fail is not None and _random.random() < 0.5:
        raise ValueError(fail)
