"""TaskQ's interface over HTTP."""

from collections.abc import AsyncIterator

import pytest

from delayed.queue.queue import Queue
from delayed.server.access import ALL, Access, Grant
from delayed.server.compat.taskq import TaskQ
from delayed.server.consumer import Consumer
from delayed.server.http import Request
from delayed.server.links import Links
from delayed.server.numbers import NumberedTasks, Peer
from delayed.server.text.bodies import Wrapping
from delayed.sweeper.sweep import sweep
from delayed.task.task import PyTask
from tests.support.asgi import Answer, ask, leave


@pytest.fixture
async def links(redis_url: str) -> AsyncIterator[Links]:
    made = Links(redis_url)
    yield made
    await made.aclose()


@pytest.fixture
async def numbered(links: Links) -> AsyncIterator[NumberedTasks]:
    consumer = Consumer(links)
    yield NumberedTasks(links, consumer, 60)
    await consumer.close()


@pytest.fixture
def app(links: Links, numbered: NumberedTasks) -> TaskQ:
    return TaskQ(numbered, _Open(links), 1000)


class _Open(Access):
    """Clients from anywhere may do everything."""

    async def grant(self, request: Request) -> Grant:
        return ALL


def is_text(answer: Answer, status: int, text: str) -> bool:
    kind = answer.headers["content-type"] == "text/plain; charset=utf-8"
    return (answer.status, answer.body.decode()) == (status, f"{text}\n") and kind


def lose(queue: Queue) -> None:
    """All leases run out, and somebody sweeps."""
    queue.call("UNLINK", *queue.call("HKEYS", queue.keys.processing))
    sweep(queue.store)


async def test_enqueue_dequeue_acknowledge(app: TaskQ, name: str) -> None:
    tasks = f"/apps/taskq/{name}/tasks"
    assert is_text(await ask(app, "POST", tasks, b"TASKBODY"), 200, "task 1 enqueued")
    assert is_text(await ask(app, "POST", tasks, b""), 200, "task 2 enqueued")
    found = await ask(app, "POST", f"{tasks}/deque")
    assert is_text(found, 200, f'{{"id":1,"queue":"{name}","body":"VEFTS0JPRFk="}}')
    assert is_text(await ask(app, "POST", f"{tasks}/deque"), 200, f'{{"id":2,"queue":"{name}","body":""}}')
    empty = await ask(app, "POST", f"{tasks}/deque")
    assert is_text(empty, 500, "taskq: no task in queue")
    assert empty.headers["x-content-type-options"] == "nosniff"
    assert is_text(await ask(app, "DELETE", f"{tasks}/001"), 200, "task 1 acknowledged")
    for unknown in ("1", "9", "18446744073709551615"):
        assert is_text(await ask(app, "DELETE", f"{tasks}/{unknown}"), 500, "taskq: no such task")
    large = "99999999999999999999999"
    says = f'invalid task id: strconv.ParseUint: parsing "{large}": value out of range'
    assert is_text(await ask(app, "DELETE", f"{tasks}/{large}"), 400, says)
    assert is_text(await ask(app, "DELETE", f"{tasks}/2"), 200, "task 2 acknowledged")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/apps/taskq/q/tasks"),
        ("PUT", "/apps/taskq/q/tasks/1"),
        ("DELETE", "/apps/taskq/q/tasks/x"),
        ("DELETE", "/apps/taskq/q/tasks/-1"),
        ("POST", "/apps/taskq/q/tasks/"),
        ("POST", "/apps/taskq/a%2Fb/tasks"),
        ("POST", "/apps/taskq/q"),
        ("POST", "/apps/taskq"),
        ("POST", "/apps/taskq/q/tasks/deque/1"),
    ],
)
async def test_what_is_not_there(app: TaskQ, method: str, path: str) -> None:
    assert is_text(await ask(app, method, path), 404, "404 page not found")


async def test_slashes_and_spaces(app: TaskQ, name: str, queue: Queue) -> None:
    moved = await ask(app, "POST", f"/apps//taskq/{name}//tasks")
    assert (moved.status, moved.headers["location"]) == (301, f"/apps/taskq/{name}/tasks")
    assert (await ask(app, "POST", f"/apps/taskq/{name}%20b/tasks", b"x")).body == b"task 1 enqueued\n"
    assert b'"queue":"%b b"' % name.encode() in (await ask(app, "POST", f"/apps/taskq/{name}%20b/tasks/deque")).body
    assert (await ask(app, "DELETE", f"/apps/taskq/{name}%20b/tasks/1")).status == 200
    queue.call("DEL", f"{name} b_numbers", f"{name} b_workers")


async def test_too_large_a_body_and_a_name_that_no_queue_has(app: TaskQ, name: str) -> None:
    assert (await ask(app, "POST", f"/apps/taskq/{name}/tasks", b"x" * 1001)).status == 413
    refused = await ask(app, "POST", f"/apps/taskq/{name}_dead/tasks", b"x")
    assert refused.status == 500
    assert b"cannot be the name of a queue" in refused.body


