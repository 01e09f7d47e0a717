"""`delayed top` shows what there is, and does what its keys say."""

import re
from typing import Any

import pytest
import redis
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from delayed.cli.top_app import Top
from delayed.cli.top_panes import PANES, Chosen
from delayed.cli.top_screens import Detail, Fields, Question
from delayed.cron.definition import Entry
from delayed.cron.expression import Cron
from delayed.cron.schedules import Schedules
from delayed.ops.audit import Actor, AuditFilter, read
from delayed.ops.causes import causes
from delayed.ops.job_records import jobs
from delayed.ops.overview import server_time
from delayed.queue.history import event, packed
from delayed.queue.queue import Queue
from delayed.queue.waiting import Wanted, search
from delayed.task.task import PyTask
from delayed.workflow import Flow
from tests.conftest import burst
from tests.redis.ops.test_audit import letters
from tests.redis.ops.test_waiting import fill
from tests.support.command import run

ADA = Actor("ada", "top here")
SIZE = (200, 40)
TIMELINE = r"enqueued\n.* started +attempt 1 .*\n.* failed +attempt 1 "


class Terminal:
    """The application, in no terminal."""

    def __init__(self, queue: Queue, *, readonly: bool = False) -> None:
        self.app = Top(lambda: [queue], ADA, 3600, readonly=readonly)  # it looks when it is told to

    async def __aenter__(self) -> "Terminal":
        self._context = self.app.run_test(size=SIZE)
        self.pilot: Pilot[Any] = await self._context.__aenter__()
        await self.rest()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._context.__aexit__(*error)

    async def rest(self) -> None:
        """Until all has been done and shown."""
        await self.pilot.pause()
        while any(not each.is_finished for each in self.app.workers):
            await self.pilot.pause(0.01)
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.rest()

    async def show(self, pane: str) -> str:
        self.app.query_one("TabbedContent").active = pane  # type: ignore[attr-defined]
        await self.pilot.pause()
        await self.rest()
        return self.text()

    def text(self) -> str:
        table = self.app.query_one(f"#table-{self.app.pane}", DataTable)
        rows = [" | ".join(map(str, table.get_row_at(row))) for row in range(table.row_count)]
        return "\n".join([*rows, str(self.app.query_one("#says", Static).content)])

    async def enter(self) -> str:
        """What the row that is marked has to tell."""
        await self.press("enter")
        screen = self.app.screen
        assert isinstance(screen, Detail)
        text = screen.text.plain
        await self.press("escape")
        return text

    def keys(self) -> set[str]:
        """What the keys that are shown do."""
        return {binding.action for _, binding, enabled, _ in self.app.screen.active_bindings.values() if enabled}


@pytest.mark.slow
async def test_each_tab_shows_what_there_is(queue: Queue, client: redis.Redis) -> None:
    fill(queue)
    letters(queue, 12)
    async with Terminal(queue) as terminal:
        assert queue.name in terminal.text()
        assert "| 12 |" in terminal.text()
        assert "ValueError: no" in await terminal.show("causes")
        assert "looked at 12 of 12 dead letters" in terminal.text()
        assert "m:plain | 'alice'" in await terminal.show("tasks")
        await terminal.press("s")
        assert "main.Later" in terminal.text()
        assert "scheduled: 3 shown" in terminal.text()
        await terminal.show("processes")
        await terminal.press("s")  # nothing here
        await terminal.show("jobs")
        assert "who" not in await terminal.show("audit")


@pytest.mark.slow
async def test_a_queue_is_paused_goes_on_and_is_emptied(queue: Queue) -> None:
    queue.enqueue(PyTask("m:f"))
    async with Terminal(queue) as terminal:
        await terminal.press("p")
        assert queue.limits().paused
        await terminal.press("p")
        assert not queue.limits().paused
        await terminal.press("d")
        assert isinstance(terminal.app.screen, Question)
        terminal.app.look()  # it goes on below the question
        await terminal.rest()
        await terminal.press("n")
        assert not jobs(queue)
        await terminal.press("d", "y")
        terminal.app.work_on_jobs()
        await terminal.rest()
        assert "queue.purge | ada | done: 1 done" in await terminal.show("jobs")
    assert queue.len() == 0
    entry = read(queue, AuditFilter(queue=queue.name, act="queue.pause")).entries[0]
    assert (entry.who, entry.origin) == ADA


