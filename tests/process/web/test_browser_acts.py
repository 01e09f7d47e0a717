"""The buttons of the web UI for what matches, for what is marked, for jobs and for what does not stop, in a real browser."""

from collections.abc import Iterator

import pytest
import redis
from playwright.sync_api import Browser, expect

from delayed.dead_letters.letter import dead_letters
from delayed.errors import TaskCancelled
from delayed.ops.audit import Actor
from delayed.ops.job_records import create, jobs
from delayed.queue.queue import Queue
from delayed.queue.waiting import Wanted, search
from delayed.task.task import PyTask
from delayed.web.words import part
from tests.conftest import eventually
from tests.process.web.test_browser import browser as browser  # noqa: PLC0414  # a fixture
from tests.support.browser import NEEDS_CHROMIUM, Tab, served
from tests.support.letters import bury
from tests.support.processes import SOON_DEAD, Fleet

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]


@pytest.fixture
def tab(browser: Browser, fleet: Fleet, queue: Queue) -> Iterator[Tab]:
    """A page of somebody who may do all, on this queue."""
    opened = Tab(browser, served(fleet, "--queue", queue.name))
    yield opened
    opened.context.close()
    assert not opened.troubles


def test_dead_letters_that_match(tab: Tab, queue: Queue) -> None:
    below = f"/queues/{part(queue.name)}"

    def left() -> list[str]:
        return sorted(each.task for each in dead_letters(queue))

    for name, said in (("a", "OSError: Refused"), ("b", "ValueError: other"), ("c", "OSError: refused"), ("d", "KeyError: d")):
        bury(queue, PyTask(f"m:{name}", ("refused",)), detail=said)
    tab.go("/tasks")
    tab.page.locator("header input[name=q]").fill(f"queue:{queue.name} state:dead error:refused fn:m:a")
    with tab.page.expect_navigation():
        tab.page.get_by_role("button", name="Search").click()
    tab.press("Retry all that match")
    expect(tab.page.locator("main")).to_contain_text("error=refused")
    eventually(lambda: left() == ["m:b", "m:c", "m:d"])
    tab.go(f"/tasks?q=queue:{part(queue.name)}+state:dead+error:refused")
    tab.press("Remove all that match…", sure=True)
    eventually(lambda: left() == ["m:b", "m:d"])

    tab.go(f"{below}/dead")
    tab.page.get_by_label("Error").fill("OTHER")
    with tab.page.expect_navigation():
        tab.page.get_by_role("button", name="Filter").click()
    expect(tab.page.locator("tbody tr")).to_have_count(1)
    tab.press("Retry all that match")
    eventually(lambda: left() == ["m:d"])
    tab.go(f"{below}/dead?worker=h")
    tab.press("Remove all that match…", sure=True)
    eventually(lambda: not left())
    assert sorted(each.task for each in search(queue)) == ["m:a", "m:b"]


def test_tasks_that_match_and_marked_ones(tab: Tab, queue: Queue) -> None:
    planned = [queue.enqueue(PyTask(f"m:{name}", after=3600, track=True)) for name in "abcd"]
    found = f"/tasks?q=queue:{part(queue.name)}+state:scheduled"
    tab.go(f"{found}+fn:m:a")
    tab.press("Run all that match now")
    eventually(lambda: planned[0].status().state == "queued")
    tab.go(found)
    tab.page.get_by_label(f"Mark {planned[1].id}").check()
    tab.page.get_by_label(f"Mark {planned[2].id}").check()
    tab.press("Cancel…", sure=True)
    assert [str(each.status().state) for each in planned] == ["queued", "cancelled", "cancelled", "scheduled"]
    queue.enqueue_many(PyTask("m:grouped", (number,), group=name) for number in range(300) for name in ("t-1", "u"))
    tab.go(f"/tasks?q=queue:{part(queue.name)}+group:t-*")
    tab.press("Remove all that match…", sure=True)
    eventually(lambda: not list(search(queue, Wanted(group="t-1"))))
    assert sum(each.task == "m:grouped" for each in search(queue)) == 300


def test_running_tasks_are_cancelled(tab: Tab, fleet: Fleet, queue: Queue) -> None:
    fleet.delayed("worker", "--allow-any", "-c", "2", *SOON_DEAD, queue.name).ready()
    first = queue.enqueue(PyTask("life:until_cancelled", result_ttl=600))
    second = queue.enqueue(PyTask("tasks:sleep", (600,), track=True))
    eventually(lambda: {first.status().state, second.status().state} == {"running"})
    tab.go(f"/tasks?q=queue:{part(queue.name)}+state:running")
    tab.page.get_by_label(f"Mark {first.id}").check()
    tab.press("Cancel…", sure=True)
    tab.go(f"/task/{second.id}")
    tab.press("Cancel, and end its process if need be…", sure=True)
    assert first.result(timeout=60) == "cancelled"  # as it was asked to stop
    with pytest.raises(TaskCancelled):
        second.result(timeout=60)
    tab.go("/audit")
    assert "(hard)" in tab.text


def test_a_job_is_stopped(tab: Tab, queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else works on it, and sees that when he looks next; or whoever goes on with it."""
    monkeypatch.setattr("delayed.ops.job_records.token", lambda: "abcdefghijkl")
    client.set(queue.keys.job_lease("abcdefghijkl"), "another", ex=600)
    bury(queue, PyTask("m:f"))
    create(queue, Actor("ada", "here"), "dead.delete", {}, total=1, newest="9-9", moment=None)
    tab.go("/jobs")
    with tab.page.expect_navigation():
        tab.page.locator("main tbody a").first.click()
    expect(tab.page.locator("main")).to_contain_text("open")
    tab.press("Stop after the page at hand")
    client.delete(queue.keys.job_lease("abcdefghijkl"))
    eventually(lambda: jobs(queue)[0].state == "stopped")
    tab.go(f"/queues/{part(queue.name)}/jobs/abcdefghijkl")
    expect(tab.page.locator("main")).to_contain_text("stopped")
    assert tab.page.get_by_role("button", name="Stop after the page at hand").count() == 0
    assert client.xlen(queue.keys.dead) == 1
    tab.go("/audit")
    assert "job.stop" in tab.text
