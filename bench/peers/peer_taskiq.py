"""taskiq with taskiq-redis: `fill <broker> <tasks>`; `work <broker> <options of taskiq worker>`. No result backend."""

import asyncio
import os
import sys

import marks
from taskiq_redis import ListQueueBroker, RedisStreamBroker

kind = os.environ.get("BENCH_BROKER") or sys.argv[2]
broker = {"list": ListQueueBroker, "stream": RedisStreamBroker}[kind](os.environ["BENCH_REDIS"])


@broker.task(task_name="mark")
async def mark(i: int) -> None:
    marks.mark(i)


async def fill(count):
    await broker.startup()
    for first in range(0, count, 50):
        await asyncio.gather(*(mark.kiq(i) for i in range(first, min(first + 50, count))))
    await broker.shutdown()


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        asyncio.run(fill(int(sys.argv[3])))
    else:
        os.environ["BENCH_BROKER"] = kind
        options = ["--workers", "1", "--log-level", "WARNING", *sys.argv[3:]]
        os.execv(sys.executable, [sys.executable, "-m", "taskiq", "worker", *options, "peer_taskiq:broker"])
