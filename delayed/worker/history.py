"""What a worker adds to the histories of its queues."""

from ..redis.channel import Channel
from ..redis.command import ResponseError
from .leases import LeasePool
from .recorder import Recorder


class Histories:
    """The recorders of a worker.

    Args:
        channel: its connection. What is written goes there behind the endings that it tells of.
        place: host:pid.
    """

    def __init__(self, channel: Channel, place: str) -> None:
        self._channel, self._place = channel, place
        self.recorders: list[Recorder] = []

    def attach(self, pool: LeasePool) -> None:
        """Begin to note what the tasks of a queue come to."""
        pool.recorder = Recorder(pool.store.keys.history, self._place)
        self.recorders.append(pool.recorder)

    def _write(self, recorder: Recorder) -> None:
        recorder.stale = False
        if packed := recorder.take():
            self._channel.beside(packed)

    def write(self, least: int = 1) -> None:
        """Send what is pending behind what has been sent, if it is so much at least."""
        for recorder in self.recorders:
            while len(recorder.pending) >= least:
                self._write(recorder)

    def write_over(self, channel: Channel, *, everything: bool = False) -> None:
        """From the heartbeat, over its connection: what has been pending since the last beat, or everything."""
        for recorder in self.recorders:
            while recorder.pending and (recorder.stale or everything):
                if not (packed := recorder.take()):
                    break
                try:
                    channel.exchange(packed, 1)
                except ResponseError:  # its memory is full, or the key is another program's
                    break
            recorder.stale = bool(recorder.pending)
