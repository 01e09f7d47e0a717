"""Workers of an application."""

from typing import Any

from ..app import App
from .options import WorkerOptions
from .worker import Worker


def options_of(app: App, **numbers: Any) -> WorkerOptions:
    """The options of workers that serve all queues of an application, run exactly its tasks, wrapped in its middlewares, and
    call its `on_start` and `on_stop`.

    Args:
        app: the application.
        numbers: other fields of `WorkerOptions`.

    Raises:
        ConfigurationError: the application has no tasks, or a number cannot work.
    """
    own = {"queues": app.queues(), "allow": app.allow, "middlewares": app.middlewares, "lifespan": app.running}
    return WorkerOptions(**{**own, **numbers})


def worker_of(app: App, **numbers: Any) -> Worker:
    """A worker with `options_of(app, …)`; raises as that does."""
    return Worker.of(options_of(app, **numbers))
