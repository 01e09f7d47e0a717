"""What a worker has to do."""

import re
import signal
import subprocess
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import msgpack
import redis

from delayed.sweeper.sweep import sweep
from delayed.task.task import GoTask, PyTask
from tests.support.keys import left

from .agent import native
from .agents import FUNCTIONS, Agent
from .checks import Failed, Trial, equal, status, trial, wait
from .payloads import matches, payloads

LONGEST_TTL = 120_000  # milliseconds
Check = Callable[[Agent, redis.Redis, str, Path], None]
CHECKS: list[Check] = []


def check(*languages: str) -> Callable[[Callable[[Trial, str], None]], Check]:
    """Makes a check of a function that takes a trial and the language; with names, it is for those languages alone."""

    def register(function: Callable[[Trial, str], None]) -> Check:
        @wraps(function)
        def run(agent: Agent, client: redis.Redis, url: str, log: Path) -> None:
            with trial(agent, client, url, log) as made:
                function(made, agent.language)

        if languages:
            run.languages = languages  # type: ignore[attr-defined]
        CHECKS.append(run)
        return run

    return register


@check()
def echo(t: Trial, language: str) -> None:
    """every payload comes back"""
    values = payloads()
    t.start()
    for number, value in enumerate(values):
        t.put(t.task("echo", f"{t.key}:{number}", native(value)))
    t.put(t.task("echo", t.key, "end"))
    t.popped("", "the worker did not come to the end of the payloads")
    for number, value in enumerate(values):
        came = t.client.lrange(f"{t.key}:{number}", 0, -1)
        if len(came) != 1 or not matches(came[0], value):
            raise Failed(f"{str(value)[:100]} came back {len(came)} times, as {[data[:40].hex() for data in came]}")
    t.idle()


@check("python")
def keywords(t: Trial, language: str) -> None:
    """keyword arguments arrive, and nil stands for no arguments"""
    t.start()
    t.put(PyTask(FUNCTIONS["python"]["echo"], (t.key,), {"value": 5}).serialize())
    equal(t.popped("", "the task with keyword arguments was not run"), b"\x05", "the value")
    t.put(msgpack.packb([FUNCTIONS["python"]["fail"], None, None, None]))
    equal(t.letters(1)[0].reason, "failed", "the reason")


@check("python")
def retries(t: Trial, language: str) -> None:
    """a failing task is retried as often as it says, and then buried as failed"""
    t.start()
    t.put(t.task("fail", t.key, retry=2))
    letter = t.letters(1)[0]
    path = FUNCTIONS["python"]["fail"]
    equal(letter.reason, "failed", "the reason")
    equal(letter.data, msgpack.packb([path, [t.key], {}, 0]), "the bytes of the dead letter")
    equal(t.client.llen(t.key), 3, "the number of calls")
    t.idle()


@check()
def fails(t: Trial, language: str) -> None:
    """a failing task becomes a dead letter with its bytes, and the worker goes on"""
    t.start()
    t.put(t.task("fail"), t.echoes(1))
    t.popped("", "the worker does not go on after a failure")
    _buried(t, [("failed", t.task("fail"))])


@check()
def unrunnable(t: Trial, language: str) -> None:
    """what cannot be run becomes a dead letter with the reason and the exact bytes"""
    tasks = _bad_tasks(t, language)
    t.start()
    t.put(*(data for _, data in tasks), t.echoes(1))
    t.popped("", "the worker does not go on after tasks that it cannot run")
    _buried(t, tasks)


@check()
def not_yet(t: Trial, language: str) -> None:
    """what another worker may be able to run waits for it, with its exact bytes"""
    fields = msgpack.unpackb(t.task("echo", t.key, 1))
    full = [*fields, *([{}, 0] if language == "python" else [])]
    nowhere = "conformance:nowhere" if language == "python" else "main.Nowhere"
    tasks = {msgpack.packb([*full, {"!new": 1}]), t.task(nowhere)}
    t.start()
    t.put(*tasks, t.echoes(2))
    t.popped("", "the worker does not go on after tasks that it cannot run yet")
    waiting = {member[16:] for member in t.client.zrange(t.queue.keys.scheduled, 0, -1)}
    equal(waiting, tasks, "what waits in the schedule")
    equal(t.client.xlen(t.queue.keys.dead), 0, "the number of dead letters")


def _bad_tasks(t: Trial, language: str) -> list[tuple[str, bytes]]:
    python = PyTask(FUNCTIONS["python"]["echo"], (t.key, 1)).serialize()
    go = GoTask(FUNCTIONS["go"]["echo"], (t.key, 1)).serialize()
    mine, other = (python, go) if language == "python" else (go, python)
    return [
        ("undecodable", b"\xc1"),
        ("undecodable", mine[:-1]),
        ("undecodable", mine + b"\x00"),
        ("undecodable", b"\x05"),
        ("undecodable", b"\x90"),
        ("wrong_language", other),
        ("bad_arguments", t.task("echo", t.key, 1, 2)),
        ("bad_arguments", t.task("echo")),
    ]


def _buried(t: Trial, tasks: list[tuple[str, bytes]]) -> None:
    letters = t.letters(len(tasks))
    equal(
        [(letter.reason, letter.data.hex()) for letter in letters], [(why, data.hex()) for why, data in tasks], "dead letters"
    )
    t.idle()


