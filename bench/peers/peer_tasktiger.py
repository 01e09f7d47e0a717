"""tasktiger: `fill <kind> <tasks>`; `work <kind>`.

`fork` is its default, a child for each task; `sync` runs tasks in the worker; `batch` hands up to 100 to one call of a task
that was written for it.
"""

import logging
import os
import sys

import marks
import redis
import tasktiger
from tasktiger.executor import ForkExecutor, SyncExecutor

kind = sys.argv[2]
connection = redis.Redis.from_url(os.environ["BENCH_REDIS"], decode_responses=True)
config = {"BATCH_QUEUES": {"bench": 100} if kind == "batch" else {}}
tiger = tasktiger.TaskTiger(connection=connection, config=config, setup_structlog=True)
tiger.log.setLevel(logging.WARNING)  # it would log each task


def mark(i):
    marks.mark(i)


@tiger.task(batch=True)
def mark_all(calls):
    for call in calls:
        marks.mark(*call["args"])


if __name__ == "__main__":
    import peer_tasktiger  # tasks are known by the name of their module, which is not __main__

    task = peer_tasktiger.mark_all if kind == "batch" else peer_tasktiger.mark
    if sys.argv[1] == "fill":
        for i in range(int(sys.argv[3])):
            tiger.delay(task, args=(i,), queue="bench")
    else:
        executor = ForkExecutor if kind == "fork" else SyncExecutor
        tiger.run_worker(queues="bench", executor_class=executor)
