"""A check of a queue that repairs it, in a thread of its own, and says how far it is."""

import threading
from concurrent.futures import Future

from ..queue.queue import Queue
from .fsck import Checked, Left, check


class Repair:
    """Looks at all keys, repairs what can be repaired, and looks again.

    Args:
        queue: the queue.

    Attributes:
        looked: how many steps have been done, of `fsck.STEPS`.
        ended: is set at the end.
    """

    def __init__(self, queue: Queue) -> None:
        self.looked, self.ended = 0, threading.Event()
        self._leaving, self._found = threading.Event(), Future[Checked]()
        threading.Thread(target=self._run, args=(queue,), name=f"repair of {queue.name}", daemon=True).start()

    def leave(self) -> None:
        """End between two steps. What has been repaired stays so."""
        self._leaving.set()

    def result(self) -> Checked:
        """What was found and repaired, after the end, or until it was left.

        Raises:
            RedisError: Redis cannot be asked.
        """
        return self._found.result(0)

    def _step(self, count: int) -> None:
        self.looked += count
        if self._leaving.is_set():
            raise Left

    def _run(self, queue: Queue) -> None:
        try:
            self._found.set_result(check(queue, repair=True, step=self._step))
        except BaseException as error:  # whoever waits shall have it
            self._found.set_exception(error)
        self.ended.set()
