import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any
from unittest.mock import ANY

import pytest
import redis

from delayed import App, testing
from delayed.backoff import Constant
from delayed.base.clock import now
from delayed.dead_letters.letter import dead_letters
from delayed.delay import delayed
from delayed.errors import (
    ConfigurationError,
    Duplicate,
    InvalidTask,
    NotDone,
    TaskExpired,
    TaskFailed,
    TimedOut,
    UnknownTask,
    Unrunnable,
)
from delayed.events import subscribe
from delayed.job.job import current_task
from delayed.ops.info import inspect
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.redis.keys import Keys
from delayed.sweeper.sweep import sweep
from delayed.task.result import State
from delayed.task.task import GoTask, PyTask
from delayed.testing.assertions import assert_enqueued
from delayed.testing.drain import drain
from delayed.testing.enqueued import enqueued
from delayed.testing.fake import fake_async_queue, fake_queue
from delayed.testing.faked import faked
from delayed.testing.inline import inline
from delayed.testing.travel import travel
from tests.app import shop

seen: list[object] = []


def record(value: object) -> None:
    seen.append(value)


def chain(queue_name: str) -> None:
    assert queue_name
    _queues[queue_name].enqueue(PyTask(record, ("chained",)))


_queues: dict[str, Queue] = {}


@pytest.fixture
def fake() -> Queue:
    seen.clear()
    _queues["inner"] = fake_queue()
    return fake_queue()


def test_a_fake_queue_keeps_tasks_to_itself(fake: Queue) -> None:
    fake.enqueue(PyTask(record, (1,)))
    assert fake.len() == 1
    assert fake_queue().len() == 0


def test_drain_runs_what_waits_and_what_that_enqueues(fake: Queue) -> None:
    _queues[fake.name] = fake
    fake.enqueue_many(PyTask(record, (number,)) for number in range(3))
    fake.enqueue(PyTask(chain, (fake.name,)))
    assert drain(fake) == 5
    assert seen == [0, 1, 2, "chained"]
    assert inspect(fake)[1:5] == (0, 0, 0, 0)


def test_drain_raises_what_a_task_raises(fake: Queue) -> None:
    fake.enqueue(PyTask("tasks:fail", ("boom",)))
    with pytest.raises(ValueError, match="boom"):
        drain(fake)
    fake.enqueue(PyTask("tasks:nope"))
    with pytest.raises(Unrunnable):
        drain(fake)
    assert drain(fake) == 0


def test_drain_keeps_soft_timeouts_and_does_not_heed_a_pause(fake: Queue) -> None:
    fake.pause()
    fake.enqueue(PyTask("tasks:sleep", (60,), timeout=0.02))
    with pytest.raises(TimedOut):
        drain(fake)


def test_the_decorator(fake: Queue) -> None:
    task = delayed(fake)
    assert task(record) is record
    decorated = task(record)
    decorated.delay("a")
    decorated("b")
    task(retry=3)(record).delay(value="c")
    task(record, retry=3).delay("d")
    assert seen == ["b"]
    assert drain(fake) == 3
    assert seen == ["b", "a", "c", "d"]


@pytest.mark.parametrize("kind", ["fake", "real"])
def test_all_scripts_run_on_both(kind: str, queue: Queue, client: redis.Redis) -> None:
    used = queue if kind == "real" else fake_queue()
    used.enqueue_many(PyTask("m:f", (number,)) for number in range(10))
    names = [used.keys.lease("t", number) for number in range(5)]
    assert len(used.store.take(names, "t", 10).tasks) == 5
    assert used.store.succeed(names[0])
    assert used.store.retry(names[1], PyTask("m:f").serialize())
    assert used.store.bury(names[2], "failed", "x", "y")  # type: ignore[arg-type]
    assert used.store.give_back(names[3:4]) == 1
    used.store.call("DEL", names[4])
    used.store.call("DEL", used.keys.noti)
    assert sweep(used.store)[:3] == (1, 0, 7)  # the sweep added one itself
    assert used.store.due([Keys("nothing"), used.keys]).first == 1
    (letter,) = dead_letters(used)
    assert used.store.dead_retry([letter.id]) == 1
    assert used.len() == 9


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("myapp.tasks")
    queue = Queue("default", redis.Redis(port=1))

    def resize(path: str, size: int) -> str:
        return f"{path} at {size}"

    resize.__module__, resize.__qualname__ = "myapp.tasks", "resize"
    vars(module).update(queue=queue, resize=delayed(queue)(resize, result_ttl=60))
    monkeypatch.setitem(sys.modules, "myapp", ModuleType("myapp"))
    monkeypatch.setitem(sys.modules, "myapp.tasks", module)
    (example,) = re.findall(r"```python\n(.*?)```", testing.__doc__ or "", re.DOTALL)
    namespace: dict[str, Any] = {}
    before = vars(queue).copy()
    exec(example, namespace)
    namespace["test_resize"]()
    assert vars(queue) == before  # it is what it was


