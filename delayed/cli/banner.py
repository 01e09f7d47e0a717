"""The start banner of `delayed worker`."""

import contextlib
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.escape import escaped
from ..base.text import counted
from ..job.modules import absent, unmatched
from ..logger import logger
from ..ops.processes import entries
from ..ops.product import product_of
from ..queue.queue import Queue
from ..redis.command import RedisError, is_cluster
from ..redis.connect import address

if TYPE_CHECKING:
    from ..app import App

_DISTRIBUTION = "delayedq"


def say_hello(queues: Sequence[Queue], allow: Sequence[str] | None, app: "App | None", app_path: str | None) -> None:
    """Log which version this is, its Redis, its queues and its functions; warn of patterns that match nothing.

    Args:
        queues: that are served.
        allow: patterns of functions; None for any function, or those of the application.
        app: the application, if there is one,
        app_path: and what it was found by.
    """
    first = queues[0]
    names = [queue.name for queue in queues]
    if app is not None:
        functions = f"{counted(len(app.tasks), 'function')} of {app_path}"
    else:
        functions = "any function" if allow is None else f"functions {', '.join(allow)}"
    extra = {"version": _version(), "redis": _redis(first), "address": address(first.conn), "queues": names}
    logger.info(
        "delayed %s (Python %s) on %s at %s; queues: %s; %s",
        extra["version"],
        platform.python_version(),
        extra["redis"],
        extra["address"],
        escaped(", ".join(names)),
        escaped(functions),
        extra=extra,
    )
    for path in sorted(app.tasks) if app is not None else ():
        logger.debug("Function %s", path)
    for pattern, module in absent(allow or ()):
        logger.warning(
            "--allow %r allows nothing: there is no module %r (the current folder is %s)", pattern, module, Path.cwd()
        )
    for pattern, module in unmatched(allow or ()):
        logger.warning("--allow %r allows nothing: the module %r has nothing of that name", pattern, module)


def warn_of_missing_sweepers(queues: Sequence[Queue]) -> None:
    """Log a warning if no sweeper serves some of the queues now."""
    lacking: list[str] = []
    with contextlib.suppress(RedisError):  # it says so elsewhere
        lacking = [queue.name for queue in queues if not _is_swept(queue)]
    if lacking:
        logger.warning(
            "No sweeper serves %s now: the tasks of a worker that dies stay with it, and scheduled ones may be late. Start "
            "`delayed sweeper %s`, or this worker with --with-sweeper",
            escaped(", ".join(lacking)),
            escaped(" ".join(lacking)),
            extra={"queues": lacking},
        )


def _is_swept(queue: Queue) -> bool:
    return any(each.get("kind") == "sweeper" for each in entries(queue).values())


def _redis(queue: Queue) -> str:
    """Kind and version of a server, as far as it says."""
    try:
        if is_cluster(queue.conn):
            return "a cluster"
        reply = queue.store.call("INFO", "server")
        lines = reply.decode(errors="replace").splitlines() if isinstance(reply, bytes) else []
        product, number = product_of(dict(line.split(":", 1) for line in lines if ":" in line))
        return f"{product} {escaped(number)}" if number else product
    except RedisError:  # it may come later, or forbid that
        return "Redis"


def _version() -> str:
    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:
        return "(not installed)"
