"""The storm: starts everything, strikes at random, and brings all to rest again."""

import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import redis

from delayed.queue.history import keep
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.redis.keys import HISTORY
from tests.support.clock import VARIABLE, Clock

from .events import (
    CONSUMER,
    CUT,
    FLAP,
    FULL,
    GO_WORKER,
    KILL,
    MUTE,
    PRODUCER,
    SERVER,
    SLOW,
    STEP,
    STOP,
    SUPERVISOR,
    SWEEPER,
    WORKER,
    Event,
)
from .fleet import TICKS, Fleet
from .member import STALE, WORKERS, Member, eventually, left_over, send
from .notes import ENDED, SENT, SPOILED, Note, read
from .options import BLOCKED, CLOCK, FLAPPING, SERVERS, Options
from .options import FULL as FULL_MEMORY
from .options import SLOW as SLOW_LINKS
from .orders import Operator, Order
from .rest import ends, enqueue_last, keys_left, left, said_in, sent, strangers
from .ticks import Ticks
from .told import Told
from .told import read as read_histories
from .weather import Weather

_TICK = 0.01  # seconds
_PATIENCE = 120  # seconds in which all tasks must have ended after the storm
_HISTORY = 1 << 30  # bytes
CHILD = "child"
_ENDING = 20  # seconds in which a process must end that is asked to while nobody reads what it says
# How often each is hit.
_WEIGHTS = {CHILD: 67, SUPERVISOR: 5, "worker": 8, SWEEPER: 4, PRODUCER: 2, SERVER: 3, CONSUMER: 3, STOP: 4, CUT: 3, MUTE: 3}
_NEEDS = {MUTE: BLOCKED, SERVER: SERVERS, CONSUMER: SERVERS}
_WEATHER = {SLOW: SLOW_LINKS, FLAP: FLAPPING, STEP: CLOCK, FULL: FULL_MEMORY}  # and the name by which each can be left out


@dataclass
class Outcome:
    """What the storm left, apart from the notes."""

    events: list[Event]
    notes: Path
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)  # processes that ended without cause, or did not end
    keys: list[str] = field(default_factory=list)  # left over in Redis
    processes: list[int] = field(default_factory=list)  # left over
    dead_letters: list[str] = field(default_factory=list)  # but for those of tasks that expired or that a middleware made fail
    go: bool = False
    occurrences: int = 0  # of schedules whose tasks were executed
    orders: list[Order] = field(default_factory=list)
    said: int = 0  # ends that supervisors have said for killed processes, which had noted them
    told: Told = field(default_factory=Told)  # by the histories and the statistics
    seen: list[Note] = field(default_factory=list)  # what the storm itself has done, and found at the end

    @property
    def kills(self) -> int:
        """How many."""
        return sum(event.what == KILL for event in self.events)


