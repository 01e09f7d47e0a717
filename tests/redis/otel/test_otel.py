"""Spans and metrics of enqueues and executions, on a real Redis, with the SDK of OpenTelemetry."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest
import redis
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from delayed import App, AsyncQueue, Duplicate, GoTask, NotEncodable, PyTask, Queue, Retry, TaskCancelled, current_task
from delayed.errors import ConfigurationError, InvalidTask
from delayed.job.allow import AllowAny
from delayed.job.outcome import Outcome
from delayed.otel import Tracing, instrument
from delayed.task.decode import headers_of
from delayed.testing.drain import drain
from delayed.worker.application import worker_of
from delayed.worker.worker import Worker
from delayed.workflow import Flow
from tests.conftest import burst
from tests.support.waiting import LONG_AGO

SECRET = "sesame"
inside: list[Any] = []


class Telemetry:
    """What the SDK was told."""

    def __init__(self, **options: Any) -> None:
        self._memory, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False, **options)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._memory))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)

    def spans(self) -> list[ReadableSpan]:
        return list(self._memory.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        """The only one of this name."""
        (found,) = (each for each in self.spans() if each.name == name)
        return found

    def points(self, name: str) -> list["Point"]:
        found = self._reader.get_metrics_data()
        assert found is not None
        metrics = [each for some in found.resource_metrics for scope in some.scope_metrics for each in scope.metrics]
        points: list[Any] = [point for each in metrics if each.name == name for point in each.data.data_points]
        return [Point(dict(each.attributes), getattr(each, "count", None) or each.value) for each in points]


class Point(NamedTuple):
    attributes: dict[str, Any]
    value: int


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    inside.clear()
    made = Telemetry()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


@pytest.fixture
def tracing(telemetry: Telemetry, queue: Queue) -> Tracing:
    return instrument(queue, telemetry.tracers, telemetry.meters)


def about(span: ReadableSpan) -> Mapping[str, Any]:
    assert span.attributes is not None
    return span.attributes


def ids(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def links(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(each.context.trace_id, each.context.span_id) for each in span.links]


def note(number: int = 0) -> int:
    inside.append(trace.get_current_span().get_span_context().span_id)
    return number


async def anote(number: int = 0) -> int:
    await asyncio.sleep(0)
    return note(number)


def fails(_secret: str) -> None:
    raise ValueError(f"no: {_secret}")


def asks() -> None:
    if current_task().attempt == 1:
        raise Retry(0)


def gives_up() -> None:
    raise TaskCancelled("enough")


def test_an_enqueue_and_its_execution_are_linked(queue: Queue, name: str, telemetry: Telemetry, tracing: Tracing) -> None:
    handle = queue.enqueue(PyTask(note, (1,), track=True))
    burst(queue, middlewares=[tracing])
    sent, ran = telemetry.span(f"send {name}"), telemetry.span(f"process {name}")
    assert (sent.kind, ran.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    common = {"messaging.system": "delayed", "messaging.destination.name": name, "messaging.message.id": handle.id}
    common["messaging.delayed.task"] = "tests.redis.otel.test_otel:note"
    send = {"messaging.operation.name": "send", "messaging.operation.type": "send"}
    process = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    own = {"messaging.delayed.attempt": 1, "messaging.delayed.outcome": "succeeded"}
    assert about(sent) == {**common, **send}
    assert about(ran) == {**common, **process, **own}
    assert links(ran) == [ids(sent)]
    assert ran.parent is None
    assert ids(ran)[0] != ids(sent)[0]
    assert inside == [ids(ran)[1]]
    assert ran.status.status_code is StatusCode.UNSET


def test_an_execution_may_belong_to_the_trace_of_its_enqueue(queue: Queue, name: str, telemetry: Telemetry) -> None:
    tracing = instrument(queue, telemetry.tracers, telemetry.meters, parent=True)
    with telemetry.tracers.get_tracer("test").start_as_current_span("request") as request:
        queue.enqueue(PyTask(note))
    burst(queue, middlewares=[tracing])
    sent, ran = telemetry.span(f"send {name}"), telemetry.span(f"process {name}")
    assert sent.parent == request.get_span_context()
    assert ran.parent is not None
    assert (ran.parent.trace_id, ran.parent.span_id) == ids(sent)
    assert not ran.links


def test_many_tasks_of_a_call_have_one_span(queue: Queue, name: str, telemetry: Telemetry, tracing: Tracing) -> None:
    tasks = [PyTask(note, (number,), unique=f"{number}" if number % 2 else None) for number in range(6)]
    assert queue.enqueue_many(tasks) == 6
    assert len(queue.enqueue_all([PyTask(note), PyTask(note)])) == 2
    burst(queue, middlewares=[tracing])
    first, second = (each for each in telemetry.spans() if each.name == f"send {name}")
    assert [about(each)["messaging.batch.message_count"] for each in (first, second)] == [6, 2]
    ran = [each for each in telemetry.spans() if each.name == f"process {name}"]
    assert sorted(links(each)[0] for each in ran) == sorted([ids(first)] * 6 + [ids(second)] * 2)
    with pytest.raises(InvalidTask, match="several tasks"):
        queue.enqueue_many(PyTask(note))  # type: ignore[arg-type]
    with pytest.raises(InvalidTask, match="takes a PyTask"):
        queue.enqueue_many([note])  # type: ignore[list-item]


async def test_asyncio(redis_url: str, queue: Queue, name: str, telemetry: Telemetry) -> None:
    async with AsyncQueue(name, redis_url) as producer:
        tracing = instrument(producer, telemetry.tracers, telemetry.meters)
        await producer.enqueue(PyTask(anote, (1,), track=True))
        await producer.enqueue_many(PyTask(anote, (number,)) for number in range(3))
    await asyncio.to_thread(burst, queue, middlewares=[tracing], async_tasks=4)
    one, many = (each for each in telemetry.spans() if each.name == f"send {name}")
    ran = [each for each in telemetry.spans() if each.name == f"process {name}"]
    assert sorted(links(each)[0] for each in ran) == sorted([ids(one)] + [ids(many)] * 3)
    assert sorted(inside) == sorted(ids(each)[1] for each in ran)


def test_threads(queue: Queue, name: str, telemetry: Telemetry, tracing: Tracing) -> None:
    queue.enqueue_many([PyTask(note), PyTask(anote), PyTask(note), PyTask(anote)])
    burst(queue, middlewares=[tracing], threads=2, async_tasks=2)
    assert sorted(inside) == sorted(ids(each)[1] for each in telemetry.spans() if each.name == f"process {name}")


def test_a_middleware_inside_of_it_sees_the_span(queue: Queue, name: str, telemetry: Telemetry, tracing: Tracing) -> None:
    def plain(job: Any, call_next: Any) -> Outcome:
        inside.append(trace.get_current_span().get_span_context().span_id)
        result: Outcome = call_next(job)
        return result

    queue.enqueue_many([PyTask(note), PyTask(anote)])
    burst(queue, middlewares=[tracing, plain], async_tasks=2)
    ran = [ids(each)[1] for each in telemetry.spans() if each.name == f"process {name}"]
    assert sorted(inside) == sorted(ran * 2)


def test_each_attempt_is_a_span(queue: Queue, name: str, telemetry: Telemetry, tracing: Tracing) -> None:
    queue.enqueue(PyTask(fails, (SECRET,), retry=2))
    burst(queue, middlewares=[tracing])
    ran = [each for each in telemetry.spans() if each.name == f"process {name}"]
    ends = [(about(each)["messaging.delayed.attempt"], about(each)["messaging.delayed.outcome"]) for each in ran]
    assert ends == [(1, "retried"), (2, "retried"), (3, "failed")]
    for each in ran:
        assert links(each) == [ids(telemetry.span(f"send {name}"))]
        assert about(each)["error.type"] == "builtins.ValueError"
        assert each.status.status_code is StatusCode.ERROR
        assert SECRET not in each.to_json()
    queue.store.call("UNLINK", queue.keys.dead)


def test_exceptions_are_recorded_if_that_is_wanted(queue: Queue, name: str, telemetry: Telemetry) -> None:
    tracing = instrument(queue, telemetry.tracers, telemetry.meters, record_exceptions=True)
    queue.enqueue(PyTask(fails, (SECRET,)))
    burst(queue, middlewares=[tracing])
    (event,) = telemetry.span(f"process {name}").events
    assert event.attributes is not None
    assert event.attributes["exception.message"] == f"no: {SECRET}"


@pytest.mark.parametrize(
    ("task", "outcomes", "error"),
    [
        (PyTask(asks, timeout=60), ["retried", "succeeded"], None),
        (PyTask("nowhere:f", timeout=60), ["failed"], "unknown_function"),
        (PyTask(note, (1, 2, 3), timeout=60), ["failed"], "bad_arguments"),
        (PyTask(note, expires=LONG_AGO), ["failed"], "expired"),
        (PyTask(gives_up, timeout=60), ["failed"], "delayed.errors.TaskCancelled"),
    ],
)
def test_ends(
    queue: Queue, name: str, telemetry: Telemetry, tracing: Tracing, task: PyTask, outcomes: list[str], error: str | None
) -> None:
    queue.enqueue(task)
    burst(queue, middlewares=[tracing])
    ran = [each for each in telemetry.spans() if each.name == f"process {name}"]
    assert [about(each)["messaging.delayed.outcome"] for each in ran] == outcomes
    assert about(ran[-1]).get("error.type") == error


def test_an_enqueue_that_fails(queue: Queue, name: str, telemetry: Telemetry, tracing: Tracing) -> None:
    queue.enqueue(PyTask(note, unique="u"))
    with pytest.raises(Duplicate):
        queue.enqueue(PyTask(note, unique="u"))
    with pytest.raises(NotEncodable):
        queue.enqueue(PyTask(note, (object(),)))
    errors = [about(each).get("error.type") for each in telemetry.spans()]
    assert errors == [None, "delayed.errors.Duplicate", "delayed.errors.NotEncodable"]


def test_metrics(queue: Queue, name: str, telemetry: Telemetry, tracing: Tracing) -> None:
    queue.enqueue(PyTask(note, timeout=60))
    queue.enqueue_many([PyTask(note), PyTask(fails, (SECRET,)), PyTask("nowhere:g")])
    burst(queue, middlewares=[tracing])
    common = {"messaging.system": "delayed", "messaging.destination.name": name}
    send = {**common, "messaging.operation.name": "send", "messaging.operation.type": "send"}
    process = {**common, "messaging.operation.name": "process", "messaging.operation.type": "process"}
    assert telemetry.points("messaging.client.operation.duration") == [(send, 2)]
    assert telemetry.points("messaging.client.sent.messages") == [(send, 4)]
    assert telemetry.points("messaging.client.consumed.messages") == [(process, 4)]
    ends = {
        (each.attributes.get("messaging.delayed.task"), each.attributes.get("error.type")): each.value
        for each in telemetry.points("messaging.process.duration")
    }
    module = "tests.redis.otel.test_otel"
    unknown = (None, "unknown_function")  # nobody can add series by names that there are not
    assert ends == {(f"{module}:note", None): 2, (f"{module}:fails", "builtins.ValueError"): 1, unknown: 1}


def stored(client: redis.Redis, name: str) -> list[bytes]:
    return [each for each in client.lrange(name, 0, -1) if isinstance(each, bytes)]


def test_what_is_not_sampled_stays_plain(queue: Queue, client: redis.Redis, name: str) -> None:
    telemetry = Telemetry(sampler=ALWAYS_OFF)
    instrument(queue, telemetry.tracers, telemetry.meters)
    queue.enqueue(PyTask(note, (1,)))
    queue.enqueue(GoTask("m.F", (1,)))
    queue.enqueue_many([PyTask(note, (1,))])
    assert stored(client, name) == [
        PyTask(note, (1,)).serialize(), GoTask("m.F", (1,)).serialize(), PyTask(note, (1,)).serialize(),
    ]  # fmt: skip
    instrument(queue, telemetry.tracers, telemetry.meters, parent=True)  # whoever goes on with it shall know
    queue.enqueue(PyTask(note, (1,)))
    flags = headers_of(stored(client, name)[-1])["traceparent"][-2:]
    assert not int(flags, 16) & trace.TraceFlags.SAMPLED
    telemetry.meters.shutdown()


def test_without_an_sdk_a_trace_that_passes_by_goes_on(queue: Queue, client: redis.Redis, name: str) -> None:
    instrument(queue)
    queue.enqueue(PyTask(note, (1,)))
    context = trace.SpanContext(5, 6, True, trace.TraceFlags(1), trace.TraceState([("a", "b")]))
    with trace.use_span(trace.NonRecordingSpan(context)):
        queue.enqueue(PyTask(note, (1,)))
    first, second = stored(client, name)
    assert first == PyTask(note, (1,)).serialize()
    assert headers_of(second) == {"traceparent": f"00-{5:032x}-{6:016x}-01", "tracestate": "a=b"}


def test_a_task_that_is_plain_has_no_span(queue: Queue, telemetry: Telemetry, tracing: Tracing) -> None:
    Queue(queue.name, queue.conn).enqueue(PyTask(note, (1,)))
    burst(queue, middlewares=[tracing])
    assert telemetry.spans() == []
    assert inside == [0]


@pytest.fixture
def app(redis_url: str, name: str, telemetry: Telemetry) -> Iterator[App]:
    made = App(redis_url, queue=name)
    made.task(note)
    made.task(anote)
    made.task(calls)
    instrument(made, telemetry.tracers, telemetry.meters)
    yield made
    for each in ("delay", "adelay", "call", "s", "each", "options", "handle", "ahandle", "delayed_hooks"):
        for function in (note, anote, calls):
            vars(function).pop(each, None)
    made.redis.close()


def calls(number: int) -> None:
    note.delay(number)  # type: ignore[attr-defined]


def test_an_application(app: App, name: str, telemetry: Telemetry) -> None:
    handle = app.tasks[f"{__name__}:calls"].delay(1)
    worker_of(app, burst=True).run()
    outer, outer_sent = (
        next(
            each
            for each in telemetry.spans()
            if each.name == f"{word} {name}" and about(each).get("messaging.message.id") == handle.id
        )
        for word in ("process", "send")
    )
    inner_sent = next(each for each in telemetry.spans() if each.parent is not None)
    inner = next(each for each in telemetry.spans() if links(each) == [ids(inner_sent)])
    assert (inner_sent.name, inner.name) == (f"send {name}", f"process {name}")
    assert inner_sent.parent == outer.get_span_context()
    assert links(outer) == [ids(outer_sent)]
    assert inside == [ids(inner)[1]]


async def test_an_application_for_asyncio(app: App, telemetry: Telemetry) -> None:
    await app.tasks[f"{__name__}:anote"].adelay(1)
    await app.aenqueue_many([app.tasks[f"{__name__}:anote"].call(1)])
    await app.aclose()
    await asyncio.to_thread(drain, app)
    assert len(telemetry.spans()) == 4
    assert all(len(each.links) == 1 for each in telemetry.spans() if each.kind is SpanKind.CONSUMER)


def test_the_nodes_of_a_workflow_are_linked_to_its_start(app: App, name: str, telemetry: Telemetry) -> None:
    flow = Flow(app.queue(), name="two")
    first = flow.add(app.tasks[f"{__name__}:note"].s(1))
    flow.add(app.tasks[f"{__name__}:anote"].s(2), after=first)
    run = flow.submit()
    worker_of(app, burst=True).run()
    sent = telemetry.span(f"send {name}")
    assert about(sent)["messaging.batch.message_count"] == 2
    assert about(sent)["messaging.delayed.workflow"] == run.id
    ran = [each for each in telemetry.spans() if each.name == f"process {name}"]
    assert [links(each) for each in ran] == [[ids(sent)]] * 2
    assert [about(each)["messaging.delayed.workflow"] for each in ran] == [run.id] * 2


def adds(number: int) -> None:
    workflow = current_task().workflow
    assert workflow is not None
    workflow.add(PyTask(note, (number,)))


def test_nodes_that_a_node_adds(queue: Queue, name: str, telemetry: Telemetry, tracing: Tracing) -> None:
    flow = Flow(queue)
    flow.add(PyTask(adds, (1,)))
    run = flow.submit()
    burst(queue, middlewares=[tracing])
    first, second = (each for each in telemetry.spans() if each.name == f"send {name}")
    outer, inner = (each for each in telemetry.spans() if each.name == f"process {name}")
    assert [about(each)["messaging.delayed.workflow"] for each in (first, second, outer, inner)] == [run.id] * 4
    assert second.parent == outer.get_span_context()
    assert [links(each) for each in (outer, inner)] == [[ids(first)], [ids(second)]]


async def test_what_is_published(queue: Queue, redis_url: str, name: str, telemetry: Telemetry, tracing: Tracing) -> None:
    queue.set_interest("*", f"{__name__}:note")
    copies = queue.publish({name: 1})
    async with AsyncQueue(name, redis_url) as producer:
        producer.tracing = tracing
        copies |= await producer.publish({name: 2})
    queue.remove_interest()
    await asyncio.to_thread(burst, queue, middlewares=[tracing])
    sent = [each for each in telemetry.spans() if each.name == "publish"]
    ran = [each for each in telemetry.spans() if each.name == f"process {name}"]
    assert [about(each)["messaging.batch.message_count"] for each in sent] == [len(copies)] * 2
    assert all("messaging.destination.name" not in about(each) for each in sent)
    assert [links(each) for each in ran] == [[ids(each)] for each in sent]


def test_a_worker_hands_over_what_the_sdk_keeps_when_it_ends(
    app: App, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(telemetry.tracers, "force_flush", flushed.append)
    monkeypatch.setattr(telemetry.meters, "force_flush", lambda _: 1 // 0)
    worker_of(app, burst=True).run()
    assert len(flushed) == 1
    assert "ZeroDivisionError" in caplog.text


def test_what_cannot_be_traced_is_refused(queue: Queue) -> None:
    with pytest.raises(ConfigurationError, match="no place for a trace context"):
        instrument(App(wire="upstream"))
    with pytest.raises(ConfigurationError, match="middlewares="):
        instrument(Worker(queue, allow=AllowAny()))  # type: ignore[arg-type]
