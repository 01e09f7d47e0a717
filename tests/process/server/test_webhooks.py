"""A worker that posts tasks: what an endpoint answers becomes the end of a task."""

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from delayed.dead_letters.letter import dead_letters
from delayed.errors import ConfigurationError, TaskFailed
from delayed.queue.queue import Queue
from delayed.server.webhooks import Answer, Endpoint, ending_of
from delayed.task.task import PyTask
from tests.support.processes import Fleet
from tests.support.tls import CERTIFICATE
from tests.support.waiting import eventually

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()


class Place(http.server.ThreadingHTTPServer):
    """An endpoint: a task's only argument is how it answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.go = threading.Event()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Place

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
        task = json.loads(body)
        status = task["args"][0]
        if task["function"] == "web:slow":
            self.server.go.wait(60)
        text = json.dumps({"attempt": task["attempt"]}).encode()
        self.send_response(200 if task["attempt"] == 3 else status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def place() -> Iterator[Place]:
    with Place() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


def test_statuses_say_how_tasks_end(fleet: Fleet, queue: Queue, name: str, place: Place) -> None:
    url = f"http://127.0.0.1:{place.server_address[1]}/tasks?x=1"
    worker = fleet.delayed("webhook", name, url, DELAYED_WEBHOOK_SECRET=SECRET).ready()
    parent = f"00-{'4b' * 16}-{'a1' * 8}-01"
    good = queue.enqueue(PyTask("web:do", (200,), result_ttl=60).traced(parent, "a=b"))
    assert good.result(60) == {"attempt": 1}
    again = queue.enqueue(PyTask("web:do", (503,), retry=5, result_ttl=60))
    assert again.result(60) == {"attempt": 3}
    bad = queue.enqueue(PyTask("web:do", (404,), retry=5, result_ttl=60))
    with pytest.raises(TaskFailed):
        bad.result(60)
    (letter,) = dead_letters(queue)
    assert "answered 404" in letter.detail
    assert place.seen[0][0].items() >= {"traceparent": parent, "tracestate": "a=b"}.items()
    assert "traceparent" not in place.seen[1][0]
    for headers, body in place.seen:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        right = base64.b64encode(hmac.new(b"k" * 24, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{right}"
        assert b"token" not in body
    assert {headers["webhook-id"] for headers, _ in place.seen} == {good.id, again.id, bad.id}
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_stop_waits_for_answers(fleet: Fleet, queue: Queue, name: str, place: Place) -> None:
    worker = fleet.delayed("webhook", name, f"http://127.0.0.1:{place.server_address[1]}").ready()
    slow = queue.enqueue(PyTask("web:slow", (200,), result_ttl=60))
    eventually(lambda: len(place.seen) == 1)
    worker.send(signal.SIGTERM)
    worker.expect("STOPPING=1")
    place.go.set()
    assert worker.wait() == 0
    assert slow.result(0) == {"attempt": 1}


def test_nobody_there(fleet: Fleet, queue: Queue, name: str) -> None:
    fleet.delayed("webhook", name, "http://127.0.0.1:1/").ready()
    handle = queue.enqueue(PyTask("web:do", (200,), result_ttl=60))
    with pytest.raises(TaskFailed) as failed:
        handle.result(60)
    assert failed.value.kind == "http.Unreachable"


@contextlib.contextmanager
def trickling(start: bytes) -> Iterator[str]:
    """An endpoint whose answer begins at once, and then comes byte by byte, without an end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            client, _ = listening.accept()
            with client, contextlib.suppress(OSError):
                client.sendall(start)
                while True:
                    client.sendall(b"x")
                    client.settimeout(0.05)
                    with contextlib.suppress(TimeoutError):
                        if not client.recv(65536):
                            return

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        thread.join()


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-long: ",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffff\r\n",
    ],
)
def test_an_answer_that_does_not_end_in_time_is_none(start: bytes) -> None:
    with trickling(start) as url:
        answer = Endpoint(url, None).post("1", b"{}", 1.0, {})
    assert (answer.status, answer.body) == (0, b"TimeoutError: timed out")


def test_an_endpoint_over_tls(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_name("key.pem"))
    place.socket = context.wrap_socket(place.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    endpoint = Endpoint(f"https://localhost:{place.server_address[1]}/", None)
    answer = endpoint.post("1", b'{"args": [200], "function": "f", "attempt": 1}', 60, {})
    assert (answer.status, answer.body) == (200, b'{"attempt": 1}')
    assert place.seen[0][0]["host"] == f"localhost:{place.server_address[1]}"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(204), "Succeed"),
        (Answer(200, "text/html", b"<p>"), "Succeed"),
        (Answer(200, "application/json", b"{"), "Bury"),
        (Answer(200, "application/json", b'{"$bytes": "AAE="}'), "Succeed"),
        (Answer(301), "Bury"),
        (Answer(400), "Bury"),
        (Answer(429, after=5.0), "Retry"),
        (Answer(0, body=b"TimeoutError: timed out"), "Retry"),
    ],
)
def test_endings(answer: Answer, kind: str) -> None:
    found = ending_of(answer)
    assert type(found).__name__ == kind
    assert getattr(found, "delay", None) == answer.after


@pytest.mark.parametrize(
    ("url", "secret"),
    [("ftp://x", None), ("https://", None), ("http://x:99999", None), ("http://x", "short"), ("http://x", "whsec_?")],
)
def test_what_is_no_endpoint(url: str, secret: str | None) -> None:
    with pytest.raises(ConfigurationError):
        Endpoint(url, secret)
