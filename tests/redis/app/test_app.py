"""The application object, with its tasks on a real Redis."""

import asyncio
import json
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest
import redis

import delayed
from delayed import App, Handle, PyTask, Queue, new_id
from delayed.cron import definition
from delayed.errors import ConfigurationError, InvalidTask, NoResult, ResultError, TaskCancelled, UnknownTask
from delayed.events import subscribe
from delayed.task.decode import headers_of
from delayed.worker.application import worker_of
from tests.app import shop
from tests.conftest import eventually
from tests.support.command import run


@pytest.fixture
def app(redis_url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """The shop on the test's Redis, with queues of its own."""
    own: dict[str, Any] = {
        "_redis": redis_url,
        "_client": None,
        "_queues": {},
        "_async_queues": {},
        "_prefix": f"{name}-",
    }
    for attribute, value in own.items():
        monkeypatch.setattr(shop.app, attribute, value)
    for task in shop.app.tasks.values():
        calls = task.delay.__self__  # type: ignore[attr-defined]
        monkeypatch.setattr(calls, "queue", shop.app.queue_of(calls._queue, calls._priority))
    shop.seen.clear()
    yield shop.app
    for queue in shop.app.queues():
        queue.store.call("UNLINK", *queue.keys.all().values())


def burst(app: App) -> None:
    worker_of(app, burst=True, unready_for=0).run()


def test_each_task_has_an_id_and_the_worker_knows_it(app: App) -> None:
    handle = shop.plain.delay(7, twice=True)
    assert handle.id is not None
    assert not handle.tracked
    with pytest.raises(NoResult, match="result_ttl"):
        handle.result(0)
    burst(app)
    assert shop.seen[1] == ("plain", 7, handle.id)
    assert [each[0] for each in shop.seen] == ["start", "plain", "stop"]


def test_an_id_costs_30_bytes_at_most(app: App) -> None:
    shop.plain.delay(7)
    (data,) = app.queue().store.call("LRANGE", app.queue().keys.queue, 0, -1)
    assert len(data) - len(PyTask(shop.plain, (7,)).serialize()) <= 30


def test_a_call_that_the_function_does_not_take_is_refused_at_once(app: App) -> None:
    with pytest.raises(TypeError, match=r"welcome\(user: int.*missing a required argument: 'user'"):
        shop.welcome.delay()  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="wrong"):
        shop.plain.call(1, wrong=2)  # type: ignore[call-arg]
    assert app.queue().len() == 0


def test_options_of_a_call(app: App) -> None:
    handle = shop.welcome.options(priority="high", result_ttl=timedelta(minutes=1)).delay(1, "9")
    later = shop.welcome.options(after=timedelta(hours=1)).delay(2)
    elsewhere = shop.plain.options(queue="bulk").delay(3)
    assert [app.queue("mail", "high").len(), app.queue("mail").len(), app.queue("bulk").len()] == [1, 0, 1]
    burst(app)
    assert handle.result(5) == "1: 9"
    assert handle.tracked
    assert not later.tracked
    assert later.id
    assert ("plain", 3, elsewhere.id) in shop.seen


def test_retries_back_off_with_jitter_by_default(app: App) -> None:
    shop.welcome.delay(1)
    (data,) = app.queue("mail").store.call("LRANGE", app.queue("mail").keys.queue, 0, -1)
    assert headers_of(data)["backoff"] == ["exponential", 1.0, 600.0, True]


def test_many_calls_keep_their_options_and_have_handles(app: App) -> None:
    calls = [shop.plain.call(1), shop.plain.options(result_ttl=60).call(2), shop.plain.call(3), shop.welcome.call(4)]
    handles = app.enqueue_many(iter(calls))
    assert [handle.tracked for handle in handles] == [False, True, False, False]
    assert len({handle.id for handle in handles}) == 4
    burst(app)
    assert handles[1].result(5) == 2
    plain = [tuple(each[1:]) for each in shop.seen if each[0] == "plain"]
    assert plain == [(number + 1, handles[number].id) for number in range(3)]
    with pytest.raises(InvalidTask, match="calls of tasks"):
        app.enqueue_many([PyTask("m:f")])  # type: ignore[list-item]


