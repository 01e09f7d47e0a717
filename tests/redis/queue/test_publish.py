"""What is published goes to the queues that have an interest in it."""

import asyncio
import json
from collections.abc import Iterator

import pytest
import redis
from click.testing import CliRunner

from delayed.app.app import App
from delayed.cli.main import main
from delayed.errors import ConfigurationError, InvalidTask, NotEncodable, TaskTooLarge
from delayed.events import BUS, Event, Kind
from delayed.interests.table import Interest
from delayed.ops.fsck import check
from delayed.ops.purge import purge
from delayed.ops.rename import rename
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.decode import decode
from tests.conftest import burst
from tests.redis.test_costs import monitored


@pytest.fixture
def others(name: str, client: redis.Redis) -> Iterator[list[Queue]]:
    """Two more queues. No interest is left at the end."""
    queues = [Queue(f"{name}-b", client), Queue(f"{name}-c", client)]
    yield queues
    client.delete("delayed:interests", *(key for each in queues for key in each.keys.all().values()))


def test_each_interested_queue_gets_one_copy(queue: Queue, others: list[Queue]) -> None:
    b, c = others
    c.set_interest({"event": "order.*", "*": "order.paid"}, "m:paid", retry=3)
    b.set_interest("*", "main.Paid")
    ids = queue.publish({"event": "order.paid", "user": 7})
    assert list(ids) == [c.name, b.name]
    call = decode(c.store.call("LINDEX", c.name, 0))
    assert (call.func_path, call.args, call.retry) == ("m:paid", [{"event": "order.paid", "user": 7}], 3)
    assert call.headers is not None
    assert call.headers["uid"] == ids[c.name] != ids[b.name]
    assert "backoff" in call.headers
    assert (queue.len(), b.len(), c.len()) == (0, 1, 1)
    assert list(queue.publish({"event": "user.new"})) == [b.name]
    assert queue.publish({}) == {}
    assert [each.queue for each in queue.interested({"event": "order.x"})] == [c.name, b.name]


def test_a_worker_gets_what_was_published(queue: Queue, others: list[Queue]) -> None:
    del others
    queue.set_interest({"value": "*"}, "tasks:noop")
    queue.publish({"value": 1})
    assert burst(queue).state.finished == 1
    assert queue.store.call("XLEN", queue.keys.dead) == 0


def test_what_changes_counts_at_once(queue: Queue, others: list[Queue], client: redis.Redis) -> None:
    publisher = Queue("p", client)
    assert publisher.publish({"a": 1}) == {}
    others[0].set_interest("*", "m:f")
    assert list(publisher.publish({"a": 1})) == [others[0].name]
    queue.set_interest("*", "m:f")
    others[0].set_interest({"b": "*"}, "m:f")
    assert list(publisher.publish({"a": 1})) == [queue.name]
    assert list(publisher.publish({"b": 1})) == [others[0].name, queue.name]
    assert others[0].remove_interest()
    assert not others[0].remove_interest()
    assert list(publisher.publish({"b": 1})) == [queue.name]
    client.delete("delayed:interests")  # Redis loses its data
    assert publisher.publish({"b": 1}) == {}


def test_to_publish_costs_one_command(queue: Queue, others: list[Queue], client: redis.Redis) -> None:
    others[0].set_interest("*", "m:f")
    queue.publish({"a": 1})
    with monitored(client, queue.name) as commands:
        queue.publish({"a": 1})
    assert [each for each in commands if each not in ("HELLO", "CLIENT")] == ["EVALSHA"]


def test_what_cannot_be_published(queue: Queue, others: list[Queue], client: redis.Redis) -> None:
    others[0].set_interest("*", "m:f")
    with pytest.raises(InvalidTask, match="1,000 entries"):
        queue.publish(dict.fromkeys(range(1001)))
    with pytest.raises(NotEncodable):
        queue.publish({"a": object()})
    with pytest.raises(TaskTooLarge, match="publish where it is"):
        Queue("p", client, max_task_size=100).publish({"a": "x" * 100})
    client.hset("delayed:interests", "odd", b"what another program wrote")
    client.hset("delayed:interests", "", b"odd")
    assert list(queue.publish({"a": 1})) == [others[0].name]


def test_a_copy_that_cannot_be_added_stops_all(queue: Queue, others: list[Queue], client: redis.Redis) -> None:
    for each in others:
        each.set_interest("*", "m:f")
    client.set(others[1].name, "another program's")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        queue.publish({"a": 1})
    assert others[0].len() == 0
    client.delete(others[1].name)


