"""The supervisor: a parent that runs worker processes, and no tasks.

It is single-threaded, so that it may fork at any time. Each worker process writes on its scoreboard what it does; the
supervisor reads that, also after the process has died. It waits for nothing but its poll: what it asks of the kernel, of Redis
and of the service manager has an answer at once, or a deadline.
"""

import ctypes
import gc
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from ..base.clock import monotonic
from ..base.pauses import pause_before_another
from ..base.text import counted
from ..errors import ConfigurationError
from ..logger import logger
from ..system.children import Child, Children, image
from ..system.exits import leave
from ..system.kept import KeptProcess
from ..system.process import cause_of_death, flush_output, out_of_memory_kills
from ..system.signals import DUMP, STOP, SignalPipe
from ..system.systemd import ServiceManager
from ..worker.options import WorkerOptions
from ..worker.scoreboard import Scoreboard
from ..worker.shutdown import EXIT_FORCED
from ..worker.worker import Worker
from .recoverer import LATE, Recoverer

EXIT_RELIEVED = 4  # a worker process was stopped, or is worn out: another takes its place
EXIT_DEFECT = 70  # a worker process ended by an exception (EX_SOFTWARE of sysexits.h)
_TICK = 1.0  # seconds between two looks at processes that do not call
_STUCK = 30.0  # seconds that a worker may neither run a task nor ask for one, beyond its longest wait
_PATIENCE = 2.0  # seconds that a worker process has to end a task itself whose hard timeout is over
_LAST_TRY = 1.0  # seconds that a Redis which is away gets for what the dead held, after a second request to stop
_MARGIN = 5.0  # seconds after the grace in which a worker process should have ended by itself
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 10.0  # seconds before a worker that died at its start is replaced
_LIVED = 5.0  # seconds: who lived longer did not die at its start
_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass
class _Child:
    """The record of one worker process."""

    number: int
    scoreboard: Scoreboard
    process: Child | None = None  # None: there is none at the moment
    started: float = 0.0
    failures: int = 0  # deaths at the start, in a row
    start_at: float = 0.0  # when the next process may begin
    progress: tuple[int, int] = (0, 0)
    moved: float = 0.0  # when that last changed
    verdict: str = ""  # why the supervisor has killed it,
    killed_at: float = float("inf")  # and when
    relieve_by: float = float("inf")  # when it should have made room for another
    settled: int = 0  # how many dead processes had been seen to when it began
    finished: bool = False  # no other process shall take its place
    ended: list[int] = field(default_factory=list)  # exit statuses after a stop

    @property
    def pid(self) -> int:
        """The process in this place; 0 if there is none."""
        return 0 if self.process is None else self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        if self.process is not None:
            self.process.send(number)


