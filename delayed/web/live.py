"""Tells pages that something has changed: one look at Redis for all of them, however many there are."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

from starlette.concurrency import run_in_threadpool

from ..base.clock import monotonic
from ..logger import logger
from ..redis.command import RedisError

_PAUSE = 0.5  # seconds between two looks
_SHARE = 0.05  # of the time that looks may take
_SILENCE = 10.0  # seconds after which a page looks anyhow: not all that pages show is looked at


class Live:
    """Looks while somebody watches.

    Args:
        look: what it compares.

    Attributes:
        changed: when it was last seen that something has changed.
    """

    def __init__(self, look: Callable[[], object]) -> None:
        self._look, self.changed = look, -1.0
        self._watching: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None

    async def changes(self) -> AsyncGenerator[bytes]:
        """Server-sent events: `changed` whenever what was seen is another than before."""
        woken = asyncio.Event()
        self._watching.add(woken)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            yield b"retry: 2000\n\n"
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), _SILENCE)
                woken.clear()
                yield b"event: changed\ndata: \n\n"
        finally:
            self._watching.discard(woken)

    async def _watch(self) -> None:
        loop, last = asyncio.get_running_loop(), None
        while self._watching:
            began = loop.time()
            try:
                seen = await run_in_threadpool(self._look)
            except RedisError as error:
                logger.warning("the pages cannot be kept up to date: %s", error)
                seen = None
            if seen != last:
                last, self.changed = seen, monotonic()
                for each in self._watching:
                    each.set()
            await asyncio.sleep(max(_PAUSE, (loop.time() - began) / _SHARE))
