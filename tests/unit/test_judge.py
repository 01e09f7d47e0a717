"""The judge of scripts/chaos: it must find what is wrong, and nothing else."""

from collections import Counter
from itertools import count

import pytest

from chaos import tasks
from chaos.events import CUT, KILL, MUTE, STEP, STOP, WEATHER, Event
from chaos.judge import BATCH, Judge, Verdict
from chaos.notes import (
    BEGUN,
    BURIED,
    CANCELLED,
    CANCELLING,
    ENDED,
    EXPIRED,
    LATE,
    LIMITED,
    REFUSED,
    SENDING,
    SENT,
    SPOILED,
    UNTOLD,
    Note,
    Writer,
)
from chaos.orders import SETTLING, Order
from chaos.slopes import fit, sparkline
from chaos.tasks import PERIOD
from chaos.ticks import Occurrences, differences, expression
from delayed.cron.expression import Cron
from delayed.task.task import PyTask

MS = 1_000_000
SECOND = 1000 * MS
BEYOND = 2.0
PRODUCER = Writer(1, 0, 0)
A, B = Writer(100, 10, 0), Writer(101, 10, 0)  # children of the same supervisor
GO = Writer(102, 1, 0)


def run(task: int, writer: Writer, begin: int, end: int | None = None) -> list[Note]:
    """An execution, in milliseconds."""
    go = writer is GO
    notes = [Note(task, writer, BEGUN, begin * MS, go)]
    return notes if end is None else [*notes, Note(task, writer, ENDED, end * MS, go)]


def judge(
    *executions: list[Note],
    events: tuple[Event, ...] = (),
    sent: tuple[int, ...] = (),
    spare_go: int = 64,
    orders: tuple[Order, ...] = (),
) -> Verdict:
    notes = [note for execution in executions for note in execution]
    tasks = {note.task for note in notes} | set(sent)
    sending = [Note(task, PRODUCER, kind, 0, False) for task in tasks for kind in (SENDING, SENT)]
    return Judge([*sending, *notes], events, BEYOND, spare_go, orders).verdict


def blow(what: str, pid: int, begin: int, end: int | None = None, kind: str = "child") -> Event:
    return Event(what, kind, (pid,), begin * MS, (begin if end is None else end) * MS)


def weather(what: str, begin: int, end: int | None = None) -> Event:
    return Event(what, "Redis", (), begin * MS, (begin if end is None else end) * MS)


def mark(kind: int, task: int, moment: int = 0, writer: Writer = PRODUCER) -> list[Note]:
    """A note of another kind, in milliseconds."""
    return [Note(task, writer, kind, moment * MS, False)]


def causes(verdict: Verdict) -> list[str]:
    return [repeat.cause for repeat in verdict.repeats]


def test_nothing_wrong_is_found_where_nothing_is_wrong() -> None:
    verdict = judge(run(1, A, 0, 1), run(2, B, 0, 5), run(3, GO, 0, 9))
    assert (verdict.enqueued, verdict.executed, verdict.executions) == (3, 3, 3)
    assert (verdict.lost, verdict.repeats, verdict.overlaps, verdict.unknown) == ([], [], 0, 0)


def test_a_task_that_never_began_or_never_ended_is_lost() -> None:
    killed = judge(run(1, A, 0, 1), run(2, A, 2), sent=(1, 2, 3), events=(blow(KILL, 100, 5),))
    assert killed.lost == [2, 3]


def test_a_task_whose_enqueue_did_not_return_may_be_missing() -> None:
    notes = [Note(1, PRODUCER, SENDING, 0, False)]
    assert Judge(notes, (), BEYOND).verdict.lost == []


def test_a_task_that_nobody_enqueued_is_found() -> None:
    assert Judge(run(1, A, 0, 1), (), BEYOND).verdict.unknown == 1


