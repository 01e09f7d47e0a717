"""What an operator does to queues, schedules and workflows. Dead letters and tasks: `dead_actions` and `task_actions`."""

from typing import Any, cast, get_args

from ..base.escape import escaped
from ..base.text import counted
from ..cron.schedules import Schedules
from ..errors import InvalidAct
from ..queue.limits import Limits
from ..queue.queue import Queue
from ..workflow.again import RetryMode
from ..workflow.run import Run
from .audit import Actor, Done, audited
from .purge import purge
from .rename import rename


def pause_queue(queue: Queue, by: Actor) -> Done:
    """Stop starting tasks from a queue."""

    def do() -> Done:
        queue.pause()
        return Done("queue.pause", queue.name, 1, f"{escaped(queue.name)}: paused")

    return audited(queue, by, "queue.pause", "", do)


def resume_queue(queue: Queue, by: Actor) -> Done:
    """Start tasks from a queue again."""

    def do() -> Done:
        queue.resume()
        return Done("queue.resume", queue.name, 1, f"{escaped(queue.name)}: goes on")

    return audited(queue, by, "queue.resume", "", do)


def limit_queue(
    queue: Queue, by: Actor, *, concurrency: int | None = None, rate: float | None = None, burst: int | None = None,
    lift: bool = False,
) -> Done:  # fmt: skip
    """Set limits of a queue; what is not given stays. `lift` removes all of them.

    Raises:
        InvalidAct: nothing is said, or both.
        ConfigurationError: numbers that would let nothing run.
    """
    if lift == (concurrency is not None or rate is not None or burst is not None):
        raise InvalidAct("say which limits to set (concurrency, rate, burst), or to lift all of them")
    if lift:
        return set_limits(queue, by)

    def do() -> Done:
        before = queue.limits()
        new_rate, new_burst = rate, burst
        if rate is None:
            new_rate, new_burst = before.rate, before.burst if burst is None else burst
        queue.limit(concurrency=before.concurrency if concurrency is None else concurrency, rate=new_rate, burst=new_burst)
        return _limited(queue)

    return audited(queue, by, "queue.limit", _named(concurrency, rate, burst), do)


def set_limits(
    queue: Queue, by: Actor, *, concurrency: int | None = None, rate: float | None = None, burst: int | None = None
) -> Done:
    """Set all limits of a queue; what is not given is not limited.

    Raises:
        ConfigurationError: numbers that would let nothing run.
    """

    def do() -> Done:
        queue.limit(concurrency=concurrency, rate=rate, burst=burst)
        return _limited(queue)

    return audited(queue, by, "queue.limit", _named(concurrency, rate, burst) or "none", do)


def _named(concurrency: int | None, rate: float | None, burst: int | None) -> str:
    given = (("concurrency", concurrency), ("rate", rate), ("burst", burst))
    return ", ".join(f"{name}={value}" for name, value in given if value is not None)


def _limited(queue: Queue) -> Done:
    return Done("queue.limit", queue.name, 1, limits_text(queue.name, queue.limits()))


def limits_text(name: str, limits: Limits) -> str:
    """The limits of a queue, in words."""
    parts = ["paused"] if limits.paused else []
    if limits.concurrency is not None:
        parts.append(f"at most {counted(limits.concurrency, 'task')} at once")
    if limits.rate is not None:
        parts.append(f"{limits.rate:g} tasks a second, {limits.burst} at once after a pause")
    return f"{escaped(name)}: {', '.join(parts) or 'not limited'}"


def purge_queue(queue: Queue, by: Actor) -> Done:
    """Remove all tasks that wait in a queue."""

    def do() -> Done:
        count = purge(queue)
        return Done("queue.purge", queue.name, count, f"{escaped(queue.name)}: {counted(count, 'waiting task')} removed")

    return audited(queue, by, "queue.purge", "all that waits", do)


def rename_queue(queue: Queue, new: Queue, by: Actor) -> Done:
    """Give a queue on which nobody works another name."""

    def do() -> Done:
        rename(queue, new)
        says = f"is called {escaped(new.name)} now; start its producers, workers and sweepers with that name"
        return Done("queue.rename", queue.name, 1, f"{escaped(queue.name)}: {says}")

    return audited(queue, by, "queue.rename", f"to {new.name}", do)