@pytest.mark.slow
async def test_all_of_a_cause_are_retried(queue: Queue, client: redis.Redis) -> None:
    letters(queue, 30)
    async with Terminal(queue) as terminal:
        await terminal.show("causes")
        await terminal.press("r")
        (job,) = jobs(queue)
        assert job.wanted["cause"] == causes(queue).causes[0].id
        await terminal.show("jobs")
        await terminal.press("x")
        assert "stopped: 0 done" in terminal.text()
        await terminal.show("causes")
        await terminal.press("r")
        terminal.app.work_on_jobs()
        await terminal.rest()
        letters(queue, 3)
        await terminal.show("queues")
        await terminal.show("causes")
        await terminal.press("d", "y")
        terminal.app.work_on_jobs()
        await terminal.rest()
    assert queue.len() == 30
    assert client.xlen(queue.keys.dead) == 0


@pytest.mark.slow
async def test_tasks_run_now_are_cancelled_and_removed(queue: Queue, client: redis.Redis) -> None:
    fill(queue)
    ids = letters(queue, 2)
    async with Terminal(queue) as terminal:
        await terminal.show("tasks")
        await terminal.press("s", "n")
        await terminal.press("c")
        assert len(list(search(queue, Wanted(where="scheduled")))) == 2
        await terminal.press("d", "y")
        assert len(list(search(queue, Wanted(where="scheduled")))) == 1
        await terminal.press("s", "s", "s")
        assert ids[1] in terminal.text()
        await terminal.press("r")
        await terminal.press("d", "y")
        assert client.xlen(queue.keys.dead) == 0
        await terminal.press("r")  # there is none
    done = [entry.act for entry in read(queue, AuditFilter(queue=queue.name)).entries]
    assert done == ["dead.delete", "dead.retry", "task.delete", "task.cancel", "task.run"]


@pytest.mark.slow
async def test_schedules_are_paused_go_on_run_and_are_removed(queue: Queue) -> None:
    Schedules(queue).put("each night", Entry(Cron("0 3 29 2 *"), PyTask("m:f").serialize()))
    async with Terminal(queue) as terminal:
        assert "each night" in await terminal.show("schedules")
        assert terminal.keys() >= {"pause", "run_now", "delete"}
        await terminal.press("p")
        assert Schedules(queue).list()[0].next is None
        assert "paused" in terminal.text()
        await terminal.press("p")
        assert Schedules(queue).list()[0].next is not None
        await terminal.press("n")
        assert len(list(search(queue))) == 1
        await terminal.press("d", "n")
        assert Schedules(queue).list()
        await terminal.press("d", "y")
    assert not Schedules(queue).list()
    assert {entry.act for entry in read(queue, AuditFilter(queue=queue.name)).entries} == {
        "cron.pause", "cron.resume", "cron.run", "cron.remove",
    }  # fmt: skip


async def test_workflows_are_cancelled_and_retried(queue: Queue) -> None:
    flow = Flow(queue, "order 17")
    flow.add(PyTask("m:f"), after=flow.wait("go"))
    run = flow.submit()
    async with Terminal(queue) as terminal:
        assert "order 17" in await terminal.show("workflows")
        assert terminal.keys() >= {"retry", "cancel"}
        await terminal.press("c", "y")
        assert run.status().state == "cancelled"
        await terminal.press("r")
        assert {entry.act for entry in read(queue, AuditFilter(queue=queue.name)).entries} == {"flow.cancel", "flow.retry"}


async def test_what_cannot_be_done_is_said(queue: Queue) -> None:
    queue.enqueue(PyTask("m:f"))
    async with Terminal(queue) as terminal:
        await terminal.show("tasks")
        await terminal.press("c")  # it has no id
        (said,) = [each.message for each in terminal.app._notifications]
        assert "is no id of a task" in said
    assert queue.len() == 1


@pytest.mark.slow
async def test_who_only_looks_changes_nothing(queue: Queue, client: redis.Redis) -> None:
    fill(queue)
    letters(queue, 2)
    async with Terminal(queue, readonly=True) as terminal:
        for pane in PANES:
            await terminal.show(pane)
            await terminal.press("p", "r", "t", "c", "k", "n", "m", "f", "d", "x")
            assert not terminal.keys() & {"pause", "retry", "cancel", "run_now", "delete", "stop", "repair"}
    assert not read(queue, AuditFilter(queue=queue.name)).entries
    assert not jobs(queue)


async def test_an_outage_is_said(queue: Queue) -> None:
    async with Terminal(queue) as terminal:
        terminal.app._queues = lambda: [Queue(queue.name, "redis://127.0.0.1:1")]
        terminal.app.look()
        await terminal.rest()
        assert "Error: " in terminal.text()
        terminal.app.work_on_jobs()
        await terminal.rest()


@pytest.mark.slow
async def test_what_tasks_say_is_text(queue: Queue) -> None:
    queue.enqueue(PyTask("m:[red]f[/]", ("\x1b[31m", "[bold]x")))
    async with Terminal(queue) as terminal:
        text = await terminal.show("tasks")
    assert "m:[red]f[/]" in text
    assert "\x1b" not in text
    assert all(pane(Chosen(())).head for pane in PANES.values())