def test_a_kill_in_mid_execution_explains_one_repeat() -> None:
    kill = blow(KILL, 100, 5)
    verdict = judge(run(1, A, 0), run(1, B, 20, 30), events=(kill,))
    assert causes(verdict) == ["kill child"]
    assert (verdict.ended, verdict.overlaps) == (0, 0)
    assert verdict.recoveries == {"child": [0.015]}
    twice = judge(run(1, A, 0), run(1, B, 20, 30), run(1, B, 40, 50), events=(kill,))
    assert causes(twice) == ["kill child", ""]


def test_a_killed_supervisor_kills_its_children() -> None:
    verdict = judge(run(1, A, 0), run(1, GO, 3000, 3001), events=(blow(KILL, 10, 5, kind="supervisor"),))
    assert causes(verdict) == ["kill supervisor"]
    assert verdict.recoveries == {"supervisor": [2.995]}


def test_a_child_that_began_as_its_supervisor_died_died_with_it() -> None:
    young = Writer(103, 10, 9 * MS)
    verdict = judge(run(1, young, 10), run(1, GO, 3000, 3001), events=(blow(KILL, 10, 5, kind="supervisor"),))
    assert causes(verdict) == ["kill supervisor"]


def test_a_child_s_recovery_counts_apart_when_its_supervisor_is_hit_before() -> None:
    events = (blow(KILL, 100, 5), blow(KILL, 10, 6, kind="supervisor"))
    assert list(judge(run(1, A, 0), run(1, GO, 3000, 3001), events=events).recoveries) == ["child, its supervisor hit too"]


@pytest.mark.parametrize(
    "events",
    [
        pytest.param((), id="no blow at all"),
        pytest.param((blow(KILL, 101, 5),), id="another process was killed"),
        pytest.param((blow(KILL, 100, 25),), id="killed after the task began again"),
        pytest.param((blow(STOP, 100, 5, 900),), id="stopped for less than a lease lives"),
        pytest.param((blow(CUT, 100, 5, 900),), id="cut off for less than a lease lives"),
        pytest.param((Event(KILL, "child", (100,), -5 * MS, -5 * MS),), id="an earlier process of that number was killed"),
    ],
)
def test_a_repeat_without_a_cause_is_found(events: tuple[Event, ...]) -> None:
    verdict = judge(run(1, A, 0), run(1, B, 20, 30), events=events)
    assert len(verdict.unexplained) == 1


def test_only_the_last_task_of_a_killed_process_may_have_ended() -> None:
    events = (blow(KILL, 100, 5),)
    assert causes(judge(run(1, A, 0, 1), run(2, A, 2, 3), run(2, B, 20, 30), events=events)) == ["kill child"]
    earlier = judge(run(1, A, 0, 1), run(2, A, 2, 3), run(1, B, 20, 30), events=events)
    assert (causes(earlier), earlier.ended) == ([""], 1)


def test_a_killed_process_whose_lines_nobody_read_had_stood_still_before() -> None:
    ran = (run(1, A, 0, 1), run(1, B, 900, 901))
    muted = (blow(MUTE, 10, 0, 600, kind="supervisor"), blow(KILL, 100, 500))
    assert causes(judge(*ran, events=muted)) == ["kill child"]
    assert causes(judge(*ran, events=muted[1:])) == [""]


def test_what_had_just_ended_may_run_again_if_the_supervisor_was_killed_with_its_notes() -> None:
    count = BATCH + 2
    ran = [note for task in range(count) for note in (*run(task, A, task, task + 1), *run(task, B, 500 + task, 501 + task))]
    kill = blow(KILL, 10, count + 1, kind="supervisor")
    assert Counter(causes(judge(ran, events=(kill,)))) == {"kill supervisor": BATCH, "": 2}
    before = (blow(KILL, 100, count + 1), blow(KILL, 10, count + 40, kind="supervisor"))
    assert Counter(causes(judge(ran, events=before))) == {"kill child": BATCH, "": 2}
    stopped = (
        blow(STOP, 10, count, count + 3000),
        blow(KILL, 100, count + 500),
        blow(KILL, 10, count + 2900, kind="supervisor"),
    )
    late = [note for task in range(count) for note in (*run(task, A, task, task + 1), *run(task, B, 4000 + task, 4001 + task))]
    found = Counter(causes(judge(late, events=stopped)))
    assert found["kill child"] + found["stop child"] == BATCH, "it could not say them"
    alone = blow(KILL, 100, count + 1)
    assert Counter(causes(judge(ran, events=(alone,)))) == {"kill child": 1, "": count - 1}


