"""The pages of the web UI that tell what has happened, and what holds, in a real browser, with real workers."""

import re
from collections.abc import Iterator

import pytest
import redis
from playwright.sync_api import Browser, expect

from delayed.queue.history import keep
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.web.words import part
from tests.conftest import eventually
from tests.process.web.test_browser import browser as browser  # noqa: PLC0414  # a fixture
from tests.process.web.test_browser import violations
from tests.support.browser import NEEDS_CHROMIUM, Tab, served
from tests.support.processes import Fleet
from tests.support.servers import free_port

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]


@pytest.fixture
def tab(browser: Browser, fleet: Fleet, queue: Queue) -> Iterator[Tab]:
    """A page of somebody who may do all, on this queue."""
    opened = Tab(browser, served(fleet, "--queue", queue.name))
    yield opened
    opened.context.close()
    assert not opened.troubles


def test_the_history_of_a_queue_is_searched(tab: Tab, fleet: Fleet, queue: Queue) -> None:
    keep(queue, "all")
    fleet.worker(queue.name)
    queue.enqueue_many(PyTask("tasks:noop", (number,), track=True) for number in range(3))
    failed = queue.enqueue(PyTask("tasks:fail", ("no paper",), track=True))
    eventually(lambda: queue.store.call("XLEN", queue.keys.history))
    tab.go("/")
    tab.page.get_by_role("link", name=queue.name).first.click()
    tab.page.get_by_role("link", name="History", exact=True).click()
    rows = tab.page.locator("tbody tr")
    expect(rows).to_have_count(4)
    tab.page.get_by_label("Outcome").select_option("failed")
    tab.page.get_by_label("Since").fill("2h")
    tab.press_search()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("no paper")
    tab.page.get_by_label("Function").fill("tasks:noop")
    tab.press_search()
    expect(tab.page.locator("main")).to_contain_text("Nothing that fits is in the history.")
    tab.go(f"/queues/{part(queue.name)}/history?id={failed.id}")
    assert not violations(tab)
    tab.page.get_by_role("link", name=str(failed.id)).click()
    expect(tab.page.get_by_role("heading", name="Timeline")).to_be_visible()
    expect(tab.page.locator("main")).to_contain_text("started")
    expect(tab.page.locator("main")).to_contain_text("no paper")


def test_the_keys_of_a_queue_are_checked(tab: Tab, queue: Queue, client: redis.Redis) -> None:
    tab.go(f"/queues/{part(queue.name)}")
    with tab.page.expect_navigation():
        tab.page.get_by_role("link", name="Check its keys").click()
    check = tab.page.get_by_role("region", name="Check")
    expect(check).to_contain_text("All is well.")
    assert not violations(tab)
    client.zadd(queue.keys.scheduled, {b"no task": 1e15})
    tab.press("Look again")
    assert not violations(tab)  # while it looks
    expect(check).to_contain_text("schedule")
    expect(check).to_contain_text("wrong")
    client.zrem(queue.keys.scheduled, b"no task")
    assert not violations(tab)
    client.hset(queue.keys.processing, queue.keys.lease("t", 0), PyTask("m:f").serialize())
    tab.press("Look again")
    expect(check).to_contain_text("1 of them can be repaired")
    assert not violations(tab)
    tab.press("Repair what can be repaired")
    expect(tab.page.locator("main")).to_contain_text(re.compile("done.*Repaired.*1", re.DOTALL))
    assert not violations(tab)
    assert queue.len() == 1
    with tab.page.expect_navigation():
        tab.page.get_by_role("link", name="Check its keys again").click()
    expect(check).to_contain_text("All is well.")
    tab.go("/audit")
    assert "fsck.repair" in tab.text


def test_interests_are_listed_and_removed(tab: Tab, queue: Queue) -> None:
    queue.set_interest({"event": "order.*"}, "shop:count", retry=2)

    def shown(path: str) -> bool:
        tab.go(path)
        return re.search(r"event: order\.\*\s+shop:count\s+2", tab.text) is not None

    for path in ("/", f"/queues/{part(queue.name)}"):
        eventually(lambda path=path: shown(path), 60)  # type: ignore[misc]  # a page is kept for a moment
    tab.page.get_by_role("row", name="shop:count").get_by_role("button").click()
    expect(tab.page.get_by_role("heading", name="Are you sure?")).to_be_visible()
    with tab.page.expect_navigation():
        tab.page.get_by_role("button", name="Yes", exact=True).click()
    assert not [each for each in queue.interests().interests if each.queue == queue.name]
    tab.go("/audit")
    assert "interest.remove" in tab.text


def test_the_metrics_of_functions(tab: Tab, fleet: Fleet, queue: Queue) -> None:
    fleet.quick_worker(queue.name)
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(100))
    tab.go(f"/metrics?queue={queue.name}&last=hour")
    expect(tab.page.get_by_role("row", name="tasks:noop")).to_contain_text("100")  # by itself
    expect(tab.page.get_by_role("img", name="Attempts that ended: 100")).to_be_visible()
    assert not violations(tab)
    tab.page.get_by_label("The last").select_option("quarter")
    tab.press("Show")
    expect(tab.page.get_by_role("row", name="tasks:noop")).to_contain_text("100")


def test_a_simulation_fills_every_page(browser: Browser, fleet: Fleet) -> None:
    options = ("--fill-time", "0.02", "--run-time", "0.01", "--failure-rate", "0.3", "--workers", "2")
    process = fleet.delayed("simulate", *options, "--ui", "--listen", f"127.0.0.1:{free_port()}")
    eventually(lambda: re.search(r"http://\S+", process.log.read_text()), 60)
    (address,) = re.findall(r"http://\S+", process.log.read_text())
    tab, wrong = Tab(browser, address), list[str]()
    tab.go("/")
    dead = tab.page.get_by_role("row", name=re.compile("simulation:pictures")).locator("td").nth(6)
    expect(dead).not_to_have_text("0")  # without a new page
    for path in ("/", "/tasks", "/dead", "/flows", "/workers", "/schedules", "/metrics", "/queues/simulation%3Aorders",
                 "/queues/simulation%3Aorders/history", "/queues/simulation%3Apictures/dead"):  # fmt: skip
        tab.go(path)
        expect(tab.page.locator("main tbody tr").first).to_be_visible()  # it has something to show
        wrong += [f"{path}: {each}" for each in violations(tab)]
    assert not wrong, "\n".join(wrong)
    assert not tab.troubles
    tab.context.close()
