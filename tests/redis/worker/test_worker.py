"""A worker in this process."""

import logging
import threading
from collections.abc import Callable
from typing import cast

import msgpack
import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.errors import ConfigurationError
from delayed.job.allow import AllowAny
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.redis.channel import Ending
from delayed.redis.connect import connect
from delayed.redis.embedded import EmbeddedRedis
from delayed.redis.store import Store
from delayed.sweeper.sweep import sweep
from delayed.sweeper.sweeper import Sweeper
from delayed.task.task import GoTask, PyTask
from delayed.worker.leases import Lease
from delayed.worker.serial import SerialLoop
from delayed.worker.worker import Worker
from tests.conftest import burst, eventually

Start = Callable[[Worker], threading.Thread]


@pytest.fixture(autouse=True)
def _tasks_find_redis(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", server.url)


def results(client: redis.Redis, key: str) -> list[bytes]:
    return cast(list[bytes], client.lrange(key, 0, -1))


def popped(client: redis.Redis, key: str) -> bytes:
    """Wait for a task to say something."""
    reply = client.blpop([key], 20)
    assert reply is not None, f"nothing in {key}"
    return cast(bytes, reply[1])


def nothing_left(queue: Queue, client: redis.Redis) -> None:
    left = {key.decode() for key in client.scan_iter(f"{queue.name}*")}
    kept = {queue.keys.dead, queue.keys.stats, queue.keys.stats_total, queue.keys.history}
    assert {key for key in left if not queue.keys.owns_stats(key)} <= kept


def test_every_task_runs_once_in_order(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue_many(PyTask("tasks:note", (f"{queue.name}:r", number)) for number in range(500))
    burst(queue)
    assert results(client, f"{queue.name}:r") == [str(number).encode() for number in range(500)]
    client.delete(f"{queue.name}:r")
    nothing_left(queue, client)


def test_queues_are_served_by_priority(name: str, client: redis.Redis) -> None:
    high, low = Queue(f"{name}h", client), Queue(f"{name}l", client)
    low.enqueue_many(PyTask("tasks:note", (name, f"l{number}")) for number in range(3))
    high.enqueue_many(PyTask("tasks:note", (name, f"h{number}")) for number in range(3))
    Worker([high, low], allow=AllowAny(), burst=True).run()
    assert results(client, name) == [b"h0", b"h1", b"h2", b"l0", b"l1", b"l2"]


def test_an_idle_worker_of_several_queues_wakes_for_each(name: str, client: redis.Redis, threaded: Start) -> None:
    queues = [Queue(f"{name}{n}", client) for n in range(3)]
    threaded(Worker(queues, allow=AllowAny()))
    for number in (2, 0, 1, 2):
        queues[number].enqueue(PyTask("tasks:note", (name, number)))
        assert popped(client, name) == str(number).encode()


def test_retries_are_counted_in_the_task(queue: Queue, client: redis.Redis, server: EmbeddedRedis) -> None:
    queue.enqueue(PyTask("tasks:fail_until", (server.url, f"{queue.name}:n", 4), retry=3))
    burst(queue)
    assert client.get(f"{queue.name}:n") == b"4"
    assert not list(dead_letters(queue))


def test_a_negative_count_retries_until_success(queue: Queue, client: redis.Redis, server: EmbeddedRedis) -> None:
    queue.enqueue(PyTask("tasks:fail_until", (server.url, f"{queue.name}:n", 20), retry=-1))
    burst(queue)
    assert client.get(f"{queue.name}:n") == b"20"


def test_when_no_retry_is_left_the_task_is_a_dead_letter(queue: Queue) -> None:
    queue.enqueue(PyTask("tasks:fail", ("boom",), retry=2))
    burst(queue)
    (letter,) = dead_letters(queue)
    assert letter.reason == "failed"
    assert letter.detail.rstrip().endswith("ValueError: boom")
    assert "app/tasks.py" in letter.detail
    assert "delayed/worker/worker.py" not in letter.detail
    assert queue.len() == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xc1", "undecodable"),
        (msgpack.packb(["tasks:noop", 5]), "undecodable"),
        (GoTask("main.Note", (1,)).serialize(), "wrong_language"),
        (b"\xa9main.Zero", "undecodable"),
        (msgpack.packb(["tasks:noop", [], {}, 0, {"!later": 1}]), "unknown_header"),
        (PyTask("os:getpid").serialize(), "not_allowed"),
        (PyTask("tasks:nope").serialize(), "unknown_function"),
        (PyTask("tasks:two", (1, 2, 3)).serialize(), "bad_arguments"),
        (PyTask("tasks:inner_type_error").serialize(), "failed"),
        (PyTask("tasks:leave", (0,)).serialize(), "failed"),
    ],
)
def test_defect_u7_what_cannot_run_is_buried_with_its_bytes_and_reason(queue: Queue, data: bytes, reason: str) -> None:
    queue.store.call("RPUSH", queue.name, data)
    queue.store.call("RPUSH", queue.keys.noti, "1")
    queue.enqueue(PyTask("tasks:noop"))
    Worker(queue, allow=["tasks:*"], burst=True, unready_for=0).run()
    (letter,) = dead_letters(queue)
    assert (letter.data, letter.reason) == (data, reason)
    assert letter.detail
    assert queue.len() == 0


