"""A producer, worker or sweeper made of whichever `delayed` package the interpreter finds: ours, or upstream's.

python agent.py produce < tasks.jsonl
python agent.py work QUEUE
python agent.py sweep QUEUE
"""

import json
import os
import sys
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import redis

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017  # upstream's package runs on older Pythons


def native(value: dict[str, Any]) -> Any:
    """A value from the notation of docs/protocol.md, section 9."""
    ((kind, content),) = value.items()
    if kind == "map":
        return {native(key): native(item) for key, item in content}
    if kind in ("list", "struct"):
        return [native(item) for item in content]
    if kind == "deep":
        result: Any = 0
        for _ in range(content):
            result = [result]
        return result
    if kind == "time":
        seconds, nanoseconds = content
        return EPOCH + timedelta(seconds=int(seconds), microseconds=nanoseconds // 1000)
    made: dict[str, Callable[[], Any]] = {
        "nil": lambda: None,
        "bool": lambda: content,
        "int": lambda: int(content),
        "float": lambda: float(content),
        "str": lambda: content,
        "bin": lambda: bytes.fromhex(content),
        "repeat": lambda: content[0] * content[1],
    }
    return made[kind]()


def task_of(order: dict[str, Any]) -> Any:
    """The task that a line of standard input asks for."""
    from delayed.task import GoTask, PyTask

    args = [native(value) for value in order["args"]]
    if order["language"] == "python":
        kwargs = {name: native(value) for name, value in order.get("kwargs", {}).items()}
        return PyTask(order["func_path"], args, kwargs, order.get("retry", 0))
    if not args:
        return GoTask(order["func_path"])
    return GoTask(order["func_path"], args[0] if len(args) == 1 else args)


def produce(queue_class: Any) -> None:
    """Enqueue a task for each line of standard input; say which ones the package refuses."""
    conn = redis.Redis.from_url(os.environ["DELAYED_REDIS_URL"])
    larger = {"max_task_size": 2**21} if hasattr(queue_class, "enqueue_many") else {}  # ours has a limit, which is 1 MiB
    queues: dict[str, Any] = {}
    for number, line in enumerate(sys.stdin):
        order = json.loads(line)
        queue = queues.setdefault(order["queue"], queue_class(order["queue"], conn, **larger))
        try:
            queue.enqueue(task_of(order))
        except (TypeError, ValueError, OverflowError) as error:
            print(number, error)


def main() -> None:
    """See the module."""
    from delayed.logger import setup_logger
    from delayed.queue import Queue
    from delayed.sweeper import Sweeper
    from delayed.worker import Worker

    what = sys.argv[1]
    if what == "produce":
        produce(Queue)
        return
    setup_logger()
    conn = redis.Redis.from_url(os.environ["DELAYED_REDIS_URL"])
    queue = Queue(sys.argv[2], conn, dequeue_timeout=0.3, keep_alive_timeout=2)
    if what == "work":
        warnings.simplefilter("ignore")  # ours warns that every function is allowed
        Worker(queue, keep_alive_interval=0.5).run()
    else:
        Sweeper([queue], interval=0.3).run()


if __name__ == "__main__":
    main()
