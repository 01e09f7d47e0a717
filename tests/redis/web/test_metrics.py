"""The page of metrics, and the timeline on the page of a task."""

import re

import pytest

from delayed.base.clock import now
from delayed.ops.glance import glance
from delayed.ops.overview import look
from delayed.ops.periods import PERIODS, counts
from delayed.ops.statistics import rows, sums, totals
from delayed.queue.queue import Queue
from delayed.redis.statistics import RUN, packed
from delayed.task.task import PyTask
from delayed.workflow import Flow, group
from tests.conftest import burst
from tests.redis.web.browsing import browser

EVIL = '"><script>alert(1)</script>'
_SLOW = RUN + 8  # the bucket of runs up to 10 seconds


def count(queue: Queue, back: float = 0.0) -> None:
    """Count 7 attempts of one function and 1 of another."""
    one, other = {1: 5, 3: 1, 4: 1, RUN: 21_000, _SLOW: 7}, {2: 1, RUN: 1, RUN + 1: 1}
    every = {1: 5, 2: 1, 3: 1, 4: 1, RUN: 21_001, RUN + 1: 1, _SLOW: 7}
    queue.store.count(now() - back, 1, [("", packed(every)), (f"m:{EVIL}", packed(one)), ("m:g", packed(other))])


def test_a_queue_says_what_has_become_of_its_tasks(queue: Queue) -> None:
    queue.enqueue_many(PyTask("builtins:int", (text,)) for text in ("1", "2", "no number"))
    burst(queue)
    queue.enqueue(PyTask("m:waits"))
    text = re.sub(r"<[^>]*>", "", browser(queue, "view", readonly=True).get(f"/queues/{queue.name}").text)
    assert "4 enqueued, 3 started, 0 retried, 1 failed, 2 completed, 0 cancelled, 0 expired" in text
    found = sums(totals(queue), look(queue))
    assert (found.enqueued, found.started, found.failed, found.completed) == (4, 3, 1, 2)
    assert glance(queue, look(queue), 1, 1).sums == found
    queue.enqueue_many(PyTask("m:grouped", (number,), group=f"g{number}") for number in range(600))
    assert "+ enqueued" in re.sub(r"<[^>]*>", "", browser(queue).get(f"/queues/{queue.name}").text)


def test_what_was_counted_in_a_period(queue: Queue) -> None:
    count(queue)
    count(queue, 3 * 3600)
    hour, day = (counts(queue, PERIODS[name]) for name in ("hour", "day"))
    assert (hour.all.started, day.all.started) == (8, 16)
    assert {name: each.started for name, each in day.functions.items()} == {f"m:{EVIL}": 14, "m:g": 2}
    assert next(iter(day.functions)) == f"m:{EVIL}"
    assert (len(hour.steps), len(day.steps)) == (60, 24)
    assert sum(each.started for _, each in day.steps) == 16
    assert len(counts(queue, PERIODS["quarter"]).steps) == 90


def test_functions_without_a_place_are_counted_together(queue: Queue) -> None:
    for number in range(20):
        one = packed({1: 100, RUN: 500, RUN + 1: 100})
        queue.store.count(now(), 1, [("", one), (f"m:f{number:02}", one)])
    found = counts(queue, PERIODS["day"])
    assert 0 < len(found.functions) < 20
    assert found.others.started == 100 * (20 - len(found.functions))
    assert found.others.mean_run == pytest.approx(0.005)
    text = browser(queue).get("/metrics").text
    assert "that there was no room for" in text
    assert f">{found.others.started:,}<" in text


def test_the_page_of_metrics(queue: Queue) -> None:
    site = browser(queue, "view", readonly=True)
    assert "have counted nothing" in site.get("/metrics?last=week").text
    count(queue)
    for path in (
        f"/metrics?queue={queue.name}",
        "/metrics",
        "/metrics?last=hour",
        "/metrics?last=odd",
        "/metrics?last=quarter",
    ):
        answer = site.get(path)
        assert answer.status_code == 200
        assert "<b>8</b> attempts" in answer.text
        assert "5 succeeded, 1 retried, 2 failed</title>" in answer.text
        assert answer.text.count("<script") == 1
        assert "m:&#34;&gt;&lt;script&gt;" in answer.text
        assert not re.search(r'\sstyle="|\son[a-z]+="', answer.text)
    assert site.get("/metrics?queue=another").status_code == 404


def test_what_a_function_took(queue: Queue) -> None:
    count(queue)
    text = browser(queue).get("/metrics").text
    row = text[text.index("<tbody>") :]
    assert re.findall(r'<td class="number">([^<]+)</td>', row)[:5] == ["7", "3.000 s", "10 s", "10 s", "10 s"]
    assert "0.001 s" in row
    assert "5 ms" in row


def test_how_long_nodes_of_a_workflow_ran_is_known_of_the_last_hour_too(queue: Queue) -> None:
    """Minutes have no room for single functions and histograms: hours have."""
    flow = Flow(queue)
    first = flow.add(PyTask("tasks:noop", (0,)))
    flow.add(group(PyTask("tasks:noop", (number,)) for number in range(5)), after=first)
    flow.add(PyTask("tasks:fail", ("no",)), after=first, when="continue")
    flow.submit()
    burst(queue)
    for name in ("hour", "day"):
        found = counts(queue, PERIODS[name])
        assert (found.all.started, found.times.run.tasks) == (7, 7)
        assert {path: each.run.tasks for path, each in found.functions.items()} == {"tasks:noop": 6, "tasks:fail": 1}
        assert found.since is not None
    text = browser(queue).get("/metrics?last=hour").text
    assert re.findall(r"<b>([^<]*)</b> 95 % ran for less", text) != ["-"]
    assert ">-</td>" not in text
    assert "is kept by the hour" in text


def test_a_minute_says_how_long_attempts_ran_on_average(queue: Queue) -> None:
    count(queue)
    minute, hour = (rows(queue, by)[-1].all for by in ("minute", "hour"))
    assert minute.run.mean is None
    assert minute.mean_run == pytest.approx(21.001 / 7)  # what was buried had not begun
    assert hour.mean_run == hour.run.mean == pytest.approx(21.001 / 8)


def test_the_timeline_of_a_task(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("builtins:int", (EVIL,), retry=0, track=True))
    burst(queue)
    text = browser(queue).get(f"/task/{handle.id}?queue={queue.name}").text
    timeline = text[text.index("<h2>Timeline</h2>") :]
    assert ">enqueued<" in timeline
    assert re.search(r">(retried|failed)<", timeline)
    assert "ValueError" in timeline
    assert text.count("<script") == 1
