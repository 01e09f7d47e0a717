"""Works on bulk acts that were begun over HTTP."""

import asyncio

from ..base.text import traceback_of
from ..logger import logger
from ..ops.jobs import Runner
from ..queue.queue import Queue
from ..redis.command import RedisError


class Jobs:
    """Works on the jobs of queues for which somebody has asked here. What a killed server leaves, others go on with."""

    def __init__(self) -> None:
        self._working: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    def work_on(self, queue: Queue) -> None:
        """Work on what is open, if this is not done already."""
        if queue.name not in self._working and not self._stopping:
            self._working[queue.name] = asyncio.create_task(self._work(queue))

    async def _work(self, queue: Queue) -> None:
        runner = Runner(lambda: [queue], lambda: self._stopping)
        try:
            while not self._stopping and await asyncio.to_thread(runner.step):
                pass
        except RedisError as error:
            logger.warning("jobs of operators wait for Redis: %s", error)
        except Exception as error:
            logger.error("The jobs of %r were not worked on\n%s", queue.name, traceback_of(error))
        finally:
            del self._working[queue.name]

    async def close(self) -> None:
        """Give the jobs back after the pages at hand."""
        self._stopping = True
        if self._working:
            await asyncio.wait(list(self._working.values()))
