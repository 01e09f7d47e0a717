"""How many tasks are taken at once for one connection of the text protocol."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

MOST = 100  # tasks that are taken at once
_BYTES = 1 << 20  # of them, about
_USUAL = 1 << 16  # bytes of a task of which nothing is known yet


class Reader(Protocol):
    """Whom the tasks are for."""

    @property
    def is_heard(self) -> bool:
        """Whether they read what is said to them."""

    async def heard(self) -> None:
        """Until they do, or have gone."""


class Room:
    """Lets takes begin in their order, while the client reads, and as many at once as their tasks are likely to have room.

    Args:
        reader: the client.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._size = _USUAL  # bytes of a task, as the last ones had
        self._taken = 0  # tasks that are being taken, at most
        self._first = asyncio.Lock()
        self._less = asyncio.Event()

    @property
    def step(self) -> int:
        """How many tasks to take at once."""
        return min(MOST, max(1, _BYTES // self._size))

    @contextlib.asynccontextmanager
    async def taking(self, most: int) -> AsyncIterator[None]:
        """Take up to so many tasks. More than a step are taken while no others are."""
        async with self._first:
            while not self._reader.is_heard or (self._taken and self._taken + most > self.step):
                await self._reader.heard()
                if self._taken and self._taken + most > self.step:
                    self._less.clear()
                    await self._less.wait()
            self._taken += most
        try:
            yield
        finally:
            self._taken -= most
            self._less.set()

    def note(self, size: int, count: int) -> None:
        """So many tasks had so many bytes."""
        if count:
            self._size = max(1, size // count)
