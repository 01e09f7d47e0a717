"""Enqueues that clients do not wait for."""

import asyncio
from collections.abc import Awaitable, Callable

from ..base.escape import escaped
from ..base.text import traceback_of
from ..errors import DelayedError
from ..logger import logger
from ..redis.command import RedisError, is_outage
from .http import Problem

_MOST, _BYTES = 10_000, 32 << 20  # that are under way, and the bytes of these; who comes then waits
_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds between attempts, while Redis cannot be reached


class Later:
    """Carries out what clients have been told will be."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], int] = {}  # and their bytes
        self._size = 0
        self._stopping = False

    def takes(self, size: int) -> bool:
        """Whether there is a place for one more, with so many bytes."""
        return len(self._tasks) < _MOST and self._size + size <= _BYTES and not self._stopping

    def add(self, what: str, act: Callable[[], Awaitable[object]], size: int, *, again: bool) -> None:
        """Do something soon.

        Args:
            what: for the log.
            act: does it.
            size: bytes of what it has to keep until then.
            again: it may be done twice: so it is tried again if Redis cannot be reached.
        """
        task = asyncio.create_task(self._run(what, act, _PAUSES if again else ()))
        self._tasks[task] = size
        self._size += size
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._size -= self._tasks.pop(task)

    @staticmethod
    async def _run(what: str, act: Callable[[], Awaitable[object]], pauses: tuple[float, ...]) -> None:
        try:
            for pause in pauses:
                try:
                    await act()
                    return
                except RedisError as error:
                    if not is_outage(error):
                        raise
                await asyncio.sleep(pause)
            await act()
        except (DelayedError, RedisError, Problem) as error:
            logger.error("%s was accepted, and is not enqueued: %s", escaped(what), escaped(error))
        except Exception as error:
            logger.error("%s was accepted, and is not enqueued\n%s", escaped(what), traceback_of(error))

    async def close(self) -> None:
        """Take no more, and end what is under way."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks)
