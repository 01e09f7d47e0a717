"""Our own worker and producer for one kind of task: `kinds.py fill <kind> <tasks>` says how many it enqueued in a second, and
`kinds.py work <kind>` runs them."""

import os
import sys
import time
from typing import Any

from delayed import PyTask, Queue
from delayed.backoff import Exponential
from delayed.job.allow import AllowList
from delayed.logger import setup_logger
from delayed.supervisor.supervisor import Supervisor
from delayed.task.options import Options
from delayed.worker.options import WorkerOptions
from delayed.worker.worker import Worker

# What its tasks ask for, the function, and how its worker is made.
KINDS: dict[str, tuple[Any, str, dict[str, int]]] = {
    "plain": (None, "mark", {}),
    "plain, supervised": (None, "mark", {}),
    "an id": (Options().with_id(), "mark", {}),
    "timeout": (Options(timeout=30), "mark", {}),
    "retry, backoff": (Options(backoff=Exponential(1)), "mark", {}),
    "group": (lambda i: Options(group=f"g{i % 50}"), "mark", {}),
    "limit": (None, "mark", {}),
    "tracked": (Options(track=True), "mark", {}),
    "result": (Options(result_ttl=600), "number", {}),
    "unique": (lambda i: Options(unique=f"k{i}"), "mark", {}),
    "concurrency key": (lambda i: Options(concurrency_key=f"k{i % 50}", concurrency=4), "mark", {}),
    "coroutine": (None, "later", {"async_tasks": 100}),
    "coroutine, result": (Options(result_ttl=600), "later", {"async_tasks": 100}),
    "thread": (None, "mark", {"threads": 8}),
    "thread, result": (Options(result_ttl=600), "number", {"threads": 8}),
}


def task(kind: str, number: int) -> PyTask:
    """One of the tasks."""
    asks, function, _ = KINDS[kind]
    options = asks(number) if callable(asks) else asks
    if options is None:
        return PyTask(f"marks:{function}", (number,))
    return PyTask.with_options(f"marks:{function}", (number,), None, 3 if "retry" in kind else None, options)


def main() -> None:
    """Enqueue, or work."""
    command, kind, *rest = sys.argv[1:]
    queue = Queue("bench", os.environ["BENCH_REDIS"])
    if command == "fill":
        tasks = [task(kind, number) for number in range(int(rest[0]))]
        queue.enqueue_many(tasks[:0])
        began = time.perf_counter()
        queue.enqueue_many(tasks)
        print(len(tasks) / (time.perf_counter() - began))
        return
    setup_logger(log_level="INFO")
    if kind == "limit":
        queue.limit(concurrency=1000)
    options = WorkerOptions(queues=(queue,), allow=AllowList(["marks:*"]), **KINDS[kind][2])
    if "supervised" in kind:
        Supervisor(options, 1, limit=3).run()
    else:
        Worker.of(options).run()


main()
