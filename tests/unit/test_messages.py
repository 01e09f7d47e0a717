"""Wrong values are said at once, in a sentence that says what to do."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import redis

from delayed.dead_letters.search import Search
from delayed.errors import ConfigurationError
from delayed.events import BUS, Kind
from delayed.job.allow import AllowAny, AllowList
from delayed.queue.queue import Queue
from delayed.redis.durability import Durability
from delayed.worker.options import WorkerOptions

QUEUE: Any = Queue("q", redis.Redis())  # which is never connected
DURABLE: Any = Durability


@pytest.mark.parametrize(
    ("wrong", "kind", "says"),
    [
        (lambda: AllowList(["a:*,b:*"]), ConfigurationError, "give each pattern by itself"),
        (lambda: AllowList(["a:*", "b:* c:*"]), ConfigurationError, "give each pattern by itself"),
        (lambda: Search(reason="x"), ConfigurationError, "'x' is no reason; there are undecodable, wrong_language, "),
        (lambda: BUS.subscribe(print, ["suceeded"]), ValueError, "'suceeded' is no kind of event; did you mean 'succeeded'?"),
        (lambda: BUS.subscribe(print, "x"), ValueError, "'x' is no kind of event; there are enqueued, "),
        (lambda: QUEUE.limit(rate="10"), ConfigurationError, "rate must be a number of tasks a second above 0, not '10'"),
        (lambda: QUEUE.limit(concurrency="4"), ConfigurationError, "concurrency must be a number of tasks above 0, not '4'"),
        (lambda: QUEUE.limit(concurrency=1.5), ConfigurationError, "concurrency must be a number of tasks above 0, not 1.5"),
        (lambda: QUEUE.limit(rate=1, burst="2"), ConfigurationError, "burst must be a number of tasks above 0"),
        (lambda: DURABLE("aof", "3"), ConfigurationError, "durability_timeout must be a number of seconds"),
        (
            lambda: WorkerOptions(queues=[QUEUE], allow=AllowAny(), grace=-1),
            ConfigurationError,
            "grace must be a number of seconds, 0 or more, not -1",
        ),
        (
            lambda: WorkerOptions(queues=[QUEUE], allow=AllowAny(), keep_alive_interval=0),
            ConfigurationError,
            "keep_alive_interval must be a number of seconds above 0, not 0",
        ),
    ],
)
def test_a_wrong_value_is_said_at_once(wrong: Callable[[], object], kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=f"^.*{re.escape(says)}"):
        wrong()


def test_one_kind_of_event_needs_no_list() -> None:
    seen: list[object] = []
    unsubscribe = BUS.subscribe(seen.append, "failed")
    assert seen.append in BUS.listeners(Kind.FAILED)
    unsubscribe()
    assert not BUS.listeners(Kind.FAILED)
