"""What holds if nothing else is said: the same in Python and in Go, which reads the same file."""

import inspect
import json
from typing import Any

import pytest
import redis

from delayed.queue import Queue
from delayed.redis.connect import DEADLINE
from delayed.sweeper import Sweeper
from delayed.task.options import ENDED_FOR, TRACKED_FOR
from delayed.worker import Worker
from delayed.worker.dispatcher import _LOOK
from delayed.worker.options import KEEP_ALIVE_TIMEOUT
from tests import ROOT

DEFAULTS = json.loads((ROOT / "tests" / "vectors" / "defaults.json").read_text())


def default(function: Any, name: str) -> Any:
    return inspect.signature(function).parameters[name].default


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("reply_deadline", DEADLINE),
        ("beat", default(Worker, "keep_alive_interval")),
        ("ttl", KEEP_ALIVE_TIMEOUT),
        ("dequeue_timeout", default(Queue, "dequeue_timeout")),
        ("unready_for", default(Worker, "unready_for")),
        ("grace", default(Worker, "grace")),
        ("sweep_interval", default(Sweeper, "interval")),
        ("cancel_look", _LOOK),
        ("dead_age", 86400 * default(Sweeper, "dead_days")),
        ("tracked", TRACKED_FOR),
        ("ended", ENDED_FOR),
    ],
)
def test_times(name: str, seconds: float) -> None:
    assert seconds * 1000 == DEFAULTS[name]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("lost_limit", default(Sweeper, "limit")),
        ("dead_max", default(Sweeper, "dead_max")),
        ("max_task_size", default(Queue, "max_task_size")),
    ],
)
def test_numbers(name: str, number: int) -> None:
    assert number == DEFAULTS[name]


class Recorded:
    """A connection to nowhere."""

    sent = b""

    def exchange(self, packed: bytes, count: int) -> None:
        self.sent = packed


@pytest.mark.parametrize(("interval", "ttl"), DEFAULTS["sweeper_ttl"])
def test_how_long_a_sweeper_is_held_to_live(interval: int, ttl: int) -> None:
    queue, channel = Queue("q", redis.Redis()), Recorded()
    Sweeper(queue, interval / 1000)._register(queue.store, channel)  # type: ignore[arg-type]
    words = channel.sent.split(b"\r\n")
    assert int(words[words.index(b"PX") + 2]) == ttl
