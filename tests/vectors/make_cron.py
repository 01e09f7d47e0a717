"""Writes tests/vectors/cron.json: when schedules fire, for every language whose sweepers run them.

    .venv/bin/python -m tests.vectors.make_cron

The Python package says what is in it; tests/unit/cron/test_cron.py checks that against clocks that are read minute by minute.
"""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from delayed.cron.definition import define
from delayed.cron.expiring import choose
from delayed.cron.expression import Cron
from delayed.task.codec import dumps
from delayed.task.edit import with_expiry
from delayed.task.task import GoTask, PyTask

PATH = Path(__file__).parent / "cron.json"
ABOUT = [
    "When schedules fire, and what is done about those that were missed: docs/protocol.md, 7b.",
    "walks: from 'from' to 'to' (seconds since 1970) in the zone 'tz', each expression of 'fires' has exactly these "
    "occurrences, in seconds from 'from'; so one that is asked from anywhere in between finds the next of them.",
    "next: expression, zone, an instant, and the occurrences that follow it, in seconds since 1970; null: there is none.",
    "decide: expression, zone, catch_up, when it is due, the time (milliseconds); how many tasks, and the next occurrence.",
    "definitions: expression, zone, catch_up, the task's path and arguments, what stands in Q_cron, in hexadecimal, and for "
    "how many milliseconds after an occurrence its task may begin, or null.",
    "expiring: expression, zone, catch_up, when it is due, the time, how long an occurrence's task may begin (milliseconds); "
    "the occurrence that is enqueued, or null, and the next occurrence, or null.",
    "headers: a task in hexadecimal, when it expires, and the task that says so.",
    "refused: expressions and zones that are none.",
]
AROUND = 4 * 3600

# Store of the past, as the rules of the future change: a zone, and a moment within a few hours of each.
TRANSITIONS = {
    "Europe/Zurich": ["2023-03-26 03:00", "2023-10-29 03:00"],
    "Europe/Dublin": ["2023-03-26 01:00", "2023-10-29 02:00"],  # its winter time is the exception
    "America/New_York": ["2021-03-14 03:00", "2021-11-07 02:00"],
    "Australia/Lord_Howe": ["2022-04-03 02:00", "2022-10-02 02:30"],  # half an hour
    "Pacific/Chatham": ["2022-04-03 03:45", "2022-09-25 03:45"],  # 45 minutes beside the others
    "America/Sao_Paulo": ["2017-10-15 01:00", "2018-02-18 00:00", "2018-11-04 01:00"],  # at midnight
    "Asia/Beirut": ["2021-03-28 01:00", "2021-10-31 00:00"],  # likewise
    "America/Havana": ["2019-03-10 01:00", "2019-11-03 01:00"],
    "America/Asuncion": ["2019-03-24 00:00", "2019-10-06 01:00"],
    "Atlantic/Azores": ["2020-03-29 01:00", "2020-10-25 01:00"],
    "America/St_Johns": ["2010-03-14 00:01", "2010-11-07 00:01"],  # at a minute past midnight
    "Africa/Casablanca": ["2021-04-11 03:00", "2021-05-16 02:00"],  # in Ramadan
    "Antarctica/Troll": ["2019-03-31 03:00", "2019-10-27 03:00"],  # two hours
    "America/Caracas": ["2016-05-01 03:00"],  # half an hour, for good
    "Asia/Pyongyang": ["2015-08-14 23:30", "2018-05-05 00:00"],
    "Asia/Tehran": ["2021-03-22 01:00", "2021-09-21 23:00"],
    "Pacific/Apia": ["2011-12-31 00:00"],  # a day that was not
    "Asia/Kolkata": ["2021-03-28 02:00"],  # none
    "UTC": ["2021-03-28 02:00"],
}
EXPRESSIONS = [
    "*/7 * * * *", "45 * * * *", "15 */2 * * *", "*/20 0-3 * * *", "*/30 1 * * SUN,4-6", "30 2 * * *", "0,45 0-3 * * *",
    "10 0 * * *", "59 1,23 * * 0,5-7", "0 0 * * *", "30 */15 2 * * *", "5 30 0-2 * * *",
]  # fmt: skip

