"""wakaq: `fill <tasks>`; `work` with one worker process."""

import logging
import os
import sys
from urllib.parse import urlsplit

import marks
from wakaq import WakaQ
from wakaq.worker import Worker

address = urlsplit(os.environ["BENCH_REDIS"])
wakaq = WakaQ(
    queues=["bench"],
    host=address.hostname,
    port=address.port,
    concurrency=1,
    worker_log_file=os.devnull,
    worker_log_level=logging.WARNING,
)


@wakaq.task
def mark(i):
    marks.mark(i)


if sys.argv[1] == "fill":
    for i in range(int(sys.argv[2])):
        mark.delay(i)
else:
    Worker(wakaq=wakaq).start()
