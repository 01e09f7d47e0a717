"""The worker of an application."""

from typing import Any

from ..app import App
from .options import KEEP_ALIVE_INTERVAL
from .worker import Worker


class AppWorker(Worker):
    """A worker that runs exactly the tasks of an application, wrapped in its middlewares, and what the application wants to
    run when a worker process begins and ends.

    Args:
        app: the application.
        parameters: as for `Worker`, but for `allow`, `middlewares` and the queues, which are the application's.

    Raises:
        ConfigurationError: as `Worker`; or the application has no tasks.
    """

    def __init__(self, app: App, keep_alive_interval: float = KEEP_ALIVE_INTERVAL, **parameters: Any) -> None:
        super().__init__(app.queues(), keep_alive_interval, allow=app.allow, middlewares=app.middlewares, **parameters)
        self._app = app

    def run(self) -> None:
        """As `Worker.run`, between `on_start` and `on_stop`."""
        with self._app.running():
            super().run()
