"""Workflows that are stored in pages: a builder that was too slow changes nothing of what another has begun anew."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from delayed.errors import NotEncodable, UnknownTask
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.workflow import Flow, Run, group, runs
from delayed.workflow.tend import remove, tend

from .functions import same
from .hands import Hands, states

MANY = 1050  # nodes: too many for fields of a hash, and several pages


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delayed.workflow.pages._NODES", 300)


class Stopped(Exception):
    """A builder sleeps from here on."""


def flow_on(queue: Queue, last: object = "last", *, join: bool = False) -> Flow:
    flow = Flow(queue, unique="import", join=join)
    flow.add(PyTask(same, (last,)), after=flow.add(group(PyTask(same, (number,)) for number in range(MANY))))
    return flow


def before_page(queue: Queue, page: int, act: Callable[[], object]) -> Queue:
    """The same queue for one builder: `act` happens before its page of this number, counted from 0, is sent."""
    own, pages = Queue(queue.name, queue.conn), 0
    add = own.store.add

    def adding(script: str, *arguments: Any) -> Any:
        nonlocal pages
        pages += script == "flow_build"
        if script == "flow_build" and pages == page + 1:
            act()
        return add(script, *arguments)

    own.store.add = adding  # type: ignore[method-assign,assignment]
    return own


def stop() -> None:
    raise Stopped


def time_is_over(queue: Queue) -> None:
    """No page came for so long, and a sweeper has removed it."""
    for timer in queue.store.call("ZRANGE", queue.keys.flow_due, 0, -1):
        queue.store.call("ZADD", queue.keys.flow_due, 1, timer)
    tend(queue.store)


def held_back(queue: Queue, page: int) -> Callable[[], object]:
    """What a builder sends as its page of this number, when it is called: it sleeps until then."""
    own = before_page(queue, page, stop)
    sends = own.store.add
    calls: list[Callable[[], object]] = []

    def adding(*words: Any) -> Any:
        calls.append(lambda: queue.store.add(*words))
        return sends(*words)

    own.store.add = adding  # type: ignore[method-assign,assignment]
    with pytest.raises(Stopped):
        flow_on(own, "late").submit()
    return calls[-1]


def half_built(queue: Queue) -> None:
    with pytest.raises(Stopped):
        flow_on(before_page(queue, 2, stop)).submit()


def finished(run: Run) -> None:
    """Each node has run once."""
    labels = Hands(Queue(run.queue.name, run.queue.conn)).finish()
    assert labels == [*range(MANY), "last"]
    assert run.status()[4:] == (MANY + 1, 0, 0, 0, 0, 0)
    assert set(states(run).values()) == {"succeeded"}


@pytest.mark.parametrize("page", [1, 2, 4])
def test_a_builder_that_resumes_adds_nothing_to_what_another_has_built(queue: Queue, page: int) -> None:
    def rebuild() -> None:
        time_is_over(queue)
        flow_on(queue).submit()

    with pytest.raises(UnknownTask, match="removed before it was whole"):
        flow_on(before_page(queue, page, rebuild), "late").submit()
    (run,) = runs(queue)
    finished(run)


def test_a_page_of_a_late_builder_is_refused_while_another_builds(queue: Queue) -> None:
    late, replies = held_back(queue, 2), list[object]()
    time_is_over(queue)
    run = flow_on(before_page(queue, 3, lambda: replies.append(late()))).submit()
    assert (replies, late()) == ([0], 0)
    finished(run)


@pytest.mark.parametrize("join", [True, False])
def test_a_builder_whose_workflow_was_removed_says_so(queue: Queue, client: redis.Redis, join: bool) -> None:
    own = before_page(queue, 2, lambda: time_is_over(queue))
    with pytest.raises(UnknownTask, match="removed before it was whole"):
        flow_on(own, join=join).submit()
    assert client.keys(f"{queue.name}*") == []


def test_a_builder_that_gives_up_removes_only_its_own(queue: Queue) -> None:
    """A task of its last page cannot be sent, and another has begun it anew before it says so."""
    own = Queue(queue.name, queue.conn)
    removing = own.store.run

    def run_late(script: str, *words: Any) -> Any:
        if script == "flow_remove":
            time_is_over(queue)
            half_built(queue)
        return removing(script, *words)

    own.store.run = run_late  # type: ignore[method-assign,assignment]
    flow = Flow(own, unique="import")
    flow.add(group(PyTask(same, (number,)) for number in range(MANY)))
    flow.add(PyTask(same, (object(),)))
    with pytest.raises(NotEncodable):
        flow.submit()
    (run,) = runs(queue)
    assert run.status().state == "building"


def test_a_sweeper_that_has_looked_too_early_removes_nothing(queue: Queue) -> None:
    half_built(queue)
    (run,) = runs(queue)
    assert not remove(queue.store, run.flow, f"{run.flow} B")
    assert queue.store.call("ZSCORE", queue.keys.flow_due, f"{run.flow} B") is not None
    assert run.status().state == "building"
    time_is_over(queue)
    assert list(runs(queue)) == []
