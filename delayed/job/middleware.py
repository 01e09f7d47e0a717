"""Middlewares: functions of a job and of the rest of the chain, which wrap each execution."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, cast

from ..errors import ConfigurationError
from .functions import caught
from .job import Job
from .outcome import Outcome

Step = Callable[[Job], Outcome]
AsyncStep = Callable[[Job], Awaitable[Outcome]]
Middleware = Callable[[Job, Step], Outcome]  # one with a coroutine function `asynchronous` leaves coroutines to that
AsyncMiddleware = Callable[[Job, AsyncStep], Awaitable[Outcome]]


def check_middlewares(middlewares: Sequence[object]) -> None:
    """Check that these are usable as middlewares.

    Raises:
        ConfigurationError: a call of one would run nothing of it.
    """
    for each in middlewares:
        if not callable(each) or isgeneratorfunction(each) or isasyncgenfunction(each):
            raise ConfigurationError(
                f"a middleware is a function (or a coroutine function, for coroutines) of a job and the rest of the chain, "
                f"which returns what call_next(job) does, and not {each!r}"
            )


def compose(middlewares: Sequence[Middleware | AsyncMiddleware], innermost: Step) -> Step:
    """The chain: the first of `middlewares` is outermost. Those that are `async def` wrap coroutines only."""
    step = innermost
    for middleware in reversed(middlewares):
        if not iscoroutinefunction(middleware):
            step = partial(middleware, call_next=step)  # type: ignore[call-arg, assignment]  # each takes it by this name
    return step


def compose_async(middlewares: Sequence[Middleware | AsyncMiddleware], innermost: AsyncStep, threads: Executor) -> AsyncStep:
    """The chain for coroutines. A middleware that is a plain function waits in one of the `threads` while they run."""
    step = innermost
    for middleware in reversed(middlewares):
        around: Any = getattr(middleware, "asynchronous", middleware)
        if not iscoroutinefunction(around):
            around = partial(_in_thread, middleware, threads)
        step = partial(around, call_next=step)
    return step


async def _in_thread(middleware: Any, threads: Executor, job: Job, call_next: AsyncStep) -> Outcome:
    loop = asyncio.get_running_loop()

    def step(job: Job) -> Outcome:
        return _come(asyncio.run_coroutine_threadsafe(caught(call_next(job)), loop).result())

    def around() -> tuple[Any, BaseException | None]:
        try:
            return middleware(job, step), None
        except BaseException as error:  # see `caught`
            return None, error

    return _come(await loop.run_in_executor(threads, copy_context().run, around))


def _come(found: tuple[Any, BaseException | None]) -> Outcome:
    value, error = found
    if error is not None:
        raise error
    return cast(Outcome, value)
