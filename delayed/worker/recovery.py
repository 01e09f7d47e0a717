"""Recovers a worker whose connection breaks, or whose own code fails."""

from ..base.escape import indented
from ..base.pauses import pause_before_another
from ..base.text import traceback_of
from ..logger import logger
from ..redis.channel import Channel
from ..redis.command import RedisError
from ..redis.outage import OutageLog
from .completer import BrokenOff
from .fetcher import Fetcher
from .options import WorkerOptions
from .state import WorkerState

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two attempts to reach Redis again
_DEFECTS = 10  # interruptions in a row that are no accident


class Recovery:
    """Lets a worker's loop go on after an error: drops the connection, and says how long to pause. The loop alone calls it.

    Args:
        options: what the worker is asked for.
        state: of the worker.
        channel: its connection.
        fetcher: what has to look again afterwards.
    """

    def __init__(self, options: WorkerOptions, state: WorkerState, channel: Channel, fetcher: Fetcher) -> None:
        self._state, self._channel, self._fetcher = state, channel, fetcher
        self._outage = OutageLog(options.queues[0].conn)
        self._work_name = f"work on {', '.join(each.name for each in options.queues)}"
        self._failures = 0  # of the connection, since it worked last
        self._defects = 0  # interruptions since the last round that went well

    def begin(self) -> None:
        """A loop begins."""
        self._failures = 0

    def reached(self) -> None:
        """The connection works."""
        if self._failures:
            self._failures = 0
            self._outage.works(self._work_name)

    def went_well(self) -> None:
        """So did a whole round."""
        self._defects = 0

    def lost(self, error: RedisError) -> float:
        """The connection cannot be used any more. Returns the seconds until another is tried."""
        self._failures += 1
        self._drop_connection()
        for pool in self._state.pools:
            error = pool.store.explained(error)
        self._outage.failed(self._work_name, error)
        return pause_before_another(self._failures, _FIRST_PAUSE, _LONGEST_PAUSE)

    def survive(self, error: BaseException) -> float:
        """Something has come out of our own code, or of what a task has left behind, such as a timer. The connection may be
        out of step; what was in the buffer goes back over the next one. Returns the seconds to pause; but whatever comes
        again and again is no accident, and is raised."""
        self._drop_connection()
        if self._state.abandoned:
            raise error
        if type(error) is BrokenOff:
            return 0
        self._defects += 1
        if self._defects >= _DEFECTS:
            raise error
        trace = indented(traceback_of(error))
        logger.error("Interrupted by what a task has left behind, or by a defect of the worker; going on\n%s", trace)
        return pause_before_another(self._defects, _FIRST_PAUSE, _LONGEST_PAUSE)

    def _drop_connection(self) -> None:
        state = self._state
        state.buffer.clear()  # what was in it goes back when the connection does
        state.running = None  # and so does what did not come to run
        state.scoreboard.work(bool(state.in_flight))
        self._channel.close()
        self._fetcher.recheck = True