def test_defect_u13_keyword_arguments_that_are_an_array_are_not_lost(queue: Queue) -> None:
    data = msgpack.packb(["tasks:two", None, [1, 2]])  # what upstream's Go makes of a struct
    queue.store.call("RPUSH", queue.name, data)
    burst(queue)
    (letter,) = dead_letters(queue)
    assert (letter.data, letter.reason) == (data, "undecodable")


def test_a_missing_notification_costs_a_moment_and_not_a_task(queue: Queue, client: redis.Redis, threaded: Start) -> None:
    threaded(Worker(queue, allow=AllowAny()))
    eventually(lambda: inspect(queue).processes != [])
    queue.store.call("RPUSH", queue.name, PyTask("tasks:note", (f"{queue.name}:r", 1)).serialize())
    assert popped(client, f"{queue.name}:r") == b"1"


def test_defect_u11_surplus_notifications_do_not_stop_a_worker(queue: Queue, client: redis.Redis, threaded: Start) -> None:
    queue.store.call("RPUSH", queue.keys.noti, *["1"] * 100)
    worker = Worker(queue, allow=AllowAny())
    threaded(worker)
    queue.enqueue(PyTask("tasks:note", (f"{queue.name}:r", 1)))
    assert popped(client, f"{queue.name}:r") == b"1"


def test_an_idle_worker_keeps_no_leases(queue: Queue, client: redis.Redis, threaded: Start) -> None:
    queue.enqueue_many(PyTask("tasks:noop") for _ in range(500))
    threaded(Worker(queue, allow=AllowAny()))
    eventually(lambda: queue.len() == 0)

    def only_its_own() -> bool:
        return len(list(client.scan_iter(f"{queue.name}_lease_*"))) == 1

    eventually(only_its_own)


def test_stop_gives_back_what_has_not_begun(queue: Queue, client: redis.Redis) -> None:
    key = f"{queue.name}:h"
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(20))  # quick: so that it takes many at a time
    queue.enqueue(PyTask("tasks:hold", (key, 1)))
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(20, 70))
    worker = Worker(queue, allow=AllowAny())
    thread = threading.Thread(target=worker.run)
    thread.start()
    popped(client, f"{key}:began")
    worker.stop()
    worker.stop()
    client.rpush(f"{key}:go", 1)
    thread.join(60)
    assert not thread.is_alive()
    assert popped(client, f"{key}:ended") == b"1"
    waiting = client.lrange(queue.name, 0, -1)
    assert waiting == [PyTask("tasks:noop", (number,)).serialize() for number in range(20, 70)]
    assert client.llen(queue.keys.noti) == 50
    client.delete(queue.name, queue.keys.noti)
    nothing_left(queue, client)


