"""Executors for workers that run several tasks at once: threads, and one event loop.

An executor is given an `Execution` by the dispatcher, runs it in a context of its own, and posts it to the `Completions` when
it has ended. It never talks to Redis.
"""

import asyncio
import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial

from ..base.text import shown
from ..job.functions import COROUTINES
from ..job.job import Job
from ..logger import logger
from .execution import Execution

_LEAVING = 5.0  # seconds that what tasks have left behind in the loop may take to end


class Completions:
    """What has ended, on its way to the dispatcher, who can wait for it."""

    def __init__(self) -> None:
        self.ended: deque[Execution] = deque()
        self._reader, self._writer = -1, -1
        self._said = False  # the descriptor is readable, or will be at once: one wake for all that end until it is read

    def open(self) -> None:
        """Before anybody posts or waits: begin anew."""
        self.ended, self._said = deque(), False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def post(self, execution: Execution) -> None:
        """From any thread: it has ended."""
        self.ended.append(execution)
        if not self._said:
            self._said = True
            with contextlib.suppress(OSError):  # a task has closed it, and the dispatcher looks
                os.write(self._writer, b"x")

    def fileno(self) -> int:
        """A descriptor that is readable after a post."""
        return self._reader

    def read(self) -> None:
        """Make the descriptor unreadable, before looking into `ended`."""
        with contextlib.suppress(OSError):
            os.read(self._reader, 65536)
        self._said = False

    def close(self) -> None:
        """Nobody posts any more."""
        os.close(self._reader)
        os.close(self._writer)


class Threads:
    """Runs plain functions in threads, or in the thread that calls `serve`.

    Args:
        count: how many threads; 0 for one that serves.
        completions: where to post what has ended.
        between: called in the serving thread after each task.
        lives: whether a task may still begin.
    """

    def __init__(
        self, count: int, completions: Completions, between: Callable[[], None], lives: Callable[[], bool] = lambda: True
    ) -> None:
        self._lives = lives
        self.size, self.busy = max(count, 1), 0
        self._completions = completions
        self._between = between
        self._queue: queue.SimpleQueue[Execution | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"delayed-{number}", daemon=True) for number in range(count)
        ]

    def start(self) -> None:
        """See `Executor`."""
        for thread in self._threads:
            thread.start()

    def serve(self) -> None:
        """Run tasks here until `close`; if there are threads, wait for them."""
        if self._threads:
            self.join()
        else:
            self._serve(self._between)

    def submit(self, execution: Execution) -> None:
        """See `Executor`."""
        self._queue.put(execution)

    def take_back(self) -> list[Execution]:
        """What was submitted and has not begun."""
        found = []
        with contextlib.suppress(queue.Empty):
            while (execution := self._queue.get_nowait()) is not None:
                found.append(execution)
        return found

    def close(self) -> None:
        """See `Executor`."""
        for _ in range(self.size):
            self._queue.put(None)

    def join(self) -> None:
        """See `Executor`."""
        for thread in self._threads:
            thread.join()

    def _serve(self, between: Callable[[], None] | None = None) -> None:
        while True:
            try:
                if not self._serve_one():
                    return
                if between is not None:
                    between()
            except BaseException as error:  # what a task has left behind, as a timer: the others need this thread
                logger.error("%s came out of what a task has left behind; the thread goes on", shown(error))

    def _serve_one(self) -> bool:
        """Wait for an execution, and run it; False if there will be none."""
        execution = self._queue.get()
        if execution is None:
            return False
        execution.begun = True
        if not self._lives():
            execution.stale = True
            self._completions.post(execution)
            return True
        try:
            copy_context().run(execution.run)
        except BaseException as error:  # a defect, or a signal handler of the task's making
            execution.failure = error
        finally:  # whoever has handed it over waits for an answer
            self._completions.post(execution)
        return True


class Loop:
    """Runs coroutine functions in one event loop, in a thread of its own.

    Args:
        size: how many may be in flight.
        completions: where to post what has ended.
        lives: whether a task may still begin.
    """

    def __init__(self, size: int, completions: Completions, lives: Callable[[], bool] = lambda: True) -> None:
        self._lives = lives
        self.size, self.busy = size, 0
        self._completions = completions
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps only weak references
        self._closing = False
        self._arrived: deque[Execution] = deque()
        self._asked = False  # the loop will look into it: one wake for all that come until it does
        self._thread = threading.Thread(target=self._serve, name="delayed-loop", daemon=True)

    def start(self) -> None:
        """See `Executor`."""
        self._thread.start()

    def submit(self, execution: Execution) -> None:
        """See `Executor`."""
        self._arrived.append(execution)
        if self._asked:
            return
        self._asked = True
        try:
            self._loop.call_soon_threadsafe(self._begin_arrived)
        except BaseException as error:  # a task has closed the loop, say
            self._asked = False
            self._arrived.remove(execution)
            self._fail(execution, error)

    def cancel(self, job: Job) -> None:
        """Interrupt a coroutine, as somebody has cancelled its task."""
        self._loop.call_soon_threadsafe(job.cancel)

    def close(self) -> None:
        """See `Executor`."""
        self._closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)

    def join(self) -> None:
        """See `Executor`."""
        self._thread.join(_LEAVING)
        if self._thread.is_alive():
            logger.warning("asyncio tasks that outlived their task did not end within %g s", _LEAVING)

    def _begin_arrived(self) -> None:
        """In the loop."""
        self._asked = False
        lives = self._lives()
        while self._arrived:
            execution = self._arrived.popleft()
            if lives:
                self._begin(execution)
            else:
                execution.stale = True
                self._completions.post(execution)

    def _begin(self, execution: Execution) -> None:
        """In the loop. A task of asyncio's own kind is made, whatever factory somebody has given to the loop."""
        coroutine = None
        try:
            coroutine = execution.run_async()
            task = asyncio.Task(coroutine, loop=self._loop, context=copy_context())
        except BaseException as error:
            if coroutine is not None:
                coroutine.close()
            self._fail(execution, error)
            return
        self._tasks.add(task)
        COROUTINES.enter(task)
        task.add_done_callback(partial(self._end, execution))

    def _fail(self, execution: Execution, error: BaseException) -> None:
        """It could not begin: whoever has handed it over waits for an answer."""
        execution.failure = error
        self._completions.post(execution)

    def _end(self, execution: Execution, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if COROUTINES.end(task):
            return
        if task.cancelled():  # from outside, before it began
            execution.failure = asyncio.CancelledError("cancelled by another task")
        elif error := task.exception():
            execution.failure = error
        self._completions.post(execution)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._closing:
            try:
                self._loop.run_forever()
            except BaseException as error:  # SystemExit or KeyboardInterrupt, in an asyncio task that a task has made
                logger.error("%s came out of a task's own asyncio task; the event loop goes on", shown(error))
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        with contextlib.suppress(BaseException):
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