def test_a_task_that_ended_long_before_the_kill_must_not_run_again() -> None:
    verdict = judge(run(1, A, 0, 1), run(1, B, 2000, 2001), events=(blow(KILL, 100, 1000),))
    assert causes(verdict) == [""]


def test_what_is_stopped_when_it_is_killed_says_nothing_from_the_stop_on() -> None:
    events = (blow(STOP, 100, 3, 800), blow(KILL, 100, 600))
    assert causes(judge(run(1, A, 0, 1), run(1, B, 900, 901), events=events)) == ["kill child"]


@pytest.mark.parametrize(("spare", "expected"), [(2, 0), (1, 1)])
def test_go_workers_have_an_allowance(spare: int, expected: int) -> None:
    events = (blow(KILL, 102, 5, kind="go worker"),)
    executions = (run(1, GO, 0, 1), run(2, GO, 2, 3), run(1, GO._replace(pid=7), 20, 30))
    assert len(judge(*executions, events=events, spare_go=spare).unexplained) == expected


def test_a_long_stop_explains_a_repeat_that_overlaps() -> None:
    verdict = judge(run(1, A, 0, 3001), run(1, B, 2500, 2600), events=(blow(STOP, 100, 5, 3000),))
    assert (causes(verdict), verdict.overlaps) == (["stop child"], 1)


def test_a_long_stop_explains_only_what_ran_then() -> None:
    stop = blow(STOP, 100, 5, 3000)
    assert causes(judge(run(1, A, 0, 1), run(2, A, 2, 3001), run(1, B, 2500, 2600), events=(stop,))) == [""]
    assert causes(judge(run(1, A, 0, 4), run(1, B, 2500, 2600), events=(stop,))) == ["stop child"]  # not reported yet


def test_a_long_stop_explains_the_first_task_after_it() -> None:
    stop = blow(STOP, 100, 5, 3000)
    elsewhere = (run(1, B, 2500, 2501), run(2, B, 2502, 2503))
    assert causes(judge(*elsewhere, run(1, A, 3001, 3002), run(2, A, 3003, 3004), events=(stop,))) == ["stop child", ""]
    assert causes(judge(*elsewhere, run(1, A, 3900, 3901), events=(stop,))) == [""]
    assert causes(judge(*elsewhere, run(1, A, 3001, 3002), events=(blow(STOP, 100, 2000, 3000),))) == [""]


def test_a_long_cut_explains_a_batch_of_ended_tasks_and_no_more() -> None:
    clock = count()
    first = [run(task, A, next(clock), next(clock)) for task in range(BATCH + 1)]
    again = [run(task, B, 2500 + next(clock), 2500 + next(clock)) for task in range(BATCH + 1)]
    verdict = judge(*first, *again, events=(blow(CUT, 100, 0, 3000),))
    assert len(verdict.unexplained) == 1


def test_a_cancelled_task_may_be_missing_and_must_not_run() -> None:
    verdict = judge(mark(CANCELLING, 1), mark(CANCELLED, 1), sent=(1,))
    assert (verdict.lost, verdict.asked.cancelled, verdict.asked.failures()) == ([], 1, [])
    ran = judge(mark(CANCELLING, 1), mark(CANCELLED, 1), run(1, A, 5, 6))
    assert (ran.asked.begun, len(ran.asked.failures())) == ([1], 1)


def test_a_task_that_ran_when_it_was_cancelled_may_end_or_not() -> None:
    ended = judge(run(1, A, 0, 5), mark(CANCELLING, 1))
    killed = judge(run(1, A, 0), mark(CANCELLING, 1), events=(blow(KILL, 100, 5),))
    for verdict in (ended, killed):
        assert (verdict.lost, verdict.asked.failures()) == ([], [])