def test_what_is_not_registered_does_not_run(app: App) -> None:
    app.queue().enqueue(PyTask("shop:unregistered"))
    burst(app)
    assert "unregistered" not in shop.seen
    (letter,) = app.queue().store.call("XRANGE", app.queue().keys.dead, "-", "+")
    assert b"not_allowed" in letter[1]


def test_metadata_is_inherited(app: App) -> None:
    shop.parent.options(metadata={"request": "r1", "kind": "parent"}).delay(5)
    burst(app)
    assert shop.seen[-2] == ("child", 5, {"request": "r1", "kind": "child"})


def test_retry_keeps_the_id(app: App) -> None:
    handle = shop.again.delay()
    burst(app)
    assert [each for each in shop.seen if each[0] == "again"] == [("again", number, handle.id) for number in (1, 2, 3)]


def test_a_plain_function_hears_that_it_is_cancelled(app: App) -> None:
    handle = shop.patient.delay()
    worker = worker_of(app)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        eventually(lambda: handle.status().state is delayed.State.RUNNING)
        handle.cancel()
        with pytest.raises(TaskCancelled):
            handle.result(20)
    finally:
        worker.stop()
        thread.join(60)


async def test_asyncio(app: App) -> None:
    handle = await shop.welcome.options(result_ttl=60).adelay(1, "2")
    many = await app.aenqueue_many([shop.plain.call(1), shop.plain.call(2)])
    assert [each.id for each in many] == [each.id for each in many if each.id]
    await asyncio.to_thread(burst, app)
    assert await handle.aresult(5) == "1: 2"
    await app.aclose()


def test_upstream_tasks_are_theirs_byte_for_byte(redis_url: str, name: str, client: redis.Redis) -> None:
    module = types.ModuleType("mixed")
    sys.modules["mixed"] = module
    app = App(redis_url, queue=name, wire="upstream")

    def add(a: int, b: int) -> int:
        return a + b

    add.__module__, add.__qualname__ = "mixed", "add"
    module.add = task = app.task(add)  # type: ignore[attr-defined]
    assert task.delay(1, b=2).id is None
    assert client.lrange(name, 0, -1) == [msgpack.packb(["mixed:add", [1], {"b": 2}])]
    for options in ({"result_ttl": 60}, {"group": "g"}, {"timeout": 1}):
        with pytest.raises(ConfigurationError, match="no option but retry"):
            app.task(**options)(add)
    client.unlink(name, f"{name}_noti")


@pytest.mark.parametrize(
    ("parameters", "what"),
    [
        ({"wire": "theirs"}, "wire"),
        ({"priorities": "mail"}, "lists of names"),
        ({"middlewares": [3]}, "middleware"),
        ({"include": "shop"}, "lists of names"),
        ({"queues": "shop"}, "lists of names"),
    ],
)
def test_what_cannot_work_is_refused(parameters: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        App(**parameters)


def test_priorities_have_to_be_known(redis_url: str) -> None:
    app = App(redis_url)
    with pytest.raises(ConfigurationError, match="priorities"):
        app.task(priority="high")(lambda: None)


def test_an_application_without_tasks_has_no_worker(redis_url: str) -> None:
    with pytest.raises(ConfigurationError, match="no tasks"):
        worker_of(App(redis_url))


def test_nothing_connects_before_something_is_enqueued() -> None:
    app = App("redis://127.0.0.1:1/0")
    app.task(queue="a")(new_id)
    assert app.queue_names() == ["a"]
    assert isinstance(Queue("q", app.redis), Queue)


def test_a_producer_does_not_import_what_workers_need() -> None:
    code = "from delayed import App; import sys; print([m for m in sys.modules if m.startswith('delayed.worker')])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_schedule_is_registered_and_its_function_is_a_task(
    redis_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definition, "_RECORDED", dict[Any, Any]())
    app = App(redis_url, queue=name)
    module = types.ModuleType("nightly")
    monkeypatch.setitem(sys.modules, "nightly", module)

    def sweep_up(floor: int) -> None: ...

    sweep_up.__module__, sweep_up.__qualname__ = "nightly", "sweep_up"
    task = app.cron("0 3 * * *", tz="Europe/Zurich", args=[2], timeout=60)(sweep_up)
    vars(module)["sweep_up"] = task
    (recorded,) = definition.recorded()
    assert (recorded.queue, recorded.name) == (name, "nightly:sweep_up")
    assert task.delay(3).id
    assert app.allow.patterns == ("nightly:sweep_up",)
    app.queue().store.call("UNLINK", name, f"{name}_noti")