@check()
def plain_header(t: Trial, language: str) -> None:
    """a header that the worker does not know is ignored"""
    fields = msgpack.unpackb(t.echoes(7))
    full = [*fields, {}, 0] if language == "python" else fields
    t.start()
    t.put(msgpack.packb([*full, {"new": [1]}]))
    equal(t.popped("", "the task was not run"), b"\x07", "the value")
    t.idle()


@check()
def leases(t: Trial, language: str) -> None:
    """a task in execution is held under a lease that is named, bounded and kept alive as the protocol says"""
    t.hold()
    held = t.client.hgetall(t.queue.keys.processing)
    equal(list(held.values()), [t.task("hold", t.key)], "what is held")
    lease = next(iter(held)).decode()
    if not re.fullmatch(re.escape(t.name) + r"_lease_[A-Za-z0-9_-]{16,}_[0-9]+", lease):
        raise Failed(f"the lease is called {lease}")
    own = t.queue.keys.lease((t.client.get(lease) or b"").decode())  # its value is the holder's token
    wait(lambda: t.client.hexists(t.queue.keys.workers, own), "the worker is not in the register")
    for key in (lease, own):
        left = t.client.pttl(key)
        if not 0 < left <= LONGEST_TTL:
            raise Failed(f"{key} has {left} ms to live")
        seen = [left]
        wait(lambda key=key, seen=seen: _grew(t, key, seen), f"{key} is not kept alive")  # type: ignore[misc]
    t.go()
    t.popped("ended", "the task does not end")
    t.idle()


def _grew(t: Trial, key: str, seen: list[int]) -> bool:
    """Whether a key has more time to live than when it was last looked at."""
    seen.append(int(t.client.pttl(key)))
    return seen[-1] > seen[-2]


@check()
def stop(t: Trial, language: str) -> None:
    """SIGTERM in mid-task: it is finished, the rest is given back in order, and no key stays but the queue's own"""
    worker = t.hold()
    rest = [t.echoes(number) for number in range(3)]
    t.put(*rest)
    worker.send_signal(signal.SIGTERM)
    try:
        raise Failed(f"the worker left its task, with exit status {worker.wait(0.5)}")
    except subprocess.TimeoutExpired:
        t.go()
    t.popped("ended", "the task does not end")
    equal(status(worker), 0, "the exit status")
    equal(t.client.lrange(t.name, 0, -1), rest, "what waits")
    equal(left(t.client, t.name), {t.name, t.queue.keys.noti}, "the keys")
    equal(t.client.llen(t.queue.keys.noti), 3, "the number of notifications")
    t.start()
    equal([t.popped("", "what was given back is not run") for _ in rest], [b"\0", b"\1", b"\2"], "the order")
    t.idle()


@check()
def stop_idle(t: Trial, language: str) -> None:
    """SIGTERM to an idle worker: it leaves no key"""
    worker = t.start()
    t.put(t.echoes(1))
    t.popped("", "the task was not run")
    t.idle()
    worker.send_signal(signal.SIGTERM)
    equal(status(worker), 0, "the exit status")
    equal(left(t.client, t.name), set(), "the keys")


@check()
def kill(t: Trial, language: str) -> None:
    """SIGKILL in mid-task: a sweep brings the task back when the lease has run out, and not before"""
    worker = t.hold()
    t.put(t.echoes(1))
    equal(sweep(t.queue.store).recovered, 0, "tasks taken from a living worker")
    worker.kill()
    worker.wait()
    wait(lambda: sweep(t.queue.store).recovered, "the lease does not run out")
    t.start()
    t.popped("began", "the task is not run again")
    t.go()
    t.popped("ended", "the task does not end")
    t.popped("", "the task that waited is not run")
    t.idle()
    equal(t.client.exists(f"{t.key}:began", f"{t.key}:ended", t.key), 0, "what ran twice")


@check()
def superseded(t: Trial, language: str) -> None:
    """a worker that was superseded changes nothing, and goes on"""
    t.hold()
    processing = t.queue.keys.processing
    lease, data = next(iter(t.client.hgetall(processing).items()))
    with t.client.pipeline() as both:  # as if a sweeper had put the task back, and somebody else had taken it
        both.hdel(processing, lease)
        both.hset(processing, "another", data)
        both.execute()
    t.go()
    t.popped("ended", "the task does not end")
    t.put(t.echoes(1))
    t.popped("", "the worker does not go on")
    wait(lambda: t.client.hlen(processing) <= 1, "the task that ended is held")
    equal(t.client.hgetall(processing), {b"another": data}, "what is held")
    equal((t.client.llen(t.name), t.client.exists(t.queue.keys.dead)), (0, 0), "tasks that wait, and dead letters")


@check()
def notifications(t: Trial, language: str) -> None:
    """surplus and missing notifications cost no task and repeat none"""
    t.start()
    t.client.rpush(t.queue.keys.noti, *["1"] * 5)
    t.put(t.echoes(0))
    t.popped("", "a task after surplus notifications is not run")
    wait(lambda: not t.client.exists(t.queue.keys.noti), "surplus notifications stay")
    t.put(t.echoes(1), t.echoes(2), notified=False)
    found = [t.popped("", "a task without notification is not run") for _ in range(2)]
    equal(found, [b"\1", b"\2"], "the order")
    t.idle()
    equal(t.client.llen(t.key), 0, "what ran twice")
