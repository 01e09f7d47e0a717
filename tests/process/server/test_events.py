"""Server-sent events of a running server: what happens, what has been missed, and how the stream ends."""

import http.client
import json
import signal
from collections.abc import Iterator
from typing import Any, Self

import pytest
import redis

from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests.conftest import burst
from tests.support.api import Api, serve
from tests.support.clients import blocked
from tests.support.processes import Fleet


@pytest.fixture(scope="module")
def api(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all tests that leave it alone."""
    with Fleet(server.url, tmp_path_factory.mktemp("server")) as processes:
        yield serve(processes)[1]


class Events:
    """A client that listens."""

    def __init__(self, api: Api, path: str, last: str | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=60)
        self._connection.request("GET", path, headers={"last-event-id": last} if last else {})
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200, self._answer.read()
        assert self._answer.getheader("content-type") == "text/event-stream"

    def next(self, kind: str) -> dict[str, Any]:
        """The next event of a kind, with its id."""
        told: dict[str, str] = {}
        for line in self._answer:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                told[name] = value
            elif told.get("event") == kind:
                return {**json.loads(told["data"]), "id": told.get("id")}
            else:
                told = {}
        raise AssertionError("the stream has ended")

    def rest(self) -> bytes:
        """What comes until it ends."""
        return self._answer.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def fail(queue: Queue, says: str) -> None:
    queue.enqueue(PyTask("tasks:fail", (says,)))
    burst(queue)


def test_what_happens_in_a_queue_is_told(api: Api, queue: Queue, name: str) -> None:
    with Events(api, f"/v1/queues/{name}/events") as events:
        fail(queue, "no")
        told = events.next("task")
        assert (told["queue"], told["event"]["outcome"], told["event"]["task"]) == (name, "failed", "tasks:fail")
        assert told["event"]["said"].endswith("no")


def test_totals_are_told_when_they_change_and_to_who_comes_later(api: Api, queue: Queue, name: str) -> None:
    queue.enqueue(PyTask("tasks:two", (1,)))
    with Events(api, f"/v1/queues/{name}/events") as events:
        told = events.next("stats")
        assert (told["queue"], told["id"], told["stats"]["enqueued"], told["stats"]["waiting"]) == (name, None, 1, 1)
        with Events(api, f"/v1/events?queues={name}") as later:  # nothing has changed since
            assert later.next("stats")["stats"] == told["stats"]
        burst(queue)
        while told["stats"]["completed"] == 0:
            told = events.next("stats")
        assert (told["stats"]["enqueued"], told["stats"]["waiting"]) == (1, 0)


@pytest.mark.slow
def test_who_comes_and_goes_is_told(api: Api, fleet: Fleet, name: str) -> None:
    with Events(api, f"/v1/events?queues={name}") as events:
        worker = fleet.worker(name)
        assert events.next("came")["process"] == "worker"
        worker.send(signal.SIGTERM)
        assert events.next("went")["queue"] == name


def test_who_comes_back_hears_what_it_has_missed_and_then_the_rest(api: Api, queue: Queue, name: str) -> None:
    other = Queue(f"{name}-other", queue.conn)
    both = f"/v1/events?queues={name},{other.name}"
    with Events(api, both) as events:
        fail(queue, "1")
        last = events.next("task")["id"]
    fail(other, "2")
    fail(queue, "3")
    with Events(api, both, last) as events:
        said: list[str] = []
        while not said or not said[-1].endswith("3"):
            said.append(events.next("task")["event"]["said"])
        assert [text[-1] for text in said if not text.endswith("1")] == ["2", "3"]
        fail(other, "4")
        assert events.next("task")["event"]["said"].endswith("4")
    with Events(api, f"/v1/queues/{name}/events?after={last}") as events:
        assert events.next("task")["event"]["said"].endswith("3")
        fail(queue, "5")
        assert events.next("task")["event"]["said"].endswith("5")


def test_what_was_removed_meanwhile_is_a_gap(api: Api, queue: Queue, client: redis.Redis, name: str) -> None:
    with Events(api, f"/v1/queues/{name}/events") as events:
        fail(queue, "1")
        last = events.next("task")["id"]
    for number in range(2, 5):
        fail(queue, str(number))
    client.xtrim(queue.keys.history, maxlen=1, approximate=False)
    with Events(api, f"/v1/queues/{name}/events", last) as events:
        assert events.next("gap")["queue"] == name
        assert events.next("task")["event"]["said"].endswith("4")


@pytest.mark.slow
def test_many_listeners_are_one_reader(api: Api, queue: Queue, name: str, client: redis.Redis) -> None:
    before = blocked(client)
    listening = [Events(api, f"/v1/queues/{name}/events") for _ in range(20)]
    try:
        assert max(len(blocked(client) - before) for _ in range(200)) <= 1
        fail(queue, "no")
        assert [events.next("task")["queue"] for events in listening] == [name] * 20
    finally:
        for events in listening:
            events.__exit__()


def test_a_stop_ends_the_stream(fleet: Fleet, name: str) -> None:
    process, api = serve(fleet)
    with Events(api, f"/v1/queues/{name}/events") as events:
        process.send(signal.SIGTERM)
        assert events.rest().startswith(b"retry: ")
    assert process.wait() == 0


def test_a_stream_may_have_an_end(api: Api, name: str) -> None:
    with Events(api, f"/v1/events?queues={name}&seconds=0.1") as events:
        assert events.rest().startswith(b"retry: ")
    assert api.call("GET", f"/v1/queues/{name}/events?after=x").status == 422
    assert api.call("GET", "/v1/events", headers={"last-event-id": "1"}).status == 422
    assert api.call("HEAD", f"/v1/queues/{name}/events").status == 200


def test_who_comes_back_without_having_heard_anything_hears_what_is_new(api: Api, name: str) -> None:
    for path in (f"/v1/events?queues={name}&seconds=0.1", f"/v1/queues/{name}/events?seconds=0.1&after=1-0"):
        answer = api.call("GET", path, headers={"last-event-id": ""})
        assert (answer.status, answer.body[:6]) == (200, b"retry:")
