"""Schedules in Redis: each occurrence is one task, whoever runs them, and whenever one of them is killed."""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest
import redis

from delayed.cron import definition
from delayed.cron import schedules as module
from delayed.cron.definition import Entry, Recorded, define, recorded, unpack
from delayed.cron.expiring import choose
from delayed.cron.expression import Cron
from delayed.cron.schedules import Schedules, register, restore
from delayed.dead_letters.letter import dead_letters
from delayed.delay import delayed
from delayed.errors import DelayedError, InvalidSchedule, NotEncodable, UnknownSchedule
from delayed.job.allow import AllowAny
from delayed.queue.queue import Queue
from delayed.redis.connect import connect
from delayed.redis.foreign import ForeignType
from delayed.redis.store import Store
from delayed.sweeper.sweeper import Sweeper
from delayed.task.decode import decode, headers_of, path_of
from delayed.task.edit import with_expiry
from delayed.task.task import GoTask, PyTask
from delayed.worker.worker import Worker
from tests.conftest import burst, eventually

NEW_YEAR = "0 0 1 1 *"
PAST = round(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000)
YEARS = datetime.now(UTC).year - 2020 + 1  # new years since then


@pytest.fixture(autouse=True)
def _own_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definition, "_RECORDED", dict[tuple[str, str], Recorded]())
    monkeypatch.setattr(module, "_REGISTERED", dict[str, bool]())


@pytest.fixture
def schedules(queue: Queue) -> Schedules:
    return Schedules(queue)


def entry(catch_up: str = "skip", expression: str = NEW_YEAR, tz: str = "UTC", number: int = 1) -> Entry:
    return define(PyTask("tasks:two", (number,)), Cron(expression, tz, catch_up))


def make_due(queue: Queue, name: str, moment: int = PAST) -> None:
    assert queue.store.call("ZADD", queue.keys.cron_due, "XX", "CH", moment, name) == 1


def next_of(schedules: Schedules, name: str = "a") -> datetime | None:
    (found,) = [each.next for each in schedules.list() if each.name == name]
    return None if found is None else datetime.fromtimestamp(found, UTC)


def waiting(queue: Queue) -> list[bytes]:
    found: list[bytes] = queue.store.call("LRANGE", queue.keys.queue, 0, -1)
    return found


@pytest.mark.parametrize(("catch_up", "count"), [("skip", 0), ("one", 1), ("all", YEARS)])
def test_what_was_missed(queue: Queue, schedules: Schedules, catch_up: str, count: int) -> None:
    assert schedules.fire() is None
    schedules.put("a", entry(catch_up))
    assert schedules.fire() > 0  # type: ignore[operator]
    make_due(queue, "a")
    assert schedules.fire() > 0  # type: ignore[operator]
    assert waiting(queue) == [PyTask("tasks:two", (1,)).serialize()] * count
    assert queue.store.lengths() == (count, count)
    assert next_of(schedules) == datetime(2020 + YEARS, 1, 1, tzinfo=UTC)
    schedules.fire()
    assert queue.len() == count


def test_what_is_due_now_fires_whatever_the_catch_up(queue: Queue, schedules: Schedules) -> None:
    for catch_up in ("skip", "one", "all"):
        schedules.put(catch_up, entry(catch_up))
        make_due(queue, catch_up, schedules.now())
    schedules.fire()
    assert queue.len() == 3