def test_stop_before_run_and_during_the_wait(queue: Queue) -> None:
    worker = Worker(queue, allow=AllowAny())
    worker.stop()
    worker.run()
    patient = Worker(Queue(queue.name, queue.conn, dequeue_timeout=600), allow=AllowAny())
    thread = threading.Thread(target=patient.run)
    thread.start()
    eventually(lambda: patient.state.rounds > 0)
    patient.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_what_waits_behind_a_slow_task_goes_back_at_once(queue: Queue, client: redis.Redis, threaded: Start) -> None:
    key = f"{queue.name}:h"
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(200))
    queue.enqueue(PyTask("tasks:hold", (key, 1)))
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(20))
    threaded(Worker(queue, allow=AllowAny()))
    popped(client, f"{key}:began")
    eventually(lambda: queue.len() == 20)
    assert client.hlen(queue.keys.processing) == 1
    sibling = burst(queue)
    assert sibling.finished == 20
    client.rpush(f"{key}:go", 1)
    popped(client, f"{key}:ended")
    eventually(lambda: client.hlen(queue.keys.processing) == 0)


def test_a_worker_that_was_superseded_is_told(
    queue: Queue, client: redis.Redis, threaded: Start, caplog: pytest.LogCaptureFixture
) -> None:
    key = f"{queue.name}:h"
    worker = Worker(queue, keep_alive_interval=0.05, allow=AllowAny())
    threaded(worker)
    queue.enqueue(PyTask("tasks:hold", (key, 1)))
    popped(client, f"{key}:began")
    (lease,) = client.hkeys(queue.keys.processing)
    while True:  # until the sweep comes before the beat that makes the key again
        client.delete(lease)
        if sweep(queue.store).recovered:
            break
    eventually(lambda: client.exists(lease) == 1)
    client.rpush(f"{key}:go", 1)
    popped(client, f"{key}:ended")
    with caplog.at_level(logging.ERROR, "delayed"):
        eventually(lambda: worker.describe()["superseded"] == 1)
    assert "Superseded" in caplog.text
    popped(client, f"{key}:began")  # it is run again, by the same worker this time
    client.rpush(f"{key}:go", 1)
    popped(client, f"{key}:ended")


def test_a_lost_lease_that_nobody_swept_is_made_again(queue: Queue, client: redis.Redis, threaded: Start) -> None:
    key = f"{queue.name}:h"
    threaded(Worker(queue, keep_alive_interval=0.05, allow=AllowAny()))
    queue.enqueue(PyTask("tasks:hold", (key, 1)))
    popped(client, f"{key}:began")
    (lease,) = client.hkeys(queue.keys.processing)
    client.delete(lease)
    eventually(lambda: client.exists(lease) == 1)
    client.rpush(f"{key}:go", 1)
    popped(client, f"{key}:ended")


def test_defect_u12_fractions_of_seconds_are_fine(name: str, client: redis.Redis, threaded: Start) -> None:
    queue = Queue(name, client, dequeue_timeout=0.25, keep_alive_timeout=5.45)
    key = f"{name}:h"
    threaded(Worker(queue, keep_alive_interval=0.1, allow=AllowAny()))
    queue.enqueue(PyTask("tasks:hold", (key, 1)))
    popped(client, f"{key}:began")
    (lease,) = client.hkeys(queue.keys.processing)
    low = client.pttl(lease)
    assert 0 < low <= 5450
    eventually(lambda: client.pttl(lease) > 5450 - 60)  # a beat has come
    client.rpush(f"{key}:go", 1)
    popped(client, f"{key}:ended")
    assert sweep(queue.store).recovered == 0