class Storm:
    """One run.

    Args:
        options: how strong.
        folder: for notes and logs.
        server: Redis.
        clock: of Redis, if it can be set.
        go: where the Go programs are.
        say: is told how far it is.
    """

    def __init__(
        self,
        options: Options,
        folder: Path,
        server: EmbeddedRedis,
        clock: Clock | None,
        *,
        go: Path | None,
        say: Callable[[str], None],
    ) -> None:
        assert server.port is not None
        self._options, self._say, self._server = options, say, server
        self._rng = random.Random(options.seed)
        notes = folder / "notes"
        notes.touch()
        environment = {} if clock is None else {VARIABLE: clock.environment[VARIABLE]}
        self._fleet = Fleet(options, server.port, folder, notes, go=go, environment=environment)
        self._clock = clock
        self._weights = {
            what: each for what, each in _WEIGHTS.items() if what not in _NEEDS or _NEEDS[what] in options.troubles
        }
        self._outcome = Outcome([], notes, go=go is not None)
        self._pending: list[tuple[float, Callable[[], None]]] = []  # what ends stops and cuts, and when
        self._position = self._sent = self._ended = 0

    def run(self) -> Outcome:
        """From calm to calm."""
        began = time.monotonic()
        try:
            with self._server.client() as client:
                served = Queue(self._fleet.queues[0], client)
                ticks = Ticks(served, Queue(TICKS, client))
                ticks.begin()
                for name in (*self._fleet.queues, *self._fleet.text_queues):
                    keep(Queue(name, client), "all", size=_HISTORY)
                for member in self._fleet.members:
                    member.start()
                eventually(self._has_begun, _PATIENCE)
                self._weather, operator = self._weather_on(client), Operator(served, time.monotonic())
                self._rage(time.monotonic(), operator)
                operator.rest()
                self._outcome.orders = operator.orders
                self._calm(client, ticks)
        finally:
            for member in self._fleet.members:
                member.kill()
                member.stop(10)
            self._fleet.proxies.close()
        outcome = self._outcome
        outcome.seconds = time.monotonic() - began
        outcome.faults += [fault for member in self._fleet.members for fault in member.faults]
        return outcome

    def _weather_on(self, client: redis.Redis) -> Weather:
        kinds = [kind for kind, name in _WEATHER.items() if name in self._options.troubles]
        note = self._outcome.events.append
        return Weather(self._rng, kinds, fleet=self._fleet, client=client, clock=self._clock, note=note)

    def _has_begun(self) -> bool:
        """Whether tasks are executed: only then there is something to hit."""
        self._tend()
        self._count(0.0)
        return self._ended > 0

    # Rage

    def _rage(self, began: float, operator: Operator) -> None:
        options, rng = self._options, self._rng
        next_blow = next_count = began
        while True:
            now = time.monotonic()
            for member in self._fleet.members:
                member.tend()
            self._recover(now)
            self._weather.tend(now)
            if not self._weather.full:
                operator.tend(now)
            if now >= next_blow:
                next_blow = max(next_blow + options.pause * rng.uniform(0.5, 1.5), now)
                self._strike()
            if now >= next_count:
                next_count = now + 0.5
                self._count(now - began)
                done = self._sent >= options.tasks and self._outcome.kills >= options.kills
                if done and now - began >= options.seconds:
                    return
            time.sleep(_TICK)

    def _count(self, seconds: float) -> None:
        for note in read(self._fleet.notes, self._position):
            self._position += 1
            self._sent += note.kind == SENT
            self._ended += note.kind == ENDED
        self._say(
            f"{seconds:.0f} s: {self._sent:,} tasks enqueued, {self._ended:,} executed, {len(self._outcome.events):,} blows, "
            f"{self._outcome.kills:,} of them kills"
        )

    def _recover(self, now: float) -> None:
        for due, action in list(self._pending):
            if now >= due:
                self._pending.remove((due, action))
                action()

    def _strike(self) -> None:
        fleet = self._fleet
        (what,) = self._rng.choices(list(self._weights), list(self._weights.values()))
        if what == MUTE:
            self._mute(self._rng.choice(fleet.of(*WORKERS, SWEEPER, SERVER)))
        elif what == CHILD:
            self._kill_child(self._rng.choice(fleet.of(SUPERVISOR)))
        elif what == STOP:
            self._stop(self._rng.choice(fleet.of(*WORKERS, SWEEPER, SERVER, CONSUMER)))
        elif what == CUT:
            self._cut(self._rng.choice([member for member in fleet.members if member.gate is not None]))
        else:
            kinds = [kind for kind in WORKERS if kind != SUPERVISOR] if what == "worker" else [what]
            self._kill(self._rng.choice(fleet.of(*kinds)))

    def _note(self, what: str, kind: str, pids: list[int], begin: int, detail: str = "") -> None:
        if pids:
            self._outcome.events.append(Event(what, kind, tuple(pids), begin, time.monotonic_ns(), detail))

    def _kill_child(self, member: Member) -> None:
        children = member.children()
        if children:
            begin = time.monotonic_ns()
            self._note(KILL, CHILD, send([self._rng.choice(children)], signal.SIGKILL), begin)

    def _kill(self, member: Member) -> None:
        if not member.killed:
            begin = time.monotonic_ns()
            member.kill()
            self._note(KILL, member.kind, [member.pid], begin)

    def _length(self) -> float:
        """Of a stop or a cut: half of them are so short that no lease may be lost."""
        ttl = self._options.ttl
        return self._rng.choice((self._rng.uniform(0.1, ttl / 3), self._rng.uniform(ttl + 0.5, ttl + 2)))

    def _stop(self, member: Member) -> None:
        """SIGSTOP: all of a supervisor's processes, as if a machine paused, or one child, for which its supervisor beats."""
        if member.busy or member.killed:
            return
        pids = [member.pid]
        children = member.children() if member.kind == SUPERVISOR else []
        pids = [self._rng.choice(children)] if children and self._rng.random() < 0.3 else [*pids, *children]
        member.busy = True
        begin = time.monotonic_ns()
        stopped = send(pids, signal.SIGSTOP)
        kind = CHILD if member.pid not in pids else member.kind

        def resume() -> None:
            send(stopped, signal.SIGCONT)
            member.busy = False
            self._note(STOP, kind, stopped, begin)

        self._pending.append((time.monotonic() + self._length(), resume))

    def _mute(self, member: Member) -> None:
        """Nobody reads what a process says: for a while, or until it is killed, or it is asked to end, which it must do."""
        if member.busy or member.killed:
            return
        member.busy = True
        pid, begin = member.pid, time.monotonic_ns()
        member.block()
        (how,) = self._rng.choices((member.unblock, member.kill, member.ask_to_end), (6, 2, 2))

        def end() -> None:
            member.busy = False
            if member.pid != pid or member.killed:  # it was killed meanwhile
                return
            moment = time.monotonic_ns()
            how()
            self._note(MUTE, member.kind, [pid], begin)
            if how != member.unblock:
                self._note(KILL, f"blocked {member.kind}", [pid], moment)
            if how == member.ask_to_end:
                self._pending.append((time.monotonic() + _ENDING, lambda: self._must_have_ended(member, pid)))

        self._pending.append((time.monotonic() + self._length(), end))

    def _must_have_ended(self, member: Member, pid: int) -> None:
        if member.pid == pid:
            self._outcome.faults.append(
                f"{member.kind} {pid} did not end in {_ENDING} s after SIGTERM, with its output blocked"
            )
            member.kill()

    def _cut(self, member: Member) -> None:
        if member.busy or member.gate is None:
            return
        gate, how = member.gate, self._rng.choice(("hold", "reset"))
        member.busy = True
        begin, first = time.monotonic_ns(), len(member.pids) - 1
        self._fleet.proxies.order(gate, how)

        def heal() -> None:
            self._fleet.proxies.order(gate, "heal")
            member.busy = False
            self._note(CUT, member.kind, member.pids[first:], begin, how)

        self._pending.append((time.monotonic() + self._length(), heal))

    # Calm

    def _calm(self, client: redis.Redis, ticks: Ticks) -> None:
        """No more blows: everything must come to its end by itself."""
        fleet, outcome = self._fleet, self._outcome
        self._say("waiting for the rest")
        self._settle()
        for member in fleet.of(PRODUCER):
            member.stop(30, fleet.members)
        self._stop_all((STALE,))  # a deploy that is over: the tasks that they could not run are for the others
        occurrences, wrong = ticks.end()
        outcome.occurrences = len(occurrences)
        outcome.faults += wrong
        outcome.seen += sent(*occurrences)
        queues = [Queue(name, client) for name in (*fleet.queues, *fleet.text_queues)]
        self._await(queues)
        outcome.seen += enqueue_last(queues[0])
        self._await(queues)
        self._weather.heal()
        for kinds in (WORKERS, (CONSUMER,), (SERVER,)):
            self._stop_all(kinds)
        for queue in (Queue(name, client) for name in fleet.swept):
            self._expect_none(f"{queue.name}: when only sweepers run", partial(strangers, queue, len(fleet.of(SWEEPER))), 30)
        self._stop_all((SWEEPER,))
        spoiled = {note.task for note in read(fleet.notes) if note.kind == SPOILED}
        for queue in queues:
            letters, others = ends(queue, spoiled, may_lose=queue.name in fleet.text_queues)
            outcome.seen += letters
            outcome.dead_letters += others
        outcome.told = read_histories(queues)
        for queue in queues:
            client.hdel(queue.keys.control, *HISTORY)
        eventually(lambda: not keys_left(client, fleet.swept), 60)
        outcome.said = sum(said_in(member.log) for member in fleet.of(SUPERVISOR))
        outcome.keys = keys_left(client, fleet.swept)
        eventually(lambda: not left_over(fleet.notes), 60)
        outcome.processes = left_over(fleet.notes)

    def _settle(self) -> None:
        """End what lasts. The last blow: workers without a supervisor, servers and consumers die, and only sweepers with slow
        links can bring their tasks back."""
        if SLOW_LINKS in self._options.troubles:
            for member in self._fleet.of(WORKER, GO_WORKER, SERVER, CONSUMER):
                self._kill(member)
        self._recover(float("inf"))
        self._weather.rest(slow=SLOW_LINKS in self._options.troubles)
        self._tend()

    def _tend(self) -> None:
        now = time.monotonic()
        for member in self._fleet.members:
            member.tend()
        self._recover(now)

    def _stop_all(self, kinds: Sequence[str]) -> None:
        """SIGTERM to all members of some kinds; every second one ends while nobody reads what it says."""
        for place, member in enumerate(self._fleet.of(*kinds)):
            if place % 2:
                member.block()
            member.stop(30, self._fleet.members)

    def _await(self, queues: list[Queue]) -> None:
        """Until all tasks have ended."""
        for queue in queues:
            self._expect_none(f"{queue.name}: not all tasks ended", partial(left, queue), _PATIENCE)

    def _expect_none(self, what: str, look: Callable[[], Mapping[str, int]], seconds: float) -> None:
        """Until `look` finds nothing; a fault says what it found last."""

        def none() -> bool:
            self._tend()
            return not look()

        if not eventually(none, seconds) and (last := look()):
            found = ", ".join(f"{count} {name}" for name, count in last.items())
            self._outcome.faults.append(f"{what}: after {seconds:g} s there are {found}")
