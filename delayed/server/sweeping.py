"""Brings back what consumers have left, in the queues of clients that know of no sweeper."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator

from ..base.clock import monotonic
from ..base.text import traceback_of
from ..errors import ConfigurationError
from ..logger import logger
from ..sweeper.sweeper import INTERVAL, Sweeper
from .links import Links

_REMEMBERED = 3600.0  # seconds for which a queue is swept of which nothing is heard
_MOST = 1000  # queues
_EVERY = 10.0  # seconds that a sweeper has before there is another one for more queues
_LOOK = 1.0  # seconds between two looks at whether there are others


class Sweeping:
    """A sweeper of the queues that have been used last.

    Args:
        links: the queues.
        interval: seconds between two sweeps.
    """

    def __init__(self, links: Links, interval: float = INTERVAL) -> None:
        self._links, self._interval = links, interval
        self._used: OrderedDict[str, float] = OrderedDict()  # names, and when (monotonic time): the last one at the end
        self._swept: set[str] = set()
        self._sweeper: Sweeper | None = None
        self._thread: asyncio.Future[None] | None = None  # in which it runs
        self._began = 0.0  # monotonic time

    def note(self, queue: str) -> None:
        """This queue is used. A name that no queue can have is not heeded: clients choose what they ask for."""
        if queue not in self._used:
            try:
                self._links[queue]
            except ConfigurationError:
                return
            if len(self._used) >= _MOST:
                self._used.popitem(last=False)
        self._used[queue] = monotonic()
        self._used.move_to_end(queue)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sweep as long as this lasts."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        try:
            while True:
                try:
                    await self._look()
                except Exception as error:  # or nobody would sweep as long as the server runs
                    logger.error("The server could not sweep, and tries again\n%s", traceback_of(error))
                await asyncio.sleep(_LOOK)
        finally:
            await self._stop()

    async def _look(self) -> None:
        """See that a sweeper runs, for the queues that are used now."""
        while self._used and next(iter(self._used.values())) <= monotonic() - _REMEMBERED:
            self._used.popitem(last=False)
        is_other = self._swept != self._used.keys() and monotonic() > self._began + _EVERY
        if not is_other and self._thread is not None and not self._thread.done():
            return
        await self._stop()
        self._swept, self._began = {*self._used}, monotonic()
        if self._swept:
            queues = [self._links[name].blocking for name in self._swept]
            self._sweeper = Sweeper(queues, self._interval, notifies=False)
            self._thread = asyncio.ensure_future(asyncio.to_thread(self._sweeper.run))

    async def _stop(self) -> None:
        """End the sweeper that runs."""
        sweeper, thread, self._sweeper, self._thread = self._sweeper, self._thread, None, None
        if sweeper is None or thread is None:
            return
        sweeper.stop()
        try:
            await thread
        except Exception as error:
            logger.error("A sweeper of the server failed\n%s", traceback_of(error))
