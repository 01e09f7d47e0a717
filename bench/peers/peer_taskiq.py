"""taskiq with taskiq-redis: `fill <broker> <tasks>`; `work <broker> <options of taskiq worker>`; `results
<broker>`. There is a result backend only if results are asked for."""

import asyncio
import os
import sys

import marks
import notes
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

kind = os.environ.get("BENCH_BROKER") or sys.argv[2]
broker = {"list": ListQueueBroker, "stream": RedisStreamBroker}[kind](os.environ["BENCH_REDIS"])
if notes.KEPT:
    broker = broker.with_result_backend(RedisAsyncResultBackend(os.environ["BENCH_REDIS"], result_ex_time=60))


@broker.task(task_name="mark")
async def mark(i: int) -> int | None:
    return marks.echo(i) if notes.KEPT else marks.mark(i)


async def fill(count):
    await broker.startup()
    with notes.enqueuing() as ids:
        for chunk in notes.chunks(count, 50):
            ids += [task.task_id for task in await asyncio.gather(*(mark.kiq(i) for i in chunk))]
    await broker.shutdown()


async def results():
    await broker.startup()
    notes.note_results([(await broker.result_backend.get_result(id_)).return_value for id_ in notes.noted_ids()])
    await broker.shutdown()


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        asyncio.run(fill(int(sys.argv[3])))
    elif sys.argv[1] == "results":
        asyncio.run(results())
    else:
        os.environ["BENCH_BROKER"] = kind
        options = ["--workers", "1", "--log-level", "WARNING", *sys.argv[3:]]
        os.execv(sys.executable, [sys.executable, "-m", "taskiq", "worker", *options, "peer_taskiq:broker"])