# What is accepted, and what it means: an expression, and how many occurrences from 2024-01-30 12:34:56 on, in Zurich
SYNTAX = [
    ("* * * * *", 3), ("*/20 * * * * *", 3), ("0 0 L * *", 5), ("0 0 LW * *", 9), ("0 0 L/2 * *", 2), ("0 0 15,L * *", 4),
    ("0 0 13 * FRI", 6), ("0 0 */13 * FRI", 4), ("0 0 1-7 * */7", 5), ("0 0 * * 7", 3), ("0 0 * * 0", 3), ("0 0 * * */2", 5),
    ("0 0 * * 5-7", 4), ("0 0 * * MON#1", 3), ("0 0 * * 7#5", 3), ("0 0 * * SUN#2,3L", 5), ("0 0 * * 5L", 3),
    ("0 0 1 * 5L", 4), ("0 0 * 2 MON#5", 1), ("0 0 29 2 *", 2), ("0 0 31 * *", 4), ("0 0 31 4 MON", 3), ("0 0 30 2 1", 2),
    ("0 12 * jan,Mar-may *", 3), ("0 0 1 APR-DEC/3 *", 4), ("5/20 8-18/5 * * mon-fri", 6), ("3-3/20 0 * * *", 4),
    ("007 04 1 1 *", 1), ("*/100 * * * *", 3), ("*/31 */23 */30 */11 */6", 4), ("0-59/7,1 0 1 1 *", 4), ("0  0\t1 1 *", 1),
    ("0 0 1 1 * ", 1), ("0 59 23 31 12 *", 2), ("1/99999999999999999999 * * * *", 2),
]  # fmt: skip
REFUSED = [
    "", "@daily", "* * * *", "* * * * * * *", "61 * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *",
    "* * * 0 *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "* * * * MON-FRI,XYZ", "* * ? * *", "* * 15W * *", "0 0 30 2 *",
    "0 0 31 4,6,9,11 *", "* * */20 * 1L", "5-1 * * * *", "* * * * SAT-SUN", "1,,2 * * * *", "-5 * * * *", "1- * * * *",
    "*-5 * * * *", "1/2/3 * * * *", "/5 * * * *", "5/ * * * *", "* * * * L", "* * * * MONL", "* * * * 9L", "* * * * MON#6",
    "* * * * MON#0", "* * * * MON#", "* * * * 1-5#2", "* * * * 5L/2", "* * l-1 * *", "1.5 * * * *", "+5 * * * *",
    "* * * JANUARY *", "* JAN * * *", "٣ * * * *", "0 0 1 1-3,14 *",
]  # fmt: skip
ZONES = ["MEZ", "Europe/Zürich", "../etc/passwd", "Europe", "", "Local", "Europe//Zurich", "/usr/share/zoneinfo/UTC"]


def walks() -> Iterator[dict[str, Any]]:
    for tz, moments in TRANSITIONS.items():
        for moment in moments:
            middle = int(datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(tz)).timestamp())
            begin, end = middle - AROUND, middle + AROUND
            fires = {each: list(_between(Cron(each, tz), begin, end)) for each in EXPRESSIONS}
            yield {"tz": tz, "from": begin, "to": end, "fires": {each: found for each, found in fires.items() if found}}


def _between(cron: Cron, begin: int, end: int) -> Iterator[int]:
    moment = cron.after(begin * 1000 - 1)
    while moment is not None and moment <= end * 1000:
        yield moment // 1000 - begin
        moment = cron.after(moment)


