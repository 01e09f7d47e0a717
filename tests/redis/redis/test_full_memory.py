"""Redis's memory is full: what frees memory works. Each script is called then; those that may refuse are listed by name."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis

from delayed.base.ids import digest, new_id
from delayed.dead_letters.letter import dead_letters
from delayed.dead_letters.retry import retry_all
from delayed.dead_letters.search import Search
from delayed.errors import Reason
from delayed.ops.audit import Actor
from delayed.ops.jobs import begin
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.redis.command import ResponseError, run_script
from delayed.redis.embedded import EmbeddedRedis
from delayed.redis.keys import Keys
from delayed.redis.scripts import SCRIPTS
from delayed.redis.statistics import packed
from delayed.sweeper.sweep import sweep
from delayed.task.decode import headers_of
from delayed.task.headers import Holds, holds_in
from delayed.task.result import CANCELLED, HARD, State
from delayed.task.task import PyTask
from delayed.workflow import Flow, Run, group
from delayed.workflow.adding import Membership
from delayed.workflow.carry import Carrier
from delayed.workflow.tend import remove, tend
from tests.conftest import burst
from tests.redis.queue.test_groups import make_due

# They add: tasks, schedules, notifications.
MAY_REFUSE = {
    "reserve",
    "submit",
    "submit_many",
    "enqueue",
    "cron",
    "repair",
    "flow_build",
    "flow_add",
    "count",
    "interest",
    "publish",
    "number",
    "deliver",
}
KEYS: dict[str, Any] = {"unique": "u", "unique_mode": "while_running", "concurrency_key": "s"}
Call = Callable[[], object]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """One whose memory nobody else needs."""
    with EmbeddedRedis() as embedded:
        yield embedded


@pytest.fixture
def full(client: redis.Redis) -> Iterator[Callable[[], object]]:
    """Says that the memory is full, until the test has ended."""
    yield partial(client.config_set, "maxmemory", 1)
    client.config_set("maxmemory", 0)


def lease(queue: Queue, number: int) -> str:
    return queue.keys.lease("t", number)


def held(queue: Queue, number: int = 0, *, begun: bool = True, **options: Any) -> Holds:
    """A task that has keys, under the lease of this number."""
    queue.enqueue(PyTask("m:f", (number,), **{**KEYS, **options}))
    (data,) = queue.store.take([lease(queue, number)], "t", 60, waiting=True).tasks
    holds = holds_in(headers_of(data))
    assert not begun or queue.store.start(lease(queue, number), holds, bound=60_000) == 1
    return holds


def waiting(queue: Queue, number: int = 9) -> Holds:
    """One that waits for a key of the one that is held."""
    holds = held(queue, number, begun=False)
    assert queue.store.start(lease(queue, number), holds) in (3, 4)
    return holds


def ending(name: str, *arguments: Any, **options: Any) -> Callable[[Queue], Call]:
    """An ending of a task that holds all that there is, while another waits for it."""

    def prepare(queue: Queue) -> Call:
        holds = held(queue)
        waiting(queue)
        given = [holds if each is Holds else each for each in arguments]
        return partial(getattr(queue.store, name), lease(queue, 0), *given, **options)

    return prepare


def lost(queue: Queue, limit: int) -> Call:
    held(queue)
    waiting(queue)
    queue.store.call("DEL", lease(queue, 0))
    return partial(queue.store.sweep, [lease(queue, 0)], limit, "p", "s")


def limited(queue: Queue, **limits: Any) -> Call:
    queue.enqueue(PyTask("m:f", (1,)))
    queue.limit(**limits)
    queue.store.call("LPOP", queue.keys.noti)
    return partial(queue.store.take_limited, [lease(queue, 5)], "t", 60, claims=1)


def reached(queue: Queue) -> Call:
    """A claim that a limit stands in the way of."""
    held(queue)
    return limited(queue, concurrency=1)


def cancelled(queue: Queue, state: str) -> Call:
    holds = held(queue)
    if state == "waits":
        holds = waiting(queue)
    elif state == "queued":
        queue.store.give_back(
            [lease(queue, 0)], {lease(queue, 0): queue.store.call("HGET", queue.keys.processing, lease(queue, 0))}
        )
    elif state == "retrying":
        queue.store.postpone(lease(queue, 0), b"\x91\xa3m:f", holds, 60_000, "no")
    return partial(queue.store.cancel, holds.id or "", CANCELLED, 1000, HARD)


def unbegun(queue: Queue) -> Call:
    return partial(queue.store.start, lease(queue, 0), held(queue, begun=False), bound=1000)


def begins_later(queue: Queue) -> Call:
    held(queue)
    return partial(queue.store.start, lease(queue, 1), held(queue, 1, begun=False))


def letter(queue: Queue, reason: Reason) -> tuple[str, bytes, Holds]:
    holds = held(queue)
    data = queue.store.call("HGET", queue.keys.processing, lease(queue, 0))
    queue.store.bury(lease(queue, 0), reason, "x", "y", holds)
    return next(dead_letters(queue)).id, data, holds


def told(queue: Queue) -> Call:
    entry, _, holds = letter(queue, Reason.LOST)
    return partial(queue.store.tell_lost, entry, holds, result=b"x", keep=1000)


def revived(queue: Queue) -> Call:
    entry, data, holds = letter(queue, Reason.FAILED)
    return partial(queue.store.revive, entry, data, holds.id, unique="v", tracked=1000, bound=1000, enqueued=5)


def due(queue: Queue, group: str | None) -> Call:
    queue.enqueue(PyTask("m:f", (), after=60, group=group))
    make_due(queue)
    return partial(queue.store.due, [queue.keys]) if group is None else partial(queue.store.regroup, [digest(group)], 5)


def turned(queue: Queue) -> Call:
    queue.store.call("RPUSH", queue.keys.group(digest("g")), b"\x91\xa3m:f")
    queue.store.call("RPUSH", queue.keys.groups, digest("g"))
    return partial(queue.store.turn, [digest("g")], 5)


def woken(queue: Queue) -> Call:
    held(queue)
    waiting(queue)
    queue.store.call("DEL", queue.keys.unique("u"), queue.keys.slots("s"))
    return queue.store.wake_all


def surplus(queue: Queue) -> Call:
    queue.store.call("RPUSH", queue.keys.noti, "1", "1")
    return queue.store.repair


def pruned(queue: Queue) -> Call:
    queue.store.call("HSET", queue.keys.workers, lease(queue, 7), b"\x80")
    return partial(queue.store.prune, [lease(queue, 7)])


def job_at_work(queue: Queue) -> Call:
    job = begin(queue, Actor("ada", "here"), "dead.retry")
    queue.store.call("SET", queue.keys.job_lease(job.id), "me", "PX", 60_000)
    return partial(queue.store.job_step, job.id, "me", job.pack(), 60)


def plain(queue: Queue) -> Call:
    queue.enqueue(PyTask("m:f", (1,)))
    return partial(queue.store.take, [lease(queue, 0)], "t", 60)


def scheduled(queue: Queue) -> Call:
    return partial(queue.store.cron, "a", None, None, b"\x80", 5)


def later(queue: Queue) -> Call:
    queue.enqueue(PyTask("m:f", after=60, track=True))
    (member,) = queue.store.call("ZRANGE", queue.keys.scheduled, 0, -1)
    return partial(queue.store.move, member, 1, "", 5000)


def removed(queue: Queue, after: float) -> Call:
    queue.enqueue(PyTask("m:f", after=after, track=True, unique="u", unique_for=60))
    place, read = (queue.keys.scheduled, "ZRANGE") if after else (queue.keys.queue, "LRANGE")
    return partial(queue.store.remove, place, queue.store.call(read, place, 0, -1))


def tracked(queue: Queue) -> str:
    """The id of a task that holds nothing but its state."""
    identity = queue.enqueue(PyTask("m:f", track=True)).id
    queue.store.take([lease(queue, 0)], "t", 60, waiting=True)
    return identity or ""


def begun(queue: Queue) -> Call:
    asked = [(lease(queue, 0), Holds(tracked(queue)), 1)]
    return lambda: asserted(queue.store.start_many(asked, "w") == [1])


def finished(queue: Queue) -> Call:
    keys = (queue.keys.processing, queue.keys.task(tracked(queue)))
    words = (lease(queue, 0), b"x" * 1000, 1000, "w", "-")
    return lambda: asserted(run_script(queue.store, SCRIPTS["finish"], keys, words) == 1)


def finished_together(queue: Queue) -> Call:
    keys = (queue.keys.processing, queue.keys.task(tracked(queue)))
    words = ("w", lease(queue, 0), b"x" * 1000, 1000)
    return lambda: asserted(run_script(queue.store, SCRIPTS["finish_many"], keys, words) == 1)


def finished_with_slot(queue: Queue) -> Call:
    keys = (*queue.keys.home, queue.keys.task(tracked(queue)), queue.keys.slots("k"), queue.keys.waits(queue.keys.slots("k")))
    words = ("w", lease(queue, 0), "-", b"x" * 1000, 1000)
    return lambda: asserted(run_script(queue.store, SCRIPTS["finish_held"], keys, words) == 1)


def asserted(true: bool) -> None:
    assert true


def workflow(queue: Queue, size: int = 2) -> Run:
    """One in which a task is held under a lease, and others wait for that."""
    flow = Flow(queue)
    first = flow.add(PyTask("m:f"))
    flow.add(group(PyTask("m:f") for _ in range(size)), after=first)
    run = flow.submit()
    queue.store.take([lease(queue, 0)], "t", 60, waiting=True)
    return run


def node_ended(queue: Queue, run: Run, state: State = State.SUCCEEDED) -> None:
    (data,) = queue.store.call("HMGET", queue.keys.processing, lease(queue, 0))
    holds = holds_in(headers_of(data))
    assert queue.store.conclude(lease(queue, 0), holds, state=state, result=b"\x91\xa9succeeded", keep=1000)
    assert queue.store.call("LLEN", queue.keys.joins(run.flow)) == 1


def joined(queue: Queue) -> Call:
    node_ended(queue, workflow(queue))
    return lambda: asserted(Carrier(queue.store).carry_all() == 1)


def stepped(queue: Queue) -> Call:
    run = workflow(queue, 200)
    node_ended(queue, run)
    own = queue.keys
    return lambda: asserted(Carrier(queue.store).carry(run.flow) and queue.store.call("LLEN", own.queue) == 200)


def told_of_a_cancel(queue: Queue) -> Call:
    run = workflow(queue)
    return run.cancel


def pages_cancelled(queue: Queue) -> Call:
    run = group(PyTask("m:f") for _ in range(3)).submit(queue)

    def cancel() -> None:
        run.cancel()
        assert run.wait(0) == "cancelled"

    return cancel


def more_added(queue: Queue) -> Call:
    run = workflow(queue)
    (data,) = queue.store.call("HMGET", queue.keys.processing, lease(queue, 0))
    member = holds_in(headers_of(data)).member
    assert member is not None
    counts = Membership(queue, queue.name, member, lease(queue, 0))
    assert run.status().left == 3
    return partial(counts.add, PyTask("m:f"))


def ended_again(queue: Queue) -> Call:
    run = workflow(queue)
    node_ended(queue, run, State.FAILED)
    Carrier(queue.store).carry(run.flow)
    return run.retry


def forgotten(queue: Queue) -> Call:
    run = workflow(queue)
    node_ended(queue, run, State.FAILED)
    Carrier(queue.store).carry(run.flow)
    queue.store.call("ZADD", queue.keys.flow_ids, 1, run.flow)
    return lambda: asserted(remove(queue.store, run.flow))


def ended_task(queue: Queue) -> Handle[None]:
    own = held(queue, track=True)
    assert queue.store.conclude(lease(queue, 0), own, state=State.SUCCEEDED, result=b"x", keep=1000)
    return Handle(queue, own.id)


def published(queue: Queue) -> Call:
    queue.set_interest({"event": "paid"}, "m:f")
    return partial(queue.publish, {"event": "paid"})


CALLS: dict[str, Callable[[Queue], Call]] = {  # the script, and what it does
    "start": unbegun,
    "start, which waits": begins_later,
    "start_many": begun,
    "finish": finished,
    "finish_many": finished_together,
    "finish_held": finished_with_slot,
    "progress": lambda queue: partial(queue.store.progress, held(queue).id or "", b"\x90"),
    "take": plain,
    "take_limited": lambda queue: limited(queue, rate=5),
    "take_limited, refused": reached,
    "succeed": ending("succeed", Holds),
    "count": lambda queue: partial(queue.store.count, 1.8e9, 1, [("", packed({1: 1}))]),
    "retry": ending("retry", b"\x91\xa3m:f"),
    "bury": ending("bury", Reason.FAILED, "x", "y", Holds),
    "conclude": ending("conclude", Holds, state=State.FAILED, result=b"x" * 1000, keep=1000, reason=Reason.FAILED, error="x"),
    "postpone": ending("postpone", b"\x91\xa3m:f", Holds, 5000, "no"),
    "postpone, at once": ending("postpone", b"\x91\xa3m:f", Holds, 0, "no", group="g"),
    "defer": ending("defer", Holds, limit=60, cause="x"),
    "give_back": lambda queue: partial(_given_back, queue, held(queue)),
    "sweep": lambda queue: lost(queue, 3),
    "sweep, which buries": lambda queue: lost(queue, 1),
    "cancel": lambda queue: cancelled(queue, "queued"),
    "cancel, in the schedule": lambda queue: cancelled(queue, "retrying"),
    "cancel, for a key": lambda queue: cancelled(queue, "waits"),
    "cancel, running": lambda queue: cancelled(queue, "running"),
    "wake": woken,
    "tell_lost": told,
    "revive": revived,
    "dead_retry": lambda queue: partial(queue.store.dead_retry, [letter(queue, Reason.FAILED)[0]]),
    "due": lambda queue: due(queue, None),
    "regroup": lambda queue: due(queue, "g"),
    "turn": turned,
    "move": later,
    "remove": lambda queue: removed(queue, after=0),
    "remove, in the schedule": lambda queue: removed(queue, after=60),
    "rename": lambda queue: (plain(queue), partial(queue.store.rename, Keys(f"{queue.name}-new"), []))[1],
    "repair, of what is too much": surplus,
    "prune": pruned,
    "beat": lambda queue: partial(queue.store.beat, "me", 60, b"\x80"),
    "bound": lambda queue: partial(queue.store.bound, [lease(queue, 0)]),
    "page": lambda queue: partial(queue.store.page, queue.keys.processing),
    "gone": lambda queue: partial(queue.store.gone, [lease(queue, 0)]),
    "lengths": lambda queue: queue.store.lengths,
    "slices": lambda queue: partial(queue.store.slices, {queue.keys.queue: "list"}, 10),
    "read": lambda queue: partial(queue.store.read, ("LLEN", queue.keys.queue)),
    "reserve": lambda queue: partial(queue.store.reserve, "k", 5),
    "submit": lambda queue: partial(queue.enqueue, PyTask("m:f", track=True)),
    "submit_many": lambda queue: partial(queue.store.submit_many, {None: [b"\x91\xa3m:f"]}, [new_id()]),
    "enqueue": lambda queue: partial(queue.enqueue, PyTask("m:f")),
    "cron": scheduled,
    "flow_build": lambda queue: Flow(queue).submit,
    "flow_join": joined,
    "flow_step": stepped,
    "flow_tell": told_of_a_cancel,
    "flow_cancel": pages_cancelled,
    "flow_add": more_added,
    "flow_again": ended_again,
    "flow_look": lambda queue: partial(tend, queue.store),
    "flow_remove": forgotten,
    "erase": lambda queue: ended_task(queue).forget,
    "job_step": job_at_work,
    "succeed_many": lambda queue: (held(queue), partial(queue.store.succeed_many, [lease(queue, 0)]))[1],
    "interest": lambda queue: partial(queue.set_interest, {"event": "paid"}, "m:f"),
    "publish": published,
    "number": lambda queue: partial(
        queue.store.run, "number", (queue.keys.queue, queue.keys.noti, queue.keys.numbers), b"x" * 1000
    ),
    "deliver": lambda queue: partial(queue.store.run, "deliver", (queue.keys.number(1),), 60_000, 5, "c", "a", "t" * 1000),
    "repair": lambda queue: (queue.store.call("RPUSH", queue.keys.queue, b"\x91\xa3m:f"), queue.store.repair)[1],
}


def _given_back(queue: Queue, _: Holds) -> int:
    return queue.store.give_back(
        [lease(queue, 0)], {lease(queue, 0): queue.store.call("HGET", queue.keys.processing, lease(queue, 0))}
    )


def test_every_script_is_called() -> None:
    assert {name.partition(",")[0] for name in CALLS} == set(SCRIPTS)


@pytest.mark.parametrize("script", CALLS)
def test_what_frees_memory_works(queue: Queue, full: Callable[[], object], script: str) -> None:
    call = CALLS[script](queue)
    full()
    if script in MAY_REFUSE:
        with pytest.raises(ResponseError, match="no memory left"):
            call()
    else:
        call()


def test_a_task_with_a_key_blocks_nothing(queue: Queue, client: redis.Redis, full: Callable[[], object]) -> None:
    queue.enqueue(PyTask("tasks:noop", (), **KEYS))
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(20))
    full()
    assert burst(queue).finished == 21


def test_a_sweep_removes_letters_and_tells_though_others_are_refused(queue: Queue, full: Callable[[], object]) -> None:
    """Those who wait for what is buried now are told, and the letters can go back to the queue."""
    handle = queue.enqueue(PyTask("m:f", (), result_ttl=60))
    queue.store.take([lease(queue, 0)], "t", 60)
    queue.store.call("DEL", lease(queue, 0))
    full()
    assert sweep(queue.store, 1).buried == 1
    assert handle.status().state is State.FAILED
    assert retry_all(queue, Search()) == 1
    assert handle.status().state is State.QUEUED
