"""Mixed fleets with the published Python package, installed into an environment of its own."""

import signal
import sys
import textwrap
from collections.abc import Callable

import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.sweeper.sweep import sweep
from delayed.task.task import PyTask
from tests.conftest import burst, eventually
from tests.support.processes import APPLICATION, Fleet, Process
from tests.support.upstream import upstream_python

pytestmark = pytest.mark.slow

RUN_WORKER = """
    import os, redis
    from delayed.queue import Queue
    from delayed.worker import Worker
    from delayed.logger import setup_logger
    setup_logger()
    queue = Queue({name!r}, redis.Redis.from_url(os.environ['DELAYED_REDIS_URL']), dequeue_timeout=0.3, keep_alive_timeout=2)
    Worker(queue, keep_alive_interval=0.5).run()
"""
RUN_SWEEPER = """
    import os, redis
    from delayed.queue import Queue
    from delayed.sweeper import Sweeper
    Sweeper([Queue({name!r}, redis.Redis.from_url(os.environ['DELAYED_REDIS_URL']))], interval=0.02).run()
"""
PRODUCE = """
    import os, redis
    from delayed.queue import Queue
    from delayed.task import PyTask, GoTask
    from delayed.delay import delayed
    import tasks
    queue = Queue({name!r}, redis.Redis.from_url(os.environ['DELAYED_REDIS_URL']))
    task = delayed(queue)
    task(tasks.note).delay({key!r}, 0)
    queue.enqueue(PyTask('tasks:note', ({key!r},), {{'value': 1}}))
    queue.enqueue(PyTask(tasks.note, [{key!r}, 2], retry=3))
    task(tasks.fail, retry=2).delay('boom')
    for number in range(3, 300):
        queue.enqueue(PyTask('tasks:note', ({key!r}, number)))
"""


@pytest.fixture(scope="session")
def upstream() -> str:
    return upstream_python()


Start = Callable[..., Process]


@pytest.fixture
def start(upstream: str, fleet: Fleet) -> Start:
    """Run a script with upstream's package."""

    def run(code: str, **values: object) -> Process:
        script = textwrap.dedent(code).format(**values)
        return fleet.start(upstream, "-c", f"import sys; sys.path.insert(0, {str(APPLICATION)!r})\n{script}")

    return run


