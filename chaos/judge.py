"""Compares what was enqueued with what was executed, and finds the blow that explains each repeat. Pure: no processes, no
Redis.

What is promised: a task runs again only if its worker died or lost its lease in mid-execution. So an execution explains the
next one of the same task if

- its process was killed before it noted the end; or just after that, if it was the last one of its process: the kill came
  before Redis had been told;
- its process was killed with its supervisor, or shortly before it, just after that: of what it had ended in the last moment it
  had only notes, which nobody has said;
- its process was stopped meanwhile for so long that leases run out; or just after it, if it was the last one before;
- its process was cut off from Redis for so long, or was killed while it was cut off: what it ended meanwhile, at most one
  batch, is unknown to Redis.

And the other way round: a process that was stopped for so long may begin one task that it had in hand, though another has it
by then, if it was stopped between its look at the clock and that begin.

A task that expires ends as a dead letter. That counts as an end; if it had been executed before, that needs an explanation.
A task of which a middleware raised may end so, too.

A consumer that takes tasks from a server notes whose end was confirmed. What was confirmed explains nothing, whatever happened
to anybody; what was not explains the next one if the consumer was killed, stopped for so long, or late by its own clock, of
which it has a note, or if the clock of Redis, by which its lease runs, was set forward. After that it may also begin what it
still has in hand, though another has ended it: no server confirms that end. That a server was killed, stopped or cut off
explains nothing, either.

Nothing else explains a repeat: no full memory, no other clock that was set, no slow link of a sweeper, no output that nobody
reads, and nothing that a task, a middleware or a hook raises.
"""

from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .asked import Asked, Span, grant
from .events import CUT, FORWARD, FULL, KILL, MUTE, SERVER, STEP, STOP, SUPERVISOR, SWEEPER, WEATHER, Event
from .notes import (
    BEGUN,
    BURIED,
    CANCELLING,
    CONFIRMED,
    ENDED,
    EXPIRED,
    IDENTIFIED,
    LATE,
    LIMITED,
    NUMBERED,
    OVERDUE,
    SENDING,
    SENT,
    SPOILED,
    TURNED_AWAY,
    Note,
    Writer,
)
from .orders import Order
from .told import Compared

SPARE_PYTHON = SPARE_GO = 1  # tasks that a killed worker may have ended without Redis knowing of it
BATCH = 128  # tasks that a worker takes at most, and may end while it is cut off
_LAG = 250_000_000  # ns that what was sent may be on its way through a busy machine
_AFTER = 2_000_000_000  # ns after a stop or a cut in which its effects may show
_TELLING = 3_000_000_000  # ns in which workers tell of what they have ended: with their second beat at the latest
_UNSETTLED = 10_000_000_000  # ns after a step of the clock in which an end may be refused because of it
_SETTLING = 6_000_000_000  # ns after trouble of Redis or of all sweepers in which sweepers wait for workers to beat


@dataclass
class Execution:
    """One execution of a task. Moments are nanoseconds."""

    task: int
    writer: Writer
    begin: int
    go: bool
    end: int | None = None
    used: bool = False  # it explains a repeat already
    letter: bool = False  # it was none: the task expired
    confirmed: bool = False  # a server has confirmed its end
    overdue: bool = False  # its consumer was late with that


@dataclass
class Repeat:
    """An execution of a task that had been executed, or begun, before."""

    task: int
    cause: str  # empty: unexplained
    ended: bool  # the earlier execution had noted its end
    history: list[Execution]


@dataclass
class Verdict:
    """What the storm did to the tasks."""

    enqueued: int = 0  # for certain: the call returned
    executed: int = 0  # tasks
    executions: int = 0
    unknown: int = 0  # executed, although nobody has enqueued them
    lost: list[int] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    overlaps: int = 0  # two executions of a task at one time
    recoveries: dict[str, list[float]] = field(default_factory=dict)  # seconds, by what happened to the worker
    blows: Counter[str] = field(default_factory=Counter)
    asked: Asked = field(default_factory=Asked)
    confirmed: int = 0  # ends that servers have confirmed
    turned_away: list[int] = field(default_factory=list)  # tasks whose end was refused though the lease lived
    told: Compared = field(default_factory=Compared)  # what the histories tell
    numbered: Counter[int] = field(default_factory=Counter)  # by servers, in one queue: number → how often

    @property
    def twice(self) -> list[int]:
        """Numbers that more than one task got."""
        return sorted(number for number, count in self.numbered.items() if count > 1)

    @property
    def unexplained(self) -> list[Repeat]:
        """Repeats without a cause."""
        return [repeat for repeat in self.repeats if not repeat.cause]

    @property
    def ended(self) -> int:
        """Repeats of tasks whose end had been noted."""
        return sum(repeat.ended for repeat in self.repeats)


