"""streaq: `fill <tasks>`; `work <concurrency>`; `results <concurrency>`. Results are not kept (`ttl=0`), if not asked for,
else for ten minutes: to read them one by one takes longer than one, and it waits for ever for those that are gone."""

import asyncio
import os
import sys

import marks
import notes
from streaq import Worker

worker = Worker(redis_url=os.environ["BENCH_REDIS"], queue_name="bench", concurrency=int(sys.argv[2]))


@worker.task(ttl=600 if notes.KEPT else 0, silent=True, name="mark")
async def mark(i: int) -> int | None:
    return marks.echo(i) if notes.KEPT else marks.mark(i)


async def fill(count):
    async with worker:
        with notes.enqueuing() as ids:
            for chunk in notes.chunks(count, 500):
                tasks = [mark.enqueue(i) for i in chunk]
                if notes.ONE_BY_ONE:
                    await tasks[0]
                else:
                    await worker.enqueue_many(tasks)
                ids += [task.id for task in tasks]


async def results():
    async with worker:
        notes.note_results([(await worker.result_by_id(id_)).result for id_ in notes.noted_ids()])


if sys.argv[1] == "fill":
    asyncio.run(fill(int(sys.argv[2])))
elif sys.argv[1] == "results":
    asyncio.run(results())
else:
    worker.run_sync()
