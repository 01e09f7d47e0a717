"""Servers are killed and stopped while producers and consumers go on: nothing is lost, and nothing ends twice."""

import http.client
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from delayed.queue.queue import Queue
from tests.support.api import Answer, Api, serve
from tests.support.processes import Fleet, Process
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

TASKS = 200
FAULTS = (OSError, http.client.HTTPException)


class Clients:
    """Producers and consumers of one queue, and two servers, of which one is always there.

    Args:
        fleet: starts the servers.
        name: of the queue.
    """

    def __init__(self, fleet: Fleet, name: str) -> None:
        self._fleet, self._name = fleet, name
        self._running: list[tuple[Process, Api]] = [serve(fleet) for _ in range(2)]
        self._lock = threading.Lock()
        self.enqueued: set[int] = set()  # for certain
        self.ended: Counter[int] = Counter()  # whose end was confirmed
        self.over = threading.Event()

    def replace(self, number: int, how: signal.Signals) -> None:
        """End a server, and start another."""
        process, _ = self._running[number]
        process.send(how)
        process.wait()
        self._running[number] = serve(self._fleet)

    def _post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Answer | None:
        """What some server answers; None if it went."""
        try:
            return random.choice(self._running)[1].call("POST", path, body, headers, 15)
        except FAULTS:
            time.sleep(0.05)
            return None

    def produce(self, first: int) -> None:
        """The same request until it is answered: its key makes that one task."""
        for number in range(first, first + TASKS // 2):
            body, key = (
                {"function": "shop:pay", "args": [number], "track": True},
                {"idempotency-key": f"{self._name}:{number}"},
            )
            answer = None
            while answer is None or answer.status == 503:
                answer = self._post(f"/v1/queues/{self._name}/tasks", body, key)
            assert answer.status in (200, 201), answer
            with self._lock:
                self.enqueued.add(number)

    def consume(self) -> None:
        """Until it is over. Whoever hears nothing about an end does not say it again."""
        while not self.over.is_set():
            taken = self._post(f"/v1/queues/{self._name}/leases", {"max": 5, "wait": 0.5, "ttl": 3})
            for lease in taken.body["leases"] if taken is not None and taken.status == 200 else ():
                end = self._post(f"/v1/leases/{lease['token']}/succeed", {})
                assert end is None or end.status in (200, 409, 503), end
                if end is not None and end.status == 200:
                    with self._lock:
                        self.ended[lease["args"][0]] += 1


def test_servers_come_and_go(fleet: Fleet, queue: Queue, name: str) -> None:
    clients = Clients(fleet, name)
    fleet.sweeper(name, "--limit=1000")  # tasks are lost often here
    with ThreadPoolExecutor() as threads:
        producers = [threads.submit(clients.produce, number * TASKS // 2) for number in range(2)]
        consumers = [threads.submit(clients.consume) for _ in range(3)]
        try:
            for number, how in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)):
                time.sleep(0.5)
                clients.replace(number % 2, how)
            for future in producers:
                future.result()
            eventually(lambda: queue.len() == queue.call("HLEN", queue.keys.processing) == 0)
        finally:
            clients.over.set()
        for future in consumers:
            future.result()
    assert clients.enqueued == set(range(TASKS))
    assert queue.call("XLEN", queue.keys.dead) == 0
    assert set(clients.ended.values()) == {1}  # what was confirmed was confirmed once
    states = [queue.call("HGET", key, "state") for key in queue.call("KEYS", queue.keys.task("*"))]
    assert states == [b"succeeded"] * TASKS
