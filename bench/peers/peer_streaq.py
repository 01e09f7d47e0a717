"""streaq: `fill <tasks>`; `work <concurrency>`. Results are not kept (`ttl=0`)."""

import asyncio
import os
import sys

import marks
from streaq import Worker

worker = Worker(redis_url=os.environ["BENCH_REDIS"], queue_name="bench", concurrency=int(sys.argv[2]))


@worker.task(ttl=0, silent=True, name="mark")
async def mark(i: int) -> None:
    marks.mark(i)


async def fill(count):
    async with worker:
        for first in range(0, count, 500):
            await worker.enqueue_many([mark.enqueue(i) for i in range(first, min(first + 500, count))])


if sys.argv[1] == "fill":
    asyncio.run(fill(int(sys.argv[2])))
else:
    worker.run_sync()
