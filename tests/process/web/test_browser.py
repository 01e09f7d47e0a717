"""The web UI in a real browser: each page and each act, with a real Redis and real workers."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from delayed.cron.definition import Entry
from delayed.cron.expression import Cron
from delayed.cron.schedules import Schedules
from delayed.errors import TaskCancelled
from delayed.ops.job_records import jobs
from delayed.queue.history import event, packed
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.web.words import part
from delayed.workflow import Flow
from tests.conftest import eventually
from tests.redis.web.browsing import filled
from tests.support.browser import NEEDS_CHROMIUM, Tab, chromium, served
from tests.support.letters import bury
from tests.support.processes import Fleet

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]
EVIL = '"><img src=x onerror=window.ran=1><script>window.ran=1;alert(1)</script>'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def tab(browser: Browser, fleet: Fleet, queue: Queue) -> Iterator[Tab]:
    """A page of somebody who may do all, on this queue."""
    opened = Tab(browser, served(fleet, "--queue", queue.name))
    yield opened
    opened.context.close()
    assert not opened.troubles


def violations(tab: Tab) -> list[str]:
    """What axe says."""
    found: Any = Axe().run(tab.page).response["violations"]
    return [f"{each['id']}: {each['help']}: {node['html'][:200]}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_each_page_opens_and_axe_finds_nothing(tab: Tab, queue: Queue, client: redis.Redis, scheme: Any, width: int) -> None:
    full, wrong = filled(queue, client), []
    tab.page.emulate_media(color_scheme=scheme)
    tab.page.set_viewport_size({"width": width, "height": 800})
    for path in full.paths:
        tab.go(path)
        wrong += [f"{path}: {each}" for each in violations(tab)]
        if tab.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            wrong.append(f"{path}: is wider than the window")
    assert not wrong, "\n".join(wrong)


def test_no_script_of_a_task_runs(browser: Browser, fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    other = Queue(f"{queue.name}{EVIL}", client)
    full = filled(other, client, said=EVIL)
    tab = Tab(browser, served(fleet, "--queue", other.name, "--environment", EVIL))
    for path in [*full.paths, "/tasks?q=state:dead"]:
        tab.go(path)
        assert tab.page.evaluate("window.ran") is None
    assert "<script>window.ran=1" in tab.text
    assert not tab.troubles
    tab.context.close()
    client.delete(*client.keys(f"{queue.name}?*"))


def test_updates_come_by_themselves_and_keys_lead_everywhere(tab: Tab, queue: Queue) -> None:
    tab.go("/")
    tab.page.evaluate("window.same = true")
    row = tab.page.locator("tbody tr", has_text=queue.name).first
    expect(row.locator("td").first).to_have_text("0")
    queue.enqueue(PyTask("m:f"))
    expect(row.locator("td").first).to_have_text("1")
    assert tab.page.evaluate("window.same")  # it was not loaded again

    tab.page.click("#hold")
    queue.enqueue(PyTask("m:f"))
    tab.page.wait_for_timeout(2000)
    expect(row.locator("td").first).to_have_text("1")
    tab.page.click("#hold")
    expect(row.locator("td").first).to_have_text("2")

    tab.page.keyboard.press("/")
    assert tab.page.evaluate("document.activeElement.name") == "q"
    tab.page.keyboard.type("fn:m:*?")
    with tab.page.expect_navigation():  # a key does nothing before the script of the new page is there
        tab.page.keyboard.press("Enter")
    assert tab.page.url == f"{tab.root}/tasks?q=fn%3Am%3A*%3F"
    tab.page.keyboard.press("?")
    expect(tab.page.get_by_role("dialog", name="Keys")).to_be_visible()
    tab.page.keyboard.press("Escape")
    expect(tab.page.get_by_role("dialog")).to_have_count(0)
    for key, path in (("d", "/dead"), ("w", "/workers"), ("o", "/")):
        tab.page.keyboard.press("g")
        with tab.page.expect_navigation():
            tab.page.keyboard.press(key)
        assert tab.page.url == tab.root + path
    for width in (1280, 1920):
        tab.page.set_viewport_size({"width": width, "height": 800})
        assert tab.page.evaluate("document.querySelector('header').offsetHeight") < 70


def test_axe_finds_nothing_where_forms_lead(tab: Tab, queue: Queue, client: redis.Redis) -> None:
    """Questions, refusals, what an act says, jobs, and pages of what is not there."""
    filled(queue, client)
    wrong, below = list[str](), f"/queues/{part(queue.name)}"

    def looked(what: str) -> None:
        wrong.extend(f"{what}: {each}" for each in violations(tab))

    def pressed(path: str, label: str) -> None:
        tab.go(path)
        with tab.page.expect_navigation():
            tab.page.get_by_role("button", name=label, exact=True).first.click()
        looked(f"{path} {label}")

    pressed(below, "Pause")
    pressed(below, "Resume")
    tab.go(below)
    tab.page.get_by_label("Tasks at once").fill("no number")
    with tab.page.expect_navigation():
        tab.page.get_by_role("button", name="Limit", exact=True).click()
    assert "Nothing has happened" in tab.text
    looked("refused")
    pressed(below, "Remove all that waits…")
    pressed("/dead", "Retry all")
    expect(tab.page.locator("main")).to_contain_text("done")
    looked("a job that is done")
    tab.go("/jobs")
    looked("jobs")
    tab.go("/audit")
    looked("the audit")
    batch = packed("h:1", {}, [event(1e9, "failed", "m:f", "0123456789abcdef", said="no")], 0.0)
    client.xadd(queue.keys.history, {"batch": batch})
    tab.go("/task/0123456789abcdef")
    assert "no state of it is kept" in tab.text
    looked("a task of which histories know")
    for path in ("/nowhere", "/task/0123456789abcdeX", f"{below}/dead/1-1", "/tasks?q=state:odd", "/tasks?q=nothing"):
        tab.page.goto(tab.root + path)
        looked(path)
    tab.troubles = [each for each in tab.troubles if "status of 40" not in each]
    assert not wrong, "\n".join(wrong)


def test_all_of_it_works_without_javascript(browser: Browser, fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    (identity,) = bury(queue, PyTask("m:f"))
    tracked = queue.enqueue(PyTask("m:later", after=3600, track=True))
    tab, below = Tab(browser, served(fleet, "--queue", queue.name), java_script_enabled=False), f"/queues/{part(queue.name)}"
    tab.go("/")
    tab.page.locator("header input[name=q]").fill(str(tracked.id))
    with tab.page.expect_navigation():
        tab.page.get_by_role("button", name="Search").click()
    assert tab.page.url == f"{tab.root}/task/{tracked.id}"
    tab.press("Cancel…", sure=True)
    assert tracked.status().state == "cancelled"
    tab.go(f"{below}/dead")
    tab.page.get_by_label(f"Mark {identity}").check()
    tab.press("Retry")
    assert queue.len() == 1
    tab.go(below)
    tab.press("Remove all that waits…", sure=True)
    eventually(lambda: queue.len() == 0)
    expect(tab.page.locator("main")).to_contain_text("done")  # the page loads itself again
    assert not tab.troubles
    tab.context.close()


def test_the_token_serves_once(browser: Browser, fleet: Fleet, queue: Queue) -> None:
    address = served(fleet, "--queue", queue.name)
    tab = Tab(browser, address)
    assert "Overview" in tab.text
    assert "token" not in tab.page.url
    stranger = browser.new_context()
    answer = stranger.new_page().goto(address)
    assert answer is not None
    assert answer.status == 403
    stranger.close()
    tab.context.close()


def test_acts_on_queues_and_dead_letters(tab: Tab, fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    notes, below = f"{queue.name}:notes", f"/queues/{part(queue.name)}"
    fleet.worker(queue.name)

    def letter(number: int) -> str:
        return bury(queue, PyTask("tasks:note", (notes, number)))[0]

    def noted() -> set[bytes]:
        found: Any = client.lrange(notes, 0, -1)
        return set(found)

    tab.go(below)
    tab.press("Pause")
    assert queue.limits().paused
    tab.go(below)
    tab.press("Resume")
    assert not queue.limits().paused
    tab.go(below)
    tab.page.get_by_label("Tasks at once").fill("3")
    tab.press("Limit")
    assert queue.limits().concurrency == 3
    tab.go(below)
    tab.press("Lift all limits")
    assert not queue.limits().any

    tab.go(f"{below}/dead/{letter(1)}")
    tab.press("Retry")
    eventually(lambda: noted() == {b"1"})
    tab.go(f"{below}/dead/{letter(2)}")
    tab.page.get_by_text("Edit and retry").click()
    tab.page.locator("textarea[name=args]").fill(f'["{notes}", 20]')
    tab.press("Retry with these")
    eventually(lambda: noted() == {b"1", b"20"})
    tab.go(f"{below}/dead/{letter(3)}")
    tab.press("Remove…", sure=True)
    assert client.xlen(queue.keys.dead) == 0

    [letter(number) for number in range(100, 1300)]
    tab.go("/dead")
    tab.press("Retry all")
    expect(tab.page.locator("main")).to_contain_text("1,200 of 1,200", timeout=120_000)
    expect(tab.page.locator("progress")).to_have_attribute("value", "100")
    assert jobs(queue)[0].done == 1200
    eventually(lambda: len(noted()) == 1202)

    first, *_ = [letter(number) for number in range(5000, 5003)]
    tab.go(f"{below}/dead")
    tab.page.get_by_label(f"Mark {first}").check()
    tab.press("Retry")
    eventually(lambda: b"5000" in noted())
    assert client.xlen(queue.keys.dead) == 2
    tab.go("/audit")
    assert "dead.retry" in tab.text
    client.delete(notes)


def test_acts_on_tasks_workflows_and_schedules(tab: Tab, fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    notes, below = f"{queue.name}:notes", f"/queues/{part(queue.name)}"
    fleet.worker(queue.name)
    fleet.sweeper(queue.name)

    def noted() -> list[bytes]:
        found: Any = client.lrange(notes, 0, -1)
        return list(found)

    first, second = (queue.enqueue(PyTask("tasks:note", (notes, each), after=3600, result_ttl=600)) for each in "ab")
    tab.go(f"/task/{first.id}")
    tab.press("Run now")
    first.result(timeout=60)
    assert noted() == [b"a"]
    tab.go(f"/task/{first.id}")
    assert "succeeded" in tab.text
    assert "None" in tab.page.inner_text("pre")  # its result
    tab.go(f"/task/{second.id}")
    tab.press("Cancel…", sure=True)
    with pytest.raises(TaskCancelled):
        second.result(timeout=0)

    flow = Flow(queue, "order")
    flow.add(PyTask("tasks:note", (notes, "c")), after=flow.wait("go"))
    run = flow.submit()
    tab.go(f"{below}/flows/{run.id}")
    tab.page.get_by_label("Signal", exact=True).fill("go")
    tab.press("Give")
    eventually(lambda: noted() == [b"a", b"c"])
    eventually(lambda: run.status().state == "succeeded")
    other = Flow(queue, "other")
    other.add(PyTask("tasks:note", (notes, "d")), after=other.wait("never"))
    stopped = other.submit()
    tab.go(f"{below}/flows/{stopped.id}")
    tab.press("Cancel…", sure=True)
    eventually(lambda: stopped.status().state == "cancelled")
    tab.go(f"{below}/flows/{stopped.id}")
    tab.page.locator("select[name=mode]").select_option("all")
    tab.press("again")
    eventually(lambda: stopped.status().state == "running")
    stopped.cancel()

    Schedules(queue).put("nightly", Entry(Cron("0 3 29 2 *"), PyTask("tasks:note", (notes, "e")).serialize()))
    tab.go("/schedules")
    tab.press("Pause")
    assert Schedules(queue).list()[0].next is None
    tab.go("/schedules")
    tab.press("Resume")
    assert Schedules(queue).list()[0].next is not None
    tab.go("/schedules")
    tab.press("Run now")
    eventually(lambda: noted() == [b"a", b"c", b"e"])
    tab.go("/schedules")
    tab.press("Remove…", sure=True)
    assert not Schedules(queue).list()

    planned = [queue.enqueue(PyTask("tasks:note", (notes, "g"), after=3600, track=True)) for _ in range(4)]
    tab.go(f"/task/{planned[0].id}")
    tab.page.get_by_label("Seconds from now").fill("7200")
    before = planned[0].status().due or 0
    tab.press("Move")
    assert (planned[0].status().due or 0) > before + 3000
    found = f"/tasks?q=queue:{part(queue.name)}+where:scheduled"
    tab.go(found)
    tab.page.get_by_label(f"Mark {planned[0].id}").check()
    tab.press("Remove…", sure=True)
    assert client.zcard(queue.keys.scheduled) == 3
    tab.go(found)
    tab.page.get_by_label(f"Mark {planned[1].id}").check()
    tab.press("Run now")
    eventually(lambda: noted()[-1:] == [b"g"])
    tab.go(found)
    tab.press("Cancel all that match…", sure=True)
    eventually(lambda: client.zcard(queue.keys.scheduled) == 0)
    assert {str(each.status().state) for each in planned[2:]} == {"cancelled"}
    bury(queue, PyTask("m:f"), PyTask("m:f"))
    tab.go("/dead")
    tab.press("Remove all…", sure=True)
    eventually(lambda: client.xlen(queue.keys.dead) == 0)

    queue.enqueue_many(PyTask("tasks:note", (notes, "f"), after=3600) for _ in range(20))
    tab.go(below)
    tab.press("Remove all that waits…", sure=True)
    eventually(lambda: client.zcard(queue.keys.scheduled) == 0)
    client.delete(notes)