def test_a_result_that_does_not_tell_of_the_cancellation_is_found() -> None:
    verdict = judge(mark(CANCELLING, 1), mark(CANCELLED, 1), mark(UNTOLD, 1), sent=(1,))
    assert (verdict.asked.untold, len(verdict.asked.failures())) == ([1], 1)


def test_a_task_that_expired_is_not_lost() -> None:
    verdict = judge(mark(EXPIRED, 1, 5), sent=(1, 2))
    assert (verdict.lost, verdict.repeats, verdict.asked.expired, verdict.executed) == ([2], [], 1, 0)


def test_a_task_that_was_executed_expires_only_after_a_blow() -> None:
    kill = blow(KILL, 100, 5)
    killed = judge(run(1, A, 0), mark(EXPIRED, 1, 50), events=(kill,))
    assert (killed.lost, killed.repeats, killed.recoveries) == ([], [], {})
    assert len(judge(run(1, A, 0, 1), mark(EXPIRED, 1, 50)).unexplained) == 1
    assert len(judge(mark(EXPIRED, 1, 5), run(1, A, 50, 51)).unexplained) == 1
    assert len(judge(mark(EXPIRED, 1, 5), mark(EXPIRED, 1, 6)).unexplained) == 1


def test_a_task_that_begins_too_late_is_found_unless_its_process_was_stopped() -> None:
    late = (mark(LATE, 1, 5, A), run(1, A, 6, 7))
    found = judge(*late)
    assert (found.asked.late, len(found.asked.failures())) == ([1], 1)
    assert judge(*late, events=(blow(STOP, 101, 0, 5),)).asked.late == [1]
    assert judge(*late, events=(blow(STOP, 100, 0, 5),)).asked.failures() == []


@pytest.mark.parametrize(("moment", "excused"), [(1999, False), (2000, True), (3900, True), (4100, False)])
def test_a_task_may_begin_too_late_just_after_the_clock_was_set(moment: int, excused: bool) -> None:
    late = (mark(LATE, 1, moment, A), run(1, A, moment, moment + 1))
    assert judge(*late, events=(weather(STEP, 2000),)).asked.late == ([] if excused else [1])
    assert judge(*late, events=(weather(WEATHER[0], 2000, 2001),)).asked.late == [1]


@pytest.mark.parametrize("what", WEATHER)
def test_trouble_of_redis_or_of_sweepers_explains_no_repeat(what: str) -> None:
    assert causes(judge(run(1, A, 0), run(1, B, 20, 30), events=(weather(what, 0, 5000),))) == [""]


def test_an_output_that_nobody_reads_explains_no_repeat_and_no_disobedience() -> None:
    mute = blow(MUTE, 100, 0, 9000)
    assert causes(judge(run(1, A, 0), run(1, B, 20, 30), events=(mute,))) == [""]
    assert judge(run(1, A, HEARD, HEARD + 9), events=(mute,), orders=(PAUSE,)).asked.disobedient == [1]
    tasks = (run(2, A, 0, 9000), run(4, B, 1, 9000), run(6, GO, 8, 9))
    assert judge(limited(2, 4, 6), *tasks, events=(mute,)).asked.crowded == [6]


def test_a_process_that_is_asked_to_end_while_its_output_is_blocked_may_leave_its_task() -> None:
    kill = blow(KILL, 100, 5, kind="blocked worker")
    assert causes(judge(run(1, A, 0), run(1, B, 20, 30), events=(kill,))) == ["kill blocked worker"]


def test_recoveries_amid_trouble_count_apart_but_for_those_of_children() -> None:
    def recoveries(kind: str, *events: Event) -> list[str]:
        return list(judge(run(1, A, 0), run(1, GO, 3000, 3001), events=(blow(KILL, 100, 5, kind=kind), *events)).recoveries)

    assert recoveries("worker", weather(STEP, 9000)) == ["worker"]
    assert recoveries("worker", weather(STEP, 2000)) == ["any but a child, amid trouble of Redis or of sweepers"]
    assert recoveries("child", weather(STEP, 2000)) == ["child"]