async def test_redelivery_and_late_ends(app: TaskQ, name: str, queue: Queue) -> None:
    tasks = f"/apps/taskq/{name}/tasks"
    first, second, third = ("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)
    for body in (b"a", b"b"):
        await ask(app, "POST", tasks, body)
    assert (await ask(app, "POST", f"{tasks}/deque", client=first)).json["id"] == 1
    lose(queue)
    again = await ask(app, "POST", f"{tasks}/deque", client=second)
    assert (again.json["id"], again.json["body"]) == (1, "YQ==")
    for late in (first, third):
        assert is_text(await ask(app, "DELETE", f"{tasks}/1", client=late), 500, "taskq: no such task")
    assert queue.call("HLEN", queue.keys.processing) == 1
    assert is_text(await ask(app, "DELETE", f"{tasks}/1", client=("10.0.0.2", 77)), 200, "task 1 acknowledged")
    assert (await ask(app, "POST", f"{tasks}/deque", client=first)).json["id"] == 2
    lose(queue)
    assert is_text(await ask(app, "DELETE", f"{tasks}/2", client=first), 200, "task 2 acknowledged")
    assert is_text(await ask(app, "POST", f"{tasks}/deque", client=second), 500, "taskq: no task in queue")


async def test_another_server_knows_the_numbers(app: TaskQ, name: str, redis_url: str) -> None:
    tasks = f"/apps/taskq/{name}/tasks"
    await ask(app, "POST", tasks, b"a")
    await ask(app, "POST", f"{tasks}/deque")
    links = Links(redis_url)
    consumer = Consumer(links)
    other = TaskQ(NumberedTasks(links, consumer, 60), Access(links), 1000)
    assert (await ask(other, "DELETE", f"{tasks}/1")).status == 200
    assert (await ask(other, "POST", tasks, b"b")).body == b"task 2 enqueued\n"
    await consumer.close()
    await links.aclose()


async def test_tasks_of_others_get_numbers(numbered: NumberedTasks, name: str, queue: Queue) -> None:
    handle = queue.enqueue(PyTask("m:f", (1,), track=True))
    await numbered.enqueue(name, [b"a"], Wrapping())
    peer = Peer("c", "a")
    found = await numbered.take(name, peer, 2)
    by_number = {task.number: task for task in found}
    assert b"m:f" in by_number[2].body
    assert by_number[1].body == b"a"
    assert await numbered.acknowledge(name, peer, [(2, None), (1, by_number[1].token), (2, None)]) == [True, True, False]
    assert handle.status().state == "succeeded"


async def test_without_tokens_only_this_machine_is_served(links: Links, numbered: NumberedTasks, name: str) -> None:
    app = TaskQ(numbered, Access(links), 1000)
    refused = await ask(app, "POST", f"/apps/taskq/{name}/tasks", b"x", client=("10.0.0.1", 1))
    assert refused.status == 401
    assert b"delayed token create" in refused.body


async def test_what_could_not_be_delivered_goes_back(numbered: NumberedTasks, name: str, queue: Queue) -> None:
    await numbered.enqueue(name, [b"a"], Wrapping())
    (task,) = await numbered.take(name, Peer("c", "a"), 1)
    await numbered.give_back(name, task)
    assert queue.len() == 1
    assert queue.call("KEYS", f"{name}_number_*") == []
    (task,) = await numbered.take(name, Peer("d", "b"), 1)
    assert await numbered.acknowledge(name, Peer("e", "c"), [(1, None)]) == [True]  # it was delivered once


async def test_a_task_whose_answer_nobody_takes_goes_back(app: TaskQ, name: str, queue: Queue) -> None:
    await ask(app, "POST", f"/apps/taskq/{name}/tasks", b"a")
    await leave(app, "POST", f"/apps/taskq/{name}/tasks/deque")
    assert (queue.len(), queue.call("HLEN", queue.keys.processing)) == (1, 0)
    assert (await ask(app, "POST", f"/apps/taskq/{name}/tasks/deque")).json["id"] == 1
    assert (await ask(app, "DELETE", f"/apps/taskq/{name}/tasks/1")).status == 200


async def test_another_programs_note_is_no_delivery(numbered: NumberedTasks, name: str, queue: Queue) -> None:
    await numbered.enqueue(name, [b"a"], Wrapping())
    queue.call("SET", queue.keys.number(1), b"nonsense", "PX", 60_000)
    assert await numbered.acknowledge(name, Peer("e", "c"), [(1, None)]) == [False]
    (task,) = await numbered.take(name, Peer("c", "a"), 1)
    assert await numbered.acknowledge(name, Peer("c", "a"), [(1, task.token)]) == [True]
