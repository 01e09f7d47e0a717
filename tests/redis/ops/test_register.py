"""The register of queues, by which a misspelled name is noticed."""

import json

import pytest
import redis

from delayed.errors import ConfigurationError
from delayed.ops.register import doubt, served
from delayed.queue.queue import Queue
from delayed.redis.keys import REGISTER, register_of
from delayed.redis.store_taking import SERVED_FOR
from delayed.sweeper.sweeper import Sweeper
from delayed.task.task import PyTask
from tests.conftest import burst
from tests.redis.test_costs import monitored
from tests.support.command import run
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def _url(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)


def test_a_worker_registers_its_queue_and_a_misspelled_one_is_noticed(queue: Queue, client: redis.Redis) -> None:
    burst(queue)
    assert queue.name in served(queue)
    assert doubt(queue) is None
    odd = f"{queue.name}x"
    for command in (["info"], ["task", "list"], ["queue", "show"], ["dead", "list"], ["queue", "purge", "--yes"]):
        text = run(*command, odd).output
        assert f"note: no worker or sweeper has served '{odd}'; known queues: {queue.name}" in text, command
        assert "note:" not in run(*command, queue.name).output
    assert "note:" in run("task", "peek", odd, "1", status=1).output
    for words in (
        "fsck {} --wait 0", "dead retry {} --all", "dead purge {} --all", "task cancel {} --task *", "task delete {} --task *",
        "task move {} --task * --after 5", "cron list {}", "queue resume {}", "watch {} --for 0.1", "health {} --max-dead 5",
    ):  # fmt: skip
        text = run(*words.format(odd).split()).output
        assert text.count(f"note: no worker or sweeper has served '{odd}'; known queues: {queue.name}") == 1, words
        assert "note:" not in run(*words.format(queue.name).split()).output
    assert "note:" in run("dead", "retry", odd, "1-1", status=1).output
    assert "note:" in run("task", "cancel", odd, "0123456789abcdef", status=1).output
    assert json.loads(run("task", "list", odd, "--json").output) == []
    assert queue.name in run("queue", "list").output
    assert queue.name in json.loads(run("queue", "list", "--json").output)
    client.delete(REGISTER)
    assert doubt(queue) is None


def test_a_sweeper_registers_its_queue(queue: Queue, sweeping: Sweeper) -> None:  # it runs
    eventually(lambda: queue.name in served(queue))


def test_a_producer_does_not(queue: Queue, client: redis.Redis) -> None:
    with monitored(client, queue.name) as commands:
        queue.enqueue(PyTask("m:f"))
    assert set(commands) <= {"HELLO", "CLIENT", "EVALSHA", "EVAL"}  # CLIENT SETINFO: who the client is
    assert client.zscore(REGISTER, queue.name) is None


def test_a_queue_that_nobody_has_served_for_long_is_forgotten(queue: Queue, client: redis.Redis) -> None:
    queue.store.serve()
    moment = client.zscore(REGISTER, queue.name)
    assert moment is not None
    client.zadd(REGISTER, {f"{queue.name}-old": moment - SERVED_FOR - 1})
    queue.store.serve()
    assert f"{queue.name}-old" not in served(queue)
    queue.store.forget()
    assert queue.name not in served(queue)


@pytest.mark.parametrize(
    ("queue", "cluster", "key"),
    [
        ("mail", False, "delayed:queues"),
        ("{app}mail", False, "delayed:queues"),
        ("{app}mail", True, "delayed:queues:{app}"),
        ("x{app}{b}", True, "delayed:queues:{app}"),
        ("mail", True, "delayed:queues:{mail}"),
    ],
)
def test_on_a_cluster_there_is_one_for_each_tag(queue: str, cluster: bool, key: str) -> None:
    assert register_of(queue, cluster) == key


@pytest.mark.parametrize("taken", ["delayed:queues", "delayed:queues:{app}"])
def test_no_queue_has_its_name(taken: str, client: redis.Redis) -> None:
    with pytest.raises(ConfigurationError, match="register of queues"):
        Queue(taken, client)
