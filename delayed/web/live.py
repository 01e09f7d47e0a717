"""Tells who looks at a page that it has changed: one look at each page for all of them, however many there are."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from dataclasses import dataclass, field

from ..base.clock import monotonic
from ..logger import logger

_PAUSE = 0.5  # seconds between two looks at a page
_SHARE = 0.1  # of the time that the looks at one page may take
_SILENCE = 10.0  # seconds after which a page is asked for anyhow: ages grow while nothing happens
Look = Callable[[], Awaitable[object]]


@dataclass
class _Watched:
    """A page that somebody looks at."""

    woken: set[asyncio.Event] = field(default_factory=set)
    task: asyncio.Task[None] | None = None


class Live:
    """Looks at pages while somebody watches them: at one at a time.

    Attributes:
        acted: when somebody has acted here; no page is shown from before that.
    """

    def __init__(self) -> None:
        self.acted = -1.0
        self._pages: dict[Hashable, _Watched] = {}
        self._turn = asyncio.Lock()

    async def changes(self, page: Hashable, look: Look) -> AsyncGenerator[bytes]:
        """Server-sent events: `changed` whenever what a page shows is another than before.

        Args:
            page: which; who names the same one shares its looks.
            look: what is compared.
        """
        watched, woken = self._pages.get(page), asyncio.Event()
        if watched is None or watched.task is None or watched.task.done():
            watched = self._pages[page] = _Watched()
            watched.task = asyncio.create_task(self._watch(page, watched, look))
        watched.woken.add(woken)
        try:
            yield b"retry: 2000\n\n"
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), _SILENCE)
                woken.clear()
                yield b"event: changed\ndata: \n\n"
        finally:
            watched.woken.discard(woken)

    async def _watch(self, page: Hashable, watched: _Watched, look: Look) -> None:
        last: object = None
        while watched.woken:
            async with self._turn:
                began = monotonic()
                seen = await self._seen(look)
                took = monotonic() - began
            if seen != last:
                last = seen
                for each in watched.woken:
                    each.set()
            await asyncio.sleep(max(_PAUSE, took / _SHARE))
        if self._pages.get(page) is watched:
            del self._pages[page]

    async def _seen(self, look: Look) -> object:
        try:
            return await look()
        except Exception as error:
            logger.warning("a page cannot be kept up to date: %s: %s", type(error).__name__, error)
            return None
