"""An application that is traced: its spans and metrics go by OTLP to where the environment says."""

import os

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from delayed import App
from delayed.otel import instrument

tracers = TracerProvider()
tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=3_600_000))  # only if it is asked to
meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=3_600_000)])
app = App(queue=os.environ["TRACED_QUEUE"])
instrument(app, tracers, meters, parent="TRACED_PARENT" in os.environ)


@app.task
def work(number: int) -> int:
    return number


@app.task
async def wait(number: int) -> int:
    return number
