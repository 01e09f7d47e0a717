"""Upstream's delayed 1.2: `fill <tasks>`; `work`."""

import os
import sys

import marks  # noqa: F401  # fails early where the marks are missing
import redis

from delayed.queue import Queue
from delayed.task import PyTask
from delayed.worker import Worker

queue = Queue(name="bench", conn=redis.Redis.from_url(os.environ["BENCH_REDIS"]))
if sys.argv[1] == "fill":
    for i in range(int(sys.argv[2])):
        queue.enqueue(PyTask("marks:mark", (i,)))
else:
    Worker(queue=queue).run()
