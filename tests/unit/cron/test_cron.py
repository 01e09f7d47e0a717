"""When schedules fire, against clocks that are read minute by minute; and what becomes of those that were missed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delayed.cron.expression import MOST, Cron
from delayed.errors import InvalidSchedule

ZONES = [
    "Europe/Zurich", "Europe/London", "Europe/Dublin", "Europe/Chisinau", "Africa/Casablanca", "Africa/Cairo", "Asia/Beirut",
    "Asia/Jerusalem", "Asia/Gaza", "Asia/Tehran", "Australia/Lord_Howe", "Australia/Adelaide", "Pacific/Auckland",
    "Pacific/Chatham", "Pacific/Easter", "America/Santiago", "America/Asuncion", "America/Havana", "America/New_York",
    "America/St_Johns",
]  # fmt: skip
QUICK = {"Europe/Zurich", "Africa/Casablanca", "Australia/Lord_Howe", "America/New_York"}  # one with each kind of rule
FIRST, LAST = datetime(2019, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
AROUND = timedelta(hours=7)

# Each with its own reading of the clock: (expression, whether it is of certain times, what matches)
EXPRESSIONS: list[tuple[str, bool, Callable[[datetime], bool]]] = [
    ("*/7 * * * *", False, lambda t: t.minute % 7 == 0),
    ("45 * * * *", False, lambda t: t.minute == 45),
    ("15 */2 * * *", False, lambda t: t.minute == 15 and t.hour % 2 == 0),
    ("*/20 0-3 * * *", False, lambda t: t.minute % 20 == 0 and t.hour <= 3),
    ("*/20 1 * * SUN,4-6", False, lambda t: t.minute % 20 == 0 and t.hour == 1 and t.weekday() in (3, 4, 5, 6)),
    ("*/20 1 * * SUN", False, lambda t: t.minute % 20 == 0 and t.hour == 1 and t.weekday() == 6),
    ("* 23 * * 6", False, lambda t: t.hour == 23 and t.weekday() == 5),
    ("30 2 * * *", True, lambda t: (t.hour, t.minute) == (2, 30)),
    ("0,45 0-3 * * *", True, lambda t: t.minute in (0, 45) and t.hour <= 3),
    ("10 0 * * *", True, lambda t: (t.hour, t.minute) == (0, 10)),
    ("59 1,23 * * 0,5-7", True, lambda t: t.minute == 59 and t.hour in (1, 23) and t.weekday() in (4, 5, 6)),
]


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def utc(*values: int) -> int:
    return ms(datetime(*values, tzinfo=UTC))  # type: ignore[misc,arg-type]


@cache
def transitions(zone: str) -> list[datetime]:
    """All of ten years: the first minute of each new offset."""
    found, tz, moment = [], ZoneInfo(zone), FIRST
    while moment < LAST:
        later = moment + timedelta(hours=12)
        if moment.astimezone(tz).utcoffset() != later.astimezone(tz).utcoffset():
            changed = moment
            while changed.astimezone(tz).utcoffset() == moment.astimezone(tz).utcoffset():
                changed += MINUTE
            found.append(changed)
        moment = later
    return found


def readings(zone: str, begin: datetime, end: datetime) -> list[tuple[datetime, list[datetime], bool]]:
    """Each minute; what the clock shows then, after what it has skipped; and whether it has shown that before."""
    tz, seen, before = ZoneInfo(zone), set[datetime](), None
    found: list[tuple[datetime, list[datetime], bool]] = []
    moment = begin
    while moment <= end:
        shown = moment.astimezone(tz).replace(tzinfo=None)
        skipped: list[datetime] = [] if before is None else [before + n * MINUTE for n in range(1, (shown - before) // MINUTE)]
        found.append((moment, [*skipped, shown], shown in seen))
        seen.add(shown)
        before, moment = shown, moment + MINUTE
    return found


def expected(
    clock: list[tuple[datetime, list[datetime], bool]], certain: bool, match: Callable[[datetime], bool]
) -> list[int]:
    """As a cron does that looks at the clock each minute."""
    if certain:
        return [ms(moment) for moment, shown, again in clock if not again and any(map(match, shown))]
    return [ms(moment) for moment, shown, _ in clock if match(shown[-1])]


def test_there_are_transitions_in_all_of_these_zones() -> None:
    assert len(set(ZONES)) == 20
    assert all(len(transitions(zone)) >= 7 for zone in ZONES)
    assert sum(len(transitions(zone)) for zone in ZONES) >= 350


@pytest.mark.parametrize("zone", [pytest.param(zone, marks=() if zone in QUICK else pytest.mark.slow) for zone in ZONES])
def test_around_every_transition_of_ten_years(zone: str) -> None:
    for transition in transitions(zone):
        clock = readings(zone, transition - AROUND, transition + AROUND)
        for expression, certain, match in EXPRESSIONS:
            times, cron = expected(clock, certain, match), Cron(expression, zone)
            end, found, moment = ms(clock[-1][0]), [], ms(clock[0][0]) - 1
            while (moment := cron.after(moment) or 0) <= end:
                found.append(moment)
            assert found == times, f"{expression} at {transition}"
            for start in range(60 * 4, len(clock), 29):  # from anywhere, also inside of what is repeated
                begin = ms(clock[start][0])
                following = next((each for each in times if each > begin), None)
                if following is not None:
                    assert cron.after(begin) == following, f"{expression} after {clock[start][0]}"


def test_a_time_that_is_skipped_comes_when_the_gap_ends_and_one_that_is_repeated_once() -> None:
    nightly = Cron("30 2 * * *", "Europe/Zurich")
    assert nightly.after(utc(2026, 3, 28, 12)) == utc(2026, 3, 29, 1)
    assert nightly.after(utc(2026, 3, 29, 1)) == utc(2026, 3, 30, 0, 30)
    assert nightly.after(utc(2026, 10, 24, 12)) == utc(2026, 10, 25, 0, 30)
    assert nightly.after(utc(2026, 10, 25, 0, 30)) == utc(2026, 10, 26, 1, 30)
    assert nightly.after(utc(2026, 10, 25, 1, 10)) == utc(2026, 10, 26, 1, 30)  # in the hour that is shown again


def test_a_day_that_a_zone_skipped() -> None:
    assert Cron("0 12 30 12 *", "Pacific/Apia").after(utc(2011, 12, 1)) == utc(2011, 12, 30, 10)
    assert Cron("0 * 30 12 *", "Pacific/Apia").after(utc(2011, 12, 1)) == utc(2012, 12, 29, 10)


@pytest.mark.parametrize("tz", ["UTC", "Europe/Zurich", "Australia/Lord_Howe"])
@pytest.mark.parametrize("expression", ["* * 29 2 *", "0 0 29 2 *", "*/5 3 1 1 *", "0 0 * 2 MON#5"])
def test_what_is_rare_is_found_years_ahead(expression: str, tz: str) -> None:
    moment = Cron(expression, tz).after(utc(2026, 6, 1))
    assert moment is not None
    shown = datetime.fromtimestamp(moment / 1000, ZoneInfo(tz))
    year = {"*/5 3 1 1 *": 2027, "0 0 * 2 MON#5": 2044}.get(expression, 2028)
    assert (shown.year, shown.minute) == (year, 0)
    assert shown.hour == (3 if year == 2027 else 0)


def test_seconds_stand_in_front() -> None:
    each = Cron("*/20 * * * * *")
    assert each.after(utc(2026, 1, 1) + 999) == utc(2026, 1, 1, 0, 0, 20)
    assert each.after(utc(2026, 1, 1, 0, 0, 20)) == utc(2026, 1, 1, 0, 0, 40)
    assert Cron("5 30 2 * * *", "Europe/Zurich").after(utc(2026, 3, 28, 12)) == utc(2026, 3, 29, 1)


def test_the_end_of_time() -> None:
    assert Cron("0 0 1 1 *").after(utc(9999, 6, 1)) is None
    assert Cron("* * * * *").after(utc(9999, 12, 31, 23, 59)) is None
    assert Cron("0 0 1 1 *", catch_up="all").decide(utc(9999, 1, 1), utc(9999, 6, 1)) == (1, None)


HOURLY_DUE = utc(2026, 5, 1, 10)


@pytest.mark.parametrize(
    ("catch_up", "late", "tasks", "following"),
    [
        ("skip", timedelta(seconds=-1), 0, (10, 0)),
        ("skip", timedelta(), 1, (11, 0)),
        ("skip", timedelta(seconds=60), 1, (11, 0)),  # a sweeper may be a little late
        ("skip", timedelta(seconds=61), 0, (11, 0)),
        ("skip", timedelta(hours=2, seconds=30), 1, (13, 0)),  # only that of now
        ("skip", timedelta(hours=2, minutes=30), 0, (13, 0)),
        ("one", timedelta(), 1, (11, 0)),
        ("one", timedelta(minutes=30), 1, (11, 0)),
        ("one", timedelta(hours=5, minutes=30), 1, (16, 0)),
        ("all", timedelta(), 1, (11, 0)),
        ("all", timedelta(hours=5, minutes=30), 6, (16, 0)),
        ("one", timedelta(hours=-3), 0, (10, 0)),  # the clock was set back
        ("all", timedelta(hours=-3), 0, (10, 0)),
    ],
)
def test_catching_up(catch_up: str, late: timedelta, tasks: int, following: tuple[int, int]) -> None:
    now = HOURLY_DUE + round(late.total_seconds() * 1000)
    decision = Cron("0 * * * *", catch_up=catch_up).decide(HOURLY_DUE, now)
    assert decision == (tasks, utc(2026, 5, 1, *following))


def test_catching_up_with_very_many_takes_several_calls() -> None:
    cron, due, now = Cron("* * * * *", catch_up="all"), HOURLY_DUE, HOURLY_DUE + 2500 * 60_000
    counts = []
    while due <= now:
        tasks, following = cron.decide(due, now)
        counts.append(tasks)
        assert following is not None
        due = following
    assert counts == [MOST, MOST, 501]


@given(st.lists(st.integers(-7200, 7200), max_size=30), st.sampled_from(["one", "all"]))
def test_a_clock_that_jumps_fires_each_occurrence_once(jumps: list[int], catch_up: str) -> None:
    """Whatever the clock does, each occurrence up to the latest that it has shown has been decided on once, in order."""
    cron, due, now, latest = Cron("*/5 * * * *", catch_up=catch_up), HOURLY_DUE, HOURLY_DUE - 1, 0
    fired = 0
    for jump in jumps:
        now += jump * 1000
        latest = max(latest, now)
        tasks, following = cron.decide(due, now)
        assert following is not None
        assert following >= due
        assert catch_up == "all" or tasks == (following > due)
        fired, due = fired + tasks, following
    passed = max(0, (latest - HOURLY_DUE) // 300_000 + 1) if latest >= HOURLY_DUE else 0
    assert due == HOURLY_DUE + passed * 300_000
    assert fired == passed or (catch_up == "one" and fired <= passed)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("0 0 30 2 *",), "never fires"),
        (("0 0 31 4,6,9,11 *",), "never fires"),
        (("* * */20 * 1L",), "never fires"),
        (("* * * *",), "has 4 fields, and a cron expression has five"),
        (("@daily",), "has 1 fields"),
        (("",), "has 0 fields"),
        (("61 * * * *",), "bad minute; minutes are 0-59"),
        (("* * * * MON-FRI,XYZ",), "bad day-of-week"),
        (("*/0 * * * *",), "bad minute"),
        (("0 0 32 * *",), "bad day-of-month; .*days 1-31"),
        (("9" * 5000 + " * * * *",), "no cron expression"),
        ((5,), "a string such as"),
        (("* * * * *", "Europe/Zürich"), "did you mean 'Europe/Zurich'"),
        (("* * * * *", "MEZ"), "no time zone 'MEZ'"),
        (("* * * * *", "../etc/passwd"), "no time zone"),
        (("* * * * *", "Europe"), "no time zone 'Europe'"),
        (("* * * * *", ""), "no time zone ''"),
        (("* * * * *", None), "no time zone None"),
        (("* * * * *", "UTC", "some"), "catch_up must be one of skip, one, all"),
    ],
)
def test_bad_schedules_say_what_to_do(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidSchedule, match=words):
        Cron(*arguments)


FIELD = st.text("0123456789*/,-#L W", max_size=6) | st.sampled_from(["*", "1-5", "*/3", "L", "LW", "MON#2", "5L", "JAN"])


@settings(max_examples=3 * settings().max_examples)
@given(st.lists(FIELD, min_size=4, max_size=7) | st.lists(st.text(max_size=5), max_size=6))
def test_an_expression_is_good_or_invalid(fields: list[str]) -> None:
    try:
        cron = Cron(" ".join(fields), "Europe/Zurich")
    except InvalidSchedule:
        return
    moment = cron.after(HOURLY_DUE)
    assert moment is None or moment > HOURLY_DUE
