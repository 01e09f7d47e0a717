"""saq: `fill <tasks>`; `work <concurrency>`; `results`. Results are not kept (`ttl=-1`), if not asked for."""

import asyncio
import os
import sys

import marks
import notes
from saq import Queue, Worker

queue = Queue.from_url(os.environ["BENCH_REDIS"], name="bench")


async def mark(_context, *, i):
    return marks.echo(i) if notes.KEPT else marks.mark(i)


async def fill(count):
    await queue.connect()
    ttl = 60 if notes.KEPT else -1
    with notes.enqueuing() as ids:
        for chunk in notes.chunks(count, 100):
            ids += [job.key for job in await asyncio.gather(*(queue.enqueue("mark", i=i, ttl=ttl) for i in chunk))]
    await queue.disconnect()


async def results():
    await queue.connect()
    notes.note_results([(await queue.job(key)).result for key in notes.noted_ids()])
    await queue.disconnect()


async def work():
    await Worker(queue, functions=[mark], concurrency=int(sys.argv[2])).start()


commands = {"fill": lambda: fill(int(sys.argv[2])), "work": work, "results": results}
asyncio.run(commands[sys.argv[1]]())
