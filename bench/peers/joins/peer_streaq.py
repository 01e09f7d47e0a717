import asyncio
import sys

import last
from streaq import Worker

worker = Worker(redis_url=last.URL, queue_name="last", concurrency=1, idle_timeout=3)


@worker.task()
async def member(number: int) -> int:
    return last.member(number)


@worker.task()
async def callback(_number: int) -> None:
    last.callback()


async def fill():
    async with worker:
        await member.enqueue(2).then(callback)


if sys.argv[1] == "fill":
    asyncio.run(fill())
else:
    worker.run_sync()
