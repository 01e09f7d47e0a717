"""arq: `fill <tasks>`; `work <max_jobs>`; `results <max_jobs>`. Results are not kept, if not asked for."""

import asyncio
import os
import sys

import marks
import notes
from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job
from arq.worker import func, run_worker

settings = RedisSettings.from_dsn(os.environ["BENCH_REDIS"])


async def mark(_context, i):
    return marks.echo(i) if notes.KEPT else marks.mark(i)


async def fill(count):
    pool = await create_pool(settings)
    with notes.enqueuing() as ids:
        for chunk in notes.chunks(count, 100):
            ids += [job.job_id for job in await asyncio.gather(*(pool.enqueue_job("mark", i) for i in chunk))]


async def results():
    pool = await create_pool(settings)
    notes.note_results([await Job(id_, pool).result(timeout=1) for id_ in notes.noted_ids()])


class Settings:
    redis_settings = settings
    functions = [func(mark, keep_result=60 if notes.KEPT else 0)]
    max_jobs = int(sys.argv[2])


if sys.argv[1] == "fill":
    asyncio.run(fill(int(sys.argv[2])))
elif sys.argv[1] == "results":
    asyncio.run(results())
else:
    asyncio.set_event_loop(asyncio.new_event_loop())
    run_worker(Settings)
