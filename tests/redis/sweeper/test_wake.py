"""What a sweeper does that cannot hear when something is due."""

import contextlib
import threading
from collections.abc import Iterator

import pytest
import redis

from delayed.queue.queue import Queue
from delayed.redis.store import Store
from delayed.sweeper.sweeper import Sweeper
from delayed.sweeper.wake import WakeListener
from delayed.task.task import PyTask
from tests.conftest import eventually


@contextlib.contextmanager
def running(sweeper: Sweeper) -> Iterator[None]:
    thread = threading.Thread(target=sweeper.run)
    thread.start()
    yield
    sweeper.stop()
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.breaks_invariants
def test_a_refused_bell_is_not_asked_again_at_once(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    client.set(queue.keys.wake, "another program's")
    begun: list[object] = []
    begin = WakeListener._begin

    def beginning(self: WakeListener) -> None:
        begun.append(self)
        begin(self)

    monkeypatch.setattr(WakeListener, "_begin", beginning)
    wake_listener = WakeListener([queue.store])
    descriptor = wake_listener.listen()
    assert descriptor != -1
    while wake_listener.listening:
        wake_listener.hear()
    assert [wake_listener.listen() for _ in range(100)] == [-1] * 100
    assert len(begun) == 1
    monkeypatch.setattr("delayed.sweeper.wake.monotonic", lambda: 1e12)
    assert wake_listener.listen() != -1
    wake_listener.close()


def test_what_cannot_be_heard_is_looked_at(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS, for example, a descriptor says nothing. The next sweep is an hour away."""
    looked = threading.Semaphore(0)
    due = Store.due

    def looking(self: Store, *args: object) -> object:
        looked.release()
        return due(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "due", looking)
    monkeypatch.setattr(WakeListener, "listen", lambda _self: -1)
    monkeypatch.setattr("delayed.sweeper.sweeper._POLL", 0.05)
    with running(Sweeper([queue], 3600)):
        assert looked.acquire(timeout=20)
        queue.enqueue(PyTask("tasks:noop", after=0.05))
        eventually(lambda: queue.len() == 1)
