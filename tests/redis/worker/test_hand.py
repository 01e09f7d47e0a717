"""Tracked tasks of one hand: they begin together, and end without a reply."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

from delayed.errors import TaskCancelled
from delayed.events import BUS, Kind
from delayed.job.allow import AllowAny
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.redis.channel import Channel
from delayed.redis.command import pack
from delayed.redis.scripts import SCRIPTS
from delayed.redis.store import Store
from delayed.task.headers import Holds
from delayed.task.result import State
from delayed.task.task import PyTask
from delayed.worker.completer import Completer
from delayed.worker.options import WorkerOptions
from delayed.worker.scoreboard import Scoreboard
from delayed.worker.worker import Worker
from tests.redis.test_costs import monitored
from tests.support.waiting import eventually

HANDLES: list[Handle[int]] = []
SEEN: list[list[State]] = []
MEANWHILE: list[Callable[[], object]] = []
GO = threading.Event()


def look(number: int) -> int:
    while MEANWHILE:
        MEANWHILE.pop()()
    SEEN.append([handle.status().state for handle in HANDLES])
    return number


def look_back(number: int) -> int:
    """As `look`, once Redis has read the ends of those before, which come over another connection."""
    eventually(lambda: all(handle.status().state is State.SUCCEEDED for handle in HANDLES[:number]))
    return look(number)


def wait(number: int) -> int:
    assert GO.wait(30)
    return number


@pytest.fixture(autouse=True)
def _new() -> None:
    HANDLES.clear()
    SEEN.clear()
    for event in (GO, LOOKED, BEGAN):
        event.clear()


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes back because the machine is slow."""
    for module in ("worker.prefetch", "worker.heartbeat"):
        monkeypatch.setattr(f"delayed.{module}.BUDGET", 60.0)


def with_hand(queue: Queue, size: int) -> Worker:
    """A worker that takes so many tasks at first."""
    worker = Worker(queue, allow=AllowAny(), burst=True)
    worker._parts.fetcher.size = size
    return worker