def test_a_task_that_a_middleware_made_fail_is_not_lost_if_it_is_a_dead_letter() -> None:
    assert judge(mark(SPOILED, 1), sent=(1,)).lost == [1]
    buried = judge(mark(SPOILED, 1), mark(BURIED, 1), mark(SPOILED, 2), run(2, A, 0, 1))
    assert (buried.lost, buried.repeats, buried.asked.spoiled, buried.asked.buried) == ([], [], 2, 1)
    assert buried.asked.failures() == []


def test_a_cancellation_that_is_refused_for_want_of_memory_is_found() -> None:
    verdict = judge(mark(CANCELLING, 1), mark(REFUSED, 1), run(1, A, 0, 1))
    assert (verdict.asked.refused, len(verdict.asked.failures())) == ([1], 1)


def limited(*tasks: int) -> list[Note]:
    return [note for task in tasks for note in mark(LIMITED, task)]


def test_no_more_tasks_with_a_concurrency_key_may_run_at_once_than_asked() -> None:
    tasks = (2, 4, 6)  # they have the same key
    together = judge(limited(*tasks), run(2, A, 0, 9), run(4, B, 1, 9), run(6, GO, 8, 9))
    assert (together.asked.crowded, len(together.asked.failures())) == ([6], 1)
    in_turn = judge(limited(*tasks), run(2, A, 0, 8), run(4, B, 1, 9), run(6, GO, 8, 9))
    assert in_turn.asked.crowded == []
    other_keys = judge(limited(*tasks, 3), run(2, A, 0, 9), run(4, B, 1, 9), run(3, GO, 2, 9))
    assert (other_keys.asked.crowded, other_keys.asked.limited) == ([], 4)


def test_a_killed_process_has_its_slot_until_it_dies() -> None:
    kill = blow(KILL, 100, 5)
    before = judge(limited(2, 4, 6), run(2, A, 0), run(4, B, 1, 9), run(6, GO, 4, 9), run(2, B, 20, 21), events=(kill,))
    assert before.asked.crowded == [6]
    after = judge(limited(2, 4, 6), run(2, A, 0), run(4, B, 1, 9), run(6, GO, 6, 9), run(2, B, 20, 21), events=(kill,))
    assert after.asked.crowded == []


@pytest.mark.parametrize(("until", "crowded"), [(3000, []), (900, [6])])
def test_only_a_long_stop_may_cost_a_task_its_slot(until: int, crowded: list[int]) -> None:
    executions = (run(2, A, 0, until + 1), run(4, B, 1, until + 2), run(6, GO, until - 100, until))
    verdict = judge(limited(2, 4, 6), *executions, events=(blow(STOP, 100, 5, until),))
    assert verdict.asked.crowded == crowded


HEARD = SETTLING // MS
PAUSE, TWO = (Order(most, 0, 2 * SETTLING) for most in (0, 2))


@pytest.mark.parametrize(("begin", "found"), [(HEARD - 1, []), (HEARD, [1]), (2 * HEARD, [])])
def test_no_task_may_begin_while_the_queue_is_paused(begin: int, found: list[int]) -> None:
    verdict = judge(run(1, A, begin, begin + 9), orders=(PAUSE,))
    assert (verdict.asked.disobedient, len(verdict.asked.failures()), verdict.asked.orders) == (found, len(found), 1)


def test_go_workers_have_another_queue_which_is_not_paused() -> None:
    assert judge(run(1, GO, HEARD, HEARD + 9), orders=(PAUSE,)).asked.disobedient == []


def test_who_could_not_hear_of_a_pause_need_not_heed_it() -> None:
    task = run(1, A, HEARD + 1, HEARD + 9)
    for what in (STOP, CUT):
        assert judge(task, events=(blow(what, 100, 5, 900),), orders=(PAUSE,)).asked.disobedient == []
        assert judge(task, events=(blow(what, 101, 5, 900),), orders=(PAUSE,)).asked.disobedient == [1]


