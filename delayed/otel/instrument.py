"""Turns traces on: for an application, or for a queue."""

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from ..app.app import App
from ..errors import ConfigurationError
from ..queue.async_queue import AsyncQueue
from ..queue.queue import Queue
from .tracing import Tracing


def instrument(
    target: App | Queue | AsyncQueue,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    *,
    parent: bool = False,
    record_exceptions: bool = False,
) -> Tracing:
    """Trace an application: each enqueue, and each execution in its workers. Or a queue: each enqueue by this object.

    ```python
    instrument(app)
    Worker(queue, middlewares=[instrument(queue)])  # without an application
    ```

    Args:
        target: the application, or the queue.
        tracer_provider, meter_provider: of the SDK; None for the global ones.
        parent: an execution belongs to the trace of its enqueue. Otherwise it begins a trace, with a link to the enqueue.
        record_exceptions: spans have the message and the traceback of what was raised, which may quote arguments. Otherwise
            they have its type.

    Returns:
        What does it: the middleware for a `Worker` without an application.

    Raises:
        ConfigurationError: it is none of these, or an application with `wire="upstream"`.
    """
    tracing = Tracing(tracer_provider, meter_provider, parent=parent, record_exceptions=record_exceptions)
    if isinstance(target, App):
        target.trace(tracing)
        target.middlewares.insert(0, tracing)
        target.on_stop(tracing.flush)
    elif isinstance(target, Queue | AsyncQueue):
        target.tracing = tracing
    else:
        raise ConfigurationError(
            f"instrument takes an App, a Queue or an AsyncQueue, not {type(target).__name__}; a Worker without an App takes "
            f"what it returns: Worker(queue, middlewares=[instrument(queue)])"
        )
    return tracing
