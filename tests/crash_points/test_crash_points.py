"""Kill a client before, in the middle of and after each Redis command of each operation: nothing is lost, and nothing runs
again but what was in execution."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import redis

import delayed.worker.joins
import delayed.workflow.carry
import delayed.workflow.layout
import delayed.workflow.pages
import delayed.workflow.tend
from delayed.cron.schedules import Schedules
from delayed.dead_letters.letter import dead_letters
from delayed.errors import Unrunnable
from delayed.ops.fsck import look
from delayed.ops.invariants import INVARIANTS
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.sweeper.sweep import sweep
from delayed.task.decode import decode
from delayed.workflow import runs
from delayed.workflow.tend import tend
from tests import ROOT
from tests.conftest import burst, eventually
from tests.redis.workflow.hands import states

from .crash_points import Cut, Moment, Report, in_child, words
from .crash_scenarios import NO_LIMIT, SCENARIOS, Scenario, Stage
from .crash_tasks import RAN, RETURNED
from .flow_scenarios import FEW, FLOW_SCENARIOS

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "reliability.md").read_text()
DOCUMENT = PAGE.partition("## Crash points\n")[2].partition("\n## ")[0]
ALL = [*SCENARIOS, *FLOW_SCENARIOS]
ENDINGS = ("HDEL", "EVALSHA succeed", "EVALSHA retry", "EVALSHA bury")


def documented() -> dict[str, int]:
    """Operation → how many of its commands are cut."""
    return {name: int(count) for name, count in re.findall(r"^\| ([^|]+) \| (\d+) \|$", DOCUMENT, re.MULTILINE)}


def noted(path: Path, kind: bytes) -> list[int]:
    """The tasks that have noted something, in order."""
    data = path.read_bytes() if path.exists() else b""
    records = [data[start : start + 9] for start in range(0, len(data), 9)]
    return [int.from_bytes(record[1:]) for record in records if record[:1] == kind]


def number(data: bytes) -> int | None:
    """Which of the tasks this is."""
    try:
        return next(each for each in decode(data).args if isinstance(each, int))
    except Unrunnable:
        return None


_ATTEMPTS = 10  # two threads send in another order now and then, above all on a busy machine; each attempt is judged


class Trial:
    """One cut, and what came of it."""

    def __init__(self, scenario: Scenario, stage: Stage, folder: Path) -> None:
        self.scenario = scenario
        self.stage = stage
        self.folder = folder

    def run(self, cut: Cut | None) -> Report:
        """Cut the operation there, clear up as a sweeper and another worker do, and compare with the model."""
        stage, queue = self.stage, self.stage.queue
        keys = list(stage.client.scan_iter(f"{queue.name}*", count=1000))
        if keys:
            stage.client.delete(*keys)
        stage.path.unlink(missing_ok=True)
        stage.taken = 0
        self.scenario.prepare(stage)
        stage.client.script_flush()
        others = len(stage.client.client_list())
        report = in_child(lambda counter: self.scenario.operate(stage, counter), cut, self.scenario.everything, self.folder)
        eventually(lambda: len(stage.client.client_list()) == others)  # Redis has read all that the child had sent
        repeatable = self._in_execution(cut, report)
        where = f"{cut} {report.commands[-3:]}"
        self._clear_up()
        self._compare(repeatable, where)
        if self.scenario.ends:
            self._compare_flows(repeatable, where)
        return report

    def _clear_up(self) -> None:
        """What a sweeper and another worker do. A workflow that was not built to its end waited for long enough."""
        stage, queue = self.stage, self.stage.queue
        stage.forget_leases()
        sweep(queue.store, NO_LIMIT)
        for timer in queue.store.call("ZRANGE", queue.keys.flow_due, 0, -1):
            queue.store.call("ZADD", queue.keys.flow_due, int(timer.endswith(b" B")), timer)
        tend(queue.store)
        Schedules(queue).fire()
        assert stage.client.llen(queue.keys.noti) == queue.len()
        burst(queue)

    def _in_execution(self, cut: Cut | None, report: Report) -> set[int]:
        """The tasks that may run once more: the last that noted something, if Redis has not got its ending."""
        ran = noted(self.stage.path, RAN)
        fields = cast(dict[bytes, bytes], self.stage.client.hgetall(self.stage.queue.keys.processing))
        held = {number(data): lease for lease, data in fields.items()}
        allowed = self.scenario.interrupted.intersection(ran)
        if ran and ran[-1] in held:
            ended = cut is not None and cut.moment is Moment.AFTER and held[ran[-1]] in words(report.last)
            assert not ended or b"HDEL" not in words(report.last), f"{cut}: an ending that was sent had no effect"
            assert report.killed, "a process that left in peace holds nothing"
            allowed |= {ran[-1]}
        return set(allowed)

    def _compare(self, repeatable: set[int], where: str) -> None:
        scenario, queue = self.scenario, self.stage.queue
        ran, returned = Counter(noted(self.stage.path, RAN)), noted(self.stage.path, RETURNED)
        dead = Counter(number(letter.data) for letter in dead_letters(queue))
        for task, times in scenario.runs.items():
            least = 0 if task in scenario.enqueued and task not in returned else times
            most = times + (task in repeatable)
            done = ran[task] + (dead[task] if task in scenario.either else 0)
            assert least <= done <= most, f"{where}: task {task} ran {done} times, not {least} to {most}"
            if task not in scenario.either:
                assert dead[task] == (task in scenario.dead), f"{where}: task {task} is {dead[task]} dead letters"
        assert scenario.ends or set(ran) <= set(scenario.runs), where
        left = (queue.len(), self.stage.client.llen(queue.keys.noti), self.stage.client.hlen(queue.keys.processing))
        assert left == (0, 0, 0), f"{where}: {left} waiting, notifications, held"

    def _compare_flows(self, repeatable: set[int], where: str) -> None:
        """Each workflow has ended as one of its ends says, or goes on so when its caller repeats what did not return; each
        task has run as often as belongs to that, and nothing is left when the workflows are forgotten."""
        *_, whole = ends = self.scenario.ends
        queue, returned = self.stage.queue, noted(self.stage.path, RETURNED)
        for repeated in (False, True):
            state = " ".join(sorted(run.status().state for run in runs(queue)))
            assert state in ([whole] if returned or repeated else ends), f"{where}: {state}"
            ran = Counter(noted(self.stage.path, RAN))
            for task in set(ran) | set(ends[state]):
                assert 0 <= ran[task] - ends[state].get(task, 0) <= (task in repeatable), f"{where}: {state}, {task} in {ran}"
            dead = {number(letter.data) for letter in dead_letters(queue)}
            expected = self.scenario.dead if "failed" in state.split() else frozenset()
            assert dead == expected or (self.scenario.repeat and not dead), f"{where}: dead letters {dead}"
            wrong = look(queue, INVARIANTS)
            assert not wrong, f"{where}: {wrong}"
            if state == whole or self.scenario.repeat is None:
                break
            self.scenario.repeat(self.stage)
            self._clear_up()
        self._forget(where)

    def _forget(self, where: str) -> None:
        keys, client = self.stage.queue.keys, self.stage.client
        for run in runs(self.stage.queue):
            assert not {"waiting", "released"} & set(states(run).values()), where
            client.zadd(keys.flow_ids, {run.flow: 1})
        tend(self.stage.queue.store)
        assert not client.keys(f"{keys.queue}_flow*"), where


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of workflows, which take no notice of how long anything lasts."""
    for module in (delayed.workflow.layout, delayed.workflow.pages):
        monkeypatch.setattr(module, "LISTED", FEW)
    monkeypatch.setattr(delayed.workflow.carry, "_PAGE", FEW)
    monkeypatch.setattr(delayed.workflow.tend, "_SLICE", 600.0)
    for name in ("_CARRYING", "_LONGEST"):
        monkeypatch.setattr(delayed.worker.joins, name, 600.0)