def test_the_command_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)

    def missing(name: str, package: str | None = None) -> Any:
        raise ModuleNotFoundError(name="textual")

    monkeypatch.setattr("delayed.cli.top.import_module", missing)
    assert "pip install 'delayedq[top]'" in run("top", status=1).output


def test_the_command_says_that_it_needs_a_terminal(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)
    assert run("top", status=1).output == "Error: this needs a terminal; `delayed info --watch` needs none\n"


@pytest.mark.slow
async def test_limits_are_set_and_lifted(queue: Queue) -> None:
    queue.limit(rate=2, burst=3)
    async with Terminal(queue) as terminal:
        await terminal.press("l")
        assert isinstance(terminal.app.screen, Fields)
        await terminal.press("7", "tab", "end", ".", "5", "enter")
        assert queue.limits() == (False, 7, 2.5, 3)
        await terminal.press("l", "escape")
        await terminal.press("l", "backspace", "x", "enter")  # which is no number
        assert queue.limits() == (False, 7, 2.5, 3)
        await terminal.press("l", *("backspace", "tab", *3 * ["backspace"], "tab", "backspace"), "enter")
    assert queue.limits() == (False, None, None, None)
    assert [entry.who for entry in read(queue, AuditFilter(queue=queue.name, act="queue.limit")).entries[:2]] == ["ada", "ada"]


@pytest.mark.slow
async def test_a_dead_letter_is_retried_with_other_arguments(queue: Queue) -> None:
    letters(queue, 1)
    async with Terminal(queue) as terminal:
        await terminal.show("tasks")
        assert not terminal.keys() & {"edit"}
        await terminal.press(*4 * "s")
        assert terminal.keys() >= {"edit"}
        await terminal.press("e")
        await terminal.press(*20 * ["backspace"], *"[7]", "enter")
    assert [PyTask.deserialize(data).args for data in queue.call("LRANGE", queue.keys.queue, 0, -1)] == [[7]]


@pytest.mark.slow
async def test_a_workflow_is_given_a_signal(queue: Queue) -> None:
    flow = Flow(queue)
    flow.add(PyTask("m:f"), after=flow.wait("paid", timeout=3600))
    run = flow.submit()
    async with Terminal(queue) as terminal:
        await terminal.show("workflows")
        await terminal.press("g", *"paid", "tab", *'{"euro":1}', "enter")
    assert not run.signal("paid", None)  # the first one counts
    entry = read(queue, AuditFilter(queue=queue.name, act="flow.signal")).entries[0]
    assert (entry.who, entry.what) == ("ada", f"{run.id} paid")


async def test_a_task_is_told_of_with_its_timeline(queue: Queue, client: redis.Redis) -> None:
    handle = queue.enqueue(PyTask("tasks:missing_function", track=True))
    burst(queue)
    queue.enqueue(PyTask("m:plain", ("alice",)))
    async with Terminal(queue) as terminal:
        await terminal.show("tasks")
        assert "without an id" in (text := await terminal.enter())
        assert "args:   'alice'" in text
        await terminal.press(*4 * "s")
        text = await terminal.enter()
        assert re.search(TIMELINE, text), text
        assert "has no attribute 'missing_function'" in text.splitlines()[-1]
        await terminal.show("history")
        assert f"| {handle.id} | tasks:missing_function |" in terminal.text()
        assert re.search(TIMELINE, await terminal.enter())
        assert "of 1 dead letters" in await terminal.show("causes")
        assert str(handle.id) in await terminal.enter()
        client.lpop(queue.keys.queue)
        queue.enqueue(PyTask("m:tracked", track=True))
        await terminal.show("tasks")
        await terminal.press("s")  # waiting again
        assert re.search(r"state: +queued", await terminal.enter())


@pytest.mark.slow
async def test_other_rows_are_told_of(queue: Queue) -> None:
    flow = Flow(queue, "order 17")
    flow.add(PyTask("m:f"), after=flow.wait("go"))
    flow.submit()
    queue.enqueue_many([PyTask("tasks:noop"), PyTask("tasks:missing_function")])
    burst(queue)
    async with Terminal(queue) as terminal:
        assert f"{queue.name}  enqueued 2  started 2" in terminal.text()
        assert "tasks:noop" in await terminal.enter()
        await terminal.show("workflows")
        assert "0 of 2 nodes ended" in await terminal.enter()
        await terminal.show("causes")
        await terminal.press("r")
        await terminal.show("jobs")
        assert "act:     dead.retry" in await terminal.enter()
        assert "persistence" in await terminal.show("redis")
        assert re.match(r"(problem|warning|note|ok) ", await terminal.enter())
        await terminal.show("audit")
        await terminal.press("enter")  # there is nothing more to tell
        assert not isinstance(terminal.app.screen, Detail)


