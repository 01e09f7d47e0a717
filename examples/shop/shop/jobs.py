"""The shop's tasks. Each says here what it asks for, so that web.py only calls them.

delayed up --app shop.jobs:app
"""

import os
import time
from datetime import timedelta
from decimal import Decimal

from delayed import App, current_task

app = App(priorities=["mail"])

# The Go program beside this package runs it. No more than two at once for one customer: see web.py.
deliver = app.declare("main.Deliver", queue="webhooks", retry=8, timeout=10)


@app.on_start
def begin() -> None:
    """In each worker process: the place to open its database."""
    print(f"process {os.getpid()} is open", flush=True)


@app.task(queue="mail", retry=5, retry_on=(ConnectionError, TimeoutError))
def welcome(email: str) -> None:
    """A mail server that is away is tried again, with growing pauses."""
    if email.startswith("flaky") and current_task().attempt == 1:
        raise ConnectionError("the mail server is away")
    print(f"welcome, {email}", flush=True)


@app.task(queue="images", timeout=20, result_ttl=timedelta(hours=1))
def thumbnail(picture: str, width: int) -> str:
    """A picture that takes more than 20 seconds is given up."""
    return f"{picture}@{width}"


@app.task(queue="exports", result_ttl=timedelta(days=1))
def export(rows: int) -> str:
    """The browser follows its progress, and may cancel it."""
    for row in range(rows):
        current_task().check_cancelled()
        current_task().progress(row + 1, rows, "exporting")
        time.sleep(0.01)
    return f"{rows} rows"


@app.task(queue="orders", retry=3)
def charge(order: int, total: Decimal, hook: str, customer: str) -> None:
    """The payment provider knows the order's number, and charges it once even if this runs twice."""
    request = current_task().metadata.get("request", "?")
    print(f"charged order {order}: {total} (request {request})", flush=True)
    deliver.options(rate_key=f"hook-{customer}", rate=5).delay(hook, "paid", order)


@app.task(queue="orders")
def delivered(order: int) -> None:
    """The Go program enqueues it."""
    print(f"order {order}: the webhook has it", flush=True)


@app.task(queue="orders", result_ttl=timedelta(hours=1))
async def invoice(order: int) -> str:
    """A coroutine is a task like any other."""
    return f"invoice-{order}.pdf"


@app.task(queue="index", unique="index", unique_mode="while_queued", join=True, concurrency_key="index", concurrency=1)
def rebuild_index() -> None:
    """One at a time; what is asked for meanwhile is done once more after it."""
    print("the index is rebuilt", flush=True)


@app.cron("30 2 * * *", tz="Europe/Zurich", catch_up="one", queue="orders", retry=3, expires=timedelta(hours=4))
def nightly_report() -> None:
    """A night that was missed is made good, but not in the middle of the day."""
    print("the report is sent", flush=True)
