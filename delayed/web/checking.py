"""Runs `fsck` beside the pages: it reads all that a queue has, which takes as long as that is large."""

import threading
from dataclasses import dataclass, field

from ..base.clock import now
from ..errors import DelayedError
from ..ops.diagnosis import Advice, diagnose_queue
from ..ops.doctor import queue_facts
from ..ops.fsck import PATIENCE, Checked, examine
from ..queue.queue import Queue
from ..redis.command import RedisError

_KEPT = 50  # queues of which the last check is remembered


@dataclass
class Check:
    """A check of a queue, which goes on or has ended."""

    queue: str
    began: float  # seconds since 1970
    ended: float | None = None
    checked: Checked | None = None
    advice: list[Advice] = field(default_factory=list)
    error: str = ""


class Checks:
    """The last check of each queue. One goes on at a time."""

    def __init__(self) -> None:
        self._last: dict[str, Check] = {}
        self._starting, self._turn = threading.Lock(), threading.Lock()

    def of(self, queue: Queue, since: float = 0.0) -> Check:
        """The last check of a queue. It begins if there was none since then.

        Args:
            queue: the queue.
            since: seconds since 1970. Whoever loads a page a second time begins none, as that has the same time.
        """
        with self._starting:
            last = self._last.get(queue.name)
            if last is None or (last.ended is not None and last.began < since <= now()):
                last = self._last[queue.name] = Check(queue.name, now())
                while len(self._last) > _KEPT:
                    del self._last[next(iter(self._last))]
                threading.Thread(target=self._run, args=(queue, last), name=f"check of {queue.name}", daemon=True).start()
        return last

    def _run(self, queue: Queue, check: Check) -> None:
        with self._turn:
            try:
                found = examine(queue, PATIENCE)
                check.checked = Checked(queue.name, [], found)
                check.advice = diagnose_queue(queue_facts(queue, PATIENCE, found))
            except (DelayedError, RedisError) as error:
                check.error = str(error)
        check.ended = now()
