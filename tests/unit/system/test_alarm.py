"""The timer of a soft timeout."""

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from delayed.errors import TimedOut
from delayed.system.alarm import Alarm

pytestmark = pytest.mark.usefixtures("undone")


@pytest.fixture
def undone() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    yield
    signal.setitimer(signal.ITIMER_REAL, left)
    signal.signal(signal.SIGALRM, before)


def ring(alarm: Alarm, seconds: float = 60) -> None:
    """The time is over."""
    alarm.set(seconds, "m:f")
    signal.raise_signal(signal.SIGALRM)


def test_it_rings_for_each_task_anew() -> None:
    alarm = Alarm()
    for seconds in (30.0, 0.5):
        with pytest.raises(TimedOut, match=f"its timeout of {seconds:g} s"):
            ring(alarm, seconds)
        alarm.stop()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_signal_that_comes_too_late_ends_nothing() -> None:
    alarm = Alarm()
    alarm.set(0.001, "m:f")
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    signal.sigwait([signal.SIGALRM])
    alarm.stop()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.raise_signal(signal.SIGALRM)  # it would end the process
    assert signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL


def test_a_handler_that_a_task_has_left_does_not_stay() -> None:
    alarm = Alarm()
    alarm.set(60, "m:f")
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    alarm.stop()
    with pytest.raises(TimedOut):
        ring(alarm)


def test_the_handler_of_the_application_comes_back() -> None:
    heard: list[int] = []

    def own(number: int, _frame: Any) -> None:
        heard.append(number)

    signal.signal(signal.SIGALRM, own)
    alarm = Alarm()
    with pytest.raises(TimedOut):
        ring(alarm)
    alarm.stop()
    assert signal.getsignal(signal.SIGALRM) is own
    signal.raise_signal(signal.SIGALRM)
    assert heard == [signal.SIGALRM]


def test_a_timer_of_a_tasks_own_does_what_it_would_without_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    alarm = Alarm()
    raised: list[int] = []
    alarm.set(60, "m:f")
    alarm.stop()
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    monkeypatch.setattr("delayed.system.alarm.monotonic", lambda: alarm._due + 2)
    alarm._ring(signal.SIGALRM, None)
    assert raised == [signal.SIGALRM]
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_other_threads_have_none() -> None:
    answers: list[bool] = []
    alarm = Alarm()
    thread = threading.Thread(target=lambda: answers.append(alarm.set(60, "m:elsewhere")))
    thread.start()
    thread.join()
    assert answers == [False]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