def test_what_waits_is_cancelled_by_its_id_in_whichever_queue(app: App) -> None:
    waiting = shop.plain.delay(1)
    elsewhere = shop.plain.options(queue="bulk").delay(2)
    grouped = shop.plain.options(group="g").delay(3)
    later = shop.welcome.options(after=timedelta(hours=1)).delay(4)
    tracked = shop.welcome.options(track=True).delay(5)
    urgent = shop.welcome.options(priority="high").delay(6)
    ids = [str(handle.id) for handle in (elsewhere, grouped, later, tracked, urgent)]
    states = [app.cancel(each) for each in ids]
    assert waiting.cancel() == "queued"
    assert states == ["queued", "queued", "scheduled", "queued", "queued"]
    assert [queue.store.lengths() for queue in app.queues() if queue.name != app.queue("mail").name] == [(0, 0)] * 4
    for each in (str(waiting.id), ids[0], "0" * 16, "*"):
        with pytest.raises(UnknownTask, match="track=True"):
            app.cancel(each)
    with pytest.raises(UnknownTask, match="runs or has ended"):
        waiting.cancel()
    burst(app)
    assert [each[0] for each in shop.seen] == ["start", "stop"]


async def test_tasks_are_cancelled_from_asyncio(app: App) -> None:
    handle = await shop.plain.adelay(1)
    assert await app.acancel(str(handle.id)) is delayed.State.QUEUED
    await app.aclose()


def shown(*words: str, status: int = 0) -> str:
    return run("task", "show", *words, status=status).output


def test_a_task_is_shown_from_whichever_queue_it_is_in(app: App, redis_url: str) -> None:
    names = ["--app", "tests.app.shop:app"]
    waits = shop.plain.options(queue="bulk", metadata={"request": "r1"}).delay(7)
    later = shop.welcome.options(after=3600).delay(8)
    tracked = shop.welcome.options(track=True).delay(9)
    fails = shop.plain.delay(None)  # type: ignore[arg-type]
    text = shown(str(waits.id), *names)
    for part in (f"queue:  {app.queue('bulk').name}", "waits:  in the queue", "args:   7", "r1"):
        assert part in text
    assert "waits:  in the schedule, due 20" in shown(str(later.id), *names)
    assert "state:    queued" in shown(str(tracked.id), app.queue("bulk").name, app.queue("mail").name, "--redis", redis_url)
    burst(app)
    assert "nothing is known" in shown(str(waits.id), *names, status=1)
    assert "state:    succeeded" in shown(str(tracked.id), *names)
    letter = shown(str(fails.id), *names)
    for part in ("args:   None", "(failed, 20", "TypeError"):
        assert part in letter
    assert json.loads(shown(str(fails.id), *names, "--json"))["dead_letter"]["reason"] == "failed"
    assert "give an application, not both" in shown("0" * 16, "q", *names, status=2)
    assert "no id of a task" in shown("x", *names, status=2)


