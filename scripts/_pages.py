"""Measures how long each page of the web UI takes, however much there is to show."""

import argparse
import http.client
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import quote

import msgpack
import psutil
import redis

from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests.redis.web.browsing import Full, filled
from tests.support.browser import served
from tests.support.processes import Fleet

MOST = 0.1  # seconds that 95 of 100 requests may take
NOTHING = "what-nothing-says"
PUSHED = """
local words = {}
for i = 1, 1000 do words[i] = ARGV[1] end
for i = 1, ARGV[2] / 1000 do redis.call('RPUSH', KEYS[1], unpack(words)) end
"""
BURIED = """
for i = 1, ARGV[2] do
    local said = 'Traceback (most recent call):\\n  File "shop.py", line 12, in charge\\nValueError: ' .. i .. ' ' .. i % 50
    redis.call('XADD', KEYS[1], '*', 'task', ARGV[1], 'reason', 'failed', 'detail', said, 'worker', 'web1:' .. i % 1000)
end
"""
GROUPED = """
for i = 1, ARGV[2] do
    local name = redis.sha1hex(i .. ARGV[3])
    redis.call('RPUSH', KEYS[1] .. '_group_' .. name, ARGV[1], ARGV[1])
    redis.call('RPUSH', KEYS[1] .. '_groups', name)
end
"""
PLANNED = """
for i = 1, ARGV[2] do redis.call('ZADD', KEYS[1], ARGV[3] + i, string.format('%016d', i) .. ARGV[1]) end
"""


def in_steps(client: redis.Redis, script: str, key: str, task: bytes, count: int) -> None:
    """Run a script that adds so many of something, a part of it at a time."""
    step = 50_000
    for start in range(0, count, step):
        client.eval(script, 1, key, task, min(step, count - start), str(round(time.time() * 1000) + start))  # type: ignore[arg-type]


def fill(client: redis.Redis, options: argparse.Namespace) -> list[Full]:
    """Fill many queues a little, and the last one with all that there can be."""
    full = [filled(queue := Queue(f"queue-{number:02}", client), client) for number in range(options.queues)]
    keys = (queue := Queue(full[-1].queue, client)).keys
    task = PyTask("shop:send_mail", ("ada@example.org", "welcome")).serialize()
    in_steps(client, PUSHED, keys.queue, task, options.waiting)
    in_steps(client, PUSHED, keys.noti, b"1", options.waiting)
    in_steps(client, BURIED, keys.dead, task, options.dead)
    in_steps(client, GROUPED, keys.queue, task, options.groups)
    in_steps(client, PLANNED, keys.scheduled, task, options.scheduled)
    now = time.time()
    for number in range(options.workers):
        about = {"kind": "worker", "language": "python", "place": f"web{number}:4711", "queues": [queue.name], "rss": 40 << 20}
        about |= {
            "started": now - number,
            "running": "shop:send_mail",
            "running_for": 0.3,
            "in_flight": 1,
            "succeeded": number,
        }
        queue.store.beat(f"w{number}", 3600, msgpack.packb(about))
        lease = keys.lease(f"w{number}", 0)
        client.set(lease, f"w{number}", ex=3600)
        client.hset(keys.processing, lease, task)
    for each in full:
        Queue(each.queue, client).store.serve()
    return full


def paths_of(full: Full) -> list[str]:
    """All pages, and searches that find nothing."""
    below, name = f"/queues/{full.queue}", quote(full.queue)
    found = [path for path in full.paths if not path.startswith("/redis?")]
    words = ["state:dead", "state:running", "state:tracked", "overdue", "where:group", NOTHING, f"fn:{NOTHING}"]
    found += [f"/tasks?q={quote(each)}" for each in [*words, f"state:dead {NOTHING}", f"state:running {NOTHING}"]]
    found += [f"/tasks?q={quote(f'queue:{name} {each}')}" for each in ("", "state:running", "where:group", "fn:m:*", NOTHING)]
    found += [f"{below}/dead?text={NOTHING}", f"/metrics?queue={name}&last=quarter", "/task/0123456789abcdef"]
    return [*found, f"/task/0123456789abcdef?queue={name}"]


def timed(connection: http.client.HTTPConnection, path: str, count: int) -> list[float]:
    """Seconds of so many requests, of which none is answered by a page that is kept."""
    took = []
    for number in range(count + 1):
        began = time.perf_counter()
        connection.request("GET", f"{path}{'&' if '?' in path else '?'}n={number}", headers={"X-User": "ada"})
        answer = connection.getresponse()
        answer.read()
        took.append(time.perf_counter() - began)
        assert answer.status in (200, 404), (path, answer.status)
    return took[1:]  # the first one makes connections


def main() -> None:
    """Fill Redis, ask for all pages, and print how long they took."""
    parser = argparse.ArgumentParser(prog="scripts/pages", description=__doc__)
    for name, many in (("waiting", 10**7), ("dead", 10**6), ("groups", 10**5), ("scheduled", 10**5), ("workers", 10**3)):
        parser.add_argument(f"--{name}", type=int, default=many, help=f"default: {many:,}")
    parser.add_argument("--queues", type=int, default=60, help="in all; default: 60")
    parser.add_argument("--requests", type=int, default=40, help="of each page; default: 40")
    options = parser.parse_args()
    with EmbeddedRedis() as server, server.client() as client, tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        full = fill(client, options)
        size = client.info("memory")["used_memory"] / (1 << 20)  # type: ignore[index]
        print(f"filled within {time.monotonic() - began:.0f} s; Redis has {size:,.0f} MB")
        with Fleet(server.url, Path(folder)) as fleet:
            address = served(fleet, "--trust-header", "X-User", "--read-only")
            host = address.split("/")[2]
            connection = http.client.HTTPConnection(host)
            wait_for(connection)
            redis_process = psutil.Process(client.info("server")["process_id"])  # type: ignore[index]
            busy = (psutil.Process(fleet.processes[0].pid), redis_process)
            print("median, 95 % below, CPU of the UI and of Redis for each")
            slow = [path for path in paths_of(full[-1]) if not shown(connection, path, options.requests, busy)]
    if slow:
        sys.exit(f"slower than {MOST * 1000:.0f} ms: {', '.join(slow)}")


def wait_for(connection: http.client.HTTPConnection) -> None:
    """Until it answers."""
    while True:
        try:
            timed(connection, "/jobs", 1)
        except OSError:
            connection.close()
            time.sleep(0.1)
        else:
            return


def shown(connection: http.client.HTTPConnection, path: str, requests: int, busy: Sequence[psutil.Process]) -> bool:
    """Print how long a page takes. Returns whether that is soon enough."""
    before = [sum(each.cpu_times()[:2]) for each in busy]
    took = timed(connection, path, requests)
    used = [(sum(each.cpu_times()[:2]) - first) / (requests + 1) for each, first in zip(busy, before, strict=True)]
    p95 = quantiles(took, n=20)[-1]
    print("  ".join(f"{each * 1000:6.1f} ms" for each in (median(took), p95, *used)), path, sep="  ", flush=True)
    return p95 <= MOST


if __name__ == "__main__":
    main()
