"""saq: `fill <tasks>`; `work <concurrency>`. Results are not kept (`ttl=-1`)."""

import asyncio
import os
import sys

import marks
from saq import Queue, Worker

queue = Queue.from_url(os.environ["BENCH_REDIS"], name="bench")


async def mark(_context, *, i):
    marks.mark(i)


async def fill(count):
    await queue.connect()
    for first in range(0, count, 100):
        await asyncio.gather(*(queue.enqueue("mark", i=i, ttl=-1) for i in range(first, min(first + 100, count))))
    await queue.disconnect()


async def work():
    await Worker(queue, functions=[mark], concurrency=int(sys.argv[2])).start()


asyncio.run(fill(int(sys.argv[2])) if sys.argv[1] == "fill" else work())
