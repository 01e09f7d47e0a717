"""Workflows over HTTP: made by an `App` or a queue, for threads and for event loops. (What they do: tests/redis/workflow.)"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from delayed.app.app import App
from delayed.errors import Duplicate, InvalidTask, NotDone, TaskCancelled, TaskFailed, UnknownTask
from delayed.events import BUS, Event, Kind
from delayed.queue.queue import Queue
from delayed.queue.results import results
from delayed.redis.command import pairs
from delayed.redis.embedded import EmbeddedRedis
from delayed.remote import Remote
from delayed.remote.queue import RemoteQueue
from delayed.task.task import GoTask, PyTask
from delayed.workflow import Flow, Run, chain, group, linked, on, quorum, runs
from tests.conftest import burst
from tests.support.api import serve
from tests.support.processes import Fleet

FUNCTIONS = "tests.redis.workflow.functions"


@pytest.fixture(scope="module")
def remote(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with Fleet(server.url, tmp_path_factory.mktemp("server")) as processes:
        yield Remote(f"http://127.0.0.1:{serve(processes)[1].port}")


@pytest.fixture
def there(remote: Remote, name: str) -> RemoteQueue:
    return remote.queue(name)


def same(*arguments: Any, **options: Any) -> PyTask:
    return PyTask(f"{FUNCTIONS}:same", arguments, **options)


def built(home: Queue) -> Flow:
    """One of everything."""
    other = f"{home.name}b"
    flow = Flow(
        home, "all", on_failure="continue", unique="u", keep=3600, then_success=[same("a")],
        then_complete=[same("b"), same("c")], then_failure=[on(other, same(1))],
    )  # fmt: skip
    first = flow.add(same({"a": b"\xff"}, result_ttl=60, retry=2, group="g"), name="first")
    some = flow.add(group(same(1), on(other, same(2)), on(other, GoTask("main.F", (3,)))), after=first, name="some")
    one = flow.add(group(same(1)), after=[first, some], when="stop")
    rows = flow.map(same("more"), over=some, when="stop")
    wait = flow.wait("go", after=[one, first.when("failure")], timeout=7)
    flow.add(chain(same(4), group(same(5), chain(same(6), same(7))), same(8)), after=wait, name="chain")
    flow.add(linked(same(9), on_success=[same(10)], on_error=[same(11)]), after=[rows, some], when=quorum(2))
    flow.add(group([]), name="none")
    flow.add(same(1), after=flow.wait(timeout=0.001), on_error=[same(2)])
    return flow


def stored(queue: Queue, run: Run) -> dict[bytes, bytes]:
    """What Redis has of a workflow, but for what no two have in common."""
    call, keys = queue.store.call, queue.keys
    found: dict[bytes, bytes] = pairs(call("HGETALL", keys.flow(run.flow)))
    for name, (before, mark, after) in {name: value.partition(b"\xa8enqueued") for name, value in found.items()}.items():
        found[name] = (before + mark + after[9:]).replace(run.flow.encode(), b"FLOW")  # without the time, and its id
    for name in (b"created", b"once"):
        found.pop(name, None)
    for key in (keys.flow_ids, keys.flow_due):
        call("ZREMRANGEBYRANK", key, 0, -1)
    call("DEL", keys.flow(run.flow), keys.marks(run.flow), keys.joins(run.flow), keys.task(run.id), keys.flow_outbox)
    call("DEL", keys.unique_by(found[b"unique"].decode()), keys.queue, keys.noti, *call("KEYS", f"{queue.name}_g*"))
    return found


def test_what_it_makes_is_byte_for_byte_what_a_queue_makes(there: RemoteQueue, queue: Queue) -> None:
    direct = stored(queue, built(queue).submit())
    over_http = stored(queue, built(there).submit())
    assert over_http == direct


def test_an_application_makes_workflows_over_http(remote: Remote, queue: Queue, name: str) -> None:
    app = App(remote, queue=f"{name}-home")
    same_ = app.declare(f"{FUNCTIONS}:same", queue=name)
    with app.workflow("import", queue=name) as flow:
        page = flow.add(same_.s(7))
        flow.add(same_.s(8), after=page)
    run = flow.submit()
    assert app.run(run.id).status() == run.status()
    burst(queue)
    assert (run.result(60), run.value(page), run.node(page).state) == (8, 7, "succeeded")
    assert [each.id for each in runs(app.queue(name))] == [run.id]
    assert [each.id for each in runs(app.queue(name), ended=False)] == []
    with pytest.raises(UnknownTask):
        app.run("AAAAAAAAAAAAAAAA")
    assert group(same_.s(1), same_.s(2)).submit().status().state == "running"


def test_those_who_listen_hear_of_it(there: RemoteQueue) -> None:
    heard: list[Event] = []
    unsubscribe = BUS.subscribe(heard.append, [Kind.FLOW_STARTED])
    try:
        run = group(same(1), same(2)).submit(there, unique="u")
        assert group(same(1)).submit(there, unique="u", join=True).id == run.id
    finally:
        unsubscribe()
    assert [(each.flow, each.tasks) for each in heard] == [(run.id, 2)]
    run.cancel()


def test_nodes_by_their_ids(there: RemoteQueue, queue: Queue) -> None:
    """A handle of a node says what its workflow knows, also before it has begun, and when its own state is gone."""
    flow = Flow(there)
    first = flow.add(same(1))
    flow.add(group(same(2), same(3)), after=first)
    flow.add(same(4), after=flow.wait("never", after=first))
    run = flow.submit()
    handles = [there.handle(node.id) for node in run.nodes()]
    assert [each.status().state for each in handles] == ["queued"] * 5
    with pytest.raises(NotDone):
        handles[1].result(0)
    with pytest.raises(InvalidTask, match="one of 2"):
        handles[1].cancel()
    assert handles[4].cancel() == "queued"
    burst(queue)
    for handle in handles[:3]:
        queue.store.call("DEL", queue.keys.task(handle.id or ""))
    assert [each.result(60) for each in handles[:3]] == list(results(handles[:3], 60)) == [1, 2, 3]
    with pytest.raises(TaskCancelled):
        handles[4].result(5)
    with pytest.raises(UnknownTask):
        there.handle(f"{run.flow}zzzzzz").result(0)
    run.cancel()
    run.cancel()  # nothing happens
    assert run.wait(60) == "cancelled"


def test_a_request_that_is_sent_again_makes_nothing_twice(there: RemoteQueue) -> None:
    for options in ({}, {"unique": "u"}):
        flow = Flow(there, **options)  # type: ignore[arg-type]
        flow.add(same(1))
        sent = there.workflows.asked(flow)
        assert sent.read(there.ask(sent.ask)) == sent.read(there.ask(sent.ask))
    again = Flow(there, unique="u")
    again.add(same(1))
    with pytest.raises(Duplicate):
        again.submit()
    assert there.len() == 2


async def test_asyncio(remote: Remote, queue: Queue, name: str) -> None:
    async with remote.async_queue(name) as there:
        run = await there.submit(chain(same(1), PyTask("tasks:fail", ("no",)), same(3)), keep=3600)
        assert (await run.status()).total == 3
        with pytest.raises(NotDone):
            await run.wait(0.01)
        await asyncio.to_thread(burst, queue)
        assert await run.wait(60) == "failed"
        assert [node.state async for node in run.nodes()] == ["succeeded", "failed", "skipped"]
        assert await run.value(0) == 1
        with pytest.raises(TaskFailed, match="no"):
            await run.value((await run.node(1)).id)
        assert await run.retry() == 2
        with pytest.raises(InvalidTask, match="has not ended"):
            await there.run(run.id).retry()
        await run.cancel()
        assert (await run.status()).state in ("cancelling", "cancelled")
        flow = App(remote, queue=name).workflow("waits")
        flow.add(same(5), after=flow.wait("go"))
        waits = await there.submit(flow)
        assert await waits.signal("go", {"by": "ada"})
        assert not await waits.signal("go")
        await asyncio.to_thread(burst, queue)
        assert await waits.result(60) == 5
        with pytest.raises(InvalidTask, match="submit it there"):
            await remote.async_queue(f"{name}-other").submit(flow)
        with pytest.raises(UnknownTask):
            await there.run("AAAAAAAAAAAAAAAA").status()
