"""huey: `fill <tasks>`; `work <kind> <workers>`. Results are off, unless BENCH_RESULTS is set."""

import logging
import os
import sys

import marks
from huey import RedisHuey

results = "BENCH_RESULTS" in os.environ
huey = RedisHuey("bench", url=os.environ["BENCH_REDIS"], results=results)
mark = huey.task()(marks.number if results else marks.mark)

if sys.argv[1] == "fill":
    for i in range(int(sys.argv[2])):
        mark(i)
else:
    logging.basicConfig(level=logging.WARNING)
    huey.create_consumer(worker_type=sys.argv[2], workers=int(sys.argv[3])).run()
