"""Our own worker and producer: `ours.py fill <tasks>`, `ours.py fillgo <tasks>` and `ours.py work`."""

import os
import sys

from delayed import GoTask, PyTask, Queue
from delayed.logger import setup_logger
from delayed.worker.worker import Worker

queue = Queue("bench", os.environ["BENCH_REDIS"])
command, *rest = sys.argv[1:]
if command == "work":
    setup_logger(log_level="INFO")
    Worker(queue, allow=["marks:mark"]).run()
elif command == "fillgo":
    queue.enqueue_many(GoTask("bench.Mark", (i,)) for i in range(int(rest[0])))
else:
    queue.enqueue_many(PyTask("marks:mark", (i,)) for i in range(int(rest[0])))
