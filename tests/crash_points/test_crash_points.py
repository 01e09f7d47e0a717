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

from delayed.cron.schedules import Schedules
from delayed.dead_letters.letter import dead_letters
from delayed.errors import Unrunnable
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.sweeper.sweep import sweep
from delayed.task.decode import decode
from tests import ROOT
from tests.conftest import burst, eventually

from .crash_points import Cut, Moment, Report, in_child, words
from .crash_scenarios import NO_LIMIT, SCENARIOS, Scenario, Stage
from .crash_tasks import RAN, RETURNED

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "reliability.md").read_text()
DOCUMENT = PAGE.partition("## Crash points\n")[2].partition("\n## ")[0]
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
        found = decode(data).args[1]
    except Unrunnable:
        return None
    assert isinstance(found, int)
    return found


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
        stage.forget_leases()
        sweep(queue.store, NO_LIMIT)
        Schedules(queue).fire()
        assert stage.client.llen(queue.keys.noti) == queue.len()
        burst(queue)
        self._compare(repeatable, f"{cut} {report.commands[-3:]}")
        return report

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
        for task, runs in scenario.runs.items():
            least = 0 if task in scenario.enqueued and task not in returned else runs
            most = runs + (task in repeatable)
            done = ran[task] + (dead[task] if task in scenario.either else 0)
            assert least <= done <= most, f"{where}: task {task} ran {done} times, not {least} to {most}"
            if task not in scenario.either:
                assert dead[task] == (task in scenario.dead), f"{where}: task {task} is {dead[task]} dead letters"
        assert set(ran) <= set(scenario.runs), where
        left = (queue.len(), self.stage.client.llen(queue.keys.noti), self.stage.client.hlen(queue.keys.processing))
        assert left == (0, 0, 0), f"{where}: {left} waiting, notifications, held"


@pytest.fixture(autouse=True)
def _quick_and_quiet(client: redis.Redis, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Redis looks more often whether a blocking command is over, and thousands of tasks fail without a word."""
    client.config_set("hz", 500)
    with caplog.at_level(logging.CRITICAL, "delayed"):
        yield
    client.config_set("hz", 10)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
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
            assert report.commands == whole.commands[:place]
    assert documented().get(scenario.name) == len(whole.commands), whole.commands


def test_the_document_names_the_number_of_crash_points() -> None:
    assert set(documented()) == {scenario.name for scenario in SCENARIOS}
    (total,) = re.findall(r"\*\*([\d,]+) crash points\*\*", DOCUMENT)
    assert int(total.replace(",", "")) == len(Moment) * sum(documented().values())