@pytest.mark.slow
async def test_a_filter_shows_only_what_has_a_text(queue: Queue) -> None:
    queue.enqueue_many(PyTask("m:f", (name,)) for name in ("alice", "bob"))
    async with Terminal(queue) as terminal:
        await terminal.show("tasks")
        await terminal.press("slash", *"bob", "enter")
        assert "'bob'" in terminal.text()
        assert "'alice'" not in terminal.text()
        assert "filter: bob" in terminal.text()
        assert "filter" not in await terminal.show("queues")  # each tab has its own
        await terminal.press("slash", *"nothing", "enter")
        assert len(terminal.text().splitlines()) == 1  # what is said below the table
        await terminal.press("slash", "escape")
        assert "filter: nothing" in terminal.text()
        await terminal.show("tasks")
        await terminal.press("slash", *3 * ["backspace"], "enter")
        assert "'alice'" in terminal.text()


@pytest.mark.slow
async def test_the_history_is_filtered_where_it_is_read(queue: Queue) -> None:
    told = [event(1.0, "failed", "m:first", said="no such file"), event(2.0, "failed", "m:second", said="timed out")]
    queue.store.call("XADD", queue.keys.history, "*", "batch", packed("h:1", {}, told, 0.0))
    async with Terminal(queue) as terminal:
        assert "m:first" in await terminal.show("history")
        written = ""
        for words, found in (("timed", ["m:second"]), (":fir", ["m:first"]), ("x" * 16, [])):
            await terminal.press("slash", *len(written) * ["backspace"], *words, "enter")
            assert [name for name in ("m:first", "m:second") if name in terminal.text()] == found
            written = words


@pytest.mark.slow
async def test_a_task_is_moved(queue: Queue) -> None:
    queue.enqueue(PyTask("m:f", after=60))
    async with Terminal(queue) as terminal:
        await terminal.show("tasks")
        assert not terminal.keys() & {"move"}
        await terminal.press("s")
        assert terminal.keys() >= {"move"}
        await terminal.press("m", *"12h", "enter")
        (moved,) = search(queue)
        assert moved.due is not None
        assert 11 * 3600 < moved.due - server_time(queue) < 13 * 3600
        await terminal.press("m", *"2100-01-31T08:00", "enter")
        assert [each.due for each in search(queue)] == [4105065600.0]
        await terminal.press("m", *"soon", "enter")
        assert "'soon' is no time" in [each.message for each in terminal.app._notifications][-1]
    done = [entry.act for entry in read(queue, AuditFilter(queue=queue.name)).entries]
    assert done == ["task.move", "task.move"]


@pytest.mark.slow
async def test_a_task_that_runs_is_cancelled_hard(queue: Queue, client: redis.Redis) -> None:
    handle = queue.enqueue(PyTask("m:f", track=True))
    data = client.lpop(queue.keys.queue)
    assert isinstance(data, bytes)
    client.hset(queue.keys.task(str(handle.id)), "state", "running")
    client.hset(queue.keys.processing, queue.keys.lease("w", 0), data)
    async with Terminal(queue) as terminal:
        await terminal.show("tasks")
        await terminal.press(*3 * "s")
        assert terminal.keys() >= {"cancel", "cancel_hard"}
        await terminal.press("k")
        assert isinstance(terminal.app.screen, Question)
        await terminal.press("y")
    entry = read(queue, AuditFilter(queue=queue.name, act="task.cancel")).entries[0]
    assert (entry.what, entry.count) == (f"{handle.id} (hard)", 1)


@pytest.mark.slow
async def test_a_workflow_is_retried_in_another_way(queue: Queue) -> None:
    flow = Flow(queue)
    flow.add(PyTask("m:f"), after=flow.wait("go"))
    run = flow.submit()
    run.cancel()
    async with Terminal(queue) as terminal:
        await terminal.show("workflows")
        await terminal.press("t", *11 * ["backspace"], *"all", "enter")
    entry = read(queue, AuditFilter(queue=queue.name, act="flow.retry")).entries[0]
    assert (entry.what, entry.result) == (f"{run.id} all", "done")


@pytest.mark.slow
async def test_a_queue_is_checked_and_repaired(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue(PyTask("m:f"))
    client.delete(queue.keys.noti)
    async with Terminal(queue) as terminal:
        await terminal.press("v")
        screen = terminal.app.screen
        assert isinstance(screen, Detail)
        assert "can be repaired" in screen.text.plain
        assert "no sweeper is running" in screen.text.plain
        await terminal.press("escape", "f", "y")
        (job,) = jobs(queue)
        assert job.act == "fsck.repair"
        terminal.app.work_on_jobs()
        await terminal.rest()
    assert client.llen(queue.keys.noti) == 1