def test_a_queue_that_no_worker_would_serve_is_refused(app: App) -> None:
    with pytest.raises(ConfigurationError, match=r"no queue 'bluk'.*'bulk'"):
        shop.plain.options(queue="bluk").delay(1)
    with pytest.raises(ConfigurationError, match="no queue 'bluk'"):
        app.enqueue_many([shop.plain.options(queue="bluk").call(1)])


def test_arguments_arrive_as_the_types_that_the_function_says(app: App) -> None:
    order, address = UUID("12345678-1234-5678-1234-567812345678"), shop.Address("Main Street", 7)
    handle = shop.price.delay(order, Decimal("9.90"), shop.Kind.GIFT, address, (1, 2))
    burst(app)
    assert handle.result(5) == Decimal("19.80")
    assert shop.seen[1] == ("price", order, Decimal("9.90"), shop.Kind.GIFT, address, (1, 2))


def test_functions_of_other_programs_are_declared(redis_url: str, name: str) -> None:
    app = App(redis_url, queue=name)
    app.task(new_id)
    deliver = app.declare("main.Deliver", queue=f"{name}go", retry=5)
    report = app.declare("elsewhere.jobs:report", queue=f"{name}py", timeout=timedelta(minutes=1))
    handles = [deliver.delay("https://a", 7), report.delay(day="Monday"), *app.enqueue_many([deliver.call("https://b")])]
    assert all(handle.id for handle in handles)
    with pytest.raises(TypeError, match="by name"):
        deliver.delay(url="https://a")
    first, second = app.queue(f"{name}go").store.call("LRANGE", f"{name}go", 0, -1)
    assert msgpack.unpackb(msgpack.unpackb(first)[1]) == ["https://a", 7]
    assert headers_of(second)["uid"] == handles[2].id
    assert headers_of(second)["backoff"] == ["exponential", 1.0, 600.0, True]
    assert [queue.name for queue in app.queues()] == [name]
    assert [queue.name for queue in app.all_queues()] == [name, f"{name}go", f"{name}py"]
    assert [app.cancel(str(handle.id)) for handle in handles] == ["queued"] * 3
    with pytest.raises(ConfigurationError, match="another name"):
        app.declare("main.F", queue=name)
    with pytest.raises(ConfigurationError, match="another name"):
        app.task(queue=f"{name}go")(new_id)
    with pytest.raises(InvalidTask, match="Go function"):
        app.declare("nonsense", queue=f"{name}go")


def test_results_come_back_as_the_types_that_the_function_says(app: App) -> None:
    handles = [shop.ordered.delay(3), *app.enqueue_many([shop.ordered.call(4)]), shop.ordered.delay(-1)]
    burst(app)
    assert [handle.result(5) for handle in handles[:2]] == [shop.Address("Street", 3), shop.Address("Street", 4)]
    assert shop.ordered.handle(str(handles[0].id)).result(5) == shop.Address("Street", 3)
    raw = Handle(app.queue("mail"), handles[2].id)
    with pytest.raises(ResultError, match=r"ordered, which is annotated to return .*Address.*Handle\(queue, id\)"):
        handles[2].result(5)
    assert raw.result(5) == "nowhere"


async def test_results_in_asyncio_and_a_cancel_by_the_handle(app: App) -> None:
    handle = await shop.ordered.adelay(3)
    waits = await shop.plain.adelay(1)
    (many,) = await app.aenqueue_many([shop.plain.call(2)])
    assert await waits.acancel() is delayed.State.QUEUED
    assert await many.acancel() is delayed.State.QUEUED
    await asyncio.to_thread(burst, app)
    assert await handle.aresult(5) == shop.Address("Street", 3)
    await app.aclose()


def test_an_event_tells_the_id_of_a_task_without_a_state(app: App) -> None:
    told: list[str | None] = []
    end = subscribe(lambda event: told.append(event.id), ["enqueued"])
    handles = [shop.plain.delay(1), *app.enqueue_many([shop.plain.call(2)])]
    end()
    assert told == [handle.id for handle in handles]
