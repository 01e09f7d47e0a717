"""Every operation of ours, to be cut at each of its commands."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis

import delayed.queue.queue
import delayed.worker.heartbeat
import delayed.worker.prefetch
import delayed.worker.recovery
import delayed.worker.starts
from delayed.cron.definition import define
from delayed.cron.expression import Cron
from delayed.cron.schedules import Schedules
from delayed.dead_letters.letter import dead_letters
from delayed.errors import Reason
from delayed.job.allow import AllowAny
from delayed.queue.queue import Queue
from delayed.redis.connect import connect
from delayed.sweeper.sweep import sweep
from delayed.sweeper.sweeper import Sweeper
from delayed.task.decode import headers_of
from delayed.task.headers import holds_in
from delayed.task.task import PyTask
from delayed.worker.worker import Worker

from .crash_points import Counter
from .crash_tasks import RETURNED, STAGE, note

FIRST_YEAR = 2020
YEARS = datetime.now(UTC).year - FIRST_YEAR + 1
NO_LIMIT = 1000  # losses: the sweeps that clear up bury nothing


@dataclass
class Stage:
    """What an operation works on."""

    queue: Queue
    client: redis.Redis
    url: str
    path: Path  # where tasks note that they ran
    taken: int = 0  # by what is prepared

    def task(self, number: int, function: str = "run", retry: int = 0, **options: Any) -> PyTask:
        return PyTask(f"tests.crash_points.crash_tasks:{function}", (str(self.path), number), retry=retry, **options)

    def put(self, *functions: str, retry: int = 0) -> None:
        """Tasks 0, 1, … wait."""
        for number, function in enumerate(functions):
            self.queue.enqueue(self.task(number, function, retry))

    def lose(self, tasks: list[PyTask], times: int = 1, alive: bool = False) -> None:
        """Tasks that a dead worker held (or a living one holds), that had been lost before."""
        self.queue.enqueue_many(tasks)
        for _ in range(times - 1):
            self._hold()
            self.forget_leases()
            sweep(self.queue.store, NO_LIMIT)
        self._hold()
        if not alive:
            self.forget_leases()

    def _hold(self) -> None:
        while count := self.queue.len():  # suspects come one by one
            leases = [self.queue.keys.lease(f"{self.taken:04}", number) for number in range(count)]
            self.queue.store.take(leases, "t", 600, waiting=True)
            self.taken += 1

    def forget_leases(self) -> None:
        """Their TTL is over."""
        for key in self.client.scan_iter(f"{self.queue.name}_lease_*", count=1000):
            self.client.delete(key)


Operation = Callable[["Stage", Counter], None]


@dataclass(frozen=True)
class Scenario:
    """An operation, and what the model says about its tasks.

    `runs` says how often each task runs if nobody dies. Those in `dead` end as dead letters, too; those in `either` run or are
    dead letters. Those that are enqueued by the operation itself (`enqueued`) may be missing if the call did not return.
    Of workflows `ends` says this, where the last one is how they end if nobody dies.
    """

    name: str
    prepare: Callable[[Stage], Any]
    operate: Operation
    runs: dict[int, int]
    dead: frozenset[int] = frozenset()
    either: frozenset[int] = frozenset()
    enqueued: frozenset[int] = frozenset()
    interrupted: frozenset[int] = frozenset()  # may run once more: they are given back in mid-execution
    everything: bool = False  # cut the loading of scripts, too
    status: int = 0
    expects: tuple[str, ...] = field(default=())  # commands without which it would not be what its name says
    ends: dict[str, dict[int, int]] = field(default_factory=dict)  # how its workflows may have ended → how often each task ran
    repeat: Callable[[Stage], Any] | None = None  # what its caller does again if its workflow has not ended as it should


def _fresh(stage: Stage) -> Queue:
    """In a child: a queue over connections of its own."""
    return Queue(stage.queue.name, connect(stage.url), dequeue_timeout=0.01, keep_alive_timeout=600)


def _worker(burst: bool) -> Operation:
    def operate(stage: Stage, counter: Counter) -> None:
        # No command may depend on the clock: what is counted once must be the same each time.
        delayed.worker.prefetch.BUDGET = delayed.worker.heartbeat.BUDGET = 600  # type: ignore[attr-defined]
        delayed.worker.recovery._FIRST_PAUSE = 0.001
        STAGE.url, STAGE.counter = stage.url, counter
        STAGE.worker = Worker(_fresh(stage), 100, allow=AllowAny(), burst=burst, unready_for=0)
        STAGE.worker.run()

    return operate


def _in_turn(stage: Stage, counter: Counter) -> None:
    """A worker to which four tasks are a large hand."""
    delayed.worker.starts._LARGE = 4
    _worker(burst=True)(stage, counter)


def _interrupted_worker(stage: Stage, counter: Counter) -> None:
    """It is stopped when its blocking pop has been sent."""

    def stop() -> None:
        assert STAGE.worker is not None
        STAGE.worker.stop()

    counter.hooks["BLPOP"] = stop
    _worker(burst=False)(stage, counter)


def _enqueue(stage: Stage, counter: Counter) -> None:
    queue = _fresh(stage)
    for number in range(3):
        queue.enqueue(stage.task(number))
        note(str(stage.path), RETURNED, number)


def _enqueue_many(stage: Stage, counter: Counter) -> None:
    delayed.queue.producer._CHUNK_TASKS = 3
    _fresh(stage).enqueue_many(stage.task(number) for number in range(8))
    for number in range(8):
        note(str(stage.path), RETURNED, number)


def _enqueue_many_tracked(stage: Stage, counter: Counter) -> None:
    delayed.queue.producer._CHUNK_TASKS = 3
    _fresh(stage).enqueue_many(stage.task(number, track=True) for number in range(8))
    for number in range(8):
        note(str(stage.path), RETURNED, number)


def _prepare_tracked(stage: Stage) -> None:
    for number in range(7):
        stage.queue.enqueue(stage.task(number, result_ttl=60))


def _enqueue_for_groups(stage: Stage, counter: Counter) -> None:
    queue = _fresh(stage)
    for number in range(4):
        queue.enqueue(stage.task(number, group="ab"[number % 2]))
        note(str(stage.path), RETURNED, number)


def _enqueue_many_for_groups(stage: Stage, counter: Counter) -> None:
    delayed.queue.producer._CHUNK_TASKS = 6
    groups = (None, "a", "b")
    _fresh(stage).enqueue_many(stage.task(number, group=groups[number % 3]) for number in range(9))
    for number in range(9):
        note(str(stage.path), RETURNED, number)


def _prepare_grouped_schedule(stage: Stage) -> None:
    """Tasks of two groups, and one without, that are due."""
    groups = (None, "a", "b")
    for number in range(5):
        stage.queue.enqueue(stage.task(number, after=3600, group=groups[number % 3]))
    for number, member in enumerate(stage.queue.store.call("ZRANGE", stage.queue.keys.scheduled, 0, -1)):
        stage.queue.store.call("ZADD", stage.queue.keys.scheduled, number + 1, member)


def _prepare_groups(stage: Stage) -> None:
    """A queue with limits, and tasks of two groups that no producer has moved to it."""
    stage.queue.limit(rate=100_000, concurrency=2)
    for number in range(4):
        submission = stage.queue._submission(stage.task(number, group="ab"[number % 2]))
        assert submission is not None
        stage.queue.store.submit(*submission)


def _prepare_keys(stage: Stage) -> None:
    for number in range(3):
        stage.queue.enqueue(stage.task(number, concurrency_key="a", concurrency=2))
    stage.queue.enqueue(stage.task(3, unique="u"))


def _prepare_rivals(stage: Stage) -> None:
    """A living worker has a slot and a unique key, for which two tasks each will wait."""
    keys: dict[str, Any] = {"unique": "u", "unique_mode": "while_running"}
    for number, options in enumerate(({"concurrency_key": "a"}, keys)):
        stage.queue.enqueue(stage.task(number, **options))
        lease = stage.queue.keys.lease("rival", number)
        (data,) = stage.queue.store.take([lease], "rival", 600).tasks
        assert stage.queue.store.start(lease, holds_in(headers_of(data)), bound=600_000) == 1
    for number in range(2, 6):
        stage.queue.enqueue(stage.task(number, **({"concurrency_key": "a"}, keys)[number % 2]))


def _prepare_waiting(stage: Stage) -> None:
    """They wait, and that worker is dead; its unique key has run out."""
    _prepare_rivals(stage)
    for number in range(2, 6):
        lease = stage.queue.keys.lease("t", number)
        (data,) = stage.queue.store.take([lease], "t", 600).tasks
        assert stage.queue.store.start(lease, holds_in(headers_of(data)), bound=600_000) in (3, 4)
    stage.forget_leases()
    stage.client.delete(stage.queue.keys.unique("u"))


def _prepare_sweep(stage: Stage) -> None:
    """Five tasks lost for the third time, twenty for the first, three of them large; two in living hands; no notification for
    what waits; two dead processes in the register."""
    stage.lose([stage.task(number) for number in range(5)], times=3)
    stage.lose([stage.task(number) for number in range(5, 22)])
    for number in range(22, 25):
        large = PyTask("tests.crash_points.crash_tasks:run", (str(stage.path), number), {"ballast": "x" * 600_000})
        stage.client.hset(stage.queue.keys.processing, f"{stage.queue.name}_lease_large_{number}", large.serialize())
    stage.lose([stage.task(number) for number in (25, 26)], alive=True)
    stage.queue.enqueue_many(stage.task(number) for number in (27, 28))
    stage.client.delete(stage.queue.keys.noti)
    for number in range(2):
        stage.client.hset(stage.queue.keys.workers, stage.queue.keys.lease(f"gone{number}"), b"\x80")


def _in_pages(queue: Queue) -> Queue:
    """Lists a hash in pages of ten. (How many there are by themselves depends on the random seed of Redis's hash tables.)"""
    page, listed = queue.store.page, dict[str, list[str]]()

    def some(key: str, cursor: int = 0, count: int = 100) -> tuple[int, list[str]]:
        names = sorted(page(key, 0, 10_000)[1])
        names = listed.setdefault(key, names)
        return 0 if cursor + 10 >= len(names) else cursor + 10, names[cursor : cursor + 10]

    queue.store.page = some  # type: ignore[method-assign]
    return queue


def _sweep(stage: Stage, counter: Counter) -> None:
    sweep(_in_pages(_fresh(stage)).store, 3, "child")


def _sweeper(stage: Stage, counter: Counter) -> None:
    sweeper = Sweeper([_fresh(stage)], 600)
    counter.hooks["HSET"] = sweeper.stop
    sweeper.run()


def _prepare_dead(stage: Stage) -> None:
    for number in range(3):
        stage.queue.enqueue(stage.task(number))
        stage.queue.store.take([stage.queue.keys.lease("t", number)], "t", 600)
        stage.queue.store.bury(stage.queue.keys.lease("t", number), Reason.FAILED, "because", "somebody")


def _dead_retry(stage: Stage, counter: Counter) -> None:
    queue = _fresh(stage)
    for letter in list(dead_letters(queue)):
        queue.store.dead_retry([letter.id])


def _suspects(stage: Stage) -> None:
    stage.lose([stage.task(number) for number in range(3)])
    sweep(stage.queue.store, NO_LIMIT)


def _unannounced(stage: Stage) -> None:
    stage.put("run", "run", "stop", "run")
    stage.client.delete(stage.queue.keys.noti)


def _bad(stage: Stage) -> None:
    stage.put("run", "fail", "run", "nothing_of_this_name", "fail")


def _prepare_schedules(stage: Stage) -> None:
    """Two schedules that fire once a year, and were missed for years: one runs once, the other for each year."""
    schedules, past = Schedules(stage.queue), round(datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp() * 1000)
    for number, catch_up in enumerate(("one", "all")):
        schedules.put(catch_up, define(stage.task(number), Cron("0 0 1 1 *", "Europe/Zurich", catch_up)))
        stage.client.zadd(stage.queue.keys.cron_due, {catch_up: past - 3_600_000}, xx=True)


def _fire(stage: Stage, counter: Counter) -> None:
    Schedules(_fresh(stage)).fire()


def _once(count: int) -> dict[int, int]:
    return dict.fromkeys(range(count), 1)


def _nothing(stage: Stage) -> None:
    """An empty queue."""


def _no_scripts(stage: Stage) -> None:
    """A server that was started just now."""
    stage.client.script_flush()


def _range(count: int) -> frozenset[int]:
    return frozenset(range(count))


BURST, SERVING = _worker(burst=True), _worker(burst=False)

SCENARIOS = [
    Scenario("enqueue", _nothing, _enqueue, _once(3), enqueued=_range(3), expects=("EVAL enqueue", "EVALSHA enqueue")),
    Scenario("enqueue many, in chunks", _nothing, _enqueue_many, _once(8), enqueued=_range(8)),
    Scenario(
        "a worker connects and loads scripts", _no_scripts, BURST, {}, everything=True,
        expects=("SCRIPT EXISTS", "SCRIPT LOAD"),
    ),
    Scenario(
        "take, post successes, confirm them", lambda s: s.put(*["run"] * 7), BURST, _once(7),
        expects=("EVALSHA due", "EVALSHA take", "CLIENT REPLY OFF", "HDEL", "CLIENT REPLY ON"),
    ),
    Scenario(
        "take with a claim; stop gracefully, give back the rest", lambda s: s.put(*["run"] * 4, "stop", "run", "run"), SERVING,
        _once(7), expects=("BLPOP", "EVALSHA give_back", "UNLINK"),
    ),
    Scenario("take what has no notification", _unannounced, SERVING, _once(4), expects=("EVALSHA due",)),
    Scenario(
        "stop during a blocking pop", lambda s: s.put("run", "run"), _interrupted_worker, _once(2), expects=("EVALSHA repair",)
    ),
    Scenario("take suspects, ask whether they succeeded", _suspects, BURST, _once(3), expects=("EVALSHA succeed",)),
    Scenario(
        "retry", lambda s: s.put("fail", "fail", retry=2), BURST, {0: 3, 1: 3}, dead=_range(2), expects=("EVALSHA retry",)
    ),
    Scenario(
        "bury", _bad, BURST, {0: 1, 1: 1, 2: 1, 3: 0, 4: 1}, dead=frozenset({1, 3, 4}), expects=("EVALSHA bury",)
    ),
    Scenario(
        "give back what waits behind a slow task", lambda s: s.put(*["run"] * 3, "dawdle", *["run"] * 3), BURST, _once(7),
        expects=("EVALSHA give_back",),
    ),
    Scenario(
        "beat, and make a lost lease again", lambda s: s.put("run", "outlast", "run", "run"), BURST, _once(4),
        expects=("PEXPIRE", "SET", "EVALSHA beat"),
    ),
    Scenario(
        "SIGQUIT: give back everything", lambda s: s.put(*["run"] * 4, "insist", "run", "run"), BURST, _once(7),
        interrupted=frozenset({4}), status=3, expects=("EVALSHA give_back", "UNLINK"),
    ),
    Scenario(
        "the connection breaks; send endings again", lambda s: s.put(*["run"] * 5, "cut_off", "run"), BURST, _once(7),
        expects=("EVALSHA give_back", "UNLINK"),
    ),
    Scenario(
        "sweep: put back, bury, repair, prune", _prepare_sweep, _sweep, _once(29), either=_range(5),
        expects=("EVALSHA page", "EXISTS", "EVALSHA sweep", "EVALSHA repair", "EVALSHA prune"),
    ),
    Scenario(
        "a sweeper's life", lambda s: s.lose([s.task(number) for number in range(3)]), _sweeper, _once(3),
        expects=("SET", "HSET", "EVALSHA sweep", "UNLINK", "HDEL"),
    ),
    Scenario(
        "run schedules that are due", _prepare_schedules, _fire, {0: 1, 1: YEARS},
        expects=("ZRANGE", "ZRANGEBYSCORE", "EVALSHA cron"),
    ),
    Scenario(
        "enqueue for groups", _nothing, _enqueue_for_groups, _once(4), enqueued=_range(4),
        expects=("EVALSHA submit", "EVALSHA turn"),
    ),
    Scenario(
        "enqueue many for groups, in chunks", _nothing, _enqueue_many_for_groups, _once(9), enqueued=_range(9),
        expects=("EVALSHA submit_many", "EVALSHA turn"),
    ),
    Scenario(
        "move what is due to the queue and to groups", _prepare_grouped_schedule, BURST, _once(5),
        expects=("EVALSHA due", "EVALSHA regroup", "EVALSHA turn"),
    ),
    Scenario(
        "let groups take turns, take within limits", _prepare_groups, BURST, _once(4),
        expects=("EVALSHA beat", "LRANGE", "EVALSHA turn", "EVALSHA take_limited"),
    ),
    Scenario(
        "begin and end tasks with a concurrency key or a unique one", _prepare_keys, BURST, _once(4),
        expects=("EVALSHA start_many", "EVALSHA finish_held", "CLIENT REPLY OFF", "HMGET"),
    ),
    Scenario(
        "enqueue many tracked tasks, in chunks", _nothing, _enqueue_many_tracked, _once(8), enqueued=_range(8),
        expects=("EVALSHA submit_many",),
    ),
    Scenario(
        "begin tracked tasks together, post their ends, confirm them", _prepare_tracked, BURST, _once(7),
        expects=("EVALSHA start_many", "EVALSHA finish", "CLIENT REPLY OFF", "HMGET"),
    ),
    Scenario(
        "begin the first of a hand, and the others while these run", _prepare_tracked, _in_turn, _once(7),
        expects=("EVALSHA start_many", "EVALSHA finish", "CLIENT REPLY OFF", "HMGET"),
    ),
    Scenario("wait for keys that others have", _prepare_rivals, BURST, _once(6), expects=("EVALSHA start",)),
    Scenario(
        "sweep keys of the dead, and wake", _prepare_waiting, _sweep, _once(6),
        expects=("HSCAN", "EVALSHA wake", "EVALSHA sweep"),
    ),
    Scenario("retry dead letters", _prepare_dead, _dead_retry, _once(3), either=_range(3), expects=("EVALSHA dead_retry",)),
]  # fmt: skip
