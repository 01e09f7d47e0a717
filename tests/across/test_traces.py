"""Traces through Python and Go, as a collector sees them: from Python by a worker in Go to supervised workers in Python."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from delayed.otel import instrument
from delayed.queue.queue import Queue
from delayed.task.task import GoTask, Task
from tests import ROOT
from tests.conftest import eventually
from tests.support.collector import Collector, Span, collecting
from tests.support.processes import Fleet

from .agents import go_binary, have_go

pytestmark = pytest.mark.skipif(not have_go(), reason="Go is not installed")
PRODUCER, CONSUMER = 4, 5
SECRET = b"the secret is 42"  # what functions in Go say when they fail
Trip = Callable[[bool, Task, int], Collector]


@pytest.fixture
def go(queue: Queue) -> Queue:
    """The queue of the worker in Go."""
    return Queue(f"{queue.name}-go", queue.conn)


@pytest.fixture
def trip(fleet: Fleet, queue: Queue, go: Queue) -> Iterator[Trip]:
    with collecting() as collector:

        def made(parent: bool, task: Task, attempts: int) -> Collector:
            """What the collector has when the task has run in Go, in so many attempts, and all processes have ended."""
            provider = TracerProvider(shutdown_on_exit=False)
            provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces")))
            instrument(go, provider, parent=parent)
            binary = go_binary("traces", ROOT / "tests/across/traces")
            about = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "TRACED_QUEUE": queue.name}
            words = ["-parent"] if parent else []
            if parent:
                about["TRACED_PARENT"] = "1"
            workers = [
                fleet.start(binary, "-queue", go.name, "-python", queue.name, *words, **about).ready(),
                fleet.start(sys.executable, "-m", "delayed", "worker", "--app", "traced:app", "-c", "2", **about).ready(),
            ]
            go.enqueue(task)
            eventually(lambda: len(collector.named(f"process {go.name}")) == attempts)
            # Taken is not enough: a worker that is stopped gives back what it has not begun.
            eventually(lambda: not queue.call("EXISTS", queue.keys.queue, queue.keys.processing))
            for worker in workers:
                worker.popen.terminate()
                assert worker.wait() == 0, worker.log.read_text()
            provider.shutdown()
            return collector

        yield made


def only(collector: Collector, name: str) -> Span:
    (span,) = collector.named(name)
    return span


@pytest.mark.slow
def test_spans_are_linked_from_python_to_go_to_python(trip: Trip, queue: Queue, go: Queue) -> None:
    collector = trip(False, GoTask("main.Relay", 7), 1)
    first, relay = only(collector, f"send {go.name}"), only(collector, f"process {go.name}")
    second, work = only(collector, f"send {queue.name}"), only(collector, f"process {queue.name}")
    assert [each.kind for each in (first, relay, second, work)] == [PRODUCER, CONSUMER, PRODUCER, CONSUMER]
    assert (relay.links, relay.parent) == ([(first.trace, first.id)], "")
    assert (second.trace, second.parent) == (relay.trace, relay.id)
    assert (work.links, work.parent) == ([(second.trace, second.id)], "")
    assert len({first.trace, relay.trace, work.trace}) == 3
    path = {"messaging.delayed.task": "main.Relay"}
    common = {"messaging.system": "delayed", "messaging.destination.name": go.name, **path}
    process = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    assert relay.attributes == {**common, **process, "messaging.delayed.attempt": 1, "messaging.delayed.outcome": "succeeded"}
    assert second.attributes == {
        "messaging.system": "delayed", "messaging.operation.name": "send", "messaging.operation.type": "send",
        "messaging.destination.name": queue.name, "messaging.delayed.task": "traced:work",
        "messaging.message.id": work.attributes["messaging.message.id"],
    }  # fmt: skip
    assert {"messaging.client.consumed.messages", "messaging.process.duration"} <= collector.metrics.keys()


@pytest.mark.slow
def test_all_spans_may_be_in_one_trace(trip: Trip, queue: Queue, go: Queue) -> None:
    collector = trip(True, GoTask("main.Relay", 7), 1)
    first, relay = only(collector, f"send {go.name}"), only(collector, f"process {go.name}")
    second, work = only(collector, f"send {queue.name}"), only(collector, f"process {queue.name}")
    assert [each.parent for each in (first, relay, second, work)] == ["", first.id, relay.id, second.id]
    assert {each.trace for each in (first, relay, second, work)} == {first.trace}


@pytest.mark.parametrize(
    ("task", "count"), [(GoTask("main.Spread", 3), 3), pytest.param(GoTask("main.Flow"), 1, marks=pytest.mark.slow)]
)
def test_many_tasks_of_go_have_one_span(trip: Trip, queue: Queue, task: Task, count: int) -> None:
    collector = trip(False, task, 1)
    (sent,) = (each for each in collector.spans if "messaging.batch.message_count" in each.attributes)
    assert sent.attributes["messaging.batch.message_count"] == count
    ran = collector.named(f"process {queue.name}")
    assert [each.links for each in ran] == [[(sent.trace, sent.id)]] * count
    workflows = {each.attributes.get("messaging.delayed.workflow") for each in (sent, *ran)}
    assert len(workflows) == 1
    assert (workflows == {None}) is (task.func_path == "main.Spread")


@pytest.mark.parametrize(
    ("task", "ends"),
    [
        (GoTask("main.Second", retry=2), [("retried", "errors.errorString"), ("succeeded", None)]),
        pytest.param(GoTask("main.Panics"), [("failed", "panic")], marks=pytest.mark.slow),
    ],
)
def test_each_attempt_in_go_is_a_span(trip: Trip, go: Queue, task: Task, ends: list[tuple[str, str | None]]) -> None:
    collector = trip(False, task, len(ends))
    sent, ran = only(collector, f"send {go.name}"), collector.named(f"process {go.name}")
    assert [each.attributes["messaging.delayed.attempt"] for each in ran] == list(range(1, len(ends) + 1))
    assert [(each.attributes["messaging.delayed.outcome"], each.attributes.get("error.type")) for each in ran] == ends
    assert [each.links for each in ran] == [[(sent.trace, sent.id)]] * len(ends)
    assert [each.failed for each in ran] == [error is not None for _, error in ends]
    assert SECRET not in collector.raw


def test_programs_in_go_that_are_not_traced_do_not_have_opentelemetry() -> None:
    listed = subprocess.run(
        ["go", "list", "-deps", "./interop/delayed", "./interop/cmd/..."], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "delayed" in listed.stdout
    assert "opentelemetry" not in listed.stdout
