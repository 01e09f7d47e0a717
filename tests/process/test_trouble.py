"""Processes whose Redis does not let them in, or is away: what they log, and that they end."""

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from delayed.errors import ConfigurationError
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.redis.connect import address, check_access, connect
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.support.processes import Fleet, Process
from tests.support.servers import open_redis

from .test_processes import EXIT_FORCED

WORKER = ("worker", "--allow-any", "--keep-alive-interval=0.2", "--dequeue-timeout=0.2")
COMMANDS = {"worker": WORKER, "supervisor": (*WORKER, "-c", "2"), "sweeper": ("sweeper", "--interval=0.2")}


@pytest.fixture
def its_server(tmp_path: Path, fleet: Fleet) -> Iterator[EmbeddedRedis]:
    """A server that may go away; it does not run yet."""
    server = open_redis(tmp_path / "redis")
    fleet.environment["DELAYED_REDIS_URL"] = f"{server.url.replace('//', '//default:secret@')}"
    yield server
    server.stop()


@pytest.mark.parametrize("command", COMMANDS)
def test_who_is_not_let_in_ends_at_once(fleet: Fleet, server: EmbeddedRedis, name: str, command: str) -> None:
    refused = {
        f"unix://bob:hidden@{server.socket}": f"unix://bob@{server.socket}?db=0 does not let us in: ",
        f"unix://{server.socket}?db=99": f"unix://{server.socket}?db=99 does not let us in: DB index is out of range; ",
    }
    processes = [fleet.delayed(*COMMANDS[command], name, DELAYED_REDIS_URL=url) for url in refused]
    assert [process.wait() for process in processes] == [1, 1]
    for process, says in zip(processes, refused.values(), strict=True):
        text = process.log.read_text()
        assert text.startswith(f"Error: {says}")
        assert text.count("\n") == 1
        assert "hidden" not in text


def test_whom_a_server_lets_in_is_asked_of_it(its_server: EmbeddedRedis) -> None:
    """One that is away, or is no Redis that we could ask, may be all right later."""
    check_access(connect(its_server.url))
    check_access(connect("redis://no-such-host.invalid/0"))
    with its_server, its_server.client() as client:
        check_access(connect(its_server.url))
        client.acl_setuser("nobody", enabled=True, passwords=["+x"])  # nothing is allowed to it, which is not looked at
        check_access(connect(its_server.url.replace("//", "//nobody:x@")))
        client.config_set("requirepass", "secret")
        with pytest.raises(ConfigurationError, match="does not let us in"):
            check_access(connect(its_server.url))
        check_access(connect(its_server.url.replace("//", "//:secret@")))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://bob:x@h:7000/3", "redis://bob@h:7000/3"),
        ("redis://h?password=x", "redis://h:6379/0"),
        ("rediss://:x@h", "rediss://h:6379/0"),
        ("unix://bob:x@/a/b.sock?db=2", "unix://bob@/a/b.sock?db=2"),
        ("redis+sentinel://bob:x@h1,h2:7/main/1", "redis+sentinel://bob@h1:26379,h2:7/main/1"),
    ],
)
def test_an_address_has_no_password(url: str, shown: str) -> None:
    assert address(connect(url)) == shown


def lines(process: Process, pattern: str) -> list[str]:
    return [line for line in process.log.read_text().splitlines() if re.search(pattern, line)]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_an_outage_is_told_in_a_line_for_each_process(
    fleet: Fleet, its_server: EmbeddedRedis, name: str, command: str
) -> None:
    """One that it begins with, as the order of the boot must not matter, and another one."""
    count = {"worker": 1, "supervisor": 3, "sweeper": 1}[command]
    began = time.monotonic()
    process = fleet.delayed(*COMMANDS[command], name)
    eventually(lambda: len(lines(process, "retrying")) >= 1)
    threading.Event().wait(1.5)  # in which they try many times
    its_server.start()
    process.ready()
    eventually(lambda: len(lines(process, "is back")) >= 1)
    its_server.stop()
    eventually(lambda: len(lines(process, "retrying")) >= 2)
    threading.Event().wait(1.5)
    its_server.start()
    eventually(lambda: len(lines(process, "is back")) >= 2)
    told, back = lines(process, "retrying"), lines(process, "is back")
    seconds = time.monotonic() - began
    assert len(told) <= count * (2 + seconds // 10), "\n".join(told)
    assert len(back) <= 2 * count
    where = f"redis://default@127.0.0.1:{its_server.port}/0"
    assert all(f"Redis at {where}: " in line for line in told)
    assert all(f"Redis at {where} is back, after " in line for line in back)
    assert "secret" not in process.log.read_text()
    process.send(signal.SIGTERM)
    assert process.wait() == 0


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM]], ids=["once", "twice"])
def test_idle_processes_end_at_once_while_redis_is_away(
    fleet: Fleet, its_server: EmbeddedRedis, name: str, numbers: list[signal.Signals]
) -> None:
    its_server.start()
    processes = [fleet.delayed(*COMMANDS[command], name).ready() for command in COMMANDS]
    its_server.stop()
    for process in processes:
        eventually(lambda process=process: bool(lines(process, "retrying")))  # type: ignore[misc]
        process.send(*numbers)
    # The second signal may come when a process has ended its work and given the signals back.
    usual = {0, EXIT_FORCED, *([-signal.SIGTERM] if len(numbers) > 1 else [])}
    assert [process.wait() in usual for process in processes] == [True] * 3
    for process in processes:
        assert not lines(process, "ERROR"), process.log.read_text()


def begin_to_sleep(queue: Queue) -> int:
    """Have a task begin that no signal wakes. Returns its process."""
    queue.enqueue(PyTask("time:sleep", (3600,)))
    found: list[str] = []

    def begun() -> bool:
        found[:] = [str(each["place"]) for each in inspect(queue).processes if each.get("running") == "time:sleep"]
        return len(found) == 1

    eventually(begun)
    return int(found[0].rpartition(":")[2])


def test_who_insists_does_not_wait_for_redis(fleet: Fleet, its_server: EmbeddedRedis, name: str) -> None:
    """A task is held, so something is left to do; but not for as long as the grace."""
    with its_server, its_server.client() as client:
        parent = fleet.delayed(*COMMANDS["supervisor"], "--grace=3600", name).ready()
        begin_to_sleep(Queue(name, client))
    eventually(lambda: bool(lines(parent, "retrying")))
    parent.send(signal.SIGTERM)
    parent.expect("STOPPING=1")
    eventually(lambda: bool(lines(parent, "finishing running tasks")))
    parent.send(signal.SIGTERM)
    assert parent.wait() == EXIT_FORCED
    assert len(lines(parent, "exiting without returning the tasks it holds")) == 1
    assert len(lines(parent, "Exiting without recovering the tasks of")) == 1


def test_what_the_dead_held_is_settled_if_redis_is_there(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    """Though it was asked twice to stop, and a worker can give nothing back."""
    parent = fleet.delayed(*COMMANDS["supervisor"], "--grace=3600", queue.name).ready()
    pid = begin_to_sleep(queue)
    parent.send(signal.SIGTERM)
    parent.expect("STOPPING=1")
    os.kill(pid, signal.SIGKILL)
    parent.send(signal.SIGTERM)
    assert parent.wait() == EXIT_FORCED
    assert client.lrange(queue.name, 0, -1) == [PyTask("time:sleep", (3600,)).serialize()]
