"""Log lines of tasks: the fields of a record, the words in its line, and the exception."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from ..base.clock import monotonic
from ..base.escape import escaped
from ..base.text import clipped
from ..errors import Reason
from ..logger import logger
from ..task.decode import headers_of, path_of
from ..task.headers import any_id_in
from .failure import own_frames
from .job import Job

NAMED = 10  # lost tasks that a line names
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def fields(queue: str, path: str, outcome: str, job: Job | None = None, **more: Any) -> dict[str, Any]:
    """The `extra` of a record: what is known of the task (never its arguments), how this attempt ended, and what is given
    beside, but for what is None."""
    found: dict[str, Any] = {
        "task_id": job.id if job else None,
        "queue": queue,
        "function": path,
        "attempt": job.attempt if job else None,
        "outcome": outcome,
        "metadata": (job.metadata or None) if job else None,
        "flow": job.flow if job else None,
        **more,
    }
    return {name: value for name, value in found.items() if value is not None}


def words(extra: dict[str, Any]) -> str:
    """As a line ends: '(id …, queue mail, attempt 2, ran 0.1 s, waited 3.2 s)'."""
    parts = [f"id {clipped(escaped(extra['task_id']), 100)}"] if "task_id" in extra else []
    parts.append(f"queue {escaped(extra['queue'])}")
    if "attempt" in extra:
        parts.append(f"attempt {extra['attempt']}")
    parts += [f"{verb} {extra[name]:.3f} s" for name, verb in (("seconds", "ran"), ("waited", "waited")) if name in extra]
    return f"({', '.join(parts)})"


def exc_info(error: BaseException | None) -> ExcInfo | None:
    """An exception for a record, from the task's own code on: handlers that group records by it find the task's frames."""
    return None if error is None else (type(error), error, own_frames(error))


def log_dead(
    queue: str,
    path: str,
    reason: Reason,
    detail: str,
    *,
    job: Job | None = None,
    error: BaseException | None = None,
    seconds: float | None = None,
) -> None:
    """A task has become a dead letter, with this detail."""
    extra = fields(queue, path, str(reason), job, seconds=seconds, task_detail=detail)
    says = "Task %s: %s; see `delayed dead list %s` %s"
    logger.error(says, escaped(path), reason, queue, words(extra), extra=extra, exc_info=exc_info(error))


def ran(job: Job) -> float | None:
    """Seconds for which this attempt has run; None if it has not begun."""
    return monotonic() - job.began if job.began else None


def lost(tasks: Sequence[bytes | None]) -> list[dict[str, str]]:
    """The fields of tasks that were lost with their worker."""
    found = []
    for data in filter(None, tasks):
        identity = any_id_in(headers_of(data))
        found.append({"function": path_of(data), **({"task_id": identity} if identity else {})})
    return found


def names_of(tasks: Sequence[dict[str, str]]) -> str:
    """Lost tasks, as a line ends: ': myapp.mail:send (id …), …'; the first ten. '' for none."""
    shown = [
        escaped(each["function"]) + (f" (id {clipped(escaped(each['task_id']), 100)})" if "task_id" in each else "")
        for each in tasks[:NAMED]
    ]
    return (": " + ", ".join(shown) + (", …" if len(tasks) > NAMED else "")) if shown else ""
