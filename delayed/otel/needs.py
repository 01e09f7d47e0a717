"""Sees that the API of OpenTelemetry is there, which an extra brings."""

from importlib.util import find_spec

from ..errors import ConfigurationError

if find_spec("opentelemetry") is None:
    raise ConfigurationError("traces need the API of OpenTelemetry: pip install 'delayedq[otel]'")
