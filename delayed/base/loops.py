"""Keeps one value for each event loop, since asyncio connections belong to the loop that made them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Generic, TypeVar
from weakref import ref

T = TypeVar("T")
_all: "list[ref[PerLoop[Any]]]" = []


class PerLoop(Generic[T]):
    """One value for each running loop, closed before its loop is.

    asyncio tells only asynchronous generators that their loop ends (`shutdown_asyncgens`, which `asyncio.run` calls), so one
    waits for that beside each thing. A loop that somebody closes without that is noticed when another one is used.

    Args:
        make: makes one.
        close: closes one, in its loop.
        abandon: lets go of one whose loop is closed, so that nothing can be awaited for it.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]], abandon: Callable[[T], None]) -> None:
        self._make, self._close, self._abandon = make, close, abandon
        self._there: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}
        _all.append(ref(self, _all.remove))

    async def here(self) -> T:
        """The one of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._there.get(loop)
        if found is not None:
            return found[0]
        for each in [there for known in list(_all) if (there := known()) is not None]:
            each.let_go()
        thing = self._make()
        guard = self._guarding(thing, loop)
        await anext(guard)  # now the loop knows it
        self._there[loop] = thing, guard
        return thing

    def let_go(self) -> None:
        """Abandon what belongs to loops that are closed."""
        for loop in list(self._there):
            if loop.is_closed() and (gone := self._there.pop(loop, None)):
                self._abandon(gone[0])

    async def close(self) -> None:
        """Close the one of the running loop, if there is one; who asks again gets another."""
        found = self._there.get(asyncio.get_running_loop())
        if found is not None:
            await found[1].aclose()

    async def _guarding(self, thing: T, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._there.pop(loop, None)
            await self._close(thing)
