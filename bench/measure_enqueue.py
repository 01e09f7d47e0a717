"""Measure 3: what a producer pays."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import redis

from delayed import Handle, PyTask, Queue, new_id, results
from delayed.redis.keys import Keys
from delayed.redis.places import many
from delayed.redis.scripts import SCRIPTS

from .contenders import of_kind
from .drain import watch, worker
from .kinds import KINDS, QUEUE, RESULT
from .marks import Marks
from .monitor import Monitor
from .options import Options, Progress
from .placement import WORK_CORE, on_core, server
from .result import Result, number, spread

_KIND = KINDS[RESULT]
_CHUNK = 1000  # tasks that one call of enqueue_many's script carries
_BLOCK = 200  # calls of one kind before the other kind has its turn: short, so that both meet the same moments


def _time(call: Callable[[int], object], first: int, count: int) -> float:
    began = time.perf_counter()
    for i in range(first, first + count):
        call(i)
    return time.perf_counter() - began


def _in_turns(kinds: Sequence[Callable[[int], object]], count: int, block: int) -> list[float]:
    """Seconds for a call of each kind."""
    totals = [0.0] * len(kinds)
    for first in range(0, count, block):
        for which, call in enumerate(kinds):
            totals[which] += _time(call, first, block)
    return [total / count for total in totals]


def _plain(client: redis.Redis, count: int) -> list[float]:
    """Seconds for each `Queue.enqueue`, and for each bare call of the same script."""
    queue = Queue(QUEUE, client)
    queue.enqueue(PyTask("tasks:noop", (0,)))
    data = PyTask("tasks:noop", (1000,)).serialize()
    digest = SCRIPTS["enqueue"].sha
    kinds: tuple[Callable[[int], object], ...] = (
        lambda i: queue.enqueue(PyTask("tasks:noop", (i,))),
        lambda _: client.evalsha(digest, 2, "bench", "bench_noti", data),
    )
    return _in_turns(kinds, count, _BLOCK)


class _Bare:
    """Calls the script that puts tracked tasks in, with the keys and arguments that `Queue` gives it, made beforehand.

    Args:
        client: of the server.
        chunks: of how many tasks each.
    """

    def __init__(self, client: redis.Redis, chunks: Sequence[int]) -> None:
        self._client = client
        self._ready: list[tuple[str, int, list[Any]]] = []
        for size in chunks:
            ids = [new_id() for _ in range(size)]
            tasks = [task.serialize(id_, 0) for task, id_ in zip(_KIND.tasks(range(size)), ids, strict=True)]
            script, keys, arguments = many(Keys(QUEUE), {None: tasks}, ids)
            self._ready.append((SCRIPTS[script].sha, len(keys), [*keys, *arguments]))

    def __call__(self, _: int) -> None:
        digest, keys, rest = self._ready.pop()
        self._client.evalsha(digest, keys, *rest)


def _tracked(client: redis.Redis, count: int) -> list[float]:
    """Seconds for each `Queue.enqueue` of a task with a result, and for each bare call of the script for one."""
    queue, submissions = Queue(QUEUE, client), list[tuple[Any, ...]]()
    for task in _KIND.tasks(range(count)):
        found = queue._submission(task)
        assert found is not None
        keys, arguments = found
        submissions.append((len(keys), *keys, *arguments))
    queue.enqueue(*_KIND.tasks([0]))
    digest = SCRIPTS["submit"].sha
    return _in_turns(
        (lambda i: queue.enqueue(*_KIND.tasks([i])), lambda i: client.evalsha(digest, *submissions[i])), count, _BLOCK
    )


def _tracked_many(client: redis.Redis, chunks: int) -> list[float]:
    """Seconds for each chunk of `Queue.enqueue_many` with results, and for each bare call of the script."""
    queue = Queue(QUEUE, client)
    queue.enqueue_many(_KIND.tasks(range(_CHUNK)))
    return _in_turns((lambda _: queue.enqueue_many(_KIND.tasks(range(_CHUNK))), _Bare(client, [_CHUNK] * chunks)), chunks, 1)


def _beside_the_script(options: Options, progress: Progress) -> Result:
    """Tasks with results against a bare call of the same script."""
    count, chunks = options.scaled(5_000), options.scaled(50)
    found: dict[str, list[float]] = {"one": [], "bare": [], "many": [], "bare many": []}
    with server() as embedded, embedded.client() as client, on_core(WORK_CORE):
        for run in range(options.runs):
            progress(f"enqueue with results, run {run + 1} of {options.runs}")
            client.flushall()
            singles = _tracked(client, count)
            client.flushall()
            for name, seconds in zip(found, [*singles, *_tracked_many(client, chunks)], strict=True):
                found[name].append(seconds * 1e6)
    one, bare, many_at_once, bare_many = found.values()
    ratios = [b / a for a, b in zip(one, bare, strict=True)]
    result = Result("tracked", "Enqueue of tasks with results", ("what", "found"), values=found)
    result.rows = [
        ("enqueue, µs", spread(one)),
        ("a bare EVALSHA of the same script by redis-py, µs", spread(bare)),
        (f"enqueue_many, a chunk of {_CHUNK}, µs for a task", spread([each / _CHUNK for each in many_at_once])),
        ("a bare EVALSHA of the same script with as many, µs for a task", spread([each / _CHUNK for each in bare_many])),
    ]
    result.want("enqueue at least at 0.9 of the rate of a bare EVALSHA", statistics.median(ratios), 0.9, least=True)
    rate = 1e6 * _CHUNK / statistics.median(many_at_once)
    result.want("enqueue_many at least 100,000 tasks/s", rate, 100_000, " tasks/s", least=True)
    return result


def _questions(queue: Queue, client: redis.Redis, port: int, handles: Sequence[Handle[Any]]) -> int:
    """How many round trips it takes to get all results: one for each batch, and one for each command that was in none."""
    with mock.patch.object(queue.store, "outcomes", wraps=queue.store.outcomes) as batches, Monitor(client, port) as monitor:
        list(results(handles, timeout=0))
    batched = sum(len(call.args[0]) for call in batches.call_args_list)
    return batches.call_count + monitor.total - batched


def _results(options: Options, progress: Progress) -> Result:
    """All results of many tasks that have ended."""
    count, seconds = options.scaled(10_000), []
    with server() as embedded, embedded.client() as client:
        assert embedded.port
        with Marks(count) as marks, tempfile.TemporaryDirectory() as folder, on_core(WORK_CORE):
            queue, log = Queue(QUEUE, client), Path(folder) / "log"
            handles = queue.enqueue_all(_KIND.tasks(range(count)))
            progress("results of many handles")
            with worker(of_kind(RESULT, go=False), embedded.url, marks.path, log) as process:
                watch(marks, process, log)
            for _ in range(options.runs):
                began = time.perf_counter()
                found = list(results(handles, timeout=0))
                seconds.append(time.perf_counter() - began)
                if found != list(range(count)):
                    raise AssertionError("the results are not those of the tasks")
            questions = _questions(queue, client, embedded.port, handles)
    result = Result("results", f"results() of {number(count)} handles whose tasks have ended", ("what", "found"))
    result.rows = [("results/s", spread([count / each for each in seconds])), ("round trips", number(questions))]
    result.values = {"seconds": seconds}
    result.want("one round trip for a hundred", questions / (count / 100), 1)
    return result


def measure_enqueue(options: Options, progress: Progress) -> list[Result]:
    """One by one against a bare round trip, and many at once."""
    count, many = options.scaled(10_000), options.scaled(500_000)
    ratios, singles, bares, rates = [], [], [], []
    with server() as embedded, embedded.client() as client, on_core(WORK_CORE):
        for run in range(options.runs):
            progress(f"enqueue, run {run + 1} of {options.runs}")
            client.flushall()
            ours, bare = _plain(client, count)
            ratios.append(ours / bare)
            singles.append(ours * 1e6)
            bares.append(bare * 1e6)
            client.flushall()
            queue = Queue("bench", client)
            began = time.perf_counter()
            queue.enqueue_many(PyTask("tasks:noop", (i,)) for i in range(many))
            rates.append(many / (time.perf_counter() - began))
            if queue.len() != many:
                raise AssertionError(f"{queue.len()} tasks wait instead of {many}")
    result = Result("enqueue", "Enqueue", ("what", "found"))
    result.rows = [
        ("enqueue, µs", spread(singles)),
        ("a bare EVALSHA by redis-py, µs", spread(bares)),
        ("the ratio", spread(ratios)),
        (f"enqueue_many of {number(many)}, tasks/s", spread(rates)),
    ]
    result.values = {"enqueue": singles, "bare": bares, "ratio": ratios, "many": rates}
    result.want("enqueue within 1.3 times a bare EVALSHA", statistics.median(ratios), 1.3, " times")
    result.want("enqueue_many at least 300,000 tasks/s", statistics.median(rates), 300_000, " tasks/s", least=True)
    return [result, _beside_the_script(options, progress), _results(options, progress)]
