"""What a sweeper listens to between two sweeps: something is due earlier than it knew."""

from collections.abc import Sequence

from ..base.clock import monotonic
from ..redis.channel import Channel
from ..redis.command import RedisError, ResponseError, pack
from ..redis.outage import OutageLog
from ..redis.store import Store

_ANEW = 60.0  # seconds after which it is asked again: a connection may be gone without a word
_PAUSE = 1.0  # seconds to the next attempt after one that failed: Redis may refuse it each time
_LATE = 5.0  # seconds that Redis may be late with the answer


class WakeListener:
    """A connection that does nothing but wait for one of several queues' `wake` list.

    Args:
        stores: the queues, all on one server.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self._channel = Channel(stores[0].conn, stores[0].name)
        self._pop = pack("BLPOP", *(store.keys.wake for store in stores), _ANEW)
        self._outage = OutageLog(stores[0].conn)
        self._what = f"wait for what is due earlier in {', '.join(store.name for store in stores)}"
        self._until = 0.0
        self._next_try = 0.0
        self._woken = False

    def listen(self) -> int:
        """Wait in the background. Returns the descriptor that becomes readable when it has rung; -1 if Redis is away, or if
        it cannot be listened to."""
        if not self._channel.is_open and monotonic() < self._next_try:
            return -1
        try:
            if self._channel.is_open and monotonic() > self._until:
                self._channel.close()
            if not self._channel.is_open:
                self._channel.open()
                self._begin()
        except RedisError:
            self._give_up()
            return -1
        return self._channel.fileno()

    def hear(self) -> None:
        """Read what made the descriptor readable, and wait anew."""
        try:
            self._woken = self._channel.answer() is not None or self._woken
            self._outage.works(self._what)
            self._begin()
        except RedisError as error:
            if isinstance(error, ResponseError):  # else Redis is away, which the sweeper's own connection finds, too
                self._outage.failed(self._what, error)
            self._give_up()

    @property
    def woken(self) -> bool:
        """Whether it has rung since this was asked last."""
        woken, self._woken = self._woken, False
        return woken

    @property
    def listening(self) -> bool:
        """Whether it is being listened to."""
        return self._channel.fileno() != -1

    def close(self) -> None:
        """Listen no more."""
        self._channel.close()

    def _give_up(self) -> None:
        self._channel.close()
        self._next_try = monotonic() + _PAUSE

    def _begin(self) -> None:
        self._channel.send(self._pop)
        self._until = monotonic() + _ANEW + _LATE
