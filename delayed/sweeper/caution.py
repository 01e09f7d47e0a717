"""Decides when a sweeper may treat a lease without a key as dead. Pure: the caller passes the time.

After an outage leases may be gone although their workers live, because nobody could beat; so may they when the server's clock
was set forward. Then the living go first: what is dead at one look and still dead `SETTLING` seconds later is dead. The
caution for all others begins anew with each outage; for a suspect it does not, or a link that is slow, or cut again and again,
would keep what dead workers held for ever.
"""

from collections import deque
from collections.abc import Iterable
from statistics import median

SETTLING = 5.0  # seconds in which living workers say that they live
TIMES = 3  # postponements running of which an operator should hear
_STALLED = 0.25  # seconds for an answer that speak of an outage, though the connection did not break, …
_UNUSUAL = 4  # … if that is so many times what this link usually takes
_REMEMBERED = 5  # looks that say what is usual
_STEP = 1.0  # seconds that a clock may be off between two looks,
_DRIFT = 0.001  # and seconds for each that has passed


class Caution:
    """Judges the health of one server by its answers."""

    def __init__(self) -> None:
        self.present = 0.0  # seconds in which the server has been there, as far as we know
        self.postponed = 0  # outages since leases were judged without doubt
        self.settling = SETTLING
        self._settled_at = 0.0  # when `present` is this, a lease without a key is dead
        self._heard_at: float | None = None  # when it was known to be there; None: there is no connection
        self._took = deque[float](maxlen=_REMEMBERED)
        self._clock: tuple[float, float, float] | None = None

    def opened(self, now: float) -> None:
        """There is a connection from now on."""
        self._heard_at = now

    def heard(self, now: float) -> None:
        """The server has answered, or its connection has not broken."""
        if self._heard_at is not None:
            self.present += now - self._heard_at
            self._heard_at = now

    def broke(self) -> None:
        """There is no connection any more. When it broke is not known: what was not heard does not count."""
        self._heard_at = None

    def stalled(self, asked: float, answered: float) -> bool:
        """Whether an answer took so much longer than usual that living workers may not have been able to beat."""
        usual = median(self._took) if self._took else 0.0
        self._took.append(answered - asked)
        if answered - asked <= max(_STALLED, _UNUSUAL * usual):
            self.heard(answered)
            return False
        self._heard_at = answered
        return True

    def step(self, asked: float, answered: float, clock: float) -> float:
        """By how many seconds the server's clock has been set forward since the last call, or back (below 0), for certain; 0.0
        if it has not.

        Args:
            asked: monotonic time of the question,
            answered: and of the answer;
            clock: the server's time, in seconds.
        """
        before, self._clock = self._clock, (asked, answered, clock)
        if before is None:
            return 0.0
        passed = clock - before[2]
        least, most = asked - before[1], answered - before[0]
        bound = _STEP + _DRIFT * most
        if passed - most > bound:
            return passed - most
        return passed - least if passed - least < -bound else 0.0

    def doubt(self, settling: float = SETTLING) -> None:
        """Living workers may not have been able to beat: they have so many seconds from now on."""
        self.postponed += 1
        self.settling = max(settling, 0.0 if self.settled else self.settling)
        self._settled_at = self.present + self.settling

    def trust(self) -> None:
        """At this look nothing speaks of an outage."""
        if self.settled:
            self.postponed, self.settling = 0, SETTLING

    @property
    def settled(self) -> bool:
        """Whether living workers have had the time to beat."""
        return self.present >= self._settled_at

    @property
    def remains(self) -> float:
        """Seconds until that is so."""
        return max(0.0, self._settled_at - self.present)


class Suspects:
    """The leases of one queue that were dead when there was doubt, and since when they are known to be.

    Args:
        caution: whether there is any.
    """

    def __init__(self, caution: Caution) -> None:
        self._caution = caution
        self._since: dict[tuple[str, str], float] = {}
        self._seen: set[tuple[str, str]] = set()

    def dead(self, key: str, leases: Iterable[str]) -> list[str]:
        """Which of the leases in the hash `key`, whose own keys are gone, are dead: all, or, where there is doubt, those that
        have been suspect for long enough."""
        if self._caution.settled:
            return list(leases)
        found = []
        for lease in leases:
            self._seen.add((key, lease))
            since = self._since.setdefault((key, lease), self._caution.present)
            if self._caution.present - since >= self._caution.settling:
                found.append(lease)
        return found

    def looked(self, key: str) -> None:
        """All leases in the hash `key` have been looked at: those that live again are no suspects any more."""
        self._since = {
            suspect: since
            for suspect, since in self._since.items()
            if suspect[0] != key or (suspect in self._seen and not self._caution.settled)
        }
        self._seen.clear()

    def acquit(self) -> None:
        """All leases may have gone for another reason than we thought: none is suspect any more."""
        self._since.clear()

    @property
    def remains(self) -> float:
        """Seconds until another of the suspects has been one for long enough; infinity if there is none."""
        ripe = self._caution.present - self._caution.settling
        return min((since - ripe for since in self._since.values() if since > ripe), default=float("inf"))