def test_too_many_interests_are_refused(queue: Queue, others: list[Queue], client: redis.Redis) -> None:
    del others
    client.hset("delayed:interests", mapping={str(each): "1 x" for each in range(1000)})
    with pytest.raises(ConfigurationError, match="interest remove"):
        queue.set_interest("*", "m:f")


def test_asyncio(queue: Queue, others: list[Queue], server: EmbeddedRedis) -> None:
    async def run() -> None:
        async with AsyncQueue(queue.name, server.url) as own:
            await own.set_interest({"a": "regex:^x+$"}, "m:f")
            assert list(await own.publish({"a": "xx"})) == [queue.name]
            assert list(await own.publish({"a": "x" * 30_000})) == [queue.name]  # in a thread
            assert [each.queue for each in await own.interested({"a": "x"})] == [queue.name]
            assert await own.remove_interest()
            assert await own.publish({"a": "xx"}) == {}
            with pytest.raises(ConfigurationError):
                await own.set_interest({"a": "regex:("}, "m:f")

    asyncio.run(run())
    assert queue.len() == 2
    del others


def test_an_application_publishes(queue: Queue, others: list[Queue], server: EmbeddedRedis) -> None:
    others[0].set_interest("*", "m:f")
    app = App(server.url, queue=queue.name)
    assert list(app.publish({"a": 1})) == [others[0].name]

    async def run() -> dict[str, str]:
        try:
            return await app.apublish({"a": 1})
        finally:
            await app.aclose()

    assert list(asyncio.run(run())) == [others[0].name]


def test_listeners_hear_of_copies(queue: Queue, others: list[Queue]) -> None:
    others[0].set_interest("*", "m:f")
    heard: list[Event] = []
    unsubscribe = BUS.subscribe(heard.append, [Kind.ENQUEUED])
    try:
        ids = queue.publish({"a": 1})
    finally:
        unsubscribe()
    assert [(each.queue, each.id, each.task) for each in heard] == [(*next(iter(ids.items())), "m:f")]


def test_commands(queue: Queue, others: list[Queue], server: EmbeddedRedis) -> None:
    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["interest", *words, "--redis", server.url])
        return result.exit_code, result.output

    assert run("add", others[0].name, "m:f", "--match", "a", "x*", "--match", "a", "exact:y", "--retry", "2")[0] == 0
    assert run("add", others[1].name, "main.F")[0] == 0
    assert queue.interests().interests == [
        Interest(others[0].name, (("a", "x*"), ("a", "exact:y")), "m:f", 2),
        Interest(others[1].name, (("*", "*"),), "main.F"),
    ]
    shown = run("list")[1].splitlines()
    assert shown == [f"{others[0].name}  m:f, 2 retries", "  a  x*", "  a  exact:y", f"{others[1].name}  main.F", "  *  *"]
    assert json.loads(run("list", "--json")[1])[1]["function"] == "main.F"
    code, said = run("add", others[0].name, "m:f", "--match", "regex:(?=a)", "*")
    assert code == 1
    assert "of groups with (? there is only (?:" in said
    assert run("remove", others[0].name)[0] == 0
    code, said = run("remove", others[0].name)
    assert (code, said) == (1, f"Error: '{others[0].name}' has no interest\n")


def test_rename_takes_the_interest_along_and_purge_leaves_it(queue: Queue, others: list[Queue]) -> None:
    others[0].set_interest({"a": "*"}, "m:f", retry=1)
    queue.publish({"a": 1})
    purge(others[0])
    assert [each.queue for each in queue.interests().interests] == [others[0].name]
    queue.publish({"a": 1})
    rename(others[0], others[1])
    assert queue.interests().interests == [Interest(others[1].name, (("a", "*"),), "m:f", 1)]
    assert list(queue.publish({"a": 1})) == [others[1].name]


@pytest.mark.breaks_invariants("interest")
def test_fsck_names_what_cannot_be_read(queue: Queue, others: list[Queue], client: redis.Redis) -> None:
    queue.set_interest("*", "m:f")
    assert check(queue, 0).wrong == []
    client.hset("delayed:interests", queue.name, "1 x")
    assert [each.invariant for each in check(queue, 0).wrong] == ["interest"]
    client.delete("delayed:interests")
    client.set("delayed:interests", "x")
    assert [each.subject for each in check(queue, 0).wrong] == ["delayed:interests"]
    del others
