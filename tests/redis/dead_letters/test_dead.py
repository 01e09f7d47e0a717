"""Dead letters: bounded, found again, edited, retried; and those who wait for a lost task are told."""

import json
import logging
from typing import Any

import msgpack
import pytest
import redis
from click.testing import CliRunner

from delayed.cli.main import main
from delayed.dead_letters.letter import dead_letters
from delayed.dead_letters.lost import LostTasks
from delayed.dead_letters.retry import edited, purge, retry, retry_all, retry_ids
from delayed.dead_letters.search import Search, search
from delayed.errors import ConfigurationError, Duplicate, InvalidTask, Reason, TaskFailed
from delayed.queue.queue import Queue
from delayed.redis.store import Store
from delayed.sweeper.sweep import sweep
from delayed.sweeper.sweeper import Sweeper
from delayed.task.decode import decode, headers_of
from delayed.task.result import State
from delayed.task.task import GoTask, PyTask
from tests.conftest import burst
from tests.support.command import run as command
from tests.support.waiting import LONG_AGO

LOST: dict[str, Any] = {"result_ttl": 60, "unique": "k"}


def lose(queue: Queue, times: int = 1) -> None:
    """What waits is taken by workers that die; nobody sweeps after the last."""
    for number in range(times):
        if number:
            sweep(queue.store)
        while count := queue.len():
            leases = [queue.keys.lease(f"t{number}", queue.len() * 100 + each) for each in range(count)]
            queue.store.take(leases, "t", 600, waiting=True)
            queue.store.call("UNLINK", *leases)


@pytest.fixture
def letters(queue: Queue) -> Queue:
    """Five dead letters: three that failed with one error, one with another, one that is no function."""
    for number in range(3):
        queue.enqueue(PyTask("tasks:fail", (f"boom {number}",)))
    queue.enqueue(PyTask("tasks:fail", ("bang",), retry=2, track=True))
    queue.enqueue(PyTask("tasks:nope", ({"colour": "red"},)))
    for _ in range(3):
        burst(queue)
    return queue


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["nope", "bang", "boom 2", "boom 1", "boom 0"]),
        ({"task": "tasks:f*"}, ["bang", "boom 2", "boom 1", "boom 0"]),
        ({"error": "valueerror: BOOM"}, ["boom 2", "boom 1", "boom 0"]),
        ({"text": "'boom 1'"}, ["boom 1"]),
        ({"text": "red"}, ["nope"]),
        ({"reason": "failed", "text": "bang"}, ["bang"]),
        ({"since": 9_999_999_999.0}, []),
        ({"until": 1.0}, []),
        ({"since": 1.0, "until": 9_999_999_999.0, "text": "bang"}, ["bang"]),
    ],
)
def test_search(letters: Queue, wanted: dict[str, Any], found: list[str]) -> None:
    def name(data: bytes) -> str:
        call = decode(data)
        return "nope" if call.func_path == "tasks:nope" else str(call.args[0])

    order = {each: place for place, each in enumerate(["boom 0", "boom 1", "boom 2", "nope", "bang"])}
    names = [name(letter.data) for letter in search(letters, Search(**wanted))]
    assert sorted(names, key=order.__getitem__) == sorted(found, key=order.__getitem__)


def test_attempts_and_worker(letters: Queue) -> None:
    (tracked,) = search(letters, Search(text="bang"))
    assert tracked.attempts == 3
    assert tracked.task_id
    assert ":" in tracked.worker
    assert [letter.attempts for letter in search(letters, Search(text="boom"))] == [None] * 3


def test_retry_in_bulk_takes_what_is_there_now_oldest_first(letters: Queue) -> None:
    assert retry_all(letters, Search(error="boom")) == 3
    assert [decode(data).args for data in letters.store.call("LRANGE", letters.name, 0, -1)] == [
        [f"boom {n}"] for n in range(3)
    ]
    assert letters.store.lengths() == (3, 3)
    burst(letters)  # they are letters again, behind what the next call begins with
    assert retry_all(letters, Search()) == 5
    assert purge(letters, Search()) == 0


