"""arq: `fill <tasks>`; `work <max_jobs>`. Results are not kept."""

import asyncio
import os
import sys

import marks
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import func, run_worker

settings = RedisSettings.from_dsn(os.environ["BENCH_REDIS"])


async def mark(_context, i):
    marks.mark(i)


async def fill(count):
    pool = await create_pool(settings)
    for first in range(0, count, 100):
        await asyncio.gather(*(pool.enqueue_job("mark", i) for i in range(first, min(first + 100, count))))


class Settings:
    redis_settings = settings
    functions = [func(mark, keep_result=0)]
    max_jobs = int(sys.argv[2])


if sys.argv[1] == "fill":
    asyncio.run(fill(int(sys.argv[2])))
else:
    asyncio.set_event_loop(asyncio.new_event_loop())
    run_worker(Settings)