@pytest.fixture(autouse=True)
def _quick_and_quiet(client: redis.Redis, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Redis looks more often whether a blocking command is over, and thousands of tasks fail without a word."""
    client.config_set("hz", 500)
    with caplog.at_level(logging.CRITICAL, "delayed"):
        yield
    client.config_set("hz", 10)


def _are_of(some: list[str], whole: list[str], count: int) -> bool:
    return len(some) == count and not Counter(some) - Counter(whole)


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_a_client_that_dies_at_any_point_loses_and_repeats_nothing(
    scenario: Scenario, queue: Queue, client: redis.Redis, server: EmbeddedRedis, tmp_path: Path
) -> None:
    trial = Trial(scenario, Stage(queue, client, server.url, tmp_path / "noted"), tmp_path)
    whole = trial.run(None)
    assert (whole.killed, whole.status) == (False, scenario.status), (tmp_path / "log").read_text()
    assert set(scenario.expects) <= set(whole.commands), whole.commands
    for place in range(len(whole.commands)):
        for moment in Moment:
            for _ in range(_ATTEMPTS):
                report = trial.run(Cut(place, moment))
                if report.killed and report.commands == whole.commands[:place]:
                    break
            assert report.killed, f"it did not come to command {place}: {report}\n{(tmp_path / 'log').read_text()}"
            # Where the order is another one each time, these are still commands of the whole, as many, and each was judged.
            assert report.commands == whole.commands[:place] or _are_of(report.commands, whole.commands, place)
    assert documented().get(scenario.name) == len(whole.commands), whole.commands


def test_the_document_names_the_number_of_crash_points() -> None:
    assert set(documented()) == {scenario.name for scenario in ALL}
    (total,) = re.findall(r"\*\*([\d,]+) crash points\*\*", DOCUMENT)
    assert int(total.replace(",", "")) == len(Moment) * sum(documented().values())
