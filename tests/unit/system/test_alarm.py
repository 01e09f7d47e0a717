"""The timer of a soft timeout."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from delayed.base.clock import monotonic
from delayed.errors import TimedOut
from delayed.system.alarm import Alarm
from tests import ROOT

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


def kept(seconds: float = 60) -> Alarm:
    """After a task that had so much time, and before the next one."""
    alarm = Alarm()
    alarm.keep()
    alarm.set(seconds, "m:f")
    alarm.stop()
    return alarm


def wait_for(alarm: Alarm, seconds: float) -> None:
    """A task that takes too long."""
    alarm.set(seconds, "m:f")
    while True:
        pass


def left() -> float:
    return signal.getitimer(signal.ITIMER_REAL)[0]


def test_one_timer_serves_tasks_that_follow_one_another() -> None:
    alarm = kept()
    armed = alarm.armed
    for _ in range(3):
        assert left() > 0
        alarm.set(60, "m:f")
        alarm.stop()
    assert alarm.armed == armed
    alarm.release()
    assert left() == 0


def test_the_timer_of_a_task_before_is_set_again_for_the_one_that_runs() -> None:
    alarm = kept(0.2)
    alarm.set(60, "m:f")
    while alarm.armed != alarm._due:
        pass
    assert 59 < left() <= 60


def test_a_task_that_began_under_the_timer_of_one_before_has_all_its_time_and_no_more() -> None:
    alarm = kept(0.2)
    with pytest.raises(TimedOut, match=r"its timeout of 0\.5 s"):
        wait_for(alarm, 0.5)
    assert monotonic() >= alarm._due


def test_a_sooner_time_is_kept() -> None:
    alarm = kept()
    with pytest.raises(TimedOut):
        wait_for(alarm, 0.01)
    alarm.stop()
    assert left() == 0


_TOO_LATE = """
import signal
from delayed.system.alarm import Alarm

def left():
    return signal.getitimer(signal.ITIMER_REAL)[0]

alarm = Alarm()
alarm.keep()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
alarm.set(0.001, "m:f")
while left():
    pass
alarm.stop()
alarm.set(60, "m:f")
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
assert 59 < left() <= 60
"""


def test_the_signal_of_a_task_that_is_over_does_not_end_the_next_one() -> None:
    """In a process of one thread: another would be given the signal that this one has blocked."""
    subprocess.run([sys.executable, "-c", _TOO_LATE], check=True, cwd=ROOT)


def test_a_kept_timer_that_rings_between_tasks_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    alarm = kept(0.2)
    monkeypatch.setattr("delayed.system.alarm.monotonic", lambda: alarm._due + 2)  # this process was stopped
    while left():
        pass
    while alarm.armed:  # another thread may have been given the signal; then the handler runs a moment later
        pass
    assert signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL


@pytest.mark.parametrize("seconds", [0, 0.5, 90])
def test_a_task_that_sets_the_timer_is_found_out(seconds: float) -> None:
    alarm = Alarm()
    alarm.keep()
    alarm.set(60, "m:f")
    signal.setitimer(signal.ITIMER_REAL, seconds)
    alarm.stop()
    assert left() == 0
    alarm.set(60, "m:f")
    assert left() > 59


def test_a_handler_that_a_task_has_left_is_not_called_by_the_timer() -> None:
    alarm = Alarm()
    alarm.keep()
    alarm.set(60, "m:f")
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    alarm.stop()
    assert left() == 0


def test_beside_a_handler_of_the_application_no_timer_is_kept() -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    kept()
    assert left() == 0


def test_the_handler_of_an_earlier_worker_is_none_of_the_application() -> None:
    kept().release()
    alarm = kept()
    assert left() > 0
    assert signal.getsignal(signal.SIGALRM) is alarm._handler