def test_drain_tells_handles_and_callbacks(fake: Queue) -> None:
    told: list[str] = []
    ended = subscribe(lambda event: told.append(str(event.kind)), ["started", "succeeded", "failed", "buried", "retrying"])
    task: dict[str, Any] = {"result_ttl": 60}
    good = fake.enqueue(PyTask("tasks:two", (1,), **task))
    bad = fake.enqueue(PyTask("tasks:fail", ("x",), retry=2, **task))
    assert drain_until(fake, ValueError) == "x"
    assert good.result(0.001) == 3
    with pytest.raises(TaskFailed, match="ValueError: x"):
        bad.result(0.001)
    assert inspect(fake)[1:5] == (0, 0, 0, 0)
    fake.enqueue(PyTask("tasks:fail", ("x",), retry=2, backoff=Constant(9), **task))
    fake.enqueue(PyTask("tasks:fail", ("y",), retry=1))
    fake.enqueue(PyTask("tasks:nope"))
    fake.enqueue(GoTask("main.F"))
    told.clear()
    assert drain(fake, retries=True) == 7
    assert Counter(told) == {"started": 5, "retrying": 3, "failed": 2, "buried": 4}
    assert sorted(letter.reason for letter in dead_letters(fake)) == ["failed", "failed", "unknown_function", "wrong_language"]
    ended()


