"""What the server sweeps for clients that know of no sweeper."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from delayed.base.ids import token
from delayed.queue.queue import Queue
from delayed.server import sweeping as module
from delayed.server.links import Links
from delayed.server.sweeping import Sweeping
from delayed.sweeper.sweeper import Sweeper
from delayed.task.task import PyTask
from tests.support.waiting import eventually

SHORT = 0.05  # seconds between two sweeps


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other at once."""
    monkeypatch.setattr(module, "_LOOK", SHORT)
    monkeypatch.setattr(module, "_EVERY", 0.0)


@contextlib.asynccontextmanager
async def sweeping(url: str) -> AsyncIterator[Sweeping]:
    links = Links(url)
    made = Sweeping(links, SHORT)
    async with made.running():
        yield made
    await links.aclose()


async def comes_back(queue: Queue) -> None:
    """A task whose holder has gone waits again."""
    queue.enqueue(PyTask("tasks:noop"))
    queue.take([queue.keys.lease(token())], "nobody", 60)
    assert queue.len() == 0
    queue.call("UNLINK", *queue.call("HKEYS", queue.keys.processing))
    await asyncio.to_thread(eventually, lambda: queue.len() == 1)
    queue.call("UNLINK", queue.keys.queue, queue.keys.noti)


async def test_names_that_no_queue_can_have_end_nothing(redis_url: str, name: str, queue: Queue) -> None:
    async with sweeping(redis_url) as swept:
        for bad in (f"{name}_noti", f"{name}_dead", "", "delayed:audit"):
            swept.note(bad)
        swept.note(name)
        await comes_back(queue)
        swept.note(f"{name}_processing")
        await comes_back(queue)


async def test_those_are_swept_that_were_used_last(
    redis_url: str, name: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    async with sweeping(redis_url) as swept:
        for each in (f"{name}-b", f"{name}-c", name, f"{name}-d"):
            swept.note(each)
        await comes_back(queue)


async def test_a_failure_is_logged_and_ends_nothing(
    redis_url: str, name: str, queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Any] = []

    class Failing(Sweeper):
        def __init__(self, *args: Any, **words: Any) -> None:
            made.append(args)
            if len(made) == 1:
                raise RuntimeError("no room for it")
            super().__init__(*args, **words)

    monkeypatch.setattr(module, "Sweeper", Failing)
    with caplog.at_level(logging.ERROR):
        async with sweeping(redis_url) as swept:
            swept.note(name)
            await comes_back(queue)
    assert "no room for it" in caplog.text


async def test_what_another_program_has_written_ends_nothing(redis_url: str, name: str, queue: Queue) -> None:
    others = [f"{name}-b", f"{name}-c_processing", f"{name}-d_scheduled", f"{name}-e_noti", f"{name}-f_cron"]
    for key in others:
        queue.call("SET", key, "of another program")
    async with sweeping(redis_url) as swept:
        for key in others:
            swept.note(key.partition("_")[0])
        swept.note(name)
        for _ in range(2):
            await comes_back(queue)
    queue.call("UNLINK", *others)
