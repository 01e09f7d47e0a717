"""What Prometheus is told, and over what."""

import json
import os
import re
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
import redis
import yaml
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from delayed.base.ids import digest
from delayed.cli.main import main
from delayed.cron.definition import Entry
from delayed.cron.expression import Cron
from delayed.cron.schedules import Schedules
from delayed.errors import ConfigurationError
from delayed.ops.exporter import Exporter
from delayed.ops.exposition import Family, Sample, exposition, labels
from delayed.ops.metrics import _ABOUT, metrics
from delayed.ops.overview import look, server_time
from delayed.ops.scrape import SCHEDULES, commands
from delayed.ops.statistics import sums, totals
from delayed.queue.queue import Queue
from delayed.redis.statistics import FUNCTIONS, packed
from delayed.system.http import PageServer
from delayed.task.task import PyTask
from delayed.workflow import Flow
from tests import ROOT
from tests.across.agents import go_binary, have_go
from tests.conftest import burst
from tests.redis.ops.test_overview import spied
from tests.redis.test_costs import monitored

DEPLOY = Path(__file__).parents[3] / "deploy"


def parsed(text: str) -> dict[tuple[str, ...], float]:
    """The name and the values of the labels of each sample → its value."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


@pytest.fixture
def used(queue: Queue) -> Queue:
    queue.enqueue_many(PyTask("tasks:noop", (i,)) for i in range(3))
    queue.enqueue(PyTask("tasks:recurse"))
    queue.enqueue(PyTask("tasks:noop", track=True))
    burst(queue)
    queue.enqueue(PyTask("tasks:noop", track=True))
    queue.enqueue(PyTask("tasks:noop", after=60))
    queue.limit(rate=5)
    return queue


def test_all_of_a_queue_is_told(used: Queue) -> None:
    found = parsed(exposition(metrics([used])))
    name = used.name
    assert found["delayed_redis_up",] == 1
    assert [found["delayed_queue_tasks", name, state] for state in ("waiting", "scheduled", "held", "dead")] == [1, 1, 0, 1]
    assert found["delayed_tasks_total", name, "succeeded"] == 4
    assert found["delayed_tasks_total", name, "failed"] == 1
    assert found["delayed_task_run_seconds_count", name, "tasks:noop"] == 4
    assert found["delayed_task_dead_total", name, "tasks:recurse"] == 1
    assert found["delayed_queue_run_seconds_bucket", name, "+Inf"] == 5
    assert found["delayed_queue_wait_seconds_count", name] == 1
    assert found["delayed_queue_limit", name, "rate"] == 5
    assert found["delayed_queue_paused", name] == 0
    assert found["delayed_queue_oldest_seconds", name, "waiting"] >= 0
    assert found["delayed_queue_oldest_seconds", name, "scheduled"] == 0
    assert found["delayed_dead_oldest_seconds", name] >= 0


def test_any_name_is_text(queue: Queue) -> None:
    names = 'a"b\\c\nd'
    text = exposition(
        [Family("queue_groups", "gauge", "x", [Sample(labels(queue=names), 2), Sample(labels(queue="\udcff"), 0.5)])]
    )
    assert parsed(text) == {("delayed_queue_groups", names): 2, ("delayed_queue_groups", "?"): 0.5}


@pytest.mark.breaks_invariants("another program's keys")
def test_what_another_program_wrote_hides_nothing_else(used: Queue) -> None:
    used.store.call("DEL", used.keys.stats_total, used.keys.scheduled, used.keys.dead)
    used.store.call("RPUSH", used.keys.stats_total, "x")
    used.store.call("HSET", used.keys.stats, "recovered", "x")
    used.store.call("SET", used.keys.scheduled, "x")
    found = parsed(exposition(metrics([used])))
    assert found["delayed_queue_tasks", used.name, "waiting"] == 1
    used.store.call("DEL", used.keys.stats_total, used.keys.stats, used.keys.scheduled)


def test_a_scrape_is_bounded(used: Queue, client: redis.Redis, name: str) -> None:
    """As many commands whatever waits, none of which grows with what waits."""
    queues = [used, Queue(f"{name}x", client)]
    with spied(client, name) as sent:
        metrics(queues)
    sent = [command for command in sent if command[0] not in ("HELLO", "CLIENT")]  # of the connection
    assert len(sent) <= 2 * (len(commands(used)) + 1) + 1  # of each the time of a task that has one, and the server's
    assert len(commands(used)) <= 16
    used.enqueue_many(PyTask("m:f", (number,), group=f"g{number % 100}") for number in range(1000))
    used.enqueue_many(PyTask("m:f", concurrency_key=f"k{number}") for number in range(50))
    with spied(client, name) as more:
        found = metrics(queues)
    more = [command for command in more if command[0] not in ("HELLO", "CLIENT")]
    assert len(more) <= len(sent) + 22  # ten groups and ten keys, and the first task of one of these groups
    assert parsed(exposition(found))["delayed_queue_groups", used.name] == 100


def test_what_waits_in_groups_and_for_keys_is_told_as_info_tells_it(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue_many(PyTask("m:f", (number,), group=f"g{number % 3}") for number in range(300))
    slots, data = queue.keys.slots("k"), PyTask("m:f", concurrency_key="k").serialize()
    queue.enqueue(PyTask("m:f"))
    client.zadd(queue.keys.waits(slots), {f"{number:016}".encode() + data: number for number in (1, 2)})
    client.hset(queue.keys.waited, queue.keys.waits(slots)[-40:], f"slots:{slots[-40:]}:1")
    found, seen = parsed(exposition(metrics([queue]))), look(queue)
    told = {state: found["delayed_queue_tasks", queue.name, state] for state in ("waiting", "grouped", "for_keys")}
    assert told == {"waiting": seen.waiting, "grouped": seen.grouped, "for_keys": seen.for_keys}
    assert (told["waiting"] + told["grouped"], told["for_keys"]) == (301, 2)
    assert ("delayed_queue_oldest_seconds", queue.name, "waiting") not in found  # none of them says
    assert found["delayed_queue_enqueued", queue.name] == 303


def test_only_groups_have_an_age_too(queue: Queue, client: redis.Redis) -> None:
    """Of a queue without tasks of its own, the first one in the group whose turn is next."""
    queue.enqueue_many([PyTask("m:f", group="g"), PyTask("m:f", group="g", track=True)])
    client.delete(queue.keys.queue, queue.keys.noti)
    said = ("delayed_queue_oldest_seconds", queue.name, "waiting")
    group = queue.keys.group(digest("g"))
    client.rpush(group, *[PyTask("m:f").serialize()] * 2)
    client.rpush(queue.keys.groups, digest("g"))
    assert said not in parsed(exposition(metrics([queue])))  # nothing is known: that is not zero
    dated = msgpack.packb(["m:f", [], {}, 1, {"enqueued": round(server_time(queue) * 1000) - 60_000}])
    client.lpush(group, dated)
    assert 60 <= parsed(exposition(metrics([queue])))[said] < 3600
    client.delete(group, queue.keys.groups)
    assert parsed(exposition(metrics([queue])))[said] == 0


def test_a_planned_task_is_as_old_as_its_time(queue: Queue, client: redis.Redis) -> None:
    handle = queue.enqueue(PyTask("m:f", track=True))
    due = round(server_time(queue) * 1000) + 3_600_000
    client.hset(queue.keys.task(str(handle.id)), "due", due)
    assert parsed(exposition(metrics([queue])))["delayed_queue_oldest_seconds", queue.name, "waiting"] == 0


def test_totals_are_those_of_the_command(used: Queue) -> None:
    found, total = parsed(exposition(metrics([used]))), sums(totals(used), look(used))
    assert found["delayed_queue_enqueued", used.name] == total.enqueued == 7
    assert found["delayed_queue_started", used.name] == total.started == 5


def test_totals_that_are_not_whole_are_not_told(queue: Queue) -> None:
    """Eleven groups: of one of them it is not known how many wait in it."""
    queue.enqueue_many(PyTask("m:f", (number,), group=f"g{number % 11}") for number in range(300))
    found = parsed(exposition(metrics([queue])))
    assert found["delayed_queue_groups", queue.name] == 11
    assert ("delayed_queue_enqueued", queue.name) not in found


def test_each_of_the_next_schedules_has_its_time(queue: Queue) -> None:
    for number in range(SCHEDULES + 2):
        Schedules(queue).put(f"at {number}", Entry(Cron(f"{number} 3 29 2 *"), PyTask("m:f").serialize()))
    found = parsed(exposition(metrics([queue])))
    told = [labels for name, *labels in found if name == "delayed_schedule_next_timestamp_seconds"]
    assert told == [[queue.name, f"at {number}"] for number in range(SCHEDULES)]
    assert found["delayed_schedule_next_timestamp_seconds", queue.name, "at 0"] == Schedules(queue).list()[0].next


def test_workflows_are_counted_by_whether_they_go_on(queue: Queue) -> None:
    runs = [Flow(queue), Flow(queue)]
    for flow in runs:
        flow.add(PyTask("m:f"))
    first, _ = [flow.submit() for flow in runs]
    first.cancel()
    found = parsed(exposition(metrics([queue])))
    assert [found["delayed_workflows", queue.name, state] for state in ("running", "ended")] == [1, 1]


def test_workers_say_how_much_they_can_and_do(queue: Queue, client: redis.Redis) -> None:
    for number, (language, slots, busy, seconds) in enumerate(
        [("python", 4, 1, 7.5), ("python", 2, 2, 3.0), ("go", 8, 5, 1.0)]
    ):
        about = {"kind": "worker", "language": language, "slots": slots, "in_flight": busy, "running": "m:f", "rss": 1}
        queue.store.beat(f"p{number}", 60, msgpack.packb({**about, "running_for": seconds}))
    queue.store.beat("old", 60, msgpack.packb({"kind": "worker", "language": "old", "running": "m:f"}))
    client.hset(queue.keys.processing, queue.keys.lease("p0", 0), PyTask("m:f").serialize())
    found = parsed(exposition(metrics([queue])))
    assert {name: found["delayed_worker_slots", queue.name, name] for name in ("python", "go")} == {"python": 6, "go": 8}
    assert [found["delayed_worker_busy", queue.name, name] for name in ("python", "go", "old")] == [3, 5, 1]
    assert ("delayed_worker_slots", queue.name, "old") not in found  # it does not say
    assert found["delayed_worker_resident_bytes", queue.name, "python"] == 2
    assert found["delayed_queue_oldest_seconds", queue.name, "held"] == 7.5
    client.delete(queue.keys.processing)
    assert parsed(exposition(metrics([queue])))["delayed_queue_oldest_seconds", queue.name, "held"] == 0
    client.delete(queue.keys.workers)


def test_the_exporter_says_how_it_sees_the_server(queue: Queue) -> None:
    found = parsed(exposition(metrics([queue])))
    assert found["delayed_redis_round_trip_seconds",] > 0
    assert abs(found["delayed_clock_skew_seconds",]) < 60
    assert parsed(exposition(metrics([]))) == {("delayed_redis_up",): 1}


def test_series_are_bounded(queue: Queue) -> None:
    """At most 60 of a queue and one of each of its next schedules, and 3 of each of 200 functions and the others.

    It was 40: of these 60 there are 14 of the two histograms, and 9 are there once for each language of workers."""
    counts = packed(dict.fromkeys(range(1, 36), 5))
    for first in range(0, FUNCTIONS + 50, 50):
        some = [(f"m:f{number}", counts) for number in range(first, first + 50)]
        queue.store.count(1.8e9, 1, [("", packed(dict.fromkeys(range(1, 36), 250))), *some])
    queue.enqueue_many([PyTask("m:f", track=True), PyTask("m:f", after=60), PyTask("m:f", group="g")])
    queue.limit(rate=5, concurrency=5)
    queue.pause()
    for number, (kind, language) in enumerate(
        [("worker", "python"), ("worker", "go"), ("sweeper", "python"), ("sweeper", "go")]
    ):
        about = msgpack.packb({"kind": kind, "language": language, "rss": 1, "in_flight": 1, "slots": 1, "running_for": 1.0})
        queue.store.beat(f"p{number}", 60, about)
    text = exposition(metrics([queue]))
    found = parsed(text)
    of_functions = [name for name, *_ in found if name.startswith("delayed_task_")]
    assert len(of_functions) == 3 * (FUNCTIONS + 1)
    assert found["delayed_task_run_seconds_count", queue.name, "other"] == 50 * 13 * 5
    assert len(found) - len(of_functions) - 3 <= 60
    queue.store.call("DEL", queue.keys.workers)


@pytest.mark.skipif(not have_go(), reason="Go is not installed")
def test_promtool_finds_nothing(used: Queue) -> None:
    """`promtool check metrics` is this check."""
    lint = go_binary("promlint", ROOT / "tests/across/promlint")
    done = subprocess.run([lint], input=exposition(metrics([used])), capture_output=True, text=True, check=False, timeout=600)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.fixture
def page(used: Queue, client: redis.Redis) -> Iterator[str]:
    server = PageServer("127.0.0.1:0", Exporter(client, [used.name]).page)
    reader, writer = os.pipe()
    thread = threading.Thread(target=server.serve, args=(reader,))
    thread.start()
    yield f"127.0.0.1:{server.port}"
    os.close(writer)
    thread.join(60)
    assert not thread.is_alive()
    server.close()
    os.close(reader)


def test_the_page_is_served(page: str, used: Queue) -> None:
    with urllib.request.urlopen(f"http://{page}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert parsed(answer.read().decode())["delayed_queue_tasks", used.name, "waiting"] == 1
    for path, method, status in (("/other", "GET", 404), ("/metrics", "POST", 405)):
        with pytest.raises(urllib.error.HTTPError) as found:
            urllib.request.urlopen(urllib.request.Request(f"http://{page}{path}", method=method))
        with found.value:
            assert found.value.code == status
    host, _, port = page.partition(":")
    with socket.create_connection((host, int(port))) as odd:  # too much, and no request
        odd.sendall(b"x" * 10_000)
    with urllib.request.urlopen(f"http://{page}/") as answer:
        assert answer.read() == b"/metrics\n"


def test_who_asks_twice_costs_redis_once(used: Queue, client: redis.Redis, name: str) -> None:
    exporter = Exporter(client, [used.name])
    with monitored(client, name) as sent:
        assert exporter.page("/metrics")[2] == exporter.page("/metrics")[2]
    assert sent.count("TIME") == 1


@pytest.mark.slow
def test_redis_may_be_away(tmp_path: Path) -> None:
    away = redis.Redis(unix_socket_path=str(tmp_path / "none"))
    for names in (["q"], []):
        assert parsed(Exporter(away, names).page("/metrics")[2].decode()) == {("delayed_redis_up",): 0}
    away.close()


def test_an_address_has_a_port() -> None:
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        PageServer("localhost", Exporter.page)  # type: ignore[arg-type]


@pytest.mark.parametrize("file", ["grafana/delayed.json", "prometheus/alerts.yml"])
def test_what_is_deployed_names_metrics_that_there_are(file: str) -> None:
    text = (DEPLOY / file).read_text()
    assert json.loads(text) if file.endswith("json") else yaml.safe_load(text)
    known = {f"delayed_{name}" for name in _ABOUT}
    known |= {
        f"delayed_{name}_{end}"
        for name, (kind, _) in _ABOUT.items()
        if kind in ("histogram", "summary")
        for end in ("bucket", "sum", "count")
    }
    used = set(re.findall(r"\bdelayed_\w+", text))
    assert used
    assert used <= known


def test_stats_are_shown(used: Queue, redis_url: str) -> None:
    run = CliRunner()
    found = run.invoke(main, ["stats", used.name, "--by", "day", "--json", "--redis", redis_url])
    (row,) = json.loads(found.output)["rows"]
    totals = json.loads(found.output)["totals"]
    assert (totals["enqueued"], totals["completed"], totals["failed"], totals["waiting"]) == (7, 4, 1, 2)
    assert (row["started"], row["succeeded"], row["functions"]["tasks:noop"]["succeeded"]) == (5, 4, 4)
    shown = run.invoke(main, ["stats", used.name, "--since", "2h", "--redis", redis_url])
    assert "succeeded" in shown.output
    assert "tasks:recurse" in shown.output
    of_one = run.invoke(main, ["stats", used.name, "--function", "tasks:noop", "--by", "minute", "--redis", redis_url])
    assert len(of_one.output.splitlines()) >= 2
    everything = run.invoke(main, ["stats", "--redis", redis_url])
    assert used.name in everything.output, everything.output
    assert "a time is a number" in run.invoke(main, ["stats", "x", "--since", "soon", "--redis", redis_url]).output
