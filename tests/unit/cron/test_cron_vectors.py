"""Schedules fire when tests/vectors/cron.json says. The Go module runs the same file."""

import json
from typing import Any

import pytest

from delayed.cron.definition import define, unpack
from delayed.cron.expiring import choose
from delayed.cron.expression import Cron
from delayed.errors import InvalidSchedule
from delayed.task.edit import with_expiry
from delayed.task.task import GoTask, PyTask
from tests.vectors.make_cron import PATH

VECTORS = json.loads(PATH.read_text())


@pytest.mark.parametrize("walk", VECTORS["walks"], ids=lambda walk: f"{walk['tz']}-{walk['from']}")
def test_all_occurrences_between_two_instants(walk: dict[str, Any]) -> None:
    begin, end = walk["from"], walk["to"]
    for expression, offsets in walk["fires"].items():
        times = [begin + offset for offset in offsets]
        cron = Cron(expression, walk["tz"])
        for start in range(begin - 1, end, 29 * 60):  # from anywhere, also inside of what is repeated
            found = cron.after(start * 1000)
            assert found is not None
            assert found // 1000 == next((each for each in times if each > start), found // 1000), (
                f"{expression} after {start}"
            )
            assert found // 1000 in times or found > end * 1000
        for one, other in zip([begin - 1, *times], times, strict=False):
            assert cron.after(one * 1000) == other * 1000, expression


@pytest.mark.parametrize("vector", VECTORS["next"], ids=lambda vector: f"{vector[0]} {vector[1]}")
def test_what_follows(vector: Any) -> None:
    expression, tz, moment, times = vector
    for following in times:
        assert Cron(expression, tz).after(moment * 1000) == (None if following is None else following * 1000)
        moment = following


@pytest.mark.parametrize("vector", VECTORS["decide"], ids=lambda vector: f"{vector[0]} {vector[2]} {vector[4] - vector[3]}")
def test_what_is_done(vector: Any) -> None:
    expression, tz, catch_up, due, now, tasks, following = vector
    assert Cron(expression, tz, catch_up).decide(due, now) == (tasks, following)


@pytest.mark.parametrize("vector", VECTORS["definitions"], ids=lambda vector: f"{vector[3]} {vector[6]}")
def test_what_stands_in_redis(vector: Any) -> None:
    *when, path, args, packed, expires = vector
    lasts = None if expires is None else expires / 1000
    task = PyTask(path, args, expires=lasts) if ":" in path else GoTask(path, *args, expires=lasts)
    entry = define(task, Cron(*when))
    assert entry.pack().hex() == packed
    assert unpack(bytes.fromhex(packed)).pack() == entry.pack()


@pytest.mark.parametrize("vector", VECTORS["expiring"], ids=lambda vector: f"{vector[0]} {vector[2]} {vector[4]} {vector[5]}")
def test_what_is_done_about_what_expires(vector: Any) -> None:
    *when, due, now, lasts, moment, following = vector
    assert choose(Cron(*when), due, now, lasts) == (moment, following)


@pytest.mark.parametrize("vector", VECTORS["headers"], ids=lambda vector: f"{vector[0]:.40} {vector[1]}")
def test_how_a_task_says_it(vector: Any) -> None:
    data, expires, after = vector
    assert with_expiry(bytes.fromhex(data), expires).hex() == after


def test_what_is_refused() -> None:
    for expression in VECTORS["refused"]["expressions"]:
        with pytest.raises(InvalidSchedule):
            Cron(expression)
    for tz in VECTORS["refused"]["zones"]:
        with pytest.raises(InvalidSchedule):
            Cron("* * * * *", tz)