def test_a_clock_that_was_set_back_repeats_and_loses_nothing(
    queue: Queue, schedules: Schedules, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [PAST]
    monkeypatch.setattr(Schedules, "now", lambda _: clock[0])
    schedules.put("a", entry("all", "*/5 * * * *"))
    fired = []
    for minutes in (4, 5, 3, 5, -60, 0, 9, 10, 7, 21, 11, 25):
        clock[0] = PAST + minutes * 60_000
        schedules.fire()
        fired.append(queue.len())
    assert fired == [0, 1, 1, 1, 1, 1, 1, 2, 2, 4, 4, 5]


def test_many_at_once_enqueue_each_occurrence_once(queue: Queue, redis_url: str) -> None:
    for number in range(10):
        Schedules(queue).put(f"s{number}", entry("all", number=number))
        make_due(queue, f"s{number}")
    others = [Schedules(Queue(queue.name, connect(redis_url))) for _ in range(8)]
    barrier = threading.Barrier(len(others))

    def fire(schedules: Schedules) -> None:
        barrier.wait()
        schedules.fire()

    threads = [threading.Thread(target=fire, args=(each,)) for each in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tasks = waiting(queue)
    assert {tasks.count(PyTask("tasks:two", (number,)).serialize()) for number in range(10)} == {YEARS}
    assert len(tasks) == 10 * YEARS


@pytest.mark.slow
def test_some_are_killed_while_they_fire(queue: Queue, redis_url: str) -> None:
    """Processes go round until they are killed, while schedules become due again and again."""
    for number in range(5):
        Schedules(queue).put(f"s{number}", entry("one", number=number))
    rounds = 20
    for turn in range(rounds):
        reader, writer = os.pipe()
        pids = [_firing(queue.name, redis_url, reader) for _ in range(3)]
        for number in range(5):
            make_due(queue, f"s{number}", PAST + turn)
        os.write(writer, b"xxx")
        eventually(lambda: queue.len() > 5 * turn)  # noqa: B023  # it is called at once
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)
        Schedules(queue).fire()
        assert queue.len() == 5 * (turn + 1)


def test_some_are_killed_between_occurrences_that_expire(queue: Queue, redis_url: str) -> None:
    """Each is another task, and so another command."""
    schedules, count = Schedules(queue), 400
    schedules.put("a", expiring(86400, "all", "* * * * *"))
    first = schedules.now() // 60_000 * 60_000 - (count - 1) * 60_000
    reader, writer = os.pipe()
    pids = [_firing(queue.name, redis_url, reader) for _ in range(3)]
    make_due(queue, "a", first)
    os.write(writer, b"xxx")
    for place, pid in enumerate(pids):
        eventually(lambda: queue.len() > 40 * place)  # noqa: B023  # it is called at once
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    schedules.fire()
    ends = [(decode(data).headers or {})["expires"] - 86400_000 for data in waiting(queue)]
    assert ends[:count] == [first + 60_000 * number for number in range(count)]
    assert len(ends) in (count, count + 1)  # a minute may have begun


def _firing(name: str, url: str, reader: int) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the other threads of a test process do not matter to the child
        pid = os.fork()
    if pid:
        return pid
    try:
        schedules = Schedules(Queue(name, connect(url)))
        os.read(reader, 1)
        while True:
            schedules.fire()
    finally:
        os._exit(1)


def test_a_change_in_between_is_seen(queue: Queue, schedules: Schedules, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever decides on what is old by then looks again."""
    schedules.put("a", entry("one"))
    make_due(queue, "a")
    run = Store.cron

    def late(asked: Store, *arguments: Any, **named: Any) -> bool:
        monkeypatch.setattr(Store, "cron", run)
        Schedules(queue).put("a", entry("one", number=2))
        return run(asked, *arguments, **named)

    monkeypatch.setattr(Store, "cron", late)
    schedules.fire()
    assert waiting(queue) == [PyTask("tasks:two", (2,)).serialize()]


def test_registering_again_changes_nothing(queue: Queue, schedules: Schedules) -> None:
    assert schedules.put("a", entry())
    make_due(queue, "a")
    assert not schedules.put("a", entry())
    assert next_of(schedules) == datetime(2020, 1, 1, tzinfo=UTC)
    assert schedules.put("a", entry(number=5))  # another task at the same times
    assert next_of(schedules) == datetime(2020, 1, 1, tzinfo=UTC)
    assert schedules.put("a", entry(expression="0 0 2 1 *"))
    assert next_of(schedules) in [datetime(2020 + YEARS - n, 1, 2, tzinfo=UTC) for n in (0, 1)]


def test_pause_resume_run_remove(queue: Queue, schedules: Schedules) -> None:
    schedules.put("a", entry("all"))
    make_due(queue, "a")
    assert schedules.pause("a")
    assert not schedules.pause("a")
    assert schedules.fire() is None
    assert schedules.put("a", entry("one"))  # a paused one stays so, whatever else is changed
    assert next_of(schedules) is None
    schedules.run("a")
    assert queue.store.lengths() == (1, 1)
    assert schedules.resume("a")
    assert not schedules.resume("a")
    assert next_of(schedules) == datetime(2020 + YEARS, 1, 1, tzinfo=UTC)
    schedules.fire()
    schedules.run("a")
    assert queue.len() == 2
    assert next_of(schedules) == datetime(2020 + YEARS, 1, 1, tzinfo=UTC)
    schedules.remove("a")
    assert schedules.list() == []
    assert queue.store.call("EXISTS", queue.keys.cron, queue.keys.cron_due) == 0


def test_an_unknown_name_is_told_the_known_ones(schedules: Schedules) -> None:
    with pytest.raises(UnknownSchedule, match="delayed cron sync"):
        schedules.run("a")
    schedules.put("b", entry())
    schedules.put("c", entry())
    for use in (schedules.pause, schedules.resume, schedules.run, schedules.remove):
        with pytest.raises(UnknownSchedule, match="no schedule 'a'; there are: b, c"):
            use("a")


def test_the_list_is_by_time(schedules: Schedules) -> None:
    schedules.put("x", entry(expression="* * * * *"))
    schedules.put("y", entry(expression="0 0 29 2 *", tz="Europe/Zurich"))
    schedules.put("go", define(GoTask("main.F", 1), Cron("0 0 29 2 *", "Asia/Tokyo")))
    schedules.put("b", entry())
    schedules.pause("b")
    assert [each.name for each in schedules.list()] == ["x", "go", "y", "b"]
    assert schedules.list()[1][1:5] == ("0 0 29 2 *", "Asia/Tokyo", "skip", "main.F")


@pytest.mark.breaks_invariants("somebody has written other things there")
def test_what_cannot_be_read_is_reported_and_holds_nothing_up(
    queue: Queue, schedules: Schedules, caplog: pytest.LogCaptureFixture
) -> None:
    good = msgpack.unpackb(entry("one").pack())
    for name, value in {
        "noise": b"\xc1",
        "zone": msgpack.packb({**good, "tz": "Moon/Crater"}),
        "no task": b"\x80",
    }.items():
        queue.store.call("HSET", queue.keys.cron, name, value)
        queue.store.call("ZADD", queue.keys.cron_due, 1, name)
    queue.store.call("ZADD", queue.keys.cron_due, 1, "orphan")
    schedules.put("a", entry("one"))
    make_due(queue, "a")
    assert schedules.fire() > 0  # type: ignore[operator]
    assert queue.len() == 1
    assert "Moon/Crater" in caplog.text
    assert queue.store.call("ZSCORE", queue.keys.cron_due, "orphan") is None
    assert {each.name for each in schedules.list()} == {"a", "noise", "zone", "no task"}
    with pytest.raises(InvalidSchedule, match="Moon/Crater"):
        schedules.run("zone")
    schedules.remove("noise")


@pytest.fixture
def sweeping(queue: Queue) -> Iterator[list[threading.Thread]]:
    """Sweepers that look by themselves once in ten minutes."""
    sweepers = [Sweeper([queue], 600) for _ in range(3)]
    threads = [threading.Thread(target=each.run) for each in sweepers]
    for thread in threads:
        thread.start()
    eventually(lambda: queue.store.call("HLEN", queue.keys.workers) == 3)
    yield threads
    for sweeper in sweepers:
        sweeper.stop()
    for thread in threads:
        thread.join(60)


def test_sweepers_fire_in_time_and_hear_of_new_schedules(queue: Queue, schedules: Schedules, sweeping: object) -> None:
    began = schedules.now() // 1000
    schedules.put("a", entry("all", "* * * * * *"))
    eventually(lambda: queue.len() >= 3)
    schedules.pause("a")
    passed = schedules.now() // 1000 - began
    assert 3 <= queue.len() <= passed
    count = queue.len()
    schedules.run("a")
    assert queue.len() == count + 1


def test_the_decorator_defines_what_is_registered(queue: Queue, schedules: Schedules) -> None:
    task = delayed(queue)
    often = task.cron("* * * * *", name="often", args=[2])(sample)
    nightly = task.cron("30 2 * * *", tz="Europe/Zurich", catch_up="one", args=[1], kwargs={"b": 5}, retry=2, timeout=60)
    assert nightly(often)(1) == 1  # it is still a function
    assert schedules.list() == []  # nothing happens at import
    assert register([queue]) == 2
    assert register([queue]) == 0
    assert register([Queue(f"{queue.name}2", queue.conn)]) == 0
    path = f"{__name__}:sample"
    found = {each.name: each for each in schedules.list()}
    assert found["often"][1:5] == ("* * * * *", "UTC", "skip", path)
    assert found[path][1:5] == ("30 2 * * *", "Europe/Zurich", "one", path)
    schedules.run(path)
    call = decode(waiting(queue)[0])
    assert (call.args, call.kwargs, call.retry, call.headers) == ([1], {"b": 5}, 2, {"timeout": 60_000})


def test_decorated_functions_still_have_delay(queue: Queue) -> None:
    two = delayed(queue).cron("* * * * *", args=(1,))(sample)
    two.delay(1)
    (each,) = recorded()
    assert (each.queue, each.name) == (queue.name, f"{__name__}:sample")
    register([queue])
    Schedules(queue).run(each.name)
    assert burst(queue).finished == 2


def sample(a: int, b: int = 0) -> int:
    return a + b


def test_definitions_that_cannot_work(queue: Queue) -> None:
    task = delayed(queue)
    options: list[dict[str, Any]] = [{"result_ttl": 5}, {"after": 5}, {"track": True}, {"unique": "a"}]
    for option in options:
        with pytest.raises(InvalidSchedule, match=f"sample: .* cannot have {next(iter(option))}"):
            task.cron("* * * * *", **option)(sample)
    with pytest.raises(InvalidSchedule, match="seconds after each occurrence"):
        task.cron("* * * * *", expires=datetime.now(UTC))(sample)
    with pytest.raises(NotEncodable):
        task.cron("* * * * *", args=[object()])(sample)
    with pytest.raises(InvalidSchedule, match="larger than"):
        task.cron("* * * * *", args=["x" * 2**20])(sample)
    with pytest.raises(InvalidSchedule, match="never fires"):
        task.cron("0 0 30 2 *")
    task.cron("* * * * *", args=[1])(sample)
    task.cron("* * * * *", args=[1])(sample)  # the module was imported twice
    with pytest.raises(InvalidSchedule, match="another name, as name="):
        task.cron("* * * * *", args=[2])(sample)


def test_a_definition_is_always_the_same_bytes() -> None:
    assert entry().pack() == entry().pack()
    assert unpack(entry().pack()).pack() == entry().pack()
    assert expiring(60).pack() == expiring(60).pack() != entry().pack()
    assert unpack(expiring(60).pack()) != entry()
    assert unpack(expiring(60).pack()).pack() == expiring(60).pack()
    assert expiring(60).task == PyTask("tasks:two", (1,)).serialize()  # it is upstream's until it is fired
    for wrong in (0, -1, 1.5, True, "60", 2**54):
        with pytest.raises(InvalidSchedule):
            unpack(msgpack.packb({**msgpack.unpackb(entry().pack()), "expires": wrong}))


def expiring(seconds: float, catch_up: str = "skip", expression: str = "0 * * * *") -> Entry:
    return define(PyTask("tasks:two", (1,), expires=seconds), Cron(expression, "UTC", catch_up))


HOUR = 3600_000


@pytest.mark.parametrize(
    ("catch_up", "late", "lasts", "ages"),
    [
        ("skip", 0, 60, [0]),
        ("one", 0, 60, [0]),
        ("all", 0, 60, [0]),
        ("skip", 30, 20, []),  # it is not too late to fire, but to begin
        ("one", 30, 20, []),
        ("all", 30, 20, []),
        ("skip", 3 * 3600 + 600, 7200, []),
        ("one", 3 * 3600 + 600, 7200, [600]),  # of the last of those that have passed
        ("one", 3 * 3600 + 600, 500, []),
        ("all", 3 * 3600 + 600, 7200, [4200, 600]),
        ("all", 3 * 3600 + 600, 500, []),
        ("all", 3 * 3600 + 600, 86400, [11400, 7800, 4200, 600]),
    ],
)
def test_tasks_of_a_schedule_expire_after_their_occurrence(
    queue: Queue, schedules: Schedules, monkeypatch: pytest.MonkeyPatch, catch_up: str, late: int, lasts: int, ages: list[int]
) -> None:
    now = PAST + 100 * HOUR + late * 1000  # as if it were then
    monkeypatch.setattr(Schedules, "now", lambda _: now)
    schedules.put("a", expiring(lasts, catch_up))
    due = (now - late * 1000) // HOUR * HOUR
    make_due(queue, "a", due)
    schedules.fire()
    found = [decode(data) for data in waiting(queue)]
    assert [(call.headers or {})["expires"] for call in found] == [now - age * 1000 + lasts * 1000 for age in ages]
    assert all((call.func_path, call.args, call.kwargs, call.retry) == ("tasks:two", [1], {}, 0) for call in found)
    following = next_of(schedules)
    assert following is not None
    assert following.timestamp() * 1000 == now // HOUR * HOUR + HOUR
    schedules.fire()
    assert len(waiting(queue)) == len(ages)


def test_an_occurrence_that_is_run_by_hand_expires_from_then_on(
    queue: Queue, schedules: Schedules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Schedules, "now", lambda _: PAST)
    schedules.put("a", expiring(60))
    schedules.run("a")
    assert [(decode(data).headers or {})["expires"] for data in waiting(queue)] == [PAST + 60_000]
    assert schedules.list()[0].expires == 60
    burst(queue)
    assert [letter.reason for letter in dead_letters(queue)] == ["expired"]


def test_the_newest_of_very_many_is_found() -> None:
    cron = Cron("* * * * * *", "UTC", "one")  # each second
    assert choose(cron, PAST, PAST + 100 * HOUR, 50 * HOUR) == (PAST + 100 * HOUR, PAST + 100 * HOUR + 1000)
    cron = Cron("0 0 1 1 *", "UTC", "one")
    assert choose(cron, PAST, PAST + 400 * 24 * HOUR, 300 * 24 * HOUR).moment == PAST + 366 * 24 * HOUR
    assert choose(cron, PAST, PAST + 300 * 24 * HOUR, 300 * 24 * HOUR).moment is None


def test_the_header_is_added_to_what_other_programs_wrote() -> None:
    for data, after in (
        (msgpack.packb("p.F"), ["p.F", None, {"expires": 5}]),
        (msgpack.packb(["m:f", None, None]), ["m:f", None, None, 0, {"expires": 5}]),
        (msgpack.packb(["p.F", b"", "no map", 7]), ["p.F", b"", {"expires": 5}]),
    ):
        assert msgpack.unpackb(with_expiry(data, 5)) == after


@pytest.mark.parametrize(
    "task",
    [
        PyTask("m:f"),
        PyTask("m:f", (1, "\udcff")),
        PyTask("m:f", (), {"a": 1}),
        PyTask("m:f", (), None, -1),
        PyTask("m:f", ({1: datetime.now(UTC)},), {"b": b"x"}, 3, group="g"),
        GoTask("p.F"),
        GoTask("p.F", (1, 2), 3),
        GoTask("p.F", 1, timeout=1),
    ],
)
def test_the_header_is_added_to_any_task(task: PyTask | GoTask) -> None:
    before, after = task.serialize(), with_expiry(task.serialize(), 5)
    assert headers_of(after) == {**headers_of(before), "expires": 5}
    assert path_of(after) == task.func_path
    assert with_expiry(after, 5) == after
    if isinstance(task, PyTask):
        assert decode(after)[:2] == decode(before)[:2] or not task.args
        assert decode(after)[2:4] == decode(before)[2:4]
    else:
        assert msgpack.unpackb(after)[:2] == msgpack.unpackb(before)[:2]


@pytest.mark.breaks_invariants("a key has a foreign type for a while")
@pytest.mark.parametrize("part", ["queue", "noti", "cron", "cron_due", "wake"])
def test_a_foreign_type_is_named_and_nothing_is_lost(
    queue: Queue, schedules: Schedules, client: redis.Redis, part: str
) -> None:
    schedules.put("a", entry("one"))
    client.delete(queue.keys.wake)
    make_due(queue, "a")
    key = queue.keys.all()[part]
    if client.exists(key):
        client.rename(key, f"aside:{queue.name}")
    client.set(key, "another program's")
    with pytest.raises(ForeignType, match=key):
        schedules.fire()
    client.delete(key)
    if client.exists(f"aside:{queue.name}"):
        client.rename(f"aside:{queue.name}", key)
    assert queue.store.lengths() == (0, 0)
    schedules.fire()
    assert queue.store.lengths() == (1, 1)


def test_redis_without_memory_delays_schedules_and_loses_none(queue: Queue, schedules: Schedules, client: redis.Redis) -> None:
    schedules.put("a", entry("one"))
    make_due(queue, "a")
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.ResponseError):
            schedules.fire()
    finally:
        client.config_set("maxmemory", 0)
    schedules.fire()
    assert queue.store.lengths() == (1, 1)


ODD_SCORES = ["1.5", "-inf", "inf", "-5", "1e300", "-1e300", "1577836800000.25", "0.0000001", "9007199254740993.5"]


@pytest.mark.parametrize("catch_up", ["skip", "one", "all"])
@pytest.mark.parametrize("score", ODD_SCORES)
def test_any_score_holds_nothing_up(queue: Queue, schedules: Schedules, score: str, catch_up: str) -> None:
    schedules.put("odd", entry(catch_up))
    queue.store.call("ZADD", queue.keys.cron_due, score, "odd")
    schedules.put("a", entry("one", number=2))
    make_due(queue, "a")
    schedules.fire()
    assert PyTask("tasks:two", (2,)).serialize() in waiting(queue)
    goes_on = float(score) < 1e15  # else it is never due
    assert (next_of(schedules, "odd") == next_of(schedules, "a")) == goes_on
    schedules.list()
    assert schedules.put("odd", entry(catch_up, number=3))
    schedules.run("odd")
    assert waiting(queue)[-1] == PyTask("tasks:two", (3,)).serialize()
    schedules.resume("odd")
    assert next_of(schedules, "odd") == next_of(schedules, "a")
    assert schedules.pause("odd")
    schedules.remove("odd")


def test_an_empty_definition_is_one_of_many(queue: Queue, schedules: Schedules, caplog: pytest.LogCaptureFixture) -> None:
    queue.store.call("HSET", queue.keys.cron, "empty", b"")
    queue.store.call("ZADD", queue.keys.cron_due, 1, "empty")
    schedules.fire()
    assert "schedule empty cannot be run, and waits" in caplog.text
    assert schedules.put("empty", entry())
    assert next_of(schedules, "empty") is not None


def test_a_change_that_others_are_always_faster_than_ends(
    queue: Queue, schedules: Schedules, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedules.put("a", entry("one"))
    make_due(queue, "a")
    tried: list[Any] = []

    def too_late(*arguments: Any, **_: Any) -> bool:
        tried.append(arguments)
        return False

    monkeypatch.setattr(Store, "cron", too_late)
    for change in (lambda: schedules.put("a", entry(number=2)), lambda: schedules.run("a"), lambda: schedules.pause("a")):
        with pytest.raises(DelayedError, match=r"'a' of .* was changed by others 100 times; try again"):
            change()
    assert schedules.fire(lambda: True) == 0
    assert len(tried) == 400


def test_one_that_raises_stops_no_other(
    queue: Queue, schedules: Schedules, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number, name in enumerate("abc"):
        schedules.put(name, entry("one", number=number))
        make_due(queue, name, PAST + number)
    decide = Cron.decide

    def odd(cron: Cron, due: int, now: int) -> Any:
        return 1 // (due - PAST) and decide(cron, due, now)

    monkeypatch.setattr(Cron, "decide", odd)
    schedules.fire()
    assert queue.len() == 1
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    schedules.fire()
    assert queue.len() == 3


def test_one_that_is_refused_stops_no_other(queue: Queue, schedules: Schedules, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        schedules.put(name, entry("one"))
        make_due(queue, name)
    run = Store.cron

    def refusing(asked: Store, name: str, *arguments: Any, **named: Any) -> bool:
        if name == "a":
            raise redis.ResponseError("OOM command not allowed")
        return run(asked, name, *arguments, **named)

    monkeypatch.setattr(Store, "cron", refusing)
    with pytest.raises(redis.ResponseError, match="OOM"):
        schedules.fire()
    assert queue.len() == 2


def test_steps_are_bounded_and_all_have_their_turn(queue: Queue, schedules: Schedules) -> None:
    for number in range(3):
        schedules.put(f"s{number}", entry("all", "* * * * * *", number=number))
        queue.store.call("ZADD", queue.keys.cron_due, "XX", number, f"s{number}")  # since 1970
    for step in range(6):
        assert schedules.fire(lambda: True) == 0
        assert queue.len() == 1000 * (step + 1)
    tasks = waiting(queue)
    assert [tasks.count(PyTask("tasks:two", (number,)).serialize()) for number in range(3)] == [2000] * 3


@pytest.fixture
def registered(queue: Queue) -> Queue:
    """A queue with two schedules that code defines."""
    for number in range(2):
        definition.record(queue, f"s{number}", entry(number=number))
    assert restore(queue.store) == 0  # nobody asked for it
    assert register([queue]) == 2
    return queue


def lose_data(queue: Queue) -> None:
    queue.store.call("UNLINK", *queue.keys.all().values())


def test_schedules_come_back_when_redis_has_lost_them(
    registered: Queue, schedules: Schedules, caplog: pytest.LogCaptureFixture
) -> None:
    assert restore(registered.store) == 0
    lose_data(registered)
    assert restore(registered.store) == 2
    warnings = [record.getMessage() for record in caplog.records if record.levelname != "INFO"]
    assert len(warnings) == 1, warnings
    assert "Redis has lost its data: registered 2 schedules again" in caplog.text
    assert {each.name for each in schedules.list()} == {"s0", "s1"}
    assert restore(registered.store) == 0


def test_what_an_operator_has_removed_or_paused_stays_so(registered: Queue, schedules: Schedules) -> None:
    schedules.remove("s0")
    schedules.pause("s1")
    assert restore(registered.store) == 0
    assert [(each.name, each.next) for each in schedules.list()] == [("s1", None)]
    registered.store.call("HDEL", registered.keys.cron, "s1")  # by hand
    assert restore(registered.store) == 0
    assert register([registered]) == 2  # a deployment


def test_a_fail_over_that_loses_the_newest_writes_is_mended(registered: Queue, schedules: Schedules) -> None:
    registered.store.call("HDEL", registered.keys.cron, "s1")
    registered.store.call("HDEL", registered.keys.cron_defined, "s1")
    registered.store.call("ZREM", registered.keys.cron_due, "s1")
    assert restore(registered.store) == 1
    assert {each.name for each in schedules.list()} == {"s0", "s1"}


def test_what_could_not_be_registered_is_registered_later(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(30):
        definition.record(queue, f"s{number}", entry(number=number))
    with monkeypatch.context() as away:
        away.setattr(Store, "cron", lambda *_, **__: (_ for _ in ()).throw(redis.ConnectionError()))
        with pytest.raises(redis.ConnectionError):
            register([queue])
    assert [restore(queue.store) for _ in range(3)] == [20, 10, 0]  # a few at each beat
    assert "lost its data" not in caplog.text


def test_a_worker_sees_that_redis_has_lost_its_data(registered: Queue, threaded: Callable[[Worker], Any]) -> None:
    threaded(Worker(registered, keep_alive_interval=0.05, allow=AllowAny()))
    eventually(lambda: registered.store.call("HLEN", registered.keys.workers) == 1)
    lose_data(registered)
    eventually(lambda: registered.store.call("HLEN", registered.keys.cron) == 2)
