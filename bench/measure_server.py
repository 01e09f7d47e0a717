"""Measure 12: what one server does, over HTTP and over the text protocol."""

import contextlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import redis

from delayed.task.decode import decode

from .kinds import QUEUE
from .lanes import Answers, Lanes, http_answers, text_answers
from .measure_idle import percentile
from .options import Options, Progress
from .placement import server, start
from .result import Result, number, spread

_BATCH = 100
_LANES = 8  # connections of the text protocol
_TOKEN = re.compile(rb'"token":"([^"]+)"')
_MOST_POLLS = 10_000
_OPERATIONS = 60_000  # of the text protocol in a second
_TASKQ = 36_000  # requests/s of the original with eight connections, on another machine of two cores
_WISHES = (  # of each rate
    ("enqueues/s", 4_000),
    ("lines/s", 100_000),
    ("leases and ends/s", 2_000),
    ("tasks/s in batches", 40_000),
    ("operations/s", _OPERATIONS),
    ("", 0),
    ("enq/s of 1 KiB, as fast as the original", _TASKQ),
)
_PATIENCE = 30.0  # seconds in which a server has to be there
_SETTLED = 2.0  # seconds in which its memory does not grow any more


class _Server:
    """One of ours.

    Args:
        process: its id.
        http: its port of HTTP.
        text: its port of the text protocol.
    """

    def __init__(self, process: int, http: int, text: int) -> None:
        self.process, self.http, self.text = process, http, text

    @contextlib.contextmanager
    def lanes(self, count: int, answers: Answers) -> Iterator[Lanes]:
        """So many connections."""
        lanes = Lanes(self.http if answers is http_answers else self.text, count, answers)
        try:
            yield lanes
        finally:
            lanes.close()

    def memory(self) -> float:
        """MB that it has in memory."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process}/status").read_text())
        assert found
        return int(found[1]) / 1024


@contextlib.contextmanager
def _serving(url: str) -> Iterator[_Server]:
    """A server on the core of the measured process."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "delayed", "server", "--http", "127.0.0.1:0", "--text", "127.0.0.1:0"]
        process = start(command, {"DELAYED_REDIS_URL": url}, log)
        try:
            yield _Server(process.pid, *_ports(log))
        finally:
            process.terminate()
            process.wait(20)


def _ports(log: Path) -> tuple[int, int]:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        ports = [re.search(where + r"127\.0\.0\.1:(\d+)", log.read_text()) for where in ("http://", "spoken on ")]
        if ports[0] and ports[1]:
            return int(ports[0][1]), int(ports[1][1])
        time.sleep(0.05)
    raise TimeoutError(log.read_text())


def _post(path: str, body: object, kind: str = "application/json") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def _tasks(count: int) -> list[bytes]:
    """The bodies of requests to enqueue."""
    return [json.dumps({"function": "m:f", "args": [number]}).encode() for number in range(count)]


def _enqueued(served: _Server, client: redis.Redis, count: int) -> float:
    """Tasks/s, one in each request."""
    client.flushall()
    requests = [_post(f"queues/{QUEUE}/tasks", body) for body in _tasks(count)]
    with served.lanes(16, http_answers) as lanes:
        began = time.monotonic()
        lanes.flood(requests, 1)
        took = time.monotonic() - began
    _expect(client, count)
    return count / took


def _expect(client: redis.Redis, count: int) -> None:
    """That each of so many tasks waits once.

    Raises:
        AssertionError: they do not.
    """
    waiting = [decode(data).args[0] for data in cast(list[bytes], client.lrange(QUEUE, 0, -1))]
    assert sorted(waiting) == list(range(count)), f"{len(waiting)} tasks wait, not {count}"


def _lines(served: _Server, client: redis.Redis, count: int) -> float:
    """Tasks/s, all of them lines of one request."""
    client.flushall()
    request = _post(f"queues/{QUEUE}/tasks", b"\n".join(_tasks(count)), "application/x-ndjson")
    with served.lanes(1, http_answers) as lanes:
        began = time.monotonic()
        lanes.flood([request], 1)
        took = time.monotonic() - began
    _expect(client, count)
    return count / took


