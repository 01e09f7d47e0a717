"""Two servers behind a proxy are restarted in turn under load: no request fails."""

import contextlib
import http.client
import json
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from delayed.queue.queue import Queue
from delayed.remote import Remote
from delayed.task.decode import decode
from delayed.task.task import PyTask
from tests.support.balancer import Balancer
from tests.support.processes import Fleet, Process
from tests.support.servers import free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
ROUNDS = 3


class Plain:
    """A client as there are many: it keeps its connection until an answer says it is the last, and sends nothing twice."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def close(self) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        sent = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, sent, {} if body is None else {"content-type": "application/json"})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())


class Load:
    """Clients that do not stop before they are told to, and what became of their requests."""

    def __init__(self, port: int, name: str) -> None:
        self._port, self._name = port, name
        self._lock = threading.Lock()
        self.over = threading.Event()
        self.waited = ""  # the id of a task
        self.sent: set[int] = set()
        self.answers = 0
        self.failed: list[str] = []

    def _next(self) -> int:
        with self._lock:
            number = len(self.sent)
            self.sent.add(number)
            return number

    def _noted(self, call: Callable[[], object]) -> Any:
        try:
            found = call()
        except Exception as error:
            with self._lock:
                self.failed.append(repr(error))
            return None
        with self._lock:
            self.answers += 1
        return found

    def produce(self, client: Plain) -> bool:
        body = {"function": "m:f", "args": [self._next()], "group": "a"}
        found = self._noted(lambda: client.call("POST", f"/v1/queues/{self._name}/tasks", body))
        return self._is(found, 201)

    def look(self, client: Plain) -> bool:
        return self._is(self._noted(lambda: client.call("GET", f"/v1/queues/{self._name}")), 200)

    def wait(self, client: Plain) -> bool:
        """For a result that does not come before it is over, as long as the server lets us."""
        path = f"/v1/queues/{self._name}-b/tasks/{self.waited}/result?wait=300"
        return self._is(self._noted(lambda: client.call("GET", path)), 200, 202)

    def _is(self, found: Any, *statuses: int) -> bool:
        if found is not None and found[0] not in statuses:
            with self._lock:
                self.failed.append(f"the answer was {found!r}")
        return found is not None and found[0] in statuses

    def repeat(self, what: Callable[[Plain], bool]) -> None:
        with contextlib.closing(Plain(self._port)) as client:
            while not self.over.is_set() and what(client):
                pass

    def remote(self) -> None:
        with contextlib.closing(Remote(f"http://127.0.0.1:{self._port}", patience=120)) as remote:
            there = remote.queue(self._name)
            while not self.over.is_set():
                self._noted(lambda: there.enqueue(PyTask("m:f", (self._next(),), track=True)))
                self._noted(lambda: there.enqueue_many([PyTask("m:f", (self._next(),)) for _ in range(20)]))


def start(fleet: Fleet, port: int) -> Process:
    return fleet.delayed("server", "--http", f"127.0.0.1:{port}").ready()


def test_no_request_fails(fleet: Fleet, queue: Queue, name: str) -> None:
    ports = [free_port() for _ in range(2)]
    servers = [start(fleet, port) for port in ports]
    other = Queue(f"{name}-b", queue.conn)
    with Balancer(ports) as balancer, ThreadPoolExecutor() as threads:
        load = Load(balancer.port, name)
        waited = other.enqueue(PyTask("m:f", track=True, after=9999))
        load.waited = waited.id or ""
        whole = [load.produce, load.produce, load.look, load.look, load.wait]
        clients = [threads.submit(load.repeat, each) for each in whole] + [threads.submit(load.remote)]
        try:
            for turn in range(2 * ROUNDS):
                before = load.answers
                eventually(lambda before=before: load.answers > before + 50)  # type: ignore[misc]
                old = servers[turn % 2]
                old.send(signal.SIGTERM)
                assert old.wait() == 0, old.log.read_text()
                servers[turn % 2] = start(fleet, ports[turn % 2])
        finally:
            load.over.set()
            waited.cancel()
        for client in clients:
            client.result()
    assert load.failed == []
    call, keys = queue.store.call, queue.keys
    found = Counter(decode(data).args[0] for data in call("LRANGE", keys.queue, 0, -1))
    for group in queue.store.grouped(100):
        found.update(decode(data).args[0] for data in call("LRANGE", keys.group(group), 0, -1))
    assert found == Counter(load.sent)
    call("DEL", *other.keys.all().values(), *(key.decode() for key in call("KEYS", f"{other.name}_task_*")))