def set_interest(queue: Queue, by: Actor, match: object, function: str, retry: int = 0) -> Done:
    """Let a queue get copies of what is published and fits."""

    def do() -> Done:
        queue.set_interest(match, function, retry=retry)
        says = f"{escaped(queue.name)}: gets a copy of what is published and fits, as a call of {escaped(function)}"
        return Done("interest.add", queue.name, 1, says)

    return audited(queue, by, "interest.add", function, do)


def remove_interest(queue: Queue, by: Actor) -> Done:
    """Let a queue get no copies of what is published any more.

    Raises:
        InvalidAct: it has no interest.
    """

    def do() -> Done:
        if not queue.remove_interest():
            raise InvalidAct(f"{queue.name!r} has no interest")
        return Done("interest.remove", queue.name, 1, f"{escaped(queue.name)}: gets no copies any more")

    return audited(queue, by, "interest.remove", "", do)


def cancel_flow(run: Run, by: Actor) -> Done:
    """Cancel a workflow: what waits will not begin, and what runs is told.

    Raises:
        InvalidAct: it has ended.
        UnknownTask: nothing is known of it.
    """

    def do() -> Done:
        before = run.status()
        if before.ended is not None:
            raise InvalidAct(f"{run.id} has ended: it is {before.state}")
        run.cancel()
        return Done("flow.cancel", run.queue.name, 1, f"{run.id}: {run.status().state}")

    return audited(run.queue, by, "flow.cancel", run.id, do)


def retry_flow(run: Run, by: Actor, mode: str = "failed_only") -> Done:
    """Let a workflow that has ended go on; see `Run.retry`."""
    if mode not in get_args(RetryMode):
        raise InvalidAct(f"{mode!r:.100} is no way to retry a workflow: {', '.join(get_args(RetryMode))}")

    def do() -> Done:
        count = run.retry(cast("RetryMode", mode))
        return Done("flow.retry", run.queue.name, count, f"{run.id}: {counted(count, 'node')} to run")

    return audited(run.queue, by, "flow.retry", f"{run.id} {mode}", do)


def signal_flow(run: Run, by: Actor, name: str, payload: Any = None) -> Done:
    """Give a workflow a signal. The first one with a name counts; `left` says if it was not the first."""

    def do() -> Done:
        if not run.signal(name, payload):
            left = f"{run.id} has had the signal {name!r}: the first one counts, nothing has changed"
            return Done("flow.signal", run.queue.name, 0, "", left)
        return Done("flow.signal", run.queue.name, 1, f"{run.id}: has the signal {name!r}")

    return audited(run.queue, by, "flow.signal", f"{run.id} {name}", do)


def delete_flow(run: Run, by: Actor) -> Done:
    """Remove a workflow that has ended; see `Run.forget`."""

    def do() -> Done:
        run.forget()
        return Done("flow.delete", run.queue.name, 1, f"{run.id}: removed")

    return audited(run.queue, by, "flow.delete", run.id, do)


def pause_schedule(queue: Queue, by: Actor, name: str) -> Done:
    """Pause a schedule."""

    def do() -> Done:
        was = Schedules(queue).pause(name)
        return Done("cron.pause", queue.name, int(was), f"{escaped(name)} {'is paused' if was else 'was paused already'}")

    return audited(queue, by, "cron.pause", name, do)


def resume_schedule(queue: Queue, by: Actor, name: str) -> Done:
    """Resume a schedule, from now on."""

    def do() -> Done:
        was = Schedules(queue).resume(name)
        return Done("cron.resume", queue.name, int(was), f"{escaped(name)} {'goes on' if was else 'was not paused'}")

    return audited(queue, by, "cron.resume", name, do)


def run_schedule(queue: Queue, by: Actor, name: str) -> Done:
    """Run a schedule now, in addition to its times."""

    def do() -> Done:
        Schedules(queue).run(name)
        return Done("cron.run", queue.name, 1, f"{escaped(name)} is enqueued")

    return audited(queue, by, "cron.run", name, do)


def remove_schedule(queue: Queue, by: Actor, name: str) -> Done:
    """Remove a schedule. A worker that imports its definition registers it again."""

    def do() -> Done:
        Schedules(queue).remove(name)
        return Done("cron.remove", queue.name, 1, f"{escaped(name)} is removed")

    return audited(queue, by, "cron.remove", name, do)
