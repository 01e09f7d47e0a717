"""rq: `fill <tasks>`; `work fork` (its default: a child for each job) or `work simple` (in the worker process)."""

import os
import sys

import redis
from rq import Queue, SimpleWorker, Worker

connection = redis.Redis.from_url(os.environ["BENCH_REDIS"])
queue = Queue("bench", connection=connection)
if sys.argv[1] == "fill":
    count = int(sys.argv[2])
    for first in range(0, count, 500):
        last = min(first + 500, count)
        queue.enqueue_many([Queue.prepare_data("marks.mark", (i,), result_ttl=0) for i in range(first, last)])
else:
    kind = Worker if sys.argv[2] == "fork" else SimpleWorker
    kind([queue], connection=connection).work(logging_level="WARNING")