def sizes_of_questions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tasks each question is about that begins tasks together, from now on."""
    asked: list[int] = []
    start_many = Store.start_many

    def counted(self: Store, tasks: list[tuple[str, Holds, int]], worker: str) -> list[int]:
        asked.append(len(tasks))
        return start_many(self, tasks, worker)

    monkeypatch.setattr(Store, "start_many", counted)
    return asked


def filled(queue: Queue, count: int, function: Callable[[int], int] = look) -> None:
    HANDLES.extend(queue.enqueue_all(PyTask(function, (number,), result_ttl=60) for number in range(count)))


@pytest.mark.usefixtures("_quick")
def test_they_begin_together_and_end_one_by_one(queue: Queue) -> None:
    filled(queue, 3, look_back)
    with_hand(queue, 3).run()
    running, succeeded = State.RUNNING, State.SUCCEEDED
    assert [[running] * 3, [succeeded, running, running], [succeeded, succeeded, running]] == SEEN
    assert [handle.result(1) for handle in HANDLES] == [0, 1, 2]
    assert [handle.status().attempt for handle in HANDLES] == [1, 1, 1]


@pytest.mark.usefixtures("_quick")
def test_two_questions_begin_a_hand_and_each_end_is_one_command(queue: Queue, client: redis.Redis, name: str) -> None:
    filled(queue, 50, lambda_of_nothing)
    with monitored(client, name) as sent:
        with_hand(queue, 50).run()
    scripts = sent.count("EVALSHA")
    assert scripts - 50 <= 8, "take, start_many twice, what a beat calls, the statistics, and a look at what is due"
    assert sent.count("HMGET") <= 3, "the confirmation of all, and what a beat asks"


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("options", [{"concurrency_key": "k", "concurrency": 50}, {"unique": "k{}"}], ids=str)
def test_two_questions_begin_a_hand_with_keys(queue: Queue, client: redis.Redis, name: str, options: dict[str, Any]) -> None:
    for number in range(50):
        own: dict[str, Any] = {key: value.format(number) if type(value) is str else value for key, value in options.items()}
        queue.enqueue(PyTask(lambda_of_nothing, (number,), **own))
    with monitored(client, name) as sent:
        with_hand(queue, 50).run()
    assert sent.count("EVALSHA") - 50 <= 8, (
        "take, start_many twice, what a beat calls, the statistics, and a look at what is due"
    )


@pytest.mark.parametrize("key", ["k", "sch\u00fcssel", "x" * 500], ids=["short", "not ASCII", "long"])
def test_the_end_of_a_task_with_a_slot_is_packed_like_any_other_command(queue: Queue, key: str) -> None:
    own, lease = queue.keys, queue.keys.lease("t", 0)
    keys = (*own.home, own.processing, own.slots(key), own.waits(own.slots(key)))
    wanted = pack(*SCRIPTS["finish_held"].command(keys, (0, lease, "-", b"", 0)))
    assert queue.store.finish_held(lease, Holds(slots=key, limit=1)) == wanted


@pytest.mark.usefixtures("_quick")
def test_tasks_of_one_hand_follow_each_other_where_slots_are_few(queue: Queue, client: redis.Redis) -> None:
    for number in range(9):
        queue.enqueue(PyTask(lambda_of_nothing, (number,), concurrency_key="k", concurrency=2))
    worker = with_hand(queue, 9)
    worker.run()
    assert worker.finished == 9, "none had to wait for another of the hand"
    assert not client.exists(queue.keys.slots("k"), queue.keys.waited)


def failing(number: int) -> int:
    raise ValueError(number)


def lambda_of_nothing(number: int) -> int:
    return number


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("size", [1, 5])
def test_a_cancelled_one_never_begins(queue: Queue, size: int) -> None:
    filled(queue, 5)
    HANDLES[2].cancel()
    with_hand(queue, size).run()
    assert len(SEEN) == 4
    with pytest.raises(TaskCancelled):
        HANDLES[2].result(1)


LARGE = 40  # tasks of a hand that is begun in two questions


@pytest.mark.usefixtures("_quick")
def test_the_first_of_a_large_hand_run_while_redis_begins_the_others(
    queue: Queue, client: redis.Redis, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = sizes_of_questions(monkeypatch)
    filled(queue, LARGE)
    MEANWHILE.append(lambda: eventually(lambda: {handle.status().state for handle in HANDLES} == {State.RUNNING}))
    with_hand(queue, LARGE).run()
    assert sorted(asked) == [10, 30]
    assert [handle.result(1) for handle in HANDLES] == list(range(LARGE))
    assert [handle.status().attempt for handle in HANDLES] == [1] * LARGE


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("number", [1, 9, 10, 25, 39])
def test_a_cancelled_one_of_a_large_hand_never_begins(queue: Queue, number: int) -> None:
    filled(queue, LARGE)
    HANDLES[number].cancel()
    with_hand(queue, LARGE).run()
    assert len(SEEN) == LARGE - 1
    with pytest.raises(TaskCancelled):
        HANDLES[number].result(1)


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("place", [0, 5, 9, 10, 30])
def test_one_of_a_large_hand_may_fail(queue: Queue, place: int) -> None:
    """Its end has a reply, which comes after the answer to the second question."""
    for number in range(LARGE):
        function: Callable[[int], int] = failing if number == place else lambda_of_nothing
        HANDLES.append(queue.enqueue(PyTask(function, (number,), result_ttl=60)))
    with_hand(queue, LARGE).run()
    states = [handle.status().state for handle in HANDLES]
    assert states == [State.FAILED if number == place else State.SUCCEEDED for number in range(LARGE)]


@pytest.mark.usefixtures("_quick")
def test_where_the_second_question_is_refused_each_asks_for_itself(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    behind = Channel.behind
    monkeypatch.setattr(Channel, "behind", lambda self, _packed, hear: behind(self, pack("NO-SUCH-COMMAND"), hear))
    filled(queue, LARGE, lambda_of_nothing)
    HANDLES[20].cancel()
    with_hand(queue, LARGE).run()
    states = [handle.status().state for handle in HANDLES]
    assert states == [State.CANCELLED if number == 20 else State.SUCCEEDED for number in range(LARGE)]


@pytest.mark.usefixtures("_quick")
def test_the_connection_may_break_before_the_second_answer(queue: Queue, client: redis.Redis) -> None:
    filled(queue, LARGE)
    worker = with_hand(queue, LARGE)
    MEANWHILE.append(lambda: client.client_kill_filter(_id=str(worker._parts.channel.client_id)))
    worker.run()
    assert [handle.result(1) for handle in HANDLES] == list(range(LARGE))
    assert len(SEEN) <= LARGE + 1, "only what ran as it broke may have run again"


def test_one_that_was_told_to_run_is_queued_again_when_it_goes_back(queue: Queue, client: redis.Redis) -> None:
    """It waits behind a slow one, so the heartbeat gives it back."""
    filled(queue, 3, wait)
    worker = with_hand(queue, 3)
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: queue.len() == 2)
    assert [handle.status().state for handle in HANDLES] == [State.RUNNING, State.QUEUED, State.QUEUED]
    assert client.hlen(queue.keys.processing) == 1
    GO.set()
    thread.join()
    assert [handle.result(1) for handle in HANDLES] == [0, 1, 2]


@pytest.mark.usefixtures("_quick")
def test_what_went_back_after_its_beginning_does_not_begin_again_here(queue: Queue, client: redis.Redis) -> None:
    """A sweep has taken the others of the hand away while the first ran: another worker may have them."""
    filled(queue, 3)
    MEANWHILE.append(lambda: client.hdel(queue.keys.processing, *client.hkeys(queue.keys.processing)))
    with_hand(queue, 3).run()
    assert [len(seen) for seen in SEEN] == [3, 3, 3], "they ran: nobody could know"
    assert [handle.status().state for handle in HANDLES] == [State.RUNNING] * 3, "and none of them has ended"


@pytest.mark.usefixtures("_quick")
def test_where_there_are_limits_each_begins_alone(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.limit(concurrency=100)
    filled(queue, 3)
    asked = sizes_of_questions(monkeypatch)
    with_hand(queue, 3).run()
    assert asked == [1, 1, 1]


def test_a_result_that_is_large_is_not_kept_here(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("builtins:len", ("x" * 10,), result_ttl=60))
    other = queue.enqueue(PyTask("builtins:str", ("x" * 100_000,), result_ttl=60))
    with_hand(queue, 2).run()
    assert (handle.result(1), len(other.result(1))) == (10, 100_000)


def test_what_cannot_be_encoded_fails(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("builtins:object", (), result_ttl=60))
    with_hand(queue, 1).run()
    assert handle.status().state is State.FAILED


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(
    "options",
    [{"concurrency_key": "k", "concurrency": 2}, {"unique": "k", "unique_mode": "while_running", "track": True}],
    ids=["slots", "unique"],
)
def test_of_those_with_one_key_only_as_many_begin_as_may_run(queue: Queue, options: dict[str, Any]) -> None:
    """The others of the hand do not wait for those before them, which end in their turn."""
    most = options.get("concurrency", 1)
    queue.enqueue_all(PyTask(count_slots, (queue.name, number), **options) for number in range(6))
    RAN.clear()
    worker = with_hand(queue, 6)
    QUEUES[queue.name] = queue
    worker.run()
    assert [number for number, _ in RAN] == list(range(6))
    assert max(held for _, held in RAN) == most
    assert worker.state.counts["postponed"] == 0


RAN: list[tuple[int, int]] = []
QUEUES: dict[str, Queue] = {}
WORKERS: dict[str, Worker] = {}


def count_slots(name: str, number: int) -> None:
    call, keys = QUEUES[name].store.call, QUEUES[name].keys
    RAN.append((number, call("HLEN", keys.slots("k")) + call("EXISTS", keys.unique("k"))))


def test_a_slot_is_free_when_one_that_has_begun_goes_back(queue: Queue) -> None:
    queue.enqueue_all(PyTask(wait, (number,), concurrency_key="k", concurrency=3) for number in range(3))
    worker = with_hand(queue, 3)
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: (queue.len(), queue.store.call("HLEN", queue.keys.slots("k"))) == (2, 1))
    GO.set()
    thread.join()
    assert worker.finished == 3


def supervised(queue: Queue, size: int, **options: Any) -> Worker:
    """A worker that notes its endings."""
    scoreboard = Scoreboard(1, supervised=True)
    chosen = {"burst": True, **options}
    worker = Worker.of(WorkerOptions(queues=(queue,), allow=AllowAny(), **chosen), scoreboard)
    worker._parts.fetcher.size = size
    return worker


KINDS = pytest.mark.parametrize("kind", [{}, {"result_ttl": 60}, {"concurrency_key": "k", "concurrency": 200}], ids=str)


@KINDS
def test_what_is_noted_ends_though_a_slow_task_comes_after_it(queue: Queue, client: redis.Redis, kind: dict[str, Any]) -> None:
    noop, slow = "tasks:noop", "tests.redis.worker.test_hand:wait"
    queue.enqueue_many(PyTask(path, (number,), **kind) for number, path in enumerate((noop, noop, slow, noop)))
    worker = supervised(queue, 4)
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: (client.hlen(queue.keys.processing), queue.len()) == (1, 1))
    names = {lease.name for lease in worker.state.pools[0].made.values() if lease.gone}
    assert len(names) <= 2, "sent by the heartbeat, or by the worker itself before the slow one began"
    GO.set()
    thread.join()
    assert not names & set(worker.state.pools[0].made), "the heartbeat's command may come late: they are not used again"
    assert (worker.finished, worker.state.scoreboard.noted(0), queue.len()) == (4, [], 0)


@KINDS
def test_what_is_noted_while_the_heartbeat_looks_is_not_left_behind_a_slow_task(
    queue: Queue, client: redis.Redis, kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has sent what was noted, and a quick task ends and a slow one begins before it looks what is left."""
    first, looked, began = (f"tests.redis.worker.test_hand:{each}" for each in ("until_looked", "quick", "begin_and_wait"))
    queue.enqueue_many(PyTask(path, (number,), **kind) for number, path in enumerate((first, looked, began)))
    worker = supervised(queue, 3)
    give = Completer.give_delayed

    def looking(self: Completer) -> Any:
        found = give(self)
        LOOKED.set()
        assert BEGAN.wait(30)
        return found

    monkeypatch.setattr(Completer, "give_delayed", looking)
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: client.hlen(queue.keys.processing) == 1)
    GO.set()
    thread.join()
    assert worker.finished == 3


