"""What happens to all at once: the links of the sweepers are slow or break again and again, Redis has no memory left, or its
clock is set. None of this is an excuse for a repeat."""

import random
import time
from collections.abc import Callable, Iterable

import redis

from tests.support.clock import Clock

from .events import BACK, FLAP, FORWARD, FULL, SLOW, STEP, Event
from .fleet import Fleet

_AHEAD = 60.0  # seconds by which the clock is ahead at most; schedules are caught up with from there
_EVERY = {SLOW: 30.0, FLAP: 30.0, STEP: 15.0, FULL: 15.0}  # seconds from one to the next, on average
_AT_REST = 200  # ms that everything takes between sweepers and Redis while all comes to rest


class Weather:
    """Begins trouble, and ends it when it is time.

    Args:
        rng: random numbers.
        kinds: what there is, of `WEATHER`.
        fleet: has the links.
        client: of Redis.
        clock: of Redis, if it can be set.
        note: is told of each trouble that has ended.
    """

    def __init__(
        self,
        rng: random.Random,
        kinds: Iterable[str],
        *,
        fleet: Fleet,
        client: redis.Redis,
        clock: Clock | None,
        note: Callable[[Event], None],
    ) -> None:
        self._rng, self._fleet, self._client, self._clock, self._note = rng, fleet, client, clock, note
        present = time.monotonic()
        self._next = {kind: present + rng.uniform(0.2, 0.8) * _EVERY[kind] for kind in kinds}  # monotonic time of the next one
        self._ends: dict[str, float] = {}  # what there is, and the monotonic time at which it is over
        self._begins: dict[str, int] = {}
        self._next_flap = 0.0
        self._detail = ""
        self._farthest = 0.0  # seconds by which the clock has been ahead at most

    @property
    def full(self) -> bool:
        """Whether Redis has no memory left."""
        return FULL in self._ends

    def _begin(self, what: str) -> None:
        if what == STEP:
            self._step()
        elif what == FULL and FULL not in self._ends:
            self._client.config_set("maxmemory", 1)
            self._lasts(FULL, self._rng.uniform(0.3, 3.0))
        elif what in (SLOW, FLAP) and not {SLOW, FLAP} & self._ends.keys():
            self._lasts(what, self._rng.uniform(6.0, 15.0))
            if what == SLOW:
                self._delay(self._rng.choice((80, 150, 400, 1000)))

    def tend(self, now: float) -> None:
        """Go on at the monotonic time `now`."""
        for what, due in self._next.items():
            if now >= due:
                self._next[what] = now + self._rng.uniform(0.5, 1.5) * _EVERY[what]
                self._begin(what)
        for what, end in list(self._ends.items()):
            if now >= end:
                self._end(what)
        if FLAP in self._ends and now >= self._next_flap:
            self._next_flap = now + self._rng.uniform(0.2, 3.0)
            for gate in self._fleet.sweeper_gates:
                self._fleet.proxies.order(gate, "flap")

    def rest(self, *, slow: bool) -> None:
        """End it all. If the links of sweepers are to be `slow`, they are so from now on. The clock goes where it has been at
        most: what shall happen at a certain time would be late otherwise."""
        for what in list(self._ends):
            self._end(what)
        if self._clock is not None and self._clock.ahead < self._farthest:
            self._set(self._farthest)
        if slow:
            self._delay(_AT_REST)

    def heal(self) -> None:
        """The links of sweepers are as they should be."""
        self._delay(0)

    def _lasts(self, what: str, seconds: float) -> None:
        self._begins[what] = time.monotonic_ns()
        self._ends[what] = time.monotonic() + seconds

    def _end(self, what: str) -> None:
        del self._ends[what]
        if what == FULL:
            self._client.config_set("maxmemory", 0)
        elif what == SLOW:
            self._delay(0)
        kind, detail = ("Redis", "") if what == FULL else ("sweepers", self._detail)
        self._note(Event(what, kind, (), self._begins[what], time.monotonic_ns(), detail if what == SLOW else ""))

    def _delay(self, milliseconds: int) -> None:
        self._detail = f"{milliseconds} ms"
        for gate in self._fleet.sweeper_gates:
            self._fleet.proxies.order(gate, f"slow:{milliseconds}")

    def _step(self) -> None:
        """Set the clock: forward by more than a lease lives, or back."""
        assert self._clock is not None
        ahead = self._clock.ahead
        forward = ahead < _AHEAD / 4 or (ahead < _AHEAD - 10 and self._rng.random() < 0.5)
        self._set(self._rng.uniform(ahead + 5, _AHEAD) if forward else self._rng.uniform(0, ahead))

    def _set(self, ahead: float) -> None:
        assert self._clock is not None
        begin, step = time.monotonic_ns(), ahead - self._clock.ahead
        self._clock.step(step)
        self._farthest = max(self._farthest, ahead)
        self._note(Event(STEP, FORWARD if step > 0 else BACK, (), begin, time.monotonic_ns(), f"{step:+.1f} s"))
