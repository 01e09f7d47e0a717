"""Who waits for a node by its id, whether it has begun or not; and what nodes find that others have added."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import redis

from delayed import AsyncHandle, AsyncQueue, Handle, PyTask, chain, group, on, results
from delayed.errors import InvalidTask, NoResult, NotDone, TaskCancelled, TaskFailed, UnknownTask
from delayed.queue.queue import Queue
from delayed.workflow import Flow, Run
from delayed.workflow.adding import Membership
from tests.conftest import burst, eventually

from .functions import same
from .hands import Hands, carry, home


def task(*arguments: Any, **options: Any) -> PyTask:
    return PyTask(same, arguments, **options)


def waits_for(queue: Queue) -> int:
    return len(queue.waiter()._waits._waiting)


def of(run: Run, which: int) -> Handle[Any]:
    return Handle(run.queue, run.node(which).id)


def waited(queue: Queue, handle: Handle[Any], act: Callable[[], object]) -> Future[Any]:
    """What a thread gets that waits for a result, where something happens meanwhile."""
    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(handle.result, 60)
        eventually(lambda: waits_for(queue) == 1)
        act()
    return found


def test_a_node_that_has_not_begun_is_waited_for(queue: Queue) -> None:
    run = chain(task(1), task(2), PyTask("tasks:noop")).submit(queue)
    with pytest.raises(NotDone):
        of(run, 1).result(0)
    with pytest.raises(NotDone):
        of(run, 1).result(0.01)
    assert waited(queue, of(run, 1), lambda: burst(queue)).result() == 2
    assert of(run, 1).result(0) == 2
    assert of(run, 2).result(0) is None


def test_a_node_is_known_by_its_workflow_when_its_own_state_is_gone(queue: Queue, client: redis.Redis) -> None:
    run = chain(task(1), PyTask("tasks:fail", ("no",))).submit(queue)
    burst(queue)
    for which in range(2):
        client.delete(queue.keys.task(run.node(which).id))
    assert of(run, 0).result(0) == 1
    assert list(results([of(run, 0)], 0)) == [1]
    with pytest.raises(TaskFailed, match="no"):
        of(run, 1).result(0)


def test_the_result_is_there_when_it_has_been_carried_into_the_workflow(queue: Queue) -> None:
    run = chain(task(1), task(2)).submit(queue)
    held = Hands(queue).take()
    assert held is not None
    assert held.begin()
    assert held.succeed(5)
    with pytest.raises(NotDone):
        of(run, 0).result(0)
    assert waited(queue, of(run, 0), lambda: carry(run)).result() == 5


@pytest.mark.parametrize("cancelled", [True, False])
def test_who_waits_for_a_node_that_never_runs_hears_of_it(queue: Queue, cancelled: bool) -> None:
    run = chain(PyTask("tasks:fail", ("no",)), task(2)).submit(queue)
    found = waited(queue, of(run, 1), run.cancel if cancelled else lambda: burst(queue))
    with pytest.raises(TaskCancelled, match=r"cancelled|skipped"):
        found.result()
    with pytest.raises(TaskCancelled, match=r"cancelled|skipped"):
        of(run, 1).result(0)


def test_a_node_in_another_queue_and_one_that_waits_for_a_signal(queue: Queue) -> None:
    other = home(queue, f"{queue.name}b")
    flow = Flow(queue)
    flow.add(on(other.name, task(2)), after=flow.wait("go"))
    run = flow.submit()
    found = waited(queue, of(run, 0), lambda: run.signal("go", {"by": "ada"}))
    assert found.result() == {"by": "ada"}
    assert waited(queue, of(run, 1), lambda: burst(other)).result() == 2


def test_the_node_that_stands_for_those_of_a_map_is_none_once_these_are_there(queue: Queue) -> None:
    flow = Flow(queue)
    rows = flow.map(task(), over=flow.add(task([7, 8])))
    run = flow.submit()
    stood = Handle[Any](queue, run.node(rows).id)
    assert stood.status().state == "queued"
    with pytest.raises(UnknownTask):
        waited(queue, stood, lambda: burst(queue)).result()
    with pytest.raises(UnknownTask):
        stood.status()
    assert [Handle[Any](queue, node.id).result(0) for node in run.nodes()] == [[7, 8], 7, 8]


def test_a_task_of_no_workflow_is_as_unknown_as_ever(queue: Queue) -> None:
    for identity in ("unknownunknown--", "x", f"{'y' * 10}AAAAAA"):
        with pytest.raises(UnknownTask):
            Handle[Any](queue, identity).result(0.5)
    handle = queue.enqueue(PyTask("tasks:noop", track=True))
    burst(queue)
    with pytest.raises(NoResult):
        handle.result(1)


def test_many_wait_for_the_nodes_of_one_workflow(queue: Queue) -> None:
    run = chain(task(0), group(task(number) for number in range(300))).submit(queue)
    handles = [Handle[Any](queue, node.id) for node in run.nodes()]
    with ThreadPoolExecutor(len(handles)) as threads:
        found = [threads.submit(handle.result, 60) for handle in handles]
        eventually(lambda: waits_for(queue) == len(handles))
        burst(queue)
    assert [each.result() for each in found] == [0, *range(300)]


def test_coroutines_wait_for_nodes_look_at_them_and_cancel_them(queue: Queue, redis_url: str) -> None:
    flow = Flow(queue)
    first = flow.add(task(1))
    flow.add(task(2), after=first)
    flow.add(task(3), after=flow.wait("never", after=first))
    run = flow.submit()
    ids = [node.id for node in run.nodes()]

    async def main() -> None:
        async with AsyncQueue(queue.name, redis_url) as own:
            handles = [AsyncHandle[Any](own, identity) for identity in ids]
            assert [(await each.astatus()).state for each in handles] == ["queued"] * 4
            with pytest.raises(NotDone):
                await handles[1].aresult(0)
            waits = asyncio.gather(*(each.aresult(60) for each in handles[:3]), return_exceptions=True)
            await asyncio.to_thread(burst, queue)
            assert await handles[2].acancel() == "queued"
            one, two, never = await waits
            assert (one, two, type(never)) == (1, 2, TaskCancelled)
            assert (await handles[3].astatus()).error
            with pytest.raises(TaskCancelled):
                await handles[3].aresult(0)
            with pytest.raises(UnknownTask):
                await AsyncHandle[Any](own, f"{run.flow}zzzzzz").acancel()
            with pytest.raises(UnknownTask):
                await AsyncHandle[Any](own, f"{run.flow}zzzzzz").astatus()

    asyncio.run(main())


def test_members_of_a_group_that_wait_are_not_cancelled_one_by_one_by_coroutines_either(queue: Queue, redis_url: str) -> None:
    run = chain(task(1), group(task(2), task(3))).submit(queue)
    identity = run.node(1).id

    async def main() -> None:
        async with AsyncQueue(queue.name, redis_url) as own:
            with pytest.raises(InvalidTask, match="one of 2"):
                await AsyncHandle[Any](own, identity).acancel()
            assert await AsyncHandle[Any](own, run.node(0).id).acancel() == "queued"

    asyncio.run(main())
    assert run.wait(10) == "failed"


# What nodes find of those that were added


def grown(queue: Queue, before: Any, part: Any, *, again: bool = False) -> tuple[Any, list[Any]]:
    """What comes after `before` finds as `previous` and as `inputs`, when its first node has added `part`; with `again`, what
    was added adds 99 as well."""
    flow = Flow(queue)
    flow.add(PyTask(find), after=flow.add(before))
    run = flow.submit()
    hands = Hands(queue)
    members = hands.take_all()
    assert all(held.begin() for held in members)
    Membership(queue, queue.name, members[0].member, members[0].lease).add(part)
    for held in members:
        assert held.succeed(held.label)
    carry(run)
    if again:
        for held in hands.take_all():
            assert held.begin()
            Membership(queue, queue.name, held.member, held.lease).add(task(99))
            assert held.succeed(held.label)
        carry(run)
    burst(queue)
    previous, inputs = run.value(f"{find.__module__}:find")
    return previous, inputs


def find() -> tuple[Any, list[Any]]:
    from delayed import current_task

    previous = current_task().previous
    return previous if isinstance(previous, int) else list(previous), [each.value for each in current_task().inputs]


def test_after_one_node_its_own_result_is_the_previous_one_and_all_are_inputs(queue: Queue) -> None:
    assert list(grown(queue, task(1), group(task(2), task(3)))) == [1, [1, 2, 3]]


def test_after_a_group_the_added_results_come_after_its_own(queue: Queue) -> None:
    everything = [1, 2, 3, 9]
    assert list(grown(queue, group(task(1), task(2), task(3)), chain(task(8), task(9)))) == [everything, everything]


def test_what_the_added_ones_have_added_comes_last(queue: Queue) -> None:
    everything = [1, 2, 3, 99, 99]
    assert list(grown(queue, group(task(1)), group(task(2), task(3)), again=True)) == [everything, everything]


def test_a_map_over_a_group_has_nodes_for_what_was_added(queue: Queue) -> None:
    flow = Flow(queue)
    flow.map(task(), over=flow.add(group(task(1), task(2))))
    run = flow.submit()
    held, other = Hands(queue).take_all()
    assert held.begin()
    assert other.begin()
    Membership(queue, queue.name, held.member, held.lease).add(task(3))
    assert held.succeed(1)
    assert other.succeed(2)
    carry(run)
    burst(queue)
    assert [node.state for node in run.nodes()] == ["succeeded"] * 6
    assert sorted(run.value(node.number) for node in run.nodes()) == [1, 1, 2, 2, 3, 3]
