"""What has ended is forgotten before its time, if somebody says so: workflows, and single tasks."""

import pytest
import redis
import redis.asyncio

from delayed.dead_letters.letter import dead_letters
from delayed.dead_letters.retry import retry
from delayed.errors import Duplicate, InvalidTask, NoResult, TaskCancelled, UnknownTask
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.result import State
from delayed.task.task import PyTask
from delayed.workflow import Flow, Run, chain, group
from tests.conftest import burst

from .hands import Hands, say


def noop(number: int = 0) -> PyTask:
    return PyTask("tasks:noop", (number,))


def left_of(run: Run, client: redis.Redis) -> list[bytes]:
    """The keys of a workflow, but for the states of its nodes."""
    return [key for key in client.scan_iter(match=f"*{run.flow}*") if b"_task_" not in key or key.endswith(b"AAAAAA")]


def test_a_workflow_that_has_ended_is_forgotten_and_its_key_is_free(queue: Queue, client: redis.Redis) -> None:
    run = chain(noop(), PyTask("tasks:two", (1,))).submit(queue, unique="report")
    burst(queue)
    with pytest.raises(Duplicate):
        chain(noop()).submit(queue, unique="report")
    run.forget()
    assert left_of(run, client) == []
    assert client.zcard(queue.keys.flow_ids) == 0
    for ask in (run.status, run.forget, run.cancel, run.retry, lambda: run.result(0), lambda: run.value(0)):
        with pytest.raises(UnknownTask):
            ask()
    assert chain(noop()).submit(queue, unique="report").id != run.id
    burst(queue)


def test_one_that_goes_on_is_not(queue: Queue) -> None:
    run = group(noop(number) for number in range(3)).submit(queue)
    with pytest.raises(InvalidTask, match="has not ended: it is running; cancel it first"):
        run.forget()
    run.cancel()
    burst(queue)
    run.forget()
    with pytest.raises(UnknownTask):
        run.status()


def test_a_key_that_another_one_has_by_now_stays_its_own(queue: Queue, client: redis.Redis) -> None:
    first = chain(noop()).submit(queue, unique="report")
    burst(queue)
    client.zrem(queue.keys.flow_ids, first.flow)  # so that the key counts for free
    second = chain(noop()).submit(queue, unique="report", join=True)
    client.zadd(queue.keys.flow_ids, {first.flow: 9e15})
    first.forget()
    assert chain(noop()).submit(queue, unique="report", join=True).id == second.id
    burst(queue)


def test_one_that_a_dead_letter_has_opened_again_is_not(queue: Queue) -> None:
    run = chain(PyTask("tasks:fail", ("no",)), noop()).submit(queue)
    burst(queue)
    node = run.node(0)
    (letter,) = dead_letters(queue)
    say(run, f"o0 {node.number}")  # as the script does that puts it back
    with pytest.raises(InvalidTask, match="has not ended: it is running"):
        run.forget()
    assert retry(queue, letter)
    run.cancel()
    burst(queue)
    run.forget()


def test_its_callbacks_run_all_the_same(queue: Queue) -> None:
    run = chain(noop(1)).submit(queue, then_complete=[noop(number) for number in (2, 3)])
    held = (hands := Hands(queue)).take()
    assert held is not None
    assert held.begin()
    assert held.succeed()  # nobody has carried this on yet
    run.forget()
    assert sorted(hands.finish()) == [2, 3]


def test_what_large_ones_have_besides_goes_too(queue: Queue, client: redis.Redis) -> None:
    flow = Flow(queue, keep=3600)
    flow.add(noop(), after=flow.add(group(noop(number) for number in range(1001)), after=flow.wait("never")))
    run = flow.submit()
    assert len(left_of(run, client)) > 3
    run.cancel()
    run.forget()
    assert left_of(run, client) == []


def test_a_task_that_has_ended_is_forgotten(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60))
    failed = queue.enqueue(PyTask("tasks:fail", ("no",), track=True))
    for each in (handle, failed):
        with pytest.raises(InvalidTask, match="has not ended: it is queued; cancel it first"):
            each.forget()
    burst(queue)
    assert handle.status().state == State.SUCCEEDED
    for each in (handle, failed):
        each.forget()
        for ask in (each.status, each.forget, lambda each=each: each.result(0)):
            with pytest.raises(UnknownTask):
                ask()
    assert len(list(dead_letters(queue))) == 1  # which stays
    with pytest.raises(NoResult):
        queue.enqueue(PyTask("tasks:two", (1,))).forget()
    burst(queue)


def test_one_that_was_cancelled_and_is_forgotten_does_not_run(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:fail", ("no",), track=True))
    handle.cancel()
    handle.forget()
    assert handle.status().state == State.CANCELLED
    with pytest.raises(TaskCancelled):
        handle.result(0)
    assert queue.len() == 1
    burst(queue)
    assert list(dead_letters(queue)) == []


def test_what_a_node_has_returned_stays_with_its_workflow(queue: Queue) -> None:
    run = chain(PyTask("tasks:two", (1,)), noop()).submit(queue)
    burst(queue)
    handle: Handle[int] = Handle(queue, run.node(0).id)
    handle.forget()
    assert handle.result(0) == 3
    run.forget()
    with pytest.raises(UnknownTask):
        handle.result(0)


async def test_coroutines_forget_likewise(queue: Queue, server: EmbeddedRedis) -> None:
    async with redis.asyncio.Redis.from_url(server.url) as conn:
        handle = await AsyncQueue(queue.name, conn).enqueue(PyTask("tasks:two", (1,), result_ttl=60))
        with pytest.raises(InvalidTask, match="has not ended"):
            await handle.aforget()
        burst(queue)
        await handle.aforget()
        with pytest.raises(UnknownTask):
            await handle.astatus()
        with pytest.raises(UnknownTask):
            await Handle(queue, handle.id).aforget()
