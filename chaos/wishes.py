"""What the tasks of a stormy producer ask for. The judge knows it too."""

import random
from collections.abc import Callable
from typing import Any

from delayed.backoff import Constant

AT_ONCE = 2  # tasks with one concurrency key that may run at once
GRACE_LATE = 1000  # ms after its expiry in which a task may begin: a busy machine may stand between the look and the begin
_KEYS, _GROUPS, _UNIQUE = 2, 7, 50


def duration(rng: random.Random) -> int:
    """Microseconds: mostly none, some milliseconds, rarely a second."""
    kind = rng.random()
    return rng.randint(1000, 50_000) if kind < 0.02 else 1_000_000 if kind < 0.0203 else 0


def identity_of(number: int) -> str:
    """The id of task `number`, if it has one by which its producer knows it."""
    return f"{number:016d}"


def key_of(number: int) -> str:
    """The concurrency key of task `number`, if it has one."""
    return f"key {number % _KEYS}"


def keys() -> list[int]:
    """A number for each concurrency key."""
    return list(range(_KEYS))


def limited(number: int) -> dict[str, Any]:
    """The options of a task that may not run beside too many others."""
    return {"concurrency_key": key_of(number), "concurrency": AT_ONCE}


_ODD = {
    "execute_odd": 0.004,
    "execute_later": 0.003,
    "execute_loudly": 0.003,
    "execute": 0.002,
}  # the last: its headers are odd


def oddity(rng: random.Random) -> str | None:
    """The function of an odd task; mostly there is none."""
    wanted = rng.random()
    for name, share in _ODD.items():
        if wanted < share:
            return name
        wanted -= share
    return None


_WISHES: dict[Callable[[int, random.Random], dict[str, Any]], float] = {  # and how many of 1000 tasks have them
    lambda _, rng: {"after": rng.uniform(0.05, 1.0)}: 10,
    lambda _, __: {"result_ttl": 5}: 10,
    lambda _, __: {"retry": 100, "backoff": Constant(0.2), "result_ttl": 5}: 10,
    lambda number, _: {
        "unique": f"key {number % _UNIQUE}",
        "unique_mode": "while_running",
        "unique_for": 60,
        "result_ttl": 5,
    }: 10,
    lambda number, _: {"group": f"group {number % _GROUPS}"}: 10,
    lambda number, _: limited(number): 5,
    lambda _, rng: {"expires": rng.uniform(0.01, 1.0)}: 5,
}


def wish(number: int, rng: random.Random) -> dict[str, Any]:
    """The options of a task: mostly none."""
    wanted = rng.random() * 1000
    for options, share in _WISHES.items():
        if wanted < share:
            return options(number, rng)
        wanted -= share
    return {}