@KINDS
def test_what_is_noted_ends_though_the_queue_is_paused(queue: Queue, client: redis.Redis, kind: dict[str, Any]) -> None:
    QUEUES[queue.name] = queue
    queue.enqueue(PyTask(pause, (queue.name,), **kind))
    worker = supervised(queue, 4, keep_alive_interval=0.1, burst=False)
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: worker.finished == 1 and not client.hlen(queue.keys.processing))
    worker.stop()
    thread.join()
    queue.resume()


def test_who_hears_of_a_success_finds_the_value(queue: Queue) -> None:
    handle, found = queue.enqueue(PyTask(lambda_of_nothing, (7,), result_ttl=60)), list[Any]()
    leave = BUS.subscribe(lambda _: found.append(handle.result(timeout=10)), [Kind.SUCCEEDED])
    try:
        supervised(queue, 1).run()
    finally:
        leave()
    assert found == [7]


def test_the_next_task_may_enqueue_another_with_the_unique_key(queue: Queue) -> None:
    QUEUES[queue.name] = queue
    queue.enqueue(PyTask(lambda_of_nothing, (1,), unique="u"))
    queue.enqueue(PyTask(one_more, (queue.name,), result_ttl=60))
    worker = supervised(queue, 2)
    worker.run()
    assert worker.finished == 3, "it was no duplicate"


