import pytest
import redis

from delayed.delay import delayed
from delayed.errors import Unrunnable
from delayed.info import dead_letters, inspect
from delayed.keys import Keys
from delayed.queue import Queue
from delayed.sweeper import sweep
from delayed.task import PyTask
from delayed.testing import drain, fake_queue

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
    assert len(used.take(names, "t", 10).tasks) == 5
    assert used.succeed(names[0])
    assert used.retry(names[1], PyTask("m:f").serialize())
    assert used.bury(names[2], "failed", "x", "y")  # type: ignore[arg-type]
    assert used.give_back(names[3:4]) == 1
    used.call("DEL", names[4])
    used.call("DEL", used.keys.noti)
    assert sweep(used)[:3] == (1, 0, 7)  # the sweep added one itself
    assert used.due([Keys("nothing"), used.keys]).first == 1
    (letter,) = dead_letters(used)
    assert used.dead_retry([letter.id]) == 1
    assert used.len() == 9