class Supervisor:
    """Runs `count` worker processes, replaces those that end, and recovers at once the tasks of a killed one.

    Args:
        options: of each worker.
        count: how many processes.
        limit: how many losses bury a task.
        beside: programs that are to run beside them.
        make: makes a worker that writes on the scoreboard it is given; called in the new process.

    Raises:
        ConfigurationError: a count below 1, or a system without process descriptors (Linux has them since 5.3).
    """

    def __init__(
        self,
        options: WorkerOptions,
        count: int,
        *,
        limit: int,
        beside: Sequence[KeptProcess] = (),
        make: Callable[[WorkerOptions, Scoreboard], Worker] = Worker.of,
    ) -> None:
        if count < 1:
            raise ConfigurationError(f"a supervisor runs at least one worker process, not {count}")
        if not hasattr(os, "pidfd_open"):
            raise ConfigurationError("several worker processes under one supervisor need Linux 5.3 or later")
        self._options, self._make, self._beside = options, make, beside
        self._width = len(options.queues)
        self._children = [_Child(number, Scoreboard(self._width, supervised=True)) for number in range(count)]
        self._processes = Children()
        self._image = image(os.getpid())  # as it is of each child, until that becomes another program
        self._late = LATE * options.keep_alive_interval
        self._recoverer = Recoverer(options.queues, interval=options.keep_alive_interval, ttl=options.ttl, limit=limit)
        self._grace = options.grace
        self._stuck = options.wait + _STUCK
        self._service_manager = ServiceManager()
        self._ready = False
        self._stopping = False
        self._kill_at = float("inf")
        self._insisted = False  # it was asked to stop more than once
        self._empty_since = float("inf")  # monotonic time at which the last worker process had ended
        self._memory_kills = out_of_memory_kills()

    def run(self) -> int:
        """Supervise until a signal, or until all workers have ended by themselves. Call it in the main thread.

        SIGTERM, SIGINT, SIGHUP and SIGQUIT stop the workers as they would stop each; SIGUSR1 goes to all of them.

        Returns:
            The exit status: 0, or 3 if a worker had to leave a task unfinished.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever ignores it is not told how its children ended
        gc.freeze()  # what is loaded now is shared with the children, as long as no collection touches it
        with SignalPipe() as signals:
            try:
                self._loop(signals)
            finally:
                self._kill_all("the supervisor ends")
                for kept in self._beside:
                    kept.stop()
                self._recoverer.close()
                self._processes.close()
                self._service_manager.close()
        statuses = [status for child in self._children for status in child.ended]
        return 0 if set(statuses) <= {0, EXIT_RELIEVED} else EXIT_FORCED

    def _loop(self, signals: SignalPipe) -> None:
        while True:
            now = monotonic()
            for kept in () if self._stopping else self._beside:
                kept.tend()
            for child in self._children:
                if not child.pid and not child.finished and now >= child.start_at:
                    self._start(child)
            doomed = self._recoverer.tend([child.scoreboard for child in self._children if child.pid])
            for child in self._children:
                if child.pid and not child.verdict and child.scoreboard in doomed:
                    self._kill(child, "its task was cancelled")
                elif child.scoreboard in self._recoverer.failing:
                    self._relieve(child)
            self._look_after(now)
            self._processes.tidy({child.pid for child in self._children})
            if all(child.finished for child in self._children) and self._is_over(now):
                return
            self._wait(signals)

    def _is_over(self, now: float) -> bool:
        """All workers have ended: whether that is all."""
        self._empty_since = min(self._empty_since, now)
        if self._recoverer.done:
            return True
        in_vain = self._insisted and self._recoverer.cut_off and now > self._empty_since + _LAST_TRY
        over = in_vain or now > self._kill_at + _MARGIN
        if over:
            logger.error("Exiting without recovering the tasks of %s; a sweeper will", ", ".join(self._recoverer.left))
        return over

    def _wait(self, signals: SignalPipe) -> None:
        """Until a signal, the end of a process, or something is due."""
        poll = select.poll()
        poll.register(signals, select.POLLIN)
        places = {child.process.fileno(): child for child in self._children if child.process is not None}
        for descriptor in places:
            poll.register(descriptor, select.POLLIN)
        starts = [child.start_at for child in self._children if not child.pid and not child.finished]
        due = min([self._recoverer.due, self._kill_at, *starts]) - monotonic()
        tick = min(_TICK, self._service_manager.watchdog / 2 or _TICK)
        for descriptor, _ in poll.poll(1 + 1000 * max(0.0, min(due, tick))):
            if descriptor in places:
                self._reap(places[descriptor])
            else:
                for number in signals.read():
                    self._obey(number)

    # Processes

    def _start(self, child: _Child) -> None:
        child.verdict = ""
        child.killed_at = child.relieve_by = float("inf")
        child.started = child.moved = monotonic()
        child.progress = (0, 0)
        child.settled = self._recoverer.settled
        parent = os.getpid()
        flush_output()
        try:
            child.scoreboard = Scoreboard(self._width, supervised=True)
            child.process = self._processes.begin(lambda: self._be_a_child(child, parent))
        except (OSError, MemoryError) as error:  # the others work on
            child.start_at = child.started + _LONGEST_PAUSE
            logger.error("Cannot start a worker process, trying again in %g s: %s", _LONGEST_PAUSE, error)
            return
        logger.info("Worker process %d started", child.pid)

    def _be_a_child(self, child: _Child, parent: int) -> NoReturn:
        """Run a worker in this new process, which ends with its parent, and never return into the parent's code."""
        status = EXIT_DEFECT
        try:
            os.setpgid(0, 0)  # a Ctrl-C in the terminal is for the parent, which passes it on
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(EXIT_DEFECT)  # it died before we asked to be told
            for variable in ("NOTIFY_SOCKET", "WATCHDOG_USEC"):
                os.environ.pop(variable, None)
            for other in self._children:
                if other.process is not None:
                    other.process.close()
            self._processes.close()
            self._service_manager.close()
            self._recoverer.close()
            for kept in self._beside:
                kept.forget()
            worker = self._make(self._options, child.scoreboard)
            worker.run()
            status = 0 if worker.drained else EXIT_RELIEVED
        except BaseException:
            logger.exception("A worker process ended by a defect")
        finally:
            leave(status)

    def _reap(self, child: _Child) -> None:
        """A process has ended: see to what it left, and to its successor."""
        status = None if child.process is None else child.process.status()
        if child.process is None or status is None:
            return
        kills, self._memory_kills = self._memory_kills, out_of_memory_kills(self._memory_kills)
        cause = child.verdict or cause_of_death(status, child.scoreboard.working, self._memory_kills > kills)
        child.process.close()
        self._replace(child, cause, os.waitstatus_to_exitcode(status))

    def _replace(self, child: _Child, cause: str, code: int) -> None:
        """A process works no more, and has this exit code."""
        place, scoreboard = f"{socket.gethostname()}:{child.pid}", child.scoreboard
        child.process = None
        if not scoreboard.left:
            self._recoverer.add(scoreboard, place, cause)
        come_back = (
            not self._recoverer.done or self._recoverer.settled > child.settled
        )  # tasks do, or did when it had seen none
        child.finished = self._stopping or (code == 0 and scoreboard.left and not come_back)
        if child.finished:
            child.ended.append(code)
            return
        now = monotonic()
        at_start = code != EXIT_RELIEVED and now - child.started < _LIVED and not scoreboard.finished
        child.failures = child.failures + 1 if at_start else 0
        pause = pause_before_another(child.failures + 1, _FIRST_PAUSE, _LONGEST_PAUSE)
        child.start_at = now + pause if at_start else now
        log = logger.info if code == EXIT_RELIEVED else logger.error
        log("Worker process %s: %s; another takes its place%s", place, cause, f" in {pause:.1f} s" if at_start else "")

    def _look_after(self, now: float) -> None:
        """Tell the service manager, and kill what is stuck or does not end."""
        self._service_manager.alive()
        if not self._ready and all(child.scoreboard.progress[0] or child.finished for child in self._children):
            self._ready = True
            self._service_manager.ready(counted(len(self._children), "worker"))
        if now >= self._kill_at:
            self._kill_all(f"did not end within {self._grace + _MARGIN:g} s")
        for child in self._children:
            if child.pid:
                self._judge(child, now)

    def _judge(self, child: _Child, now: float) -> None:
        """Kill a process that does not go on, and do without one that does not even end then."""
        if child.verdict:
            if now - child.killed_at > _MARGIN:
                self._give_up(child)
            return
        if child.scoreboard.late > _PATIENCE:
            self._kill(child, "its task exceeded its hard timeout")
        elif now > child.relieve_by:
            self._kill(child, "it did not end when another was to take its place")
        elif 0 < child.scoreboard.beaten_at < now - self._late and image(child.pid) not in (None, self._image):
            self._kill(child, "it has become another program: something in it called exec")
        else:
            seen = child.scoreboard.progress
            if seen != child.progress or child.scoreboard.working:
                child.progress, child.moved = seen, now
            elif now - child.moved > self._stuck:
                self._kill(child, f"stuck: neither ran nor requested a task for {now - child.moved:.0f} s")

    def _kill(self, child: _Child, verdict: str) -> None:
        child.verdict, child.killed_at = verdict, monotonic()
        child.send(signal.SIGKILL)
        logger.error("Worker process %d: %s; killed", child.pid, verdict)

    def _give_up(self, child: _Child) -> None:
        """A process was killed, and the kernel has not ended it yet: it waits for a disk or a network. It runs no code of ours
        any more, so what it held can go back."""
        logger.error("Worker process %d was killed, and does not end: the kernel waits for a device", child.pid)
        if child.process is not None:
            self._processes.abandon(child.process)
            self._replace(child, child.verdict, -signal.SIGKILL)

    def _relieve(self, child: _Child) -> None:
        """Let another process take the place of one whose tasks all fail, as something in it may be broken."""
        if child.pid and not child.verdict and child.relieve_by == float("inf") and not self._stopping:
            child.relieve_by = monotonic() + self._grace + _MARGIN
            says = "Worker process %d: all of its latest tasks have failed, after others had not; another will take its place"
            logger.warning(says, child.pid)
            child.send(signal.SIGTERM)

    def _kill_all(self, verdict: str) -> None:
        for child in self._children:
            if child.pid and not child.verdict:
                self._kill(child, verdict)

    def _obey(self, number: signal.Signals) -> None:
        if number == DUMP:
            for child in self._children:
                logger.warning("Worker process %d: %s, %d tasks", child.pid, child.progress, child.scoreboard.finished)
        else:
            self._insisted = self._insisted or self._stopping or number not in STOP
            if not self._stopping:
                logger.info("%s: stopping the workers", number.name)
                self._service_manager.stopping("waiting for the workers")
            self._stopping = True
            self._kill_at = min(self._kill_at, monotonic() + (self._grace if number in STOP else 0) + _MARGIN)
            for child in self._children:
                child.finished = child.finished or not child.pid
        for child in self._children:
            child.send(number)
