"""A client of the server, with nothing but the standard library."""

import http.client
import json
import re
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.support.processes import Fleet, Process


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: Any
    headers: dict[str, str]


class Api:
    """One server.

    Args:
        port: where it listens.
        token: sent with each request.
    """

    def __init__(self, port: int, token: str | None = None) -> None:
        self.port = port
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, seconds: float = 60
    ) -> Answer:
        """One request, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {"content-type": "application/json"} if sent is not None else {}
        try:
            connection.request(method, path, sent, {**kind, **self._headers, **(headers or {})})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        is_json = "json" in found.get("content-type", "")
        return Answer(response.status, json.loads(text) if is_json else text, found)

    def get(self, path: str) -> Any:
        """What is there."""
        answer = self.call("GET", path)
        assert answer.status == 200, answer
        return answer.body

    def post(self, path: str, body: Any = None) -> Any:
        """What comes of it."""
        answer = self.call("POST", path, body)
        assert answer.status in (200, 201), answer
        return answer.body

    def take(self, queue: str, **body: Any) -> list[Any]:
        """Leases."""
        leases: list[Any] = self.post(f"/v1/queues/{quote(queue, safe='')}/leases", body)["leases"]
        return leases


def serve(fleet: Fleet, *options: str) -> tuple[Process, Api]:
    """A server, and a client of it."""
    process = fleet.delayed("server", "--http", "127.0.0.1:0", *options).ready()
    return process, Api(port_of(process))


def port_of(process: Process) -> int:
    """Where a server listens."""
    found = re.search(r"https?://127\.0\.0\.1:(\d+)", process.log.read_text())
    assert found, process.log.read_text()
    return int(found[1])
