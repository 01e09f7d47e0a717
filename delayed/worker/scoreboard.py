"""Shows a supervisor what its worker process does: a page of shared memory, which can be read even after the process has died.

Only the worker writes. Each number is written in one piece.
"""

import mmap
from typing import Any

import msgpack

from ..base.clock import monotonic

_TURNS, _FINISHED, _WORKING, _LEFT, _BEAT, _CLIENT, _NAME = 0, 1, 2, 3, 4, 5, 7
_END_BY = 9
_QUEUES = 10  # where the queues begin: a serial number and a token for each
_WORD = 8  # bytes
_NOTES = 256  # endings that can be noted; a worker has at most a hand of them
_QUEUE_BITS = 40  # a note is the number of a queue above so many bits, and below them that of a lease
_HAS_TEXT = 1 << 63  # in a note of which more is known than that its task has ended
_TEXTS = 1 << 16  # bytes for that,
_LONGEST = 1 << 12  # and what one note may have of them
_SIZE = 4  # bytes before each text, which say how many it has
_TOKEN = 2 * _WORD  # bytes; see `leases.token`


class Scoreboard:
    """One worker process, as its supervisor sees it.

    Args:
        queues: how many queues the worker serves.
        supervised: whether somebody reads it when the worker has died: then it may note endings here, and send many together.
    """

    def __init__(self, queues: int, *, supervised: bool = False) -> None:
        self.supervised = supervised
        self._notes = _QUEUES + 3 * queues  # how many notes there are, and then these
        self._texts = _WORD * (self._notes + 1 + _NOTES)
        self._bytes = mmap.mmap(-1, self._texts + _TEXTS)  # anonymous, and shared with forked processes
        self._words = memoryview(self._bytes).cast("Q")
        self._noted, self._end = 0, self._texts

    # The worker writes

    def turn(self, turns: int, finished: int) -> None:
        """The worker is about to ask for tasks."""
        self._words[_TURNS] = turns
        self._words[_FINISHED] = finished

    def work(self, working: bool) -> None:
        """It begins, or ends, to run what it has taken."""
        self._words[_WORKING] = working

    def beat(self, moment: float) -> None:
        """Its own beat has reached Redis; `moment` is monotonic time in seconds, the same for all processes of a host."""
        self._words[_BEAT] = round(moment * 1000)

    def leave(self) -> None:
        """It has given back everything."""
        self._words[_LEFT] = 1

    def connect(self, which: int, client_id: int) -> None:
        """Its connection `which` (0: the worker's, 1: the heartbeat's) has this id on the server; 0 if that is not known."""
        self._words[_CLIENT + which] = client_id

    def set_name(self, name: str) -> None:
        """The token of its own lease."""
        self._write(_NAME, name)

    def lease(self, queue: int, token: str, serial: int) -> None:
        """From now on it may take under the leases `token` 0 to `serial` - 1 of its queue number `queue`."""
        if token != self._read(_QUEUES + 3 * queue + 1):
            self.clear()  # what is noted would stand for other leases: who forgets it repeats a task, and loses none
        self._words[_QUEUES + 3 * queue] = serial
        self._write(_QUEUES + 3 * queue + 1, token)

    def end_by(self, moment: float) -> None:
        """What it runs must have ended at this monotonic time in seconds; 0 for no limit."""
        self._words[_END_BY] = round(moment * 1000)

    def note(self, queue: int, serial: int, text: bytes = b"") -> bool:
        """What its lease of this number, on its queue number `queue`, held has ended, and Redis does not know that yet. False
        if there is no place. The lease must not be used again before `clear`.

        Args:
            queue, serial: the lease.
            text: how it ends, if not by HDEL alone.
        """
        if self._noted == _NOTES:
            return False
        note = queue << _QUEUE_BITS | serial
        if text:
            size, end = len(text), self._end + _SIZE
            if size > _LONGEST or end + size > self._texts + _TEXTS:
                return False
            self._bytes[self._end : end + size] = size.to_bytes(_SIZE, "big") + text
            self._end = end + size
            note |= _HAS_TEXT
        self._words[self._notes + 1 + self._noted] = note
        self._noted += 1
        self._words[self._notes] = self._noted
        return True

    def clear(self) -> None:
        """Redis knows all that was noted."""
        if self._noted:
            self._noted = self._words[self._notes] = 0
            self._end = self._texts

    # The supervisor reads

    def noted(self, queue: int) -> list[tuple[int, bytes]]:
        """The numbers of the leases on its queue number `queue` of which it has noted that their tasks have ended, and how, if
        not by HDEL alone."""
        found, at = list[tuple[int, bytes]](), self._texts
        for word in self._words[self._notes + 1 : self._notes + 1 + self._words[self._notes]]:
            text = b""
            if word & _HAS_TEXT:
                size = int.from_bytes(self._bytes[at : at + _SIZE], "big")
                text = self._bytes[at + _SIZE : at + _SIZE + size]
                at += _SIZE + size
            note = word & ~_HAS_TEXT
            if note >> _QUEUE_BITS == queue:
                found.append((note & ((1 << _QUEUE_BITS) - 1), text))
        return found

    @property
    def progress(self) -> tuple[int, int]:
        """Changes whenever the worker goes on."""
        return self._words[_TURNS], self._words[_FINISHED]

    @property
    def finished(self) -> int:
        """How many tasks it has ended, as of its last turn."""
        return self._words[_FINISHED]

    @property
    def working(self) -> bool:
        """Whether it runs what it has taken."""
        return bool(self._words[_WORKING])

    @property
    def left(self) -> bool:
        """Whether it holds nothing any more."""
        return bool(self._words[_LEFT])

    @property
    def beaten_at(self) -> float:
        """Monotonic time in seconds of its last beat; 0 before the first."""
        return self._words[_BEAT] / 1000

    @property
    def late(self) -> float:
        """Seconds for which what it runs has been over its limit; negative before that, or if there is none."""
        return monotonic() - self._words[_END_BY] / 1000 if self._words[_END_BY] else -1.0

    @property
    def clients(self) -> list[int]:
        """The ids of its connections."""
        return [number for number in self._words[_CLIENT : _CLIENT + 2] if number]

    @property
    def name(self) -> str:
        """The token of its own lease."""
        return self._read(_NAME)

    def leases(self, queue: int) -> tuple[str, int]:
        """Token and number of the leases that it may hold on its queue number `queue`."""
        return self._read(_QUEUES + 3 * queue + 1), self._words[_QUEUES + 3 * queue]

    def _write(self, word: int, token: str) -> None:
        self._bytes[_WORD * word : _WORD * word + _TOKEN] = token.encode()

    def _read(self, word: int) -> str:
        return self._bytes[_WORD * word : _WORD * word + _TOKEN].rstrip(b"\0").decode("ascii", "replace")


def description(about: bytes) -> dict[str, Any]:
    """What a process says of itself; nothing, if that is not what it should be."""
    try:
        said = msgpack.unpackb(about, unicode_errors="backslashreplace")
    except Exception:  # any program may have written anything
        said = None
    return said if isinstance(said, dict) else {}
