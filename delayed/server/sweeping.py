"""Brings back what consumers have left, in the queues of clients that know of no sweeper."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from ..base.clock import monotonic
from ..base.text import traceback_of
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
        self._used: dict[str, float] = {}  # names, and when (monotonic time)

    def note(self, queue: str) -> None:
        """This queue is used."""
        if queue in self._used or len(self._used) < _MOST:
            self._used[queue] = monotonic()

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
        swept: set[str] = set()
        sweeper: Sweeper | None = None
        thread: asyncio.Future[None] | None = None
        began = 0.0  # monotonic time
        try:
            while True:
                self._used = {name: at for name, at in self._used.items() if at > monotonic() - _REMEMBERED}
                is_other = swept != self._used.keys() and monotonic() > began + _EVERY
                if is_other or thread is None or thread.done():
                    await _stopped(sweeper, thread)
                    swept, sweeper, thread, began = {*self._used}, None, None, monotonic()
                    if swept:
                        queues = [self._links[name].blocking for name in swept]
                        sweeper = Sweeper(queues, self._interval, notifies=False)
                        thread = asyncio.ensure_future(asyncio.to_thread(sweeper.run))
                await asyncio.sleep(_LOOK)
        finally:
            await _stopped(sweeper, thread)


async def _stopped(sweeper: Sweeper | None, thread: "asyncio.Future[None] | None") -> None:
    if sweeper is None or thread is None:
        return
    sweeper.stop()
    try:
        await thread
    except Exception as error:
        logger.error("A sweeper of the server failed\n%s", traceback_of(error))
