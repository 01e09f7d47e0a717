"""Arguments and results of types that MessagePack has no form of its own for, through a worker."""

import threading
from collections.abc import Callable
from decimal import Decimal

import msgpack
import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.errors import ResultError, TaskFailed
from delayed.queue.queue import Queue
from delayed.task.decode import show
from delayed.task.task import PyTask
from delayed.worker.worker import Worker
from tests.app.typed import Item, Plan
from tests.conftest import burst

ITEMS = [Item("a", Decimal("1.50"), {"x"}), Item("b", Decimal("0.25"))]


def test_arguments_are_converted_and_results_come_back(queue: Queue, threaded: Callable[[Worker], threading.Thread]) -> None:
    threaded(Worker(queue, allow=["tests.app.typed:*"]))
    handle = queue.enqueue(PyTask("tests.app.typed:total", (ITEMS, Plan.PAID), {"size": (1, 2)}, result_ttl=60))
    assert handle.result(20) == [Decimal("1.75"), {"x"}]
    assert queue.enqueue(PyTask("tests.app.typed:plan_of", (Plan.PAID,), result_ttl=60)).result(20) == "PAID"
    with pytest.raises(TaskFailed, match="plan: str is not the value of a Plan") as caught:
        queue.enqueue(PyTask("tests.app.typed:plan_of", ("gold",), retry=3, result_ttl=60)).result(20)
    assert caught.value.kind == "bad_arguments"


def test_what_does_not_fit_is_a_dead_letter(queue: Queue) -> None:
    queue.enqueue(PyTask("tests.app.typed:total", (ITEMS, "gold"), retry=2))
    queue.enqueue(PyTask("tests.app.typed:total", (ITEMS,)))
    burst(queue)
    details = [(letter.reason, letter.detail) for letter in dead_letters(queue)]
    assert ("bad_arguments", "tests.app.typed:total: plan: str is not the value of a Plan") in details
    assert ("bad_arguments", "tests.app.typed:total: missing a required argument: 'plan'") in details


def test_an_unknown_extension_type_is_a_dead_letter_that_says_so(queue: Queue, client: redis.Redis) -> None:
    for value in (msgpack.ExtType(99, b""), msgpack.ExtType(1, b"twelve")):
        queue.enqueue(PyTask("tasks:noop", (value,)))
    handle = queue.enqueue(PyTask("tasks:noop", (msgpack.ExtType(99, b""),), track=True))
    burst(queue)
    letters = list(dead_letters(queue))
    assert {letter.reason for letter in letters} == {"undecodable"}
    details = sorted(letter.detail for letter in letters)
    assert details[0].startswith("it has a value of extension type 99, and this process has no encoder of that code")
    assert details[2].startswith("not a value of extension type 1 (Decimal): ")
    with pytest.raises(TaskFailed, match="extension type 99"):
        handle.result(5)
    assert client.llen(queue.name) == 0
    assert sum("ExtType(code=99" in show(letter.data) for letter in letters) == 2


def test_a_result_of_an_unknown_type_says_so(queue: Queue, client: redis.Redis) -> None:
    handle = queue.enqueue(PyTask("tasks:noop", result_ttl=60))
    burst(queue)
    assert handle.id is not None
    client.hset(queue.keys.task(handle.id), "result", msgpack.packb(["succeeded", msgpack.ExtType(99, b"")]))
    with pytest.raises(ResultError, match="cannot be read here: it has a value of extension type 99"):
        handle.result(5)
