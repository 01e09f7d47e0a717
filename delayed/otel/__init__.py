"""OpenTelemetry: spans and metrics of enqueues and of executions. It needs the extra `otel`, which is the API alone: what
becomes of them is for the SDK to say that the application sets up."""

from . import needs as needs  # before the others: it says what to install
from .instrument import instrument
from .tracing import Tracing

__all__ = ["Tracing", "instrument"]