def test_many_are_paged(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(230):
        task = PyTask("m:f", (number,)) if number % 3 else PyTask("m:f", (number,), track=True)
        queue.store.call(
            "XADD", queue.keys.dead, "*", "task", task.serialize(), "reason", "failed", "detail", "", "worker", ""
        )
    assert purge(queue, Search(text="[22")) == 11
    assert retry_all(queue, Search()) == 219
    numbers = [decode(data).args[0] for data in queue.store.call("LRANGE", queue.name, 0, -1)]
    assert numbers == [number for number in range(230) if not str(number).startswith("22")]
    assert queue.store.lengths() == (219, 219)


def test_a_tracked_letter_waits_again(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:fail", ("x",), result_ttl=60, unique="k"))
    burst(queue)
    with pytest.raises(TaskFailed):
        handle.result(1)
    (letter,) = dead_letters(queue)
    assert retry(queue, letter)
    assert not retry(queue, letter)
    assert queue.store.lengths() == (1, 1)
    assert handle.status().state is State.QUEUED
    assert handle.status().error == ""
    with pytest.raises(Duplicate):
        queue.enqueue(PyTask("tasks:noop", unique="k"))
    burst(queue)
    (letter,) = dead_letters(queue)
    other = queue.enqueue(PyTask("tasks:noop", unique="k"))
    with pytest.raises(Duplicate):
        retry(queue, letter)
    assert retry_ids(queue, [letter.id]) == 0
    assert other.cancel() is State.QUEUED
    assert retry_ids(queue, [letter.id, "9-9"]) == 1


def test_an_expired_letter_runs_when_it_is_retried(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:two", (1,), expires=LONG_AGO, result_ttl=60))
    burst(queue)
    assert handle.status().state is State.EXPIRED
    assert retry_all(queue, Search()) == 1
    burst(queue)
    assert handle.result(1) == 3


def test_edited_arguments(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:two", ("x",), {"b": 1}, result_ttl=60, group="g"))
    burst(queue)
    (letter,) = dead_letters(queue)
    with pytest.raises(InvalidTask):
        retry(queue, letter, args=[object()])
    assert retry(queue, letter, args=[40], kwargs={"b": 2})
    burst(queue)
    assert handle.result(1) == 42


@pytest.mark.parametrize(
    ("task", "args", "kwargs", "expected"),
    [
        (PyTask("m:f"), [1], None, PyTask("m:f", (1,))),
        (PyTask("m:f", (1,)), None, {"a": 2}, PyTask("m:f", (1,), {"a": 2})),
        (PyTask("m:f", (1,), {"a": 2}, 3), [], {}, PyTask("m:f", (), {}, 3)),
        (PyTask("m:f", (1,), {"a": 2}), (), {}, PyTask("m:f")),
        (GoTask("main.F", (1, 2)), (3, 4), None, GoTask("main.F", (3, 4))),
        (GoTask("main.F", 1), None, None, GoTask("main.F", 1)),
    ],
)
def test_editing(task: PyTask | GoTask, args: Any, kwargs: Any, expected: PyTask | GoTask) -> None:
    assert edited(task.serialize(), args, kwargs) == expected.serialize()


def test_editing_keeps_what_it_does_not_know() -> None:
    data = msgpack.packb(["m:f", [1], {}, -1, {"x": b"\xff", "id": "a"}, "more"])
    assert msgpack.unpackb(edited(data, [2], {"k": 1})) == ["m:f", [2], {"k": 1}, -1, {"x": b"\xff", "id": "a"}, "more"]
    data = msgpack.packb(["main.F", b"\x01", {"id": "a"}])
    assert msgpack.unpackb(edited(data, 5)) == ["main.F", b"\x05", {"id": "a"}]
    assert headers_of(data) == {"id": "a"}


@pytest.mark.parametrize("data", [b"\xc1", b"\xa1x", b"\x93\x01\x02\x03", GoTask("main.F").serialize()])
def test_what_cannot_be_edited(data: bytes) -> None:
    with pytest.raises(InvalidTask):
        edited(data, [1], {"a": 1})
    assert headers_of(data) == {}


def test_bounds(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(1000):
        queue.store.call("XADD", queue.keys.dead, f"{number + 1}-1", "task", "x", "reason", "", "detail", "", "worker", "")
    with caplog.at_level(logging.WARNING, "delayed"):
        yard = LostTasks(queue.store, most=300)
        assert yard.trim() == 700
        assert yard.trim() == 0  # it looks once a minute
    assert "removed the oldest dead letters: 700 as there were more than 300" in caplog.text
    assert [letter.id for letter in dead_letters(queue, 1)] == ["1000-1"]
    queue.store.call("XADD", queue.keys.dead, "*", "task", "x", "reason", "", "detail", "", "worker", "")
    assert LostTasks(queue.store, days=1).trim() == 300
    assert LostTasks(queue.store, most=1, days=1).trim() == 0
    for bounds in ({"dead_max": 0}, {"dead_days": 0.0}):
        with pytest.raises(ConfigurationError):
            Sweeper([queue], **bounds)


def lost_letters(queue: Queue, count: int) -> list[Any]:
    """Handles of tasks that an older sweeper has buried, who tells nobody."""
    handles = [queue.enqueue(PyTask("tasks:two", (number,), result_ttl=60)) for number in range(count)]
    for data in queue.store.call("LRANGE", queue.name, 0, -1):
        queue.store.call("XADD", queue.keys.dead, "*", "task", data, "reason", "lost", "detail", "d", "worker", "w")
    queue.store.call("UNLINK", queue.name, queue.keys.noti)
    return handles


def told(queue: Queue, handles: list[Any]) -> int:
    return sum(queue.store.call("HEXISTS", queue.keys.task(handle.id or ""), "result") for handle in handles)


def test_a_new_sweeper_tells_all_however_many_there_are(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delayed.dead_letters.lost._SCANNED", 100)
    handles = lost_letters(queue, 320)
    yard = LostTasks(queue.store)
    counts = [yard.tell() for _ in range(4)]
    assert counts == [150, 150, 20, 0]
    assert yard.told
    assert told(queue, handles) == 320


def test_no_letter_is_removed_before_its_task_is_told_of(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delayed.dead_letters.lost._SCANNED", 100)
    handles = lost_letters(queue, 320)
    yard = LostTasks(queue.store, most=10)
    assert [yard.trim() > 0 for _ in range(3)] == [False, False, True]
    assert told(queue, handles) == 320


def test_if_to_tell_is_refused_what_makes_room_goes_on(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    lost_letters(queue, 300)

    def refused(*_: object, **__: object) -> bool:
        raise redis.ResponseError("OOM command not allowed")

    monkeypatch.setattr(Store, "tell_lost", refused)
    assert LostTasks(queue.store, most=10).trim() > 0


def test_a_letter_that_any_program_wrote_stops_no_others(
    queue: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles = lost_letters(queue, 3)
    tell_lost = Store.tell_lost
    odd = handles[1].id

    def telling(asked: Store, letter: str, identity: Any, **named: Any) -> bool:
        if odd in (identity, getattr(identity, "id", None)):
            raise TypeError("what another program wrote")
        return tell_lost(asked, letter, identity, **named)

    monkeypatch.setattr(Store, "tell_lost", telling)
    assert LostTasks(queue.store).tell() == 2
    assert told(queue, handles) == 2
    assert "nobody can be told of dead letter" in caplog.text


def test_those_who_wait_for_a_lost_task_are_told(queue: Queue) -> None:
    handles = [queue.enqueue(PyTask("tasks:two", (number,), result_ttl=60)) for number in range(3)]
    handles.append(queue.enqueue(PyTask("tasks:two", (3,), **LOST)))
    queue.enqueue(PyTask("tasks:noop"))
    lose(queue, 3)
    assert sweep(queue.store).buried == 5
    for handle in handles:
        with pytest.raises(TaskFailed, match="lost: its worker died or lost its lease 3 times"):
            handle.result(1)
        assert handle.status().state is State.FAILED
    queue.enqueue(PyTask("tasks:noop", unique="k"))


class Killed(BaseException):
    """What a process does not survive."""


class Mortal:
    """Sends commands, until it is killed before or after the one that is numbered."""

    def __init__(self, queue: Queue, number: int, after: bool) -> None:
        self._queue, self._number, self._after = queue, number, after
        self.sent = 0

    def call(self, *command: Any) -> Any:
        last = self.sent == self._number
        if last and not self._after:
            raise Killed
        self.sent += 1
        reply = self._queue.store.call(*command)
        if last:
            raise Killed
        return reply


@pytest.mark.parametrize("knows", [False, True], ids=["a new sweeper", "one that has looked before"])
def test_a_kill_leaves_it_to_other_sweepers(queue: Queue, client: redis.Redis, knows: bool) -> None:
    number, after, ended = 0, False, False
    while not ended:
        client.delete(*client.scan_iter(f"{queue.name}*"), "x")
        other = LostTasks(queue.store)
        if knows:
            other.tell()
        handles = [queue.enqueue(PyTask("tasks:two", (each,), result_ttl=60)) for each in range(2)]
        handles.append(queue.enqueue(PyTask("tasks:two", (3,), **LOST)))
        lose(queue, 3)
        mortal = Mortal(queue, number, after)
        try:
            sweep(queue.store.over(mortal))
            ended = True
        except Killed:
            sweep(queue.store)  # it may bury the rest, and does not know what had been buried before
            other.tell()
        for handle in handles:
            with pytest.raises(TaskFailed, match="lost"):
                handle.result(0.001)
        assert not client.exists(queue.keys.unique("k"))
        assert client.xlen(queue.keys.dead) == 3
        number, after = number + after, not after
    assert number > 8, "it was cut at too few commands"


def test_what_was_retried_meanwhile_is_left_alone(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:two", (1,), **LOST))
    lose(queue, 3)
    names = [each.decode() for each in queue.store.call("HKEYS", queue.keys.processing)]
    assert queue.store.sweep(names, 3, "s", "x").buried == 1
    (letter,) = dead_letters(queue)
    assert letter.reason == Reason.LOST
    assert retry(queue, letter)
    assert LostTasks(queue.store).tell() == 0
    burst(queue)
    assert handle.result(1) == 3


@pytest.fixture
def run(redis_url: str) -> Any:
    def command(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["dead", *arguments, "--redis", redis_url])

    return command


def test_on_the_command_line(letters: Queue, run: Any) -> None:
    name = letters.name
    assert run("list", name, "--error", "boom").output.count("\n") == 3
    assert run("list", name, "--task", "tasks:n*", "--since", "1h").output.count("\n") == 1
    assert run("list", name, "--since", "2199-01-01").output == ""
    assert run("list", name, "--since", "soon").exit_code == 2
    (found,) = json.loads(run("list", name, "--text", "bang", "--json").output)
    assert found["attempts"] == 3
    shown = run("show", name, found["id"]).output
    assert "tried:  3" in shown
    assert "worker: " in shown
    assert run("retry", name, found["id"], "--args", "[").exit_code == 2
    assert run("retry", name, found["id"], "--kwargs", "[]").exit_code == 2
    assert run("retry", name, "--all", "--args", "[]").exit_code == 2
    assert run("retry", name, found["id"], "--reason", "failed").exit_code == 2
    assert "1 task waits again" in run("retry", name, found["id"], "--args", '["other"]', "--kwargs", "{}").output
    assert decode(letters.store.call("LINDEX", name, 0)).args == ["other"]
    assert "3 tasks wait again" in run("retry", name, "--reason", "failed").output
    assert "1 dead letter removed" in run("purge", name, "--text", "red").output


def test_a_letter_is_read_once(queue: Queue) -> None:
    asked: list[tuple[Any, ...]] = []

    class Noting:
        def call(self, *command: Any) -> Any:
            asked.append(command)
            return queue.store.call(*command)

    yard = LostTasks(queue.store.over(Noting()))
    assert yard.tell() == 0
    for expected in (True, False):
        if expected:
            queue.enqueue(PyTask("tasks:two", (1,), **LOST))
            data = queue.store.call("LPOP", queue.keys.queue)  # a sweeper of an older version has buried it
            fields = ("task", data, "reason", "lost", "detail", "x", "worker", "y")
            queue.store.call("XADD", queue.keys.dead, "*", *fields)
        asked.clear()
        assert yard.tell() == expected
        assert len([command for command, *_ in asked if command != "EVAL"]) == 1 + expected  # that a server needs at first


def test_a_letter_is_named_by_the_id_of_its_task(queue: Queue, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)
    handles = [queue.enqueue(PyTask("nowhere:f", (number,), track=True)) for number in range(3)]
    burst(queue)
    ids = [str(handle.id) for handle in handles]
    assert "args:   1" in command("dead", "show", queue.name, ids[1]).output
    assert "1 task waits again" in command("dead", "retry", queue.name, ids[1]).output
    assert "1 dead letter removed" in command("dead", "purge", queue.name, ids[0]).output
    assert f"no dead letter {ids[0]}" in command("dead", "purge", queue.name, ids[0], status=1).output
    assert "no dead letter" in command("dead", "retry", queue.name, "x" * 16, status=1).output
    (shown,) = json.loads(command("dead", "list", queue.name, "--json").output)
    assert (shown["arguments"], shown["task_id"]) == ("2", ids[2])
    assert not command("dead", "list", queue.name, "--until", "1h").output.count("nowhere:f")


def test_a_list_that_is_cut_says_how_many_there_are(queue: Queue, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)
    queue.enqueue_many(PyTask("nowhere:f", (number,)) for number in range(3))
    burst(queue)
    assert (
        "the newest 2 are shown, and the queue has 3 dead letters"
        in command("dead", "list", queue.name, "--count", "2").output
    )
    assert "are shown" not in command("dead", "list", queue.name, "--count", "3").output
