"""Tasks that a worker gives back, as one before them is slow, keep their places before what came after them."""

import threading
from typing import Any

import pytest

from delayed.queue.queue import Queue
from delayed.redis.store import Store
from delayed.task.task import PyTask
from delayed.worker.prefetch import Prefetch
from tests.conftest import burst

RAN: list[int] = []
HAND = 4  # tasks that the worker takes at once
begun, given_back = threading.Event(), threading.Event()


def run(number: int) -> None:
    RAN.append(number)
    if number == 0:
        assert begun.wait(60)  # until the heartbeat gives back what is behind it


def test_the_loop_takes_nothing_while_what_came_before_is_given_back(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = threading.Event()
    take, give_back = Store.take, Store.give_back

    def taking(store: Store, *args: Any, **words: Any) -> Any:
        if begun.is_set() and not given_back.is_set():
            taken.set()
        return take(store, *args, **words)

    def giving_back(store: Store, *args: Any) -> int:
        begun.set()
        taken.wait(0.2)  # the slow task ends now, and the loop would take what comes after
        count = give_back(store, *args)
        given_back.set()
        return count

    def of_one_size(prefetch: Prefetch) -> None:
        prefetch.size, prefetch.known = HAND, True

    monkeypatch.setattr(Prefetch, "__init__", of_one_size)
    monkeypatch.setattr(Prefetch, "learn", lambda *_: HAND)
    monkeypatch.setattr(Store, "take", taking)
    monkeypatch.setattr(Store, "give_back", giving_back)
    queue.enqueue_many(PyTask(run, (number,)) for number in range(3 * HAND))
    burst(queue)
    assert given_back.is_set()
    assert list(range(3 * HAND)) == RAN
