"""Makes spans and metrics of enqueues and executions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .. import __version__
from ..base.clock import monotonic
from ..base.text import name_of, said
from ..errors import Reason, Retry
from ..job.job import Job
from ..job.middleware import AsyncStep, Step
from ..job.outcome import Again, Done, Ended, Failed, Outcome
from ..logger import logger
from ..task.headers import TRACE, trace_in
from ..task.options import type_name
from ..task.result import State
from ..task.task import Task
from . import names

_FLUSHING = 5000  # milliseconds that a worker which ends gives to the SDK
_W3C = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans and metrics: a middleware, and what queues tell of their enqueues. See `instrument`."""

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        parent: bool = False,
        record_exceptions: bool = False,
    ) -> None:
        self._tracers, self._meters = tracer_provider, meter_provider
        self._parent, self._records = parent, record_exceptions
        self._tracer = trace.get_tracer(names.NAME, __version__, tracer_provider, names.SCHEMA)
        meter = metrics.get_meter(names.NAME, __version__, meter_provider, names.SCHEMA)
        self._sending = meter.create_histogram(
            names.OPERATION_DURATION,
            "s",
            "Duration of an enqueue.",
            explicit_bucket_boundaries_advisory=names.SECONDS,
        )
        self._processing = meter.create_histogram(
            names.PROCESS_DURATION, "s", "Duration of an execution.", explicit_bucket_boundaries_advisory=names.SECONDS
        )
        self._sent = meter.create_counter(names.SENT, "{message}", "Tasks that were enqueued.")
        self._consumed = meter.create_counter(names.CONSUMED, "{message}", "Executions that began.")

    # Enqueues

    @contextmanager
    def sending(self, queue: str | None, path: str | None) -> Iterator["Send"]:
        """See `delayed.queue.tracing.Tracing.sending`."""
        began, name = monotonic(), "publish" if queue is None else "send"
        common: dict[str, Any] = {names.SYSTEM: names.NAME, names.OPERATION: name, names.TYPE: "send"}
        if queue is not None:
            common[names.DESTINATION] = queue
        about = common if path is None else {**common, names.TASK: path}
        title = name if queue is None else f"{name} {queue}"
        span = self._tracer.start_span(title, kind=SpanKind.PRODUCER, attributes=about)
        send = Send(span, even_if_not_sampled=self._parent)
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield send
        except BaseException as error:
            common[names.ERROR] = type_name(type(error))
            self._note(span, common[names.ERROR], error)
            raise
        finally:
            span.end()
            self._sending.record(monotonic() - began, common)
            self._sent.add(send.count, common)

    # Executions

    def __call__(self, job: Job, call_next: Step) -> Outcome:
        """The middleware."""
        with self._execution(job) as execution:
            execution.outcome = call_next(job)
            return execution.outcome

    async def asynchronous(self, job: Job, call_next: AsyncStep) -> Outcome:
        """The middleware of coroutines."""
        with self._execution(job) as execution:
            execution.outcome = await call_next(job)
            return execution.outcome

    @contextmanager
    def _execution(self, job: Job) -> Iterator["Execution"]:
        began = monotonic()
        queue = job.queue.name
        common: dict[str, Any] = {
            names.SYSTEM: names.NAME,
            names.OPERATION: "process",
            names.TYPE: "process",
            names.DESTINATION: queue,
        }
        span = self._begin(job, f"process {queue}", common)
        self._consumed.add(1, common)
        execution = Execution()
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield execution
        except BaseException as error:  # of a middleware
            execution.outcome = Failed(error, Reason.FAILED, "")
            raise
        finally:
            name, kind, raised = _ending(execution.outcome)
            span.set_attribute(names.OUTCOME, name)
            common[names.OUTCOME] = name
            if job.function is not None:  # else the path may be anybody's invention, and there may be many
                common[names.TASK] = job.func_path
            if kind is not None:
                common[names.ERROR] = kind
                self._note(span, kind, raised)
            span.end()
            self._processing.record(monotonic() - began, common)

    def _begin(self, job: Job, name: str, common: dict[str, Any]) -> Span:
        known = {names.MESSAGE: job.id, names.WORKFLOW: job.flow}
        about = {**common, names.TASK: job.func_path, names.ATTEMPT: job.attempt}
        about |= {attribute: value for attribute, value in known.items() if value is not None}
        found = trace_in(job.headers)
        context = Context() if found is None else _W3C.extract(dict(zip(TRACE, found, strict=True)), Context())
        creation = trace.get_current_span(context).get_span_context()
        if self._parent:
            return self._tracer.start_span(name, context, SpanKind.CONSUMER, about)
        links = [Link(creation)] if creation.is_valid else []
        return self._tracer.start_span(name, Context(), SpanKind.CONSUMER, about, links)

    def _note(self, span: Span, kind: str, error: BaseException | None) -> None:
        span.set_attribute(names.ERROR, kind)
        span.set_status(StatusCode.ERROR)
        if self._records and error is not None:
            span.record_exception(error)

    def flush(self) -> None:
        """Hand over what the SDK still keeps: a worker process does this when it ends."""
        for provider in (self._tracers or trace.get_tracer_provider(), self._meters or metrics.get_meter_provider()):
            flush = getattr(provider, "force_flush", None)  # the API has none
            if flush is None:
                continue
            try:
                flush(_FLUSHING)
            except Exception as error:  # of an exporter
                logger.warning("The last spans or metrics of this process are lost: %s %s", name_of(type(error)), said(error))


class Send:
    """An enqueue that is traced: see `delayed.queue.tracing.Sending`."""

    def __init__(self, span: Span, *, even_if_not_sampled: bool) -> None:
        self.count = 0  # tasks that go in
        self._span = span
        carrier: dict[str, str] = {}
        if even_if_not_sampled or span.get_span_context().trace_flags.sampled:
            _W3C.inject(carrier, trace.set_span_in_context(span, Context()))
        self.trace = trace_in(carrier) or ("", "")

    def carrying(self, task: Task) -> Task:
        """The task with the trace context that its worker shall find."""
        self.count += 1
        return task.traced(*self.trace)

    def done(self, identity: str | None) -> None:
        """The task is there, under this id."""
        if identity is not None:
            self._span.set_attribute(names.MESSAGE, identity)

    def all_done(self, count: int, workflow: str | None = None) -> None:
        """So many tasks are there, in a workflow of this id or in none."""
        self.count = count
        self._span.set_attribute(names.COUNT, count)
        if workflow is not None:
            self._span.set_attribute(names.WORKFLOW, workflow)


class Execution:
    """An execution that is traced."""

    outcome: Outcome | None = None


def _ending(outcome: Outcome | None) -> tuple[str, str | None, BaseException | None]:
    """How an execution has ended: in a word, the type of the error, and the error."""
    if isinstance(outcome, Done):
        return "succeeded", None, None
    if isinstance(outcome, Again):
        asked = issubclass(type(outcome.cause), Retry)  # that is no failure
        kind = names.OTHER if outcome.cause is None else type_name(type(outcome.cause))
        return "retried", None if asked else kind, outcome.cause
    if isinstance(outcome, Failed):
        kind = type_name(type(outcome.error)) if outcome.reason is Reason.FAILED else str(outcome.reason)
        return "failed", kind, outcome.error
    if isinstance(outcome, Ended) and outcome.state is State.CANCELLED:
        return "cancelled", None, None
    reason = outcome.reason if isinstance(outcome, Ended) else None
    return "failed", names.OTHER if reason is None else str(reason), None