@pytest.fixture(autouse=True)
def _tasks_find_redis(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", server.url)


def values(client: redis.Redis, key: str) -> list[int]:
    return sorted(int(value) for value in client.lrange(key, 0, -1))


def test_upstream_s_package_is_what_runs(start: Start) -> None:
    process = start("import delayed, delayed.worker; print(delayed.__file__, hasattr(delayed, 'PyTask'))")
    assert process.wait() == 0, process.log.read_text()
    assert process.log.read_text().strip().endswith("False")


def test_upstream_produces_and_our_worker_runs(start: Start, queue: Queue, client: redis.Redis) -> None:
    key = f"{queue.name}:r"
    producer = start(PRODUCE, name=queue.name, key=key)
    assert producer.wait() == 0, producer.log.read_text()
    burst(queue)
    assert values(client, key) == list(range(300))
    assert [letter.task for letter in dead_letters(queue)] == ["tasks:fail"]
    assert inspect(queue)[1:4] == (0, 0, 0)


def test_we_produce_and_upstream_s_worker_runs(start: Start, queue: Queue, client: redis.Redis) -> None:
    key = f"{queue.name}:r"
    worker = start(RUN_WORKER, name=queue.name)
    queue.enqueue(PyTask("tasks:note", (key,), {"value": 0}, retry=2))
    queue.enqueue_many(PyTask("tasks:note", (key, number)) for number in range(1, 300))
    eventually(lambda: values(client, key) == list(range(300)))
    eventually(lambda: inspect(queue)[1:4] == (0, 0, 0))
    worker.send(signal.SIGHUP)
    worker.wait()
    assert "Traceback" not in worker.log.read_text()


def test_both_kinds_of_worker_share_a_queue_and_neither_is_disturbed(
    start: Start, fleet: Fleet, queue: Queue, client: redis.Redis
) -> None:
    key = f"{queue.name}:r"
    theirs = [start(RUN_WORKER, name=queue.name) for _ in range(2)]
    for _ in range(2):
        fleet.worker(queue.name)
    for number in range(1000):
        queue.enqueue(PyTask("tasks:note", (key, number)))
    eventually(lambda: client.llen(key) >= 1000)
    eventually(lambda: inspect(queue)[1:4] == (0, 0, 0))
    assert values(client, key) == list(range(1000))
    for worker in theirs:
        assert "Failed to dequeue" not in worker.log.read_text()  # what a surplus notification does to it (U11)


def test_upstream_s_sweeper_takes_nothing_from_our_busy_worker(
    start: Start, fleet: Fleet, queue: Queue, client: redis.Redis
) -> None:
    key = f"{queue.name}:h"
    sweeper = start(RUN_SWEEPER, name=queue.name)
    fleet.quick_worker(queue.name)
    queue.enqueue_many(PyTask("tasks:note", (f"{key}:quick", number)) for number in range(2000))
    queue.enqueue(PyTask("tasks:hold", (key, 1)))
    assert client.blpop([f"{key}:began"], 30)
    spare = fleet.worker("--burst", queue.name)
    spare.wait()
    queue.enqueue(PyTask("tasks:spin", (f"{key}:spin", 2.5)))  # longer than a lease lives without a beat
    client.rpush(f"{key}:go", 1)
    assert client.blpop([f"{key}:ended"], 30)
    assert client.blpop([f"{key}:spin:ended"], 30)
    eventually(lambda: inspect(queue)[1:4] == (0, 0, 0))
    assert values(client, f"{key}:quick") == list(range(2000))
    assert client.exists(f"{key}:began", f"{key}:spin:began", f"{key}:ended") == 1  # spin:began, once
    assert client.llen(f"{key}:spin:began") == 1
    assert not sweeper.popen.poll(), sweeper.log.read_text()


def test_our_sweeper_brings_back_what_a_killed_upstream_worker_held(
    start: Start, fleet: Fleet, queue: Queue, client: redis.Redis
) -> None:
    key = f"{queue.name}:h"
    worker = start(RUN_WORKER, name=queue.name)
    queue.enqueue(PyTask("tasks:hold", (key, 1)))
    assert client.blpop([f"{key}:began"], 30)
    assert sweep(queue.store).recovered == 0
    worker.kill()
    fleet.sweeper(queue.name)
    fleet.worker(queue.name)
    assert client.blpop([f"{key}:began"], 30)
    client.rpush(f"{key}:go", 1)
    assert client.blpop([f"{key}:ended"], 30)
    assert inspect(queue).recovered == 1


def test_upstream_s_sweeper_brings_back_what_our_killed_worker_held(
    start: Start, fleet: Fleet, queue: Queue, client: redis.Redis
) -> None:
    key = f"{queue.name}:h"
    worker = fleet.quick_worker(queue.name)
    queue.enqueue(PyTask("tasks:hold", (key, 1)))
    assert client.blpop([f"{key}:began"], 30)
    worker.kill()
    start(RUN_SWEEPER, name=queue.name)
    start(RUN_WORKER, name=queue.name)
    assert client.blpop([f"{key}:began"], 30)
    client.rpush(f"{key}:go", 1)
    assert client.blpop([f"{key}:ended"], 30)


README = """
    import os, redis
    from delayed.queue import Queue
    conn = redis.Redis.from_url(os.environ['DELAYED_REDIS_URL'])
    queue = Queue(name={name!r}, conn=conn)

    from delayed.delay import delayed
    delayed = delayed(queue)
    i = 0

    @delayed
    def delayed_add(a, b):
        conn.rpush({key!r}, a + b)
        return a + b

    @delayed(retry=3)
    def retry_div(x):
        global i
        i += 1
        conn.rpush({key!r}, 'div')
        return x / (i - 1)

    delayed_add.delay(1, 2)
    delayed_add.delay(1, b=2)
    delayed_add(1, 2)
    retry_div.delay(1)

    def add(a, b):
        conn.rpush({key!r}, a + b)
        return a + b

    delayed(add).delay(1, 2)
    delayed(add).delay(1, b=2)
    delayed(retry=3)(add).delay(1, b=2)
    delayed(add, retry=3).delay(1, b=2)

    from delayed.task import PyTask
    queue.enqueue(PyTask(func=add, args=(1,), kwargs={{'b': 2}}, retry=1))
    queue.enqueue(PyTask(func='__main__:add', args=(1,), kwargs={{'b': 2}}, retry=1))

    from delayed.task import GoTask
    other = Queue(name={name!r} + 'go', conn=conn)
    other.enqueue(GoTask(func_path='syscall.Kill', args=(0, 1)))
    other.enqueue(GoTask(func_path='fmt.Printf', args=('%d %s\\n', [1, 'test'])))
    other.enqueue(GoTask('fmt.Println', (1, 'test')))

    import asyncio
    from delayed.queue import AsyncQueue
    from redis.asyncio import Redis

    async def enqueue():
        async with Redis.from_url(os.environ['DELAYED_REDIS_URL']) as conn:
            queue = AsyncQueue(name={name!r}, conn=conn)
            await queue.enqueue(PyTask(func='__main__:add', args=(1,), kwargs={{'b': 2}}, retry=1))
    asyncio.run(enqueue())

    from delayed.worker import Worker
    worker = Worker(queue=queue)

    from delayed.sweeper import Sweeper
    sweeper = Sweeper(queues=[queue])

    from delayed.logger import setup_logger
    setup_logger()
    print('examples enqueued')
    worker.run()
"""


def test_upstream_s_readme_runs_on_our_package_unchanged(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    key = f"{queue.name}:r"
    code = textwrap.dedent(README).format(name=queue.name, key=key)
    process = fleet.start(sys.executable, "-c", code)
    eventually(lambda: client.llen(key) == 12 and inspect(queue)[1:4] == (0, 0, 0))
    process.send(signal.SIGHUP)
    assert process.wait() == 0, process.log.read_text()
    assert not list(dead_letters(queue))
    assert client.lrange(f"{queue.name}go", 0, -1)[0] == bytes.fromhex("92ac73797363616c6c2e4b696c6cc403920001")


def test_upstream_refuses_a_fifth_element_so_plain_tasks_have_none(queue: Queue) -> None:
    """WIRE: a task that uses no feature beyond upstream's is byte for byte upstream's."""
    for task, size in (
        (PyTask("m:f"), 1),
        (PyTask("m:f", (1,)), 2),
        (PyTask("m:f", (), {"a": 1}), 3),
        (PyTask("m:f", retry=1), 4),
    ):
        assert task.serialize()[0] == 0x90 + size