def test_a_suspect_runs_and_clears_its_name(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue(PyTask("tasks:noop", (1,)))
    queue.store.take(["gone"], "t", 10)
    client.delete("gone")
    sweep(queue.store)
    assert client.hlen(queue.keys.lost) == 1
    burst(queue)
    nothing_left(queue, client)


@pytest.mark.parametrize("kind", ["kill", "flush"])
def test_faults_of_the_connection_lose_and_repeat_nothing(
    queue: Queue, client: redis.Redis, threaded: Start, kind: str
) -> None:
    key = f"{queue.name}:r"
    worker = Worker(queue, allow=AllowAny())
    threaded(worker)
    sent = 0
    for _ in range(20):
        queue.enqueue_many(PyTask("tasks:note", (key, sent + number)) for number in range(50))
        sent += 50
        if kind == "kill":
            for connection in client.client_list():
                if connection["cmd"] in ("blpop", "evalsha", "hdel"):
                    client.client_kill_filter(_id=connection["id"])
        else:
            client.script_flush()
    eventually(lambda: client.llen(key) >= sent and client.hlen(queue.keys.processing) == 0, 30)
    assert sorted(map(int, results(client, key))) == list(range(sent))


def test_a_take_whose_reply_was_lost_is_given_back(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.enqueue_many(PyTask("tasks:note", (f"{queue.name}:r", number)) for number in range(3))
    worker = Worker(queue, allow=AllowAny(), burst=True)
    channel = worker._parts.channel
    read = channel.read
    broken: list[object] = []

    def lose_the_first_take() -> object:
        reply = read()
        if isinstance(reply, list) and len(reply) > 1 and not broken:
            broken.append(reply)
            channel.close()
            raise redis.ConnectionError("the reply was lost")
        return reply

    monkeypatch.setattr(channel, "read", lose_the_first_take)
    worker.run()
    assert broken
    assert results(client, f"{queue.name}:r") == [b"0", b"1", b"2"]


def test_a_lease_is_used_again_only_after_the_reply_to_its_ending(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a take that is carried out before a repeated ending would lose its task to it."""
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(50))
    worker = Worker(queue, allow=AllowAny(), burst=True)
    unanswered: set[str] = set()
    post, take, answered = worker._parts.channel.post, Store.take, Lease.answered

    def posted(ending: Ending) -> None:
        assert isinstance(ending, Lease)
        unanswered.add(ending.name)
        post(ending)

    def confirmed(self: Lease, reply: object, repeated: bool) -> None:
        unanswered.discard(self.name)
        answered(self, reply, repeated)

    def taken(self: Store, names: list[str], *args: object, **kwargs: object) -> object:
        assert not unanswered & set(names)
        return take(self, names, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(worker._parts.channel, "post", posted)
    monkeypatch.setattr(Lease, "answered", confirmed)
    monkeypatch.setattr(Store, "take", taken)
    worker.run()
    assert worker.finished == 50


def test_a_beat_that_fails_is_tried_again(
    queue: Queue, client: redis.Redis, threaded: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(queue, keep_alive_interval=0.05, allow=AllowAny())
    describe, calls = worker.state.describe, iter(range(100_000))
    monkeypatch.setattr(worker.state, "describe", lambda: describe() if next(calls) > 3 else 1 / 0)
    threaded(worker)
    eventually(lambda: client.hlen(queue.keys.workers) == 1)
    assert "ZeroDivisionError" in caplog.text


def test_after_a_gap_no_old_lease_is_taken_for_living(queue: Queue, client: redis.Redis, threaded: Start) -> None:
    """The beat that comes after a gap must not make leases look alive that ran out in it while they held nothing."""
    key = f"{queue.name}:h"
    worker = Worker(queue, keep_alive_interval=0.05, allow=AllowAny())
    threaded(worker)
    queue.enqueue(PyTask("tasks:hold", (key, 1)))
    popped(client, f"{key}:began")
    worker.state.fresh_at -= 100
    stale = worker.state.fresh_at
    seen = client.hget(queue.keys.workers, queue.keys.lease(worker.name))
    eventually(lambda: client.hget(queue.keys.workers, queue.keys.lease(worker.name)) != seen)  # beats went on
    assert worker.state.fresh_at == stale
    old = set(worker.state.pools[0].made)
    client.rpush(f"{key}:go", 1)
    popped(client, f"{key}:ended")
    queue.enqueue(PyTask("tasks:hold", (key, 2)))
    popped(client, f"{key}:began")
    assert not old & set(worker.state.pools[0].made)
    client.rpush(f"{key}:go", 1)
    popped(client, f"{key}:ended")


def test_a_worker_that_slept_runs_nothing_that_it_held(
    queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may have taken what waited in its hand; all of it goes back, fenced."""
    key = f"{queue.name}:r"
    queue.enqueue_many(PyTask("tasks:note", (key, number)) for number in range(100))
    worker = Worker(queue, allow=AllowAny(), burst=True)
    run_one, clock = SerialLoop._run_one, iter(range(1000))

    def sleepy(loop: SerialLoop, lease: Lease, data: bytes) -> bool:
        if next(clock) == 40:
            worker.state.fresh_at -= 100  # as if it had been stopped for so long
        return run_one(loop, lease, data)

    monkeypatch.setattr(SerialLoop, "_run_one", sleepy)
    worker.run()
    assert sorted(map(int, results(client, key))) == list(range(100))
    client.delete(key)
    eventually(lambda: not client.keys(f"{queue.name}_lease_*"))  # those that were given up run out
    nothing_left(queue, client)


def test_what_redis_gave_long_ago_does_not_begin(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply to a take was on its way for longer than a lease lives: others may have had the task meanwhile."""
    key = f"{queue.name}:r"
    queue.enqueue(PyTask("tasks:note", (key, 1)))
    worker = Worker(queue, allow=AllowAny(), burst=True)
    take, begun, late = worker._parts.fetcher.take, [], iter([True])

    def slow(most: int) -> bool:
        found = take(most)
        if found and next(late, False):
            worker.state.fresh_at -= 100
            begun.append(client.llen(key))
            (lease,) = worker.state.buffer
            queue.store.call("DEL", lease.name)
            sweep(queue.store)  # and they have it now
            queue.store.call("LPOP", queue.name)
            queue.store.call("LPOP", queue.keys.noti)
        return found

    monkeypatch.setattr(worker._parts.fetcher, "take", slow)
    worker.run()
    assert (begun, client.llen(key)) == ([0], 0)


@pytest.mark.parametrize(
    "data", [msgpack.packb(["tasks:fail", ["x"], {}, 3, {}, 0]), msgpack.packb(["tasks:fail", ["x"], {}, 3, {}])]
)
def test_a_task_with_more_elements_is_retried_and_buried(queue: Queue, data: bytes) -> None:
    queue.store.call("RPUSH", queue.name, data)
    burst(queue)
    (letter,) = dead_letters(queue)
    assert letter.reason == "failed"
    assert msgpack.unpackb(letter.data)[3] == 0


@pytest.mark.parametrize("kind", ["traceback", "cause", "text", "unrunnable", "group", "keyboard"])
def test_exceptions_of_every_kind_end_the_task_and_not_the_worker(queue: Queue, kind: str) -> None:
    queue.enqueue(PyTask("tasks:raise_strange", (kind,)))
    queue.enqueue(PyTask("tasks:noop"))
    assert burst(queue).finished == 2
    (letter,) = dead_letters(queue)
    assert letter.reason == "failed"
    assert letter.detail


def test_an_empty_task_is_buried(queue: Queue) -> None:
    queue.store.call("RPUSH", queue.name, b"")
    burst(queue)
    (letter,) = dead_letters(queue)
    assert (letter.data, letter.reason) == (b"", "undecodable")


@pytest.mark.slow
def test_with_full_memory_leases_live_and_work_goes_on(server: EmbeddedRedis, threaded: Start) -> None:
    with EmbeddedRedis(options={"maxmemory-policy": "noeviction"}) as own, own.client() as client:
        first, second = (Queue(name, client, keep_alive_timeout=4) for name in ("a", "b"))
        worker = Worker([first, second], keep_alive_interval=0.1, allow=AllowAny())
        sweeper = Sweeper([first, second], 0.1)
        second.enqueue(PyTask("tasks:hold", ("h", 1)))  # it talks to the other server
        first.enqueue_many(PyTask("tasks:noop") for _ in range(100))
        threaded(worker)
        with server.client() as signals:
            popped(signals, "h:began")
            second.enqueue_many(PyTask("tasks:noop") for _ in range(100))
            client.config_set("maxmemory", 1)
            with pytest.raises(redis.OutOfMemoryError, match=r"no memory left for queue .* and nothing has been changed"):
                first.enqueue(PyTask("tasks:noop"))
            thread = threading.Thread(target=sweeper.run)
            thread.start()
            beats = worker.state.fresh_at
            eventually(lambda: worker.state.fresh_at > beats + 5)  # longer than a lease lives
            signals.rpush("h:go", 1)
            popped(signals, "h:ended")
            eventually(lambda: second.len() == 0 and client.hlen(second.keys.processing) == 0)
            sweeper.stop()
            thread.join(60)
            assert signals.llen("h:began") == 0
            signals.delete("h:began", "h:ended")
        assert worker.describe()["superseded"] == 0
        assert inspect(second).recovered == 0
        worker.stop()
        eventually(lambda: worker.state.left)


def test_the_register_says_who_works(queue: Queue, client: redis.Redis, threaded: Start) -> None:
    key = f"{queue.name}:h"
    threaded(Worker(queue, keep_alive_interval=0.1, allow=AllowAny()))
    sweeper = Sweeper([queue], 0.2)
    thread = threading.Thread(target=sweeper.run)
    thread.start()
    queue.enqueue(PyTask("tasks:hold", (key, 1)))
    popped(client, f"{key}:began")

    def seen() -> None:
        info = inspect(queue)
        assert {process["kind"] for process in info.processes} == {"worker", "sweeper"}
        (about,) = [process for process in info.processes if process["kind"] == "worker"]
        assert about["running"] == "tasks:hold"
        assert about["rss"] > 1 << 20
        assert (about["in_flight"], about["slots"]) == (1, 1)
        (lease,) = info.leases
        assert (lease.task, lease.held_by, lease.alive) == ("tasks:hold", about["place"], True)

    eventually(seen)
    sweeper.stop()
    sweeper.stop()
    thread.join(60)
    client.rpush(f"{key}:go", 1)
    popped(client, f"{key}:ended")


def test_without_an_allow_list_python_is_warned_and_upstream_s_applications_run(queue: Queue) -> None:
    queue.enqueue(PyTask("tasks:noop"))
    with pytest.warns(UserWarning, match="any importable function"):
        worker = Worker(queue, 15, 16, burst=True)
    worker.run()
    assert worker.finished == 1


def test_set_ups_that_cannot_work_are_refused(queue: Queue, server: EmbeddedRedis) -> None:
    with pytest.raises(ConfigurationError, match="at least one queue"):
        Worker([], allow=AllowAny())
    with pytest.raises(ConfigurationError, match="at least twice"):
        Worker(Queue("a", queue.conn, keep_alive_timeout=5), 3, allow=AllowAny())
    with pytest.raises(ConfigurationError, match="same `conn`"):
        Worker([queue, Queue("other", connect(server.url))], allow=AllowAny())
    with pytest.raises(ConfigurationError, match="twice"):
        Worker([queue, queue], allow=AllowAny())
    with pytest.raises(ConfigurationError):
        Worker(queue, 0, allow=AllowAny())
    with pytest.raises(ConfigurationError):
        Worker(queue, allow=[])
    for arguments in (([], 5), ([queue], 0)):
        with pytest.raises(ConfigurationError):
            Sweeper(*arguments)


def test_a_slow_beat_makes_leases_live_longer(queue: Queue) -> None:
    assert Worker(queue, 15, allow=AllowAny()).describe()["ttl"] == 45
    assert Worker(queue, allow=AllowAny()).describe()["ttl"] == 10


def test_at_debug_each_task_logs_its_start_and_end_but_not_its_arguments(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    queue.enqueue(PyTask("tasks:noop", ("secret",)))
    with caplog.at_level(logging.DEBUG, "delayed"):
        burst(queue)
    assert "Task tasks:noop starts" in caplog.text
    assert "Task tasks:noop succeeded" in caplog.text
    assert "secret" not in caplog.text
