"""Tasks that note outside of Redis that they ran. In a child that is to die they also do something to their worker; in the
worker that clears up afterwards they only note."""

import os
import signal
import socket
import time
from pathlib import Path

import delayed.worker.heartbeat
from delayed.job.job import current_task
from delayed.redis.connect import connect
from delayed.task.task import PyTask
from delayed.worker.worker import Worker
from delayed.workflow import group

from .crash_points import Counter, wait_for

RAN, RETURNED = b"R", b"E"


class _Stage:
    """The child's worker and counter; None outside of it."""

    worker: Worker | None = None
    counter: Counter | None = None
    url = ""


STAGE = _Stage()


def note(path: str, kind: bytes, number: int) -> None:
    """Append a record in one step."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, kind + number.to_bytes(8))
    os.close(descriptor)


def run(path: str, number: int, ballast: str = "") -> None:
    note(path, RAN, number)


def fail(path: str, number: int) -> None:
    note(path, RAN, number)
    raise ValueError(number)


def fail_once(path: str, number: int) -> None:
    """Fail the first time."""
    note(path, RAN, number)
    records = Path(path).read_bytes()
    if [records[at : at + 9] for at in range(0, len(records), 9)].count(RAN + number.to_bytes(8)) == 1:
        raise ValueError(number)


def give(path: str, number: int, count: int) -> list[int]:
    """The numbers after its own."""
    note(path, RAN, number)
    return list(range(number + 1, number + 1 + count))


def each(number: int, path: str) -> None:
    """A node of a map."""
    note(path, RAN, number)


def grow(path: str, number: int, count: int) -> None:
    """Add nodes to its workflow, with the numbers after its own."""
    note(path, RAN, number)
    workflow = current_task().workflow
    assert workflow is not None
    function = f"{__name__}:run"
    workflow.add(group(PyTask(function, (path, number + 1 + offset)) for offset in range(count)), name="more")


def stop(path: str, number: int) -> None:
    """Ask the worker to stop."""
    note(path, RAN, number)
    if STAGE.worker is not None:
        STAGE.worker.stop()


def insist(path: str, number: int) -> None:
    """The worker is told to leave now, in the middle of this task."""
    note(path, RAN, number)
    if STAGE.worker is not None:
        os.kill(os.getpid(), signal.SIGQUIT)
        time.sleep(60)


def cut_off(path: str, number: int) -> None:
    """The worker's connection breaks."""
    note(path, RAN, number)
    if STAGE.worker is not None:
        STAGE.worker._parts.channel._sock.shutdown(socket.SHUT_RDWR)


def dawdle(path: str, number: int) -> None:
    """Be slow, until the heartbeat has given back what waits behind this task."""
    note(path, RAN, number)
    worker = STAGE.worker
    if worker is not None:
        delayed.worker.heartbeat.BUDGET = 0.001  # type: ignore[attr-defined]
        worker._heartbeat._next_look = 0.0
        worker._heartbeat.wake()
        wait_for(lambda: worker.state.pools[0].returned, "nothing was given back")


def outlast(path: str, number: int) -> None:
    """Last for a beat, which finds that this task's lease has run out."""
    note(path, RAN, number)
    worker, counter = STAGE.worker, STAGE.counter
    if worker is not None and counter is not None:
        assert worker.state.running is not None
        with counter.unseen():
            client = connect(STAGE.url)
            client.delete(worker.state.running.name)
            client.close()
        beats = counter.names.count("TIME")  # the last command of a beat
        worker._heartbeat._next_beat = 0.0
        worker._heartbeat.wake()
        wait_for(lambda: counter.names.count("TIME") > beats, "no beat came")
