"""A collector of OpenTelemetry: it keeps what comes by OTLP over HTTP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Span(NamedTuple):
    """A span, as it came."""

    name: str
    kind: int  # 4: producer, 5: consumer
    trace: str
    id: str
    parent: str
    links: list[tuple[str, str]]  # trace, span
    attributes: dict[str, Any]
    failed: bool
    events: list[str]


class Collector:
    """What has come so far."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.spans: list[Span] = []
        self.metrics: dict[str, list[dict[str, Any]]] = {}  # the attributes of their points
        self.raw = b""  # everything

    def take(self, path: str, body: bytes) -> None:
        """One request."""
        self.raw += body
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.spans += [_span(each) for scope in resource.scope_spans for each in scope.spans]
            return
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for metric in (each for scope in resource.scope_metrics for each in scope.metrics):
                points = getattr(metric, metric.WhichOneof("data")).data_points
                self.metrics.setdefault(metric.name, []).extend(_values(point.attributes) for point in points)

    def named(self, name: str) -> list[Span]:
        """The spans of this name."""
        return [span for span in list(self.spans) if span.name == name]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _span(found: Any) -> Span:
    links = [(link.trace_id.hex(), link.span_id.hex()) for link in found.links]
    events = [event.name for event in found.events]
    ids = (found.trace_id.hex(), found.span_id.hex(), found.parent_span_id.hex())
    return Span(found.name, found.kind, *ids, links, _values(found.attributes), found.status.code == 2, events)


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
