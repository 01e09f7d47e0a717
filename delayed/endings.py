"""How a worker ends the leases of what it has run, what it counts, and what it tells those who listen."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from .channel import Channel
from .connection import pack
from .errors import Reason
from .escape import escaped, indented
from .events import Kind
from .functions import verdict
from .job import Failed, Job, Outcome, Waits
from .leases import Lease
from .lifecycle import Lifecycle
from .logger import logger
from .queue import Queue
from .reporter import Reporter
from .scripts import Argument
from .wire import Call, headers_of, id_in, path_of, with_retry


class Endings:
    """The endings of one worker's tasks.

    Args:
        channel: the worker's connection.
        lifecycle: ends what has headers.
        reporter: tells those who listen.
        place: host:pid.
        ttl: seconds that a lease lives after a beat.
    """

    def __init__(self, channel: Channel, lifecycle: Lifecycle, reporter: Reporter, place: str, ttl: float) -> None:
        self._channel, self._lifecycle, self._reporter = channel, lifecycle, reporter
        self._place, self._ttl = place, ttl
        self.counts: Counter[str] = Counter()  # of all but successes, whose count is ''

    def succeed(self, lease: Lease, fresh: bool) -> None:
        """A task without headers has returned; `fresh`: its lease lives for certain."""
        if lease.suspect or lease.gone or not fresh:
            self._asking(lease).succeed(lease.name)
        else:
            self._channel.post(lease)

    def fail(
        self, lease: Lease, data: bytes, call: Call | None, function: Callable[..., Any] | None, error: BaseException
    ) -> None:
        """A task without headers has raised `error`, or could not be run; `call` and `function` as far as they are known."""
        headers = headers_of(data) if call is None else {}
        if id_in(headers) is not None:  # it is one for Go, say, and somebody waits for it
            job = Job(lease.book.pooled, Call(path_of(data), (), {}, 0, headers))
            self.end(lease, data, job, Failed(error, *verdict(None, None, error)))
            return
        queue = self._asking(lease)
        reason, detail = verdict(function, call, error)
        names = {"task": call.func_path, "args": call.args, "kwargs": call.kwargs} if call else {"task": path_of(data)}
        if reason is Reason.FAILED and call is not None and call.retry:
            self.counts["retried"] += 1
            left = call.retry - 1 if call.retry > 0 else call.retry
            path, count = escaped(call.func_path), left if left >= 0 else "all"
            logger.warning("Task %s failed, %s retries left\n%s", path, count, indented(detail))
            queue.retry(lease.name, with_retry(data, left))
            self._reporter.retried(queue.keys.queue, function, error, detail, **names)
        else:
            self.counts["failed" if reason is Reason.FAILED else "buried"] += 1
            path, shown = escaped(path_of(data)), indented(detail)
            logger.error("Task %s: %s; see `delayed dead list %s`\n%s", path, reason, queue.name, shown)
            queue.bury(lease.name, reason, detail, self._place)
            self._reporter.buried(queue.keys.queue, function, error, reason, detail, **names)

    def end(self, lease: Lease, data: bytes, job: Job, outcome: Outcome | None) -> None:
        """A task with headers has ended; None if its lease had been lost before it began."""
        if outcome is None:
            lease.answered(0, repeated=False)
        elif isinstance(outcome, Waits):  # the script that should have begun it has ended the lease
            lease.answered(1, repeated=False)
            self.counts["postponed"] += 1
        else:
            queue = self._asking(lease)
            count = self._lifecycle.end(queue, lease.name, data, job, outcome)
            self.counts[count] += 1
            self._reporter.ended(queue.keys.queue, job, outcome, count)

    def end_early(self, channel: Channel, lease: Lease, job: Job, outcome: Outcome) -> Callable[[], None]:
        """As `end`, from the heartbeat's thread while the task runs, and over its connection. Returns what tells those who
        listen."""
        queue = lease.book.queue.over(channel)
        count = self._lifecycle.end(queue, lease.name, lease.data or b"", job, outcome)
        self.counts[count] += 1
        return partial(self._reporter.ended, queue.keys.queue, job, outcome, count)

    def superseded(self, lease: Lease) -> None:
        """The lease of a task was lost while it ran."""
        self.counts["superseded"] += 1
        path = path_of(lease.data or b"")
        logger.error(
            "Superseded: the lease under which %s ran was lost, so another worker has the task too; was this process "
            "stopped or cut off from Redis for more than %g s?",
            escaped(path),
            self._ttl,
        )
        self._reporter.say(Kind.SUPERSEDED, lease.book.queue.name, task=path)

    def counted(self, finished: int) -> dict[str, int]:
        """How many of the `finished` tasks ended in which way."""
        counts = dict(self.counts)  # of one moment
        others = sum(counts[name] for name in counts if name not in ("", "superseded"))
        named = {name: counts.get(name, 0) for name in ("retried", "failed", "buried", "superseded")}
        return {"succeeded": finished - others, **named}

    def _asking(self, lease: Lease) -> Queue:
        return lease.book.queue.over(_Asking(self._channel, lease))


class _Asking:
    """Sends the script that ends `lease`, and tells the lease what it did."""

    def __init__(self, channel: Channel, lease: Lease) -> None:
        self._channel = channel
        self._lease = lease

    def call(self, *command: Argument) -> int:
        self._channel.ask(pack(*command), self._lease.answered)
        return 1