def drain_until(queue: Queue, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        drain(queue)
    return str(caught.value)


def test_current_task_is_known_in_drain(fake: Queue) -> None:
    asking = fake.enqueue(PyTask("life:ask_again", (3,), result_ttl=60))
    handle = fake.enqueue(PyTask(tell_id, (), result_ttl=60))
    assert drain(fake) >= 2
    travel(fake, 1)
    while drain(fake):
        travel(fake, 1)
    assert asking.result(0.001) == 3
    assert handle.result(0.001) == handle.id
    assert current_task().direct


def tell_id() -> str | None:
    with inline(_queues["inner"]):
        _queues["inner"].enqueue(PyTask(record, (1,), track=True))
    return current_task().id


def test_inline(fake: Queue) -> None:
    with inline(fake):
        assert fake.enqueue(PyTask("tasks:two", (1,), result_ttl=9)).result(0.001) == 3
        _queues[fake.name] = fake
        fake.enqueue(PyTask(chain, (fake.name,)))
        assert seen == ["chained"]
        assert fake.enqueue_many(PyTask(record, (number,)) for number in range(3)) == 3
        assert seen == ["chained", 0, 1, 2]
        with pytest.raises(ValueError, match="boom"):
            fake.enqueue(PyTask("tasks:fail", ("boom",)))
        with inline(fake, retries=True):
            handle = fake.enqueue(PyTask("tasks:fail", ("boom",), result_ttl=9))
        with pytest.raises(TaskFailed):
            handle.result(0.001)
    fake.enqueue(PyTask(record, ("later",)))
    assert fake.len() == 1


def test_assert_enqueued(fake: Queue) -> None:
    at = datetime(2100, 1, 1, tzinfo=UTC)
    fake.enqueue_many(
        [PyTask("m:f", (1, (2,)), {"a": 3}, retry=4), PyTask("m:f", (1, (2,)), {"a": 3}), GoTask("main.F", (1, 2))]
    )
    fake.enqueue(PyTask("m:g", (), retry=1, after=60, group="x", unique="u", expires=600, backoff=Constant(3)))
    fake.enqueue(PyTask("m:h", (), at=at))
    assert_enqueued(fake, "m:f")
    assert_enqueued(fake, "m:f", [1, [2]], {"a": 3}, times=2)
    assert_enqueued(fake, "m:f", [1, ANY], retry=4, times=1)
    assert_enqueued(fake, "main.F", [1, 2], times=1)
    assert_enqueued(fake, "m:g", after=60, group="x", unique="u", track=True, expires=600, backoff=Constant(3))
    assert_enqueued(fake, "m:h", at=at)
    assert_enqueued(fake, record, times=0)
    for wrong in ({"after": 600}, {"group": "y"}, {"expires": 60}, {"at": at}, {"args": [1]}, {"result_ttl": 5}, {"times": 2}):
        with pytest.raises(AssertionError):
            assert_enqueued(fake, "m:g", **wrong)
    with pytest.raises(AssertionError) as caught:
        assert_enqueued(fake, "m:f", [7], retry=2)
    said = str(caught.value).splitlines()
    assert said[0] == "m:f, args=[7], retry=2: it does not wait in 'default'. There is:"
    assert said[1:4] == ["  m:f(1, [2], a=3), retry 4", "  m:f(1, [2], a=3)", "  main.F(1, 2)"]
    assert said[4].startswith("  m:g(), ")
    assert "group x" in said[4]
    assert re.search(" due in (60|5[0-9]) s$", said[4])
    with pytest.raises(AssertionError, match="it waits 2 times, not 1"):
        assert_enqueued(fake, "m:f", times=1)
    with pytest.raises(InvalidTask):
        assert_enqueued(fake, "m:f", nonsense=1)


@pytest.mark.parametrize("kind", ["fake", "real"])
def test_travel(kind: str, queue: Queue) -> None:
    used = queue if kind == "real" else fake_queue()
    task: dict[str, Any] = {"result_ttl": 1000, "unique": "k", "unique_for": 500, "unique_mode": "while_queued"}
    later = used.enqueue(PyTask("tasks:two", (1,), after=3000, **task))
    late = used.enqueue(PyTask("tasks:two", (1,), expires=100, result_ttl=1000))
    travel(used, 99)
    assert 2870 < (later.status().due or 0) - now() <= 2901.5
    travel(used, 2)
    assert drain(used) == 1
    with pytest.raises(TaskExpired):
        late.result(0.001)
    with pytest.raises(Duplicate):
        used.enqueue(PyTask("tasks:noop", **task))
    travel(used, 2860)
    assert drain(used) == 0
    travel(used, 40)
    assert drain(used) == 1
    assert later.result(0.001) == 3
    travel(used, 1001)
    with pytest.raises(UnknownTask):
        later.result(0.001)
    used.enqueue(PyTask("tasks:noop"))
    assert used.store.take([used.keys.lease("dead")], "x", 10).tasks
    assert sweep(used.store).recovered == 0
    travel(used, 10)
    assert sweep(used.store).recovered == 1
    cancelled = used.enqueue(PyTask("tasks:noop", track=True, after=900, expires=1000))
    travel(used, 1)
    cancelled.cancel()
    assert not used.store.call("ZCARD", used.keys.scheduled)


def test_faked_queues_share_their_memory_and_are_what_they_were_afterwards(redis_url: str, name: str) -> None:
    queue, other = Queue(name, redis_url, durability="aof"), AsyncQueue(name, redis_url, durability="replicas:1")
    before = [vars(each).copy() for each in (queue, other)]
    with faked(queue, other) as inside:
        assert inside is queue
        handle = queue.enqueue(PyTask("tasks:two", (1,), result_ttl=9))
        assert [len(enqueued(each)) for each in (queue, other)] == [1, 1]
        assert drain(other) == 1
        assert handle.result() == 3
    assert [vars(each) for each in (queue, other)] == before
    assert queue.len() == 0
    with pytest.raises(ConfigurationError, match="is on a real server"):
        drain(other)


@pytest.mark.parametrize("kind", ["fake", "faked"])
async def test_an_async_queue(kind: str, redis_url: str) -> None:
    seen.clear()
    with faked(AsyncQueue("a", redis_url)) if kind == "faked" else nullcontext(fake_async_queue("a")) as used:
        handle = await used.enqueue(PyTask("coroutines:add", (1, 2), result_ttl=60))
        await used.enqueue_many([PyTask(record, ("plain",)), PyTask("tasks:two", (1,), after=60)])
        assert await used.len() == 2
        assert_enqueued(used, "coroutines:add", [1, 2], result_ttl=60, times=1)
        with pytest.raises(NotDone, match="call drain"):
            await handle.aresult()
        assert drain(used) == 2
        assert await handle.aresult() == 3
        assert (await handle.astatus()).state is State.SUCCEEDED
        travel(used, 60)
        assert drain(used) == 1
        with inline(used):
            handle = await used.enqueue(PyTask("coroutines:add", (3, 4), result_ttl=60))
            assert await handle.aresult() == 7
        cancelled = await used.enqueue(PyTask(record, ("never",), track=True))
        assert await cancelled.acancel() is State.QUEUED
        drain(used)
        assert seen == ["plain"]


async def test_a_plain_queue_in_a_loop(fake: Queue) -> None:
    handle = fake.enqueue(PyTask("coroutines:add", (1, 2), result_ttl=60))
    assert (await handle.astatus()).state is State.QUEUED
    assert drain(fake) == 1
    assert await handle.aresult() == 3
    assert await fake.enqueue(PyTask(record, (1,), track=True)).acancel() is State.QUEUED
    with pytest.raises(ValueError, match="boom"), inline(fake):
        fake.enqueue(PyTask("tasks:fail", ("boom",)))


def test_who_waits_for_what_nobody_runs_is_told(fake: Queue) -> None:
    handle = fake.enqueue(PyTask("tasks:two", (1,), result_ttl=60, after=60))
    for timeout in (None, 3600):
        with pytest.raises(NotDone, match=r"call drain\(queue\) first"):
            handle.result(timeout)
    with pytest.raises(UnknownTask):
        Handle(fake, "0" * 16).result()
    travel(fake, 60)
    assert drain(fake) == 1
    assert handle.result() == 3


@pytest.fixture
def app() -> Iterator[App]:
    shop.seen.clear()
    with faked(shop.app):
        yield shop.app


def test_calls_are_compared_as_the_function_takes_them(app: App) -> None:
    shop.welcome.delay(7, total="9")
    shop.welcome.options(priority="high", after=timedelta(minutes=1)).delay(user=8)
    shop.plain.options(queue="bulk").delay(1, twice=True)
    assert_enqueued(shop.welcome, times=2)
    for args, kwargs in (((7, "9"), {}), ((7,), {"total": "9"}), ((), {"user": 7, "total": ANY})):
        assert_enqueued(shop.welcome, *args, **kwargs, times=1)
        assert_enqueued(shop.welcome, *args, **kwargs, retry=3, queue="mail", priority="normal")
    assert_enqueued(shop.welcome, 8, "0", after=60, priority="high", times=1)
    assert_enqueued(shop.plain, 1, twice=True, queue="bulk")
    assert_enqueued(app, shop.plain, [1], {"twice": True})
    wrong: list[dict[str, Any]] = [{"queue": "bulk"}, {"priority": "low"}, {"retry": 4}, {"after": 60}, {"times": 2}]
    for options in wrong:
        with pytest.raises(AssertionError, match=r"welcome\(7, total='9'\), "):
            assert_enqueued(shop.welcome, 7, total="9", **options)
    with pytest.raises(AssertionError) as caught:
        assert_enqueued(shop.plain, 2)
    said = [re.sub(r"due in (60|5[0-9]) s", "due in 60 s", line) for line in str(caught.value).splitlines()[1:]]
    assert said == [
        "  bulk: tests.app.shop:plain(1, twice=True)",
        "  mail.high: tests.app.shop:welcome(user=8), retry 3, backoff ['exponential', 1.0, 600.0, True], due in 60 s",
        "  mail: tests.app.shop:welcome(7, total='9'), retry 3, backoff ['exponential', 1.0, 600.0, True]",
    ]
    with pytest.raises(TypeError, match="user"):
        assert_enqueued(shop.welcome, total="9")
    with pytest.raises(TypeError, match="nonsense"):
        assert_enqueued(shop.welcome, 7, nonsense=1)
    with pytest.raises(ConfigurationError, match=r"has a \.delay\(\)"):
        assert_enqueued(tell_id, 1)


def test_calls_of_a_task_of_a_queue(fake: Queue) -> None:
    task = delayed(fake)(record, retry=2)
    task.delay(value=1)
    assert_enqueued(task, 1, retry=2)
    with pytest.raises(AssertionError, match="in 'default'"):
        assert_enqueued(task, 2)


def test_all_queues_of_an_application_are_drained_as_its_workers_would(app: App) -> None:
    shop.parent.options(metadata={"request": "r1"}).delay(5)
    shop.welcome.delay(1)
    shop.again.delay()
    assert drain(app, retries=True) == 6
    assert ("child", 5, {"request": "r1", "kind": "child"}) in shop.seen
    app.queue().enqueue(PyTask("tests.app.shop:unregistered"))
    assert drain(app, retries=True) == 1
    assert [letter.reason for letter in dead_letters(app.queue())] == ["not_allowed"]


async def test_an_application_in_a_loop(app: App) -> None:
    handle = await shop.welcome.options(result_ttl=60).adelay(1)
    assert_enqueued(shop.welcome, 1)
    assert drain(app) == 1
    assert await handle.aresult() == "1: 0"
    with inline(app):
        await app.aenqueue_many([shop.plain.call(2), shop.plain.call(3)])
    assert [each[1] for each in shop.seen if each[0] == "plain"] == [2, 3]


def test_an_application_is_what_it_was(name: str, redis_url: str) -> None:
    app = App(redis_url, queue=name, queues=["later"])
    held = app.queue(name)
    before = vars(held).copy()
    with faked(app):
        assert app.queue(name) is held
        app.queue("later").enqueue(PyTask(record, (1,)))
        with inline(app):
            assert app.async_queue("later") is app.async_queue("later")
    assert vars(held) == before
    assert not {"queue", "async_queue"} & vars(app).keys()
    assert app.queue("later").len() == 0