def following() -> Iterator[list[Any]]:
    zurich = int(datetime(2024, 1, 30, 12, 34, 56, tzinfo=ZoneInfo("Europe/Zurich")).timestamp())
    asked = [(expression, "Europe/Zurich", zurich, count) for expression, count in SYNTAX]
    asked += [("0 12 30 12 *", "Pacific/Apia", 1322697600, 2), ("0 * 30 12 *", "Pacific/Apia", 1322697600, 2)]
    asked += [("0 0 1 1 *", "UTC", 253402214400, 1), ("* * * * *", "UTC", 253402300740, 1), ("* * * * *", "UTC", -86401, 2)]
    for expression, tz, moment, count in asked:
        cron, found, last = Cron(expression, tz), list[int | None](), moment * 1000
        for _ in range(count):
            following = cron.after(last)
            found.append(None if following is None else following // 1000)
            last = following or 0
        yield [expression, tz, moment, found]


def decisions() -> Iterator[list[Any]]:
    due = int(datetime(2024, 3, 30, 10, tzinfo=ZoneInfo("Europe/Zurich")).timestamp()) * 1000
    late = [timedelta(seconds=each) for each in (-3600, -1, 0, 0.5, 60, 60.001, 61, 1800, 7230, 9000, 20000, 86400)]
    for catch_up in ("skip", "one", "all"):
        for expression in ("0 * * * *", "30 2,10 * * *", "* * * * * *"):
            for each in late if expression != "* * * * * *" else late[:8]:
                now = due + round(each.total_seconds() * 1000)
                decision = Cron(expression, "Europe/Zurich", catch_up).decide(due, now)
                yield [expression, "Europe/Zurich", catch_up, due, now, *decision]
    yield ["0 0 1 1 *", "UTC", "all", 253370764800000, 253382860800000, 1, None]
    yield ["0 0 1 1 *", "UTC", "one", 253370764800000, 253382860800000, 1, None]


def definitions() -> Iterator[list[Any]]:
    for expression, tz, catch_up, path, args, expires in (
        ("30 2 * * *", "Europe/Zurich", "one", "reports:nightly", [1, "x" * 300], None),
        ("*/10 * * * * *", "UTC", "skip", "main.Report", [["a", 2.5]], None),
        ("30 2 * * *", "Europe/Zurich", "one", "reports:nightly", [1, "x" * 300], 1),
        ("*/10 * * * * *", "UTC", "skip", "main.Report", [["a", 2.5]], 14_400_000),
    ):
        lasts = None if expires is None else expires / 1000
        task = PyTask(path, args, expires=lasts) if ":" in path else GoTask(path, *args, expires=lasts)
        packed = define(task, Cron(expression, tz, catch_up)).pack()
        yield [expression, tz, catch_up, path, args, packed.hex(), expires]


def expiring() -> Iterator[list[Any]]:
    due = int(datetime(2024, 3, 30, 10, tzinfo=ZoneInfo("Europe/Zurich")).timestamp()) * 1000
    hour = 3_600_000
    asked = [
        ("0 * * * *", late, lasts) for late in (-1, 0, 60_000, 60_001, hour, 20 * hour) for lasts in (1, 90_000, 2 * hour)
    ]
    asked += [
        ("* * * * * *", 100 * hour, 50 * hour),
        ("0 0 1 1 *", 9000 * hour, 9000 * hour),
        ("0 0 1 1 *", 9000 * hour, hour),
    ]
    for catch_up in ("skip", "one", "all"):
        for expression, late, lasts in asked:
            found = choose(Cron(expression, "Europe/Zurich", catch_up), due, due + late, lasts)
            yield [expression, "Europe/Zurich", catch_up, due, due + late, lasts, *found]


def headers() -> Iterator[list[Any]]:
    tasks: list[PyTask | GoTask] = [
        PyTask("m:f"), PyTask("m:f", (1,)), PyTask("m:f", (), {"a": 1}), PyTask("m:f", (), None, -1),
        PyTask("m:f", ([1],), {"b": b"x"}, 3, group="g"), GoTask("p.F"), GoTask("p.F", (1, 2), 3), GoTask("p.F", 1, timeout=1),
        GoTask("p.F", retry=2, group="g"),
    ]  # fmt: skip
    strange = [["p.F"], "p.F", ["m:f", None, None], ["p.F", b"", "no map", 7], ["m:f", [], {}, 0, {"expires": 1, "id": "x"}]]
    for data in [*(task.serialize() for task in tasks), *map(dumps, strange)]:
        for moment in (5, 1_700_000_000_000):
            yield [data.hex(), moment, with_expiry(data, moment).hex()]


def main() -> None:
    parts = {
        "walks": walks(),
        "next": following(),
        "decide": decisions(),
        "definitions": definitions(),
        "expiring": expiring(),
        "headers": headers(),
    }
    lines = [
        f'  "{name}": [\n    ' + ",\n    ".join(json.dumps(each) for each in values) + "\n  ]"
        for name, values in parts.items()
    ]
    refused = f'  "refused": {json.dumps({"expressions": REFUSED, "zones": ZONES}, indent=2)}'
    about = f'  "about": {json.dumps(ABOUT, indent=2)}'
    PATH.write_text("{\n" + ",\n".join([about, *lines, refused]) + "\n}\n")


if __name__ == "__main__":
    main()