@KINDS
@pytest.mark.parametrize("options", [{}, {"endings_at_once": True}], ids=["together", "at once"])
def test_endings_go_together_if_they_are_noted(
    queue: Queue,
    client: redis.Redis,
    name: str,
    options: dict[str, Any],
    kind: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for quick in ("worker.prefetch.BUDGET", "worker.heartbeat.BUDGET", "worker.completer._DELAY"):
        monkeypatch.setattr(f"delayed.{quick}", 60.0)
    queue.enqueue_many(PyTask("tasks:noop", (number,), **kind) for number in range(100))
    how = "EVALSHA" if kind else "HDEL"
    with monitored(client, name) as sent:
        supervised(queue, 100, **options).run()
    assert sent.count(how) >= 100 if options else sent.count(how) <= 20
    assert not client.hlen(queue.keys.processing)


@pytest.mark.parametrize("value", ["x" * 5000, "x" * 1000], ids=["one is too long", "all are too long"])
def test_results_that_have_no_place_among_the_notes_are_sent_at_once(
    queue: Queue, client: redis.Redis, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for quick in ("worker.prefetch.BUDGET", "worker.heartbeat.BUDGET", "worker.completer._DELAY"):
        monkeypatch.setattr(f"delayed.{quick}", 60.0)
    handles = [queue.enqueue(PyTask(same, (value,), result_ttl=60)) for _ in range(100)]
    supervised(queue, 100).run()
    assert {handle.result(timeout=0) for handle in handles} == {value}
    assert not client.hlen(queue.keys.processing)


@KINDS
def test_what_was_noted_when_the_connection_broke_is_sent_over_the_next(
    queue: Queue, client: redis.Redis, kind: dict[str, Any]
) -> None:
    first, second = (PyTask("tasks:noop", (number,), **kind) for number in (1, 2))
    queue.enqueue_many([first, PyTask(drop_clients, (queue.name,), **kind), second])
    QUEUES[queue.name] = queue
    worker = WORKERS[queue.name] = supervised(queue, 3)
    worker.run()
    assert client.hlen(queue.keys.processing) == 0
    assert worker.state.counts["superseded"] == 0
    assert worker.state.scoreboard.noted(0) == []


LOOKED, BEGAN = threading.Event(), threading.Event()


def until_looked(number: int) -> int:
    assert LOOKED.wait(30)
    return number


def quick(number: int) -> int:
    return number


def begin_and_wait(number: int) -> int:
    BEGAN.set()
    return wait(number)


def pause(name: str) -> None:
    """Returns when the worker knows."""
    queue = QUEUES[name]
    queue.pause()
    for _ in range(2):
        seen = queue.store.call("HGETALL", queue.keys.workers)
        eventually(lambda: queue.store.call("HGETALL", queue.keys.workers) != seen)  # noqa: B023  # at once


def one_more(name: str) -> None:
    QUEUES[name].enqueue(PyTask(quick, (2,), unique="u"))


def same(value: str) -> str:
    return value


def drop_clients(name: str) -> None:
    RAN.append((0, 0))
    if len(RAN) == 1:
        QUEUES[name].store.call("CLIENT", "KILL", "ID", WORKERS[name]._parts.channel.client_id)


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()
