"""Makes the pictures of the web UI in docs/screenshots: each page in light and dark, and some in a narrow window."""

import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import redis
from PIL import Image
from playwright.sync_api import expect

from delayed.base.ids import new_id
from delayed.cron.definition import Entry
from delayed.cron.expression import Cron
from delayed.cron.schedules import Schedules
from delayed.ops import actions, jobs
from delayed.ops.audit import Actor
from delayed.queue.history import event, keep, packed
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from delayed.web.words import part
from delayed.workflow import Flow, group
from tests import ROOT
from tests.support.browser import Tab, chromium, served
from tests.support.processes import Fleet
from tests.support.waiting import eventually

FOLDER = ROOT / "docs" / "screenshots"
FAULTS = [("shop:charge", "ConnectionError: payments.example: refused", 37), ("shop:resize", "ValueError: no picture", 4)]


def fill(mail: Queue, orders: Queue, client: redis.Redis) -> dict[str, str]:
    """Something for each page. Name of a page → its path."""
    for called, says, count in FAULTS:
        for number in range(count):
            fields = {"task": PyTask(called, (number,)).serialize(), "reason": "failed", "detail": says, "worker": "web1:4711"}
            client.xadd(orders.keys.dead, fields)  # type: ignore[arg-type]
    mail.enqueue_many(PyTask("shop:send_mail", (f"user{number}@example.org", "welcome")) for number in range(140))
    for customer in range(12):
        name = f"customer-{customer}"
        orders.enqueue_many(PyTask("shop:ship", (customer, number), group=name) for number in range(customer + 1))
    orders.enqueue_many(PyTask("shop:remind", (number,), after=600 * number) for number in range(1, 30))
    task = orders.enqueue(PyTask("shop:report", ("2026-11",), {"format": "pdf"}, after=7200, result_ttl=3600)).id
    for name, times in (("nightly report", "30 2 * * *"), ("clean up", "*/15 * * * *"), ("invoices", "0 6 1 * *")):
        Schedules(orders).put(name, Entry(Cron(times), PyTask(f"shop:{name.replace(' ', '_')}").serialize()))
    flow = Flow(Queue("checkout", client), "order 17")
    paid = flow.add(PyTask("tasks:noop", (17,)), name="charge")
    packed = flow.add(group(PyTask("tasks:noop", (number,)) for number in range(40)), after=paid, name="pack")
    bill = flow.add(PyTask("tasks:fail", ("no address",)), after=paid, name="bill", when="continue")
    flow.add(PyTask("tasks:noop"), after=[packed, flow.wait("approved", after=paid)], name="ship")
    flow.add(PyTask("tasks:noop"), after=bill, when="failure", name="tell the customer")
    run = flow.submit()
    orders.set_interest({"event": "order.*"}, "shop:count_order", retry=2)
    tell(orders)
    ada, below = Actor("ada", "ui 10.0.0.7"), f"/queues/{part(orders.name)}"
    actions.limit_queue(orders, ada, concurrency=8, rate=20, burst=None)
    actions.pause_queue(mail, ada)
    jobs.begin(mail, ada, "task.delete", None)
    letter: Any = client.xrevrange(orders.keys.dead, count=1)
    return {
        "home": "/", "queue": below, "tasks": "/tasks?q=fn:shop:remind", "task": f"/task/{task}", "dead": "/dead",
        "letters": f"{below}/dead", "letter": f"{below}/dead/{letter[0][0].decode()}", "flows": "/flows",
        "flow": f"/queues/checkout/flows/{run.id}", "workers": "/workers", "schedules": "/schedules",
        "redis": "/redis?queue=orders", "history": f"{below}/history", "metrics": "/metrics?queue=checkout&last=hour",
        "jobs": "/jobs", "audit": "/audit",
    }  # fmt: skip


def tell(orders: Queue) -> None:
    """A history: a success each minute, and a failure each ten."""
    keep(orders, "all")
    began = time.time() - 3600
    ends = [event(began + 60 * each, "succeeded", "shop:ship", waited=0.02 * each, seconds=0.3) for each in range(40)]
    for number in range(1, 6):
        words = {"attempt": 3, "seconds": 1.2, "said": FAULTS[0][1]}
        ends.append(event(began + 600 * number, "failed", "shop:charge", new_id(), **words))
    orders.store.call("XADD", orders.keys.history, "*", "batch", packed("web1:4711", {}, sorted(ends), 0.0))


def taken(tab: Tab, name: str) -> None:
    """Take a picture, with as many colours as a small file has."""
    picture = Image.open(BytesIO(tab.page.screenshot())).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(FOLDER / f"{name}.png", optimize=True)


def main() -> None:
    """Make them all."""
    FOLDER.mkdir(exist_ok=True)
    with EmbeddedRedis() as server, server.client() as client, tempfile.TemporaryDirectory() as folder:
        mail, orders = Queue("mail", client), Queue("orders", client)
        with Fleet(server.url, Path(folder)) as fleet, chromium() as browser:
            fleet.worker("checkout")
            fleet.sweeper("mail", "orders", "checkout")
            paths = fill(mail, orders, client)
            eventually(lambda: client.xlen("checkout_dead"))
            eventually(lambda: client.exists("checkout_stats_total"))  # workers have told what they counted
            address = served(fleet, "--environment", "production")
            tab = Tab(browser, address, viewport={"width": 1280, "height": 800})
            for name, path in paths.items():
                tab.go(path)
                expect(tab.page.locator("main [data-unfinished]")).to_have_count(0, timeout=60_000)
                for scheme in ("light", "dark"):
                    tab.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                    taken(tab, f"{name}-{scheme}")
            tab.page.emulate_media(color_scheme="light")
            tab.page.set_viewport_size({"width": 400, "height": 800})
            for name, path in paths.items():
                tab.go(path)
                taken(tab, f"{name}-narrow")


if __name__ == "__main__":
    main()
