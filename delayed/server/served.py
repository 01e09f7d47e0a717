"""The queues that clients of the server use: for each a line of those who wait, and the server as a worker of it.

Their names are the clients' to choose, so what nobody uses is forgotten.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Iterator

from .beat import Beat
from .endings import Endings
from .line import Line
from .links import Links

_WAITING = 500  # connections that wait for tasks: for so many queues at once
_LINES = 1000  # queues from which tasks have been taken that are kept at hand while nobody waits
_BEATS = 2 * _LINES  # queues whose tasks were taken or ended, likewise


class Served:
    """The queues that are used.

    Args:
        links: all queues.
        endings: of their tasks.
        holder: the name of this process, for humans: the value of the leases' keys.
    """

    def __init__(self, links: Links, endings: Endings, holder: str) -> None:
        self._links, self._endings, self._holder = links, endings, holder
        self._beats: OrderedDict[str, Beat] = OrderedDict()
        self._lines: dict[str, Line] = {}
        self._room = asyncio.Semaphore(_WAITING)

    def line(self, queue: str) -> Line:
        """Those who wait for tasks of a queue.

        Raises:
            ConfigurationError: no queue can have this name.
        """
        line = self._lines.get(queue)
        if line is None:
            if len(self._lines) >= _LINES:
                self._forget_lines()
            line = Line(self._links[queue], self._endings, self._beat(queue), self._holder, self._room)
            self._lines[queue] = line
        return line

    @contextlib.contextmanager
    def counting(self, queue: str) -> Iterator[Beat]:
        """The server as a worker of a queue. What is counted inside of the block is in the statistics later."""
        beat = self._beat(queue)
        beat.users += 1
        try:
            yield beat
        finally:
            beat.users -= 1

    def _beat(self, queue: str) -> Beat:
        beat = self._beats.get(queue)
        if beat is None:
            if len(self._beats) >= _BEATS:
                self._forget_beats()
            beat = self._beats[queue] = Beat(self._links[queue], self._holder, self._endings.place)
        self._beats.move_to_end(queue)
        return beat

    def _forget_lines(self) -> None:
        by_use = sorted((line.used_at, name) for name, line in self._lines.items() if line.idle)
        for _, name in by_use[: _LINES // 2]:
            del self._lines[name]

    def _forget_beats(self) -> None:
        """Forget those that were used first, but for what they have not sent yet."""
        idle = [name for name, beat in self._beats.items() if beat.idle and name not in self._lines]
        for name in idle[: len(self._beats) - _BEATS * 3 // 4]:
            del self._beats[name]

    async def close(self) -> None:
        """Nobody waits any more, and what was counted is sent."""
        await asyncio.gather(*(line.close() for line in self._lines.values()))
        await asyncio.gather(*(beat.tally.close() for beat in self._beats.values()))
