"""Listeners: what they have not read is bounded, and what they have heard is not told again."""

import asyncio

import pytest

from delayed.ops.watch import Watched
from delayed.queue.history import HistoryEvent
from delayed.server.hub import Listener, Ordered, formatted

pytestmark = pytest.mark.asyncio


def listener() -> Listener:
    return Listener(None, lambda queue: queue != "secret")


async def test_who_reads_too_slowly_hears_that_something_is_missing() -> None:
    slow = listener()
    for number in range(5000):
        slow.put("q", (number, 0), b"%d," % number)
    found = await slow.messages(0)
    assert found.startswith(b"event: gap\n")
    assert found.endswith(b"4999,")
    assert found.count(b",") < 2000
    assert await slow.messages(0) == b""


async def test_large_messages_are_bounded_too() -> None:
    slow = listener()
    for number in range(100):
        slow.put("q", (number, 0), b"x" * 100_000)
    assert len(await slow.messages(0)) < 2 << 20


async def test_what_was_heard_otherwise_is_not_told_again() -> None:
    one = listener()
    one.put("q", (1, 0), b"1")
    one.put("q", (2, 0), b"2")
    one.put("other", (1, 0), b"other")
    one.put("q", None, b"came")
    one.skip({"q": (1, 0)})
    one.put("q", (1, 0), b"again")
    assert await one.messages(0) == b"2othercame"


async def test_of_totals_that_were_not_read_only_the_newest_are_told() -> None:
    slow = listener()
    for number in range(5000):
        slow.update("q", b"old %d," % number)
        slow.update("other", b"other %d," % number)
    slow.put("q", (1, 0), b"task,")
    assert await slow.messages(0) == b"task,old 4999,other 4999,"
    assert await slow.messages(0) == b""


async def test_a_closed_listener_waits_for_nothing() -> None:
    one = listener()
    waiting = asyncio.create_task(one.messages(60))
    await asyncio.sleep(0)
    one.close()
    assert await waiting == b""
    await one.ready  # that it is followed, of which nobody will tell
    assert one.hears("q")
    assert not one.hears("secret")


def event(queue: str, entry: str, task: str) -> Watched:
    return Watched("task", queue, 0.0, HistoryEvent(0.0, "failed", task, entry=entry))


class Pages:
    """A watch that has pages of two queues, one of which is not read to its end."""

    def __init__(self, pages: list[tuple[list[Watched], float]]) -> None:
        self._pages, self.told_until = pages, 0.0

    def read(self, seconds: float) -> list[Watched]:  # as of Watch
        found, self.told_until = self._pages.pop(0)
        return found


async def test_what_is_told_later_is_not_older() -> None:
    first = [event("a", "10-0", "1"), event("a", "20-0", "2"), event("b", "30-0", "5"), event("b", "5-0", "0")]
    rest = [event("a", "21-0", "3"), event("a", "22-0", "4")]
    ordered = Ordered(Pages([(first, 20.0), (rest, float("inf"))]))  # type: ignore[arg-type]
    told = [[each.event.task for each in ordered.read(0) if each.event] for _ in range(2)]
    assert told == [["0", "1"], ["2", "3", "4", "5"]]


async def test_the_last_event_of_an_entry_has_its_id() -> None:
    found = [event("a", "10-0", "1"), event("a", "10-0", "2"), event("b", "10-0", "3")]
    assert [b"id: 10-0" in message for _, message in formatted(found)] == [False, True, True]