def test_no_more_tasks_may_run_at_once_than_the_queue_s_limit() -> None:
    c = A._replace(pid=103)
    before = (run(1, A, 0, HEARD + 5), run(2, B, 1, HEARD + 5))
    assert judge(*before, run(3, c, HEARD - 1, HEARD + 3), orders=(TWO,)).asked.disobedient == []
    assert judge(*before, run(3, c, HEARD + 4, HEARD + 9), orders=(TWO,)).asked.disobedient == [3]
    assert judge(*before, run(3, c, HEARD + 5, HEARD + 9), orders=(TWO,)).asked.disobedient == []


def test_a_recovery_that_had_to_wait_for_a_pause_is_not_measured() -> None:
    kill = blow(KILL, 100, 5)
    assert judge(run(1, A, 0), run(1, B, 20, 30), events=(kill,), orders=(PAUSE,)).recoveries == {}


def test_occurrences_that_are_missed_or_doubled_are_found() -> None:
    one, two = (PyTask("chaos.tasks:tick", (number,)).serialize() for number in range(2))
    expected = Counter({one: len(Occurrences(5000, 9000, 1000).all), two: 3})
    assert list(differences(expected, Counter({one: 4, two: 3}))) == []
    assert len(list(differences(expected, Counter({one: 5, two: 3})))) == 1
    assert len(list(differences(expected, Counter({one: 3, b"other": 1})))) == 3


@pytest.mark.parametrize("second", range(0, PERIOD, 45))
@pytest.mark.parametrize("late", [-100, 0, 0.5, 100])
def test_the_task_of_a_schedule_knows_its_occurrence_also_if_the_clock_was_set(
    second: int, late: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = Cron(expression(second), "UTC", "all").after(1_700_000_000_000)
    assert due is not None
    assert due % (1000 * PERIOD) == 1000 * second
    ran: list[int] = []
    monkeypatch.setattr(tasks, "_server_time", lambda: due / 1000 + late)
    monkeypatch.setattr(tasks, "execute", lambda number, _: ran.append(number))
    tasks.tick(second)
    assert ran == [due // 1000]


def test_a_slope_is_told_from_noise() -> None:
    times = [float(moment) for moment in range(0, 1800, 5)]
    noise = [float((7919 * moment) % 13) for moment in range(len(times))]
    flat = fit(times, [100 + one for one in noise])
    rising = fit(times, [100 + one + moment / 60 for one, moment in zip(noise, times, strict=True)])
    assert not flat.grows(3)
    assert rising.grows(3)
    assert rising.per_hour == pytest.approx(60, rel=0.1)


def test_a_sparkline_shows_the_range() -> None:
    assert sparkline([1, 1, 9, 5]) == "▁▁█▅"
    assert sparkline([3, 3]) == "▁▁"


@pytest.mark.parametrize(("killed", "step", "explained"), [(1500, 2000, True), (1500, 5000, False), (9000, 2000, False)])
def test_a_step_that_a_new_sweeper_cannot_have_seen_explains_a_repeat(killed: int, step: int, explained: bool) -> None:
    events = (weather(STEP, step), blow(KILL, 7, killed, kind="sweeper"))
    found = causes(judge(run(1, A, 1000, 3000), run(1, B, 2100, 2200), events=events))
    assert found == (["step of the clock, and a sweeper that had just begun"] if explained else [""])


def test_a_step_explains_nothing_without_a_new_sweeper_or_an_execution_that_it_met() -> None:
    sweeper = blow(KILL, 7, 1500, kind="sweeper")
    assert causes(judge(run(1, A, 1000, 3000), run(1, B, 2100, 2200), events=(weather(STEP, 2000),))) == [""]
    assert causes(judge(run(1, A, 1000, 1800), run(1, B, 2100, 2200), events=(weather(STEP, 2000), sweeper))) == [""]