class Judge:
    """Judges notes, which it reads twice, and events.

    Args:
        notes: in the order in which they were written.
        events: the blows.
        beyond: seconds of silence after which leases may run out.
        spare_go: as `SPARE_GO`.
        orders: of an operator to the queue of the Python workers, in their order.
    """

    def __init__(
        self,
        notes: Iterable[Note],
        events: Sequence[Event],
        beyond: float,
        spare_go: int = SPARE_GO,
        orders: Sequence[Order] = (),
    ) -> None:
        self._beyond = beyond * 1e9
        self._spare_go = spare_go
        self._orders = orders
        self._weather = [event for event in events if event.what in WEATHER]
        # Another takes its place. A server sweeps the queue of its text protocol itself.
        self._swept = [event for event in events if event.what == KILL and event.kind in (SWEEPER, SERVER)]
        self._consumers: set[Writer] = set()
        self._ran: dict[tuple[int, Writer], Execution] = {}  # the last execution of a task by a consumer
        self._by_pid: dict[int, list[Event]] = defaultdict(list)
        for event in sorted(events, key=lambda event: event.begin):
            for pid in event.pids:
                self._by_pid[pid].append(event)
        self._last: dict[Writer, deque[int]] = defaultdict(lambda: deque(maxlen=max(spare_go, BATCH)))
        self._begins: dict[Writer, list[int]] = defaultdict(list)
        self._spent: Counter[tuple[Writer, int]] = Counter()
        self._history: dict[int, list[Execution]] = defaultdict(list)
        self._open: dict[tuple[int, Writer], Execution] = {}
        self._marks: dict[int, set[int]] = defaultdict(set)
        self.verdict = Verdict(blows=Counter(f"{event.what} {event.kind}" for event in events))
        self._read(notes)
        self._judge()
        self._measure()
        self.verdict.asked = grant(self._marks, self._history, self._spans(), self._under())

    def _read(self, notes: Iterable[Note]) -> None:
        marks = self._marks
        for note in notes:
            if note.kind in (CONFIRMED, OVERDUE, TURNED_AWAY, NUMBERED):
                self._read_of_consumers(note)
            elif note.kind == BEGUN:
                execution = Execution(note.task, note.writer, note.moment, note.go)
                self._history[note.task].append(execution)
                self._open[note.task, note.writer] = execution
                if note.writer in self._consumers:
                    self._ran[note.task, note.writer] = execution
                self._last[note.writer].append(note.task)
                self._begins[note.writer].append(note.moment)
                self.verdict.executions += 1
            elif note.kind == ENDED:
                marks[ENDED].add(note.task)
                self._open.pop((note.task, note.writer)).end = note.moment
            elif note.kind != LATE or not (self._is_stopped(note.writer, note.moment) or self._is_set(note.moment)):
                marks[note.kind].add(note.task)
                if note.kind == EXPIRED:
                    letter = Execution(note.task, note.writer, note.moment, note.go, note.moment, letter=True)
                    self._history[note.task].append(letter)
        self.verdict.enqueued = len(marks[SENT])
        self.verdict.executed = len(marks[ENDED])
        self.verdict.unknown = len(self._history.keys() - marks[SENDING])
        self.verdict.lost = sorted(marks[SENT] - marks[ENDED] - marks[EXPIRED] - marks[BURIED] - marks[CANCELLING])

    def _read_of_consumers(self, note: Note) -> None:
        """What those who know a server note, beside what all do."""
        if note.kind == NUMBERED:
            self.verdict.numbered[note.task] += 1
        elif note.kind == TURNED_AWAY:
            late = self._is_stopped(note.writer, note.moment) or self._has_sweeper_begun(note.moment)
            if not (late or self._is_cut_short(note.moment, note.moment)):
                self.verdict.turned_away.append(note.task)
        elif execution := self._ran.get((note.task, note.writer)):
            execution.confirmed = execution.confirmed or note.kind == CONFIRMED
            execution.overdue = execution.overdue or note.kind == OVERDUE
            self.verdict.confirmed += note.kind == CONFIRMED
        elif note.kind == CONFIRMED and not note.task:  # it begins with this
            self._consumers.add(note.writer)

    @property
    def history(self) -> Mapping[int, Sequence[Execution]]:
        """The executions of each task."""
        return self._history

    @property
    def identified(self) -> set[int]:
        """Tasks that are known by ids."""
        return self._marks[IDENTIFIED]

    def lives_on(self, execution: Execution) -> bool:
        """Whether a worker's process has ended a task, and went on undisturbed for so long that it must have told of it."""
        end = execution.end
        if end is None or execution.writer in self._consumers or execution.task in self._marks[SPOILED]:
            return False
        blows = [*self._events(execution.writer), *(event for event in self._weather if event.what == FULL)]
        return not any(event.begin <= end + _TELLING and event.end + _AFTER >= execution.begin for event in blows)

    def _judge(self) -> None:
        for task, history in self._history.items():
            if len(history) < 2:
                continue
            history.sort(key=lambda execution: execution.begin)
            for place in range(1, len(history)):
                self._explain(task, history, place)

    def _explain(self, task: int, history: list[Execution], place: int) -> None:
        again = history[place]
        cause, earlier = "", history[place - 1]
        for execution in reversed(history[:place]):
            cause_of = self._cause_of_consumer if execution.writer in self._consumers else self._cause
            if not execution.used and (cause := cause_of(execution, again.begin)):
                execution.used, earlier = True, execution
                break
        cause = cause or self._began_after_a_stop(again) or self._began_after_a_step(again)
        cause = cause or self._swept_by_a_beginner(history[:place], again)
        if cause and again.letter:
            return  # it did not run again
        ended = earlier.end is not None and earlier.end < again.begin
        self.verdict.repeats.append(Repeat(task, cause, ended, history))
        self.verdict.overlaps += any(self._until(execution) > again.begin for execution in history[:place])

    def _until(self, execution: Execution) -> int:
        """When an execution was over: by its end, or by the death of its process."""
        if execution.end is not None:
            return execution.end
        death = self.death(execution.writer)
        return death.begin if death else execution.begin

    def _events(self, writer: Writer) -> list[Event]:
        """The blows that hit a process while it lived, itself or with its parent, in their order."""
        own = [event for event in self._by_pid.get(writer.pid, []) if event.end >= writer.started]
        # A child outlives its supervisor by an instant, in which it may note its first task.
        own += [event for event in self._by_pid.get(writer.parent, []) if event.end + _LAG >= writer.started]
        events = sorted(own, key=lambda event: event.begin)
        kills = [place for place, event in enumerate(events) if event.what == KILL]
        return [event for event in events if event.begin <= events[kills[0]].begin] if kills else events

    def death(self, writer: Writer) -> Event | None:
        """The kill that ended a process."""
        return next((event for event in self._events(writer) if event.what == KILL), None)

    def _cause(self, execution: Execution, again: int) -> str:
        """What explains that the task of `execution` began again at the moment `again`."""
        events = self._events(execution.writer)
        death = next((event for event in events if event.what == KILL and event.begin <= again), None)
        for event in events:
            if event.begin > again:
                continue
            long = event.end - event.begin >= self._beyond
            if event.what == CUT and (long or (death and death.begin <= event.end + _AFTER)):
                if self._is_near(execution, event) and self._spend(execution.writer, event, BATCH):
                    return f"cut {event.kind}"
            elif event.what == STOP and long:
                inside = self._is_near(execution, event) and (execution.end is None or execution.end >= event.begin)
                if inside or self._is_last_before(execution, event):
                    return f"stop {event.kind}"
        if death is None:
            return ""
        spare = self._spare_go if execution.go else SPARE_PYTHON
        if death.kind == SUPERVISOR or self._is_unsaid(execution.writer, death):
            spare = BATCH
        # What is stopped when it is killed, or stands in a line that nobody reads, has not said anything since then.
        quiet = (STOP, MUTE)
        stops = (event.begin for event in events if event.what in quiet and event.begin <= death.begin <= event.end + _AFTER)
        silent = min((death.begin, *stops))
        just_now = execution.end is not None and execution.end >= silent - _LAG
        if execution.end is None or (just_now and execution.task in list(self._last[execution.writer])[-spare:]):
            return f"kill {death.kind}"
        return ""

    def _cause_of_consumer(self, execution: Execution, again: int) -> str:
        """As `_cause`, of an execution by a consumer of a server."""
        if execution.confirmed:
            return ""
        for event in self._events(execution.writer):
            # Of one that had no answer for so long that it was late, and was killed then, there is no note of that.
            if event.what == KILL and (event.begin <= again or again - execution.begin >= self._beyond):
                return f"kill {event.kind}"
            long = event.end - event.begin >= self._beyond
            if event.what == STOP and long and execution.begin <= event.end + _AFTER and event.begin <= again:
                return f"stop {event.kind}"
        if execution.overdue:
            return "late consumer"
        return "clock set forward under a consumer" if self._is_cut_short(execution.begin, again) else ""

    def _began_after_a_step(self, again: Execution) -> str:
        """Another explanation: a consumer began what it still had in hand, though another had it by then, or had ended it. It
        heard of that only when it said its own end."""
        stale = again.writer in self._consumers and not again.confirmed
        return "clock set forward under a consumer" if stale and self._is_cut_short(again.begin, again.begin) else ""

    def _is_cut_short(self, begin: int, moment: int) -> bool:
        """Whether the clock of Redis was set forward while a consumer may have had a lease, which nobody renews: from so long
        before it `begin`s a task, as the lease may hold others before it, until the `moment`."""
        forward = (step for step in self._weather if step.what == STEP and step.kind == FORWARD)
        return any(step.end >= begin - self._beyond - _AFTER and step.begin <= moment for step in forward)

    def _has_sweeper_begun(self, moment: int) -> bool:
        """Whether a sweeper that took another's place may not have known that the clock was set (`_swept_by_a_beginner`)."""
        steps = [step for step in self._weather if step.what == STEP and step.begin <= moment <= step.end + _UNSETTLED]
        return any(step.begin - _AFTER <= kill.begin <= moment for step in steps for kill in self._swept)

    def _is_unsaid(self, writer: Writer, death: Event) -> bool:
        """Whether the supervisor of a killed process was killed, too, before it can have said what that had noted: while it is
        stopped it says nothing."""
        hits = self._by_pid.get(writer.parent, [])
        stops = (hit.end for hit in hits if hit.what == STOP and hit.begin <= death.end + _AFTER and death.begin <= hit.end)
        until = max((death.end, *stops)) + _AFTER
        return any(hit.what == KILL and death.begin <= hit.begin <= until for hit in hits)

    def _began_after_a_stop(self, again: Execution) -> str:
        """What explains the first task that began after a long stop of its process, which had it in hand before."""
        begins = self._begins[again.writer]
        for event in self._events(again.writer):
            middle = (event.begin + event.end) // 2  # neither end of a stop is known exactly
            long = event.what == STOP and event.end - event.begin >= self._beyond
            if long and middle < again.begin <= event.end + _LAG and begins[bisect_right(begins, middle)] == again.begin:
                return f"stop {event.kind}"
        return ""

    def _swept_by_a_beginner(self, earlier: list[Execution], again: Execution) -> str:
        """What explains that a task was put back which a living worker held: a step of the clock ended its lease, and a
        sweeper that took another's place just then could not know of the step."""
        for step in self._weather:
            if step.what != STEP or not step.begin <= again.begin <= step.end + _AFTER:
                continue
            held = any(each.begin <= step.end and self._until(each) >= step.begin for each in earlier)
            if held and any(step.begin - _AFTER <= kill.begin <= again.begin for kill in self._swept):
                return "step of the clock, and a sweeper that had just begun"
        return ""

    @staticmethod
    def _is_near(execution: Execution, event: Event) -> bool:
        """Whether the execution, or the report of its end, fell into a stop or a cut."""
        return execution.begin <= event.end + _AFTER and (execution.end is None or execution.end >= event.begin - _LAG)

    def _is_last_before(self, execution: Execution, event: Event) -> bool:
        """Whether no other task of its process began after it and before the blow."""
        begins = self._begins[execution.writer]
        return execution.begin <= event.end and begins[bisect_right(begins, event.begin) - 1] == execution.begin

    def _spend(self, writer: Writer, event: Event, allowance: int) -> bool:
        self._spent[writer, event.begin] += 1
        return self._spent[writer, event.begin] <= allowance

    def _is_stopped(self, writer: Writer, moment: int) -> bool:
        """Whether a process was being stopped, or just had been."""
        events = self._events(writer)
        return any(event.what == STOP and event.begin <= moment <= event.end + _AFTER for event in events)

    def _is_set(self, moment: int) -> bool:
        """Whether the clock of Redis has just been set, of which workers hear with a beat."""
        return any(event.what == STEP and event.begin <= moment <= event.end + _AFTER for event in self._weather)

    def _spans(self) -> list[Span]:
        """The executions of tasks with a concurrency key, but for those whose lease may have run out in a stop or a cut."""
        executions = [each for task in self._marks[LIMITED] for each in self._history.get(task, ())]
        return [Span(each.task, each.begin, self._until(each)) for each in executions if not self._is_silent(each)]

    def _under(self) -> dict[Order, list[Span]]:
        """The executions under each order, but for those of processes that may not have heard of it."""
        found: dict[Order, list[Span]] = {order: [] for order in self._orders}
        ends = [order.end for order in self._orders]
        histories = self._history.values()
        known = (each for history in histories for each in history if not (each.go or each.letter))
        for execution in (each for each in known if each.writer not in self._consumers):
            place = bisect_right(ends, execution.begin)
            if place < len(ends) and (until := self._until(execution)) >= self._orders[place].heard:
                order = self._orders[place]
                if not self._is_deaf(execution, order):
                    found[order].append(Span(execution.task, execution.begin, until))
        return found

    def _is_deaf(self, execution: Execution, order: Order) -> bool:
        """Whether its process was stopped or cut off after an order was given, or just before."""
        blows = (event for event in self._events(execution.writer) if event.what in (STOP, CUT))
        return any(event.begin <= execution.begin and event.end + _AFTER >= order.begin for event in blows)

    def _is_silent(self, execution: Execution) -> bool:
        """Whether its process was stopped or cut off for so long that leases run out, or is a consumer that may have lost its
        lease, as no server has confirmed the end."""
        if execution.writer in self._consumers and not execution.confirmed:
            return True
        events = self._events(execution.writer)
        long = [event for event in events if event.what in (STOP, CUT) and event.end - event.begin >= self._beyond]
        return any(self._is_near(execution, event) for event in long)

    # Recovery

    def _measure(self) -> None:
        """From each kill to the next begin of the task that was in execution."""
        for execution in self._open.values():
            death = self.death(execution.writer)
            others = [each for each in self._history[execution.task] if not each.letter]
            following = [each.begin for each in others if death and each.begin > death.begin]
            if death and following and not self._is_ordered(death.begin, min(following)):
                self.verdict.recoveries.setdefault(self._kind(execution, death, min(following)), []).append(
                    (min(following) - death.begin) / 1e9
                )

    def _is_ordered(self, begin: int, end: int) -> bool:
        """Whether the queue was paused or limited meanwhile, so that a task had to wait."""
        return any(order.begin <= end and order.end >= begin for order in self._orders)

    def _kind(self, execution: Execution, death: Event, recovered: int) -> str:
        """What happened to the worker, and to others before the task was recovered."""
        if death.kind == "child":
            for event in self._by_pid.get(execution.writer.parent, []):
                if event.begin <= recovered and event.end + _AFTER >= death.begin:
                    return "child, its supervisor hit too"
        elif any(event.begin <= recovered and event.end + _SETTLING >= death.begin for event in self._weather):
            return "any but a child, amid trouble of Redis or of sweepers"
        return death.kind


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
