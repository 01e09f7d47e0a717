"""`delayed simulate` gives queues something to do, ends when it is asked to, and leaves nothing if that is wanted."""

import re
import signal
import socket

import pytest
import redis

from tests.conftest import eventually
from tests.support.processes import Fleet, Process
from tests.support.servers import free_port

OPTIONS = ("--fill-time", "0.02", "--run-time", "0.01", "--failure-rate", "0.3", "--workers", "2", "--log-interval", "0.2")


def totals(process: Process) -> dict[str, int]:
    """What its last line says."""
    lines = [line for line in process.log.read_text().splitlines() if line.startswith("enqueued ")]
    return {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", lines[-1].replace(",", ""))} if lines else {}


@pytest.mark.slow
def test_a_simulation_has_all_kinds_of_tasks_and_ends_clean(
    fleet: Fleet, redis_url: str, client: redis.Redis, name: str
) -> None:
    queues = (f"{name}-a", f"{name}-b")
    named = [word for each in queues for word in ("--queue", each)]
    process = fleet.delayed("simulate", *OPTIONS, *named, "--redis", redis_url, "--clean")
    seen = ("completed", "retried", "dead")
    eventually(lambda: all(totals(process).get(each) for each in seen), 90)
    for kind in ("history", "flow_ids", "cron", "dead", "stats_total"):
        eventually(lambda kind=kind: any(client.exists(f"simulation:{each}_{kind}") for each in queues), 90)  # type: ignore[misc]
    process.send(signal.SIGINT)
    assert process.wait() == 0, process.log.read_text()
    said = process.log.read_text()
    assert said.count("all is well") == 2
    *running, _last = (int(each.replace(",", "")) for each in re.findall(r"^enqueued ([\d,]+)", said, re.MULTILINE))
    assert running == sorted(running)
    assert re.search(r"removed \d+ keys$", said.strip())
    assert not list(client.scan_iter(f"simulation:{name}*"))
    assert not client.hkeys("delayed:interests") or f"simulation:{queues[0]}".encode() not in client.hkeys("delayed:interests")


@pytest.mark.slow
def test_a_simulation_needs_no_redis_and_serves_the_ui(fleet: Fleet) -> None:
    address = f"127.0.0.1:{free_port()}"
    process = fleet.delayed("simulate", *OPTIONS, "--ui", "--listen", address)
    eventually(lambda: f"http://{address}/?token=" in process.log.read_text(), 60)
    eventually(lambda: totals(process).get("completed"), 60)
    assert re.match(r"export DELAYED_REDIS_URL=\S+  #", process.log.read_text())
    process.send(signal.SIGTERM)
    assert process.wait() == 0, process.log.read_text()


def test_a_port_that_is_taken_ends_it(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = fleet.delayed("simulate", *OPTIONS, "--ui", "--listen", address)
        assert process.wait() == 1
    said = process.log.read_text()
    assert said.startswith(f"Error: cannot listen on {address}: ")
    assert said.count("\n") == 1