def _consumed(served: _Server, client: redis.Redis, count: int, batch: int) -> float:
    """Tasks/s that are leased and ended, so many by each request."""
    _lines(served, client, count)
    takes = [_post(f"queues/{QUEUE}/leases", {"max": batch, "ttl": 60})] * (count // batch)
    with served.lanes(16 if batch == 1 else 4, http_answers) as lanes:
        began = time.monotonic()
        answers = lanes.flood(takes, 1, _end)
        took = time.monotonic() - began
    assert sum(len(_TOKEN.findall(answer)) for answer in answers) == count
    assert not client.exists(QUEUE, f"{QUEUE}_processing"), "tasks are left"
    return count / took


def _end(answer: bytes) -> bytes | None:
    """The request that ends what has been leased."""
    tokens = [each.decode() for each in _TOKEN.findall(answer)]
    if len(tokens) < 2:
        return _post(f"leases/{tokens[0]}/succeed", {}) if tokens else None
    return _post("leases", {"endings": [{"token": token, "action": "succeed"} for token in tokens]})


def _enq(count: int, size: int) -> list[bytes]:
    return [b"%d enq %b %d %b\n" % (rid, QUEUE.encode(), size, b"x" * size) for rid in range(1, count + 1)]


def _enq_rate(served: _Server, client: redis.Redis, count: int, size: int) -> float:
    """Requests/s of eight connections, with 128 on their way on each: how TaskQ's bench client does it."""
    client.flushall()
    requests = _enq(count, size)
    with served.lanes(_LANES, text_answers) as lanes:
        began = time.monotonic()
        lanes.flood(requests, 128)
        took = time.monotonic() - began
    assert client.llen(QUEUE) == count
    return count / took


def _text_round(served: _Server, client: redis.Redis, count: int) -> float:
    """Operations/s after HELLO: each task is enqueued, dequeued and acknowledged."""
    client.flushall()
    with served.lanes(_LANES, text_answers) as lanes:
        lanes.post([b"0 HELLO 1\n"] * _LANES)
        lanes.flood([], 1)
        began = time.monotonic()
        lanes.flood(_enq(count, 10), 128)
        said = lanes.flood([b"%d deq %b\n" % (rid, QUEUE.encode()) for rid in range(1, count + 1)], 128, _ack)
        took = time.monotonic() - began
    assert len(said) == 2 * count
    assert not client.exists(QUEUE, f"{QUEUE}_processing"), "tasks are left"
    return 3 * count / took


def _ack(answer: bytes) -> bytes | None:
    """The request that ends what has been dequeued."""
    rid, verb, queue, token, *_ = answer.split(b" ")
    return b"%b ack %b %b\n" % (rid, queue, token) if verb == b"deqed" else None


def _text_waits(served: _Server, client: redis.Redis, rate: float, seconds: float) -> tuple[float, list[float]]:
    """Enqueue at a rate. Returns the one that was reached, and how many seconds each request took."""
    client.flushall()
    with served.lanes(_LANES, text_answers) as lanes:
        return lanes.paced(_enq(int(rate * seconds), 10), rate)


def _polls(served: _Server, client: redis.Redis, count: int) -> float:
    """MB that so many requests cost which wait for a task, with those that the server needs anyhow."""
    client.flushall()
    with served.lanes(count, http_answers) as lanes:
        lanes.post([_post(f"queues/{QUEUE}/leases", {"wait": 300})] * count)
        most, since = served.memory(), time.monotonic()
        while time.monotonic() - since < _SETTLED:
            time.sleep(0.1)
            if served.memory() > most:
                most, since = served.memory(), time.monotonic()
    return most


def _rates(served: _Server, client: redis.Redis, options: Options) -> dict[str, Callable[[], float]]:
    """What measures each rate."""
    count, many = options.scaled(10_000), options.scaled(100_000)
    return {
        "HTTP: enqueues/s, one task each, 16 connections": lambda: _enqueued(served, client, count),
        "HTTP: tasks enqueued/s, as lines": lambda: _lines(served, client, many),
        "HTTP: tasks leased and ended/s, one by one, 16 connections": lambda: _consumed(served, client, count, 1),
        f"HTTP: tasks leased and ended/s, {_BATCH} at a time": lambda: _consumed(served, client, many, _BATCH),
        "text: operations/s (enq, deq and ack in turn, 8 connections)": lambda: _text_round(served, client, many // 2),
        "text: enq/s of 10 bytes, 8 connections": lambda: _enq_rate(served, client, many, 10),
        "text: enq/s of 1 KiB, 8 connections": lambda: _enq_rate(served, client, many, 1024),
    }


def measure_server(options: Options, progress: Progress) -> list[Result]:
    """One server, one queue; the client shares the core of Redis."""
    polls, found = options.scaled(_MOST_POLLS), dict[str, list[float]]()
    with server() as embedded, embedded.client() as client, _serving(embedded.url) as served:
        rates = _rates(served, client, options)
        for run in range(options.runs):
            for label, measured in rates.items():
                progress(f"server, run {run + 1} of {options.runs}: {label}")
                found.setdefault(label, []).append(measured())
        progress("server: half of the load")
        rate, waits = _text_waits(served, client, _OPERATIONS / 2, 2 * options.seconds)
        progress("server: idle long polls")
        memory = _polls(served, client, polls)
    late = percentile(waits, 0.99) * 1000
    result = Result("server", "The server, one process", ("", "found"))
    result.rows = [(label, spread(values)) for label, values in found.items()]
    result.rows.append(("text: p99 of an answer, ms, at so many enq/s", f"{number(late)} at {number(rate)}"))
    result.rows.append((f"MB with {polls:,} requests that wait for a task", number(memory)))
    result.values = {**found, "waits": waits}
    result.notes = [
        "",
        f"TaskQ's bench client sends what the last rate is of; the original did {_TASKQ:,} to 56,000/s on another machine,",
        "and kept its tasks in memory. Each task is there once, and after an end none is left: that is checked. The client",
        "shares the core of Redis.",
    ]
    for (label, values), (wish, least) in zip(found.items(), _WISHES, strict=True):
        if least:
            result.want(f"{label.split(':')[0]}: at least {least:,} {wish}", max(values), least, "/s", least=True)
    result.want(f"text: p99 under 5 ms at {_OPERATIONS // 2:,}/s", late, 5, " ms")
    result.want(f"under 200 MB with {polls:,} long polls", memory, 200, " MB")
    return [result]
