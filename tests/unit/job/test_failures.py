"""What is left of a failure in its dead letter, and whether it is worth another attempt."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from delayed.base.text import summary
from delayed.errors import Reason, Retry, TimedOut
from delayed.job.builtin import retried
from delayed.job.failure import verdict
from delayed.job.job import Job
from delayed.job.outcome import Again, Failed, Outcome
from delayed.task.decode import Call

LONG = "<html>" * 4000
LONGEST = 11_000  # characters of a dead letter


class GatewayError(Exception):
    pass


def raises(error: BaseException) -> None:
    raise error  # this is the innermost frame


def deep(error: BaseException, depth: int) -> None:
    if depth % 2 or depth:
        deep(error, depth - 1)
    else:
        raises(error)


def nested(error: BaseException) -> None:
    deep(error, 900)


def chained(error: BaseException) -> None:
    try:
        raises(KeyError(LONG))
    except KeyError:
        raises(error)


def noted(error: BaseException) -> None:
    error.add_note(LONG)
    raises(error)


MESSAGES = ["502 from upstream: " + LONG, "502 from upstream\n" + "line\n" * 9000, "502 from upstream"]


@pytest.mark.parametrize("message", MESSAGES, ids=["one line", "many lines", "short"])
@pytest.mark.parametrize(
    "how", [raises, lambda error: deep(error, 900), chained, noted], ids=["flat", "deep", "chained", "noted"]
)
def test_what_identifies_a_failure_survives_every_cut(how: Callable[[BaseException], None], message: str) -> None:
    found = None
    try:
        how(GatewayError(message))
    except GatewayError as error:
        found = verdict(how, Call("m:f", (), {}, 0), error)
    assert found is not None
    assert found.reason is Reason.FAILED
    assert len(found.detail) < LONGEST
    assert "GatewayError: 502 from upstream" in found.detail
    assert "raise error  # this is the innermost frame" in found.detail
    assert summary(found.detail).startswith("tests.unit.job.test_failures.GatewayError: 502 from upstream")


def test_a_group_says_what_it_is() -> None:
    try:
        raises(ExceptionGroup("unhandled errors", [GatewayError(LONG), GatewayError(LONG)]))
    except ExceptionGroup as error:
        found = verdict(raises, Call("m:f", (), {}, 0), error)
    assert len(found.detail) < LONGEST
    assert "ExceptionGroup: unhandled errors (2 sub-exceptions)" in found.detail
    assert "raise error  # this is the innermost frame" in found.detail


# Exception groups, and what a task says about its errors


def outcome(error: BaseException, **headers: Any) -> Outcome:
    job = Job(None, Call("m:f", (), {}, 3, headers))
    return retried(job, Failed(error, Reason.FAILED, "no"))


def group(*errors: BaseException) -> BaseException:
    return BaseExceptionGroup("many", list(errors))


RESET, TIME, VALUE = ConnectionResetError("reset"), TimedOut("late"), ValueError("value")
ONLY: list[tuple[BaseException, str, bool]] = [
    (RESET, "ConnectionError", True),
    (group(RESET), "ConnectionError", True),
    (group(RESET, RESET), "builtins.ConnectionResetError", True),
    (group(RESET, group(RESET, group(RESET))), "ConnectionError", True),
    (group(RESET, VALUE), "ConnectionError", False),
    (group(RESET, group(VALUE)), "ConnectionError", False),
    (group(RESET, VALUE), "ExceptionGroup", True),
    (group(TIME, TIME), "delayed.errors.TimedOut", True),
    (group(RESET, TIME), "delayed.errors.TimedOut", False),
    (group(VALUE), "KeyError", False),
]


@pytest.mark.parametrize(("error", "name", "again"), ONLY)
def test_a_group_is_retried_if_each_of_its_errors_is(error: BaseException, name: str, again: bool) -> None:
    assert isinstance(outcome(error, retry_on=[name]), Again if again else Failed)


NEVER: list[tuple[BaseException, str, bool]] = [
    (VALUE, "ValueError", False),
    (group(RESET, VALUE), "ValueError", False),
    (group(RESET, group(VALUE)), "ValueError", False),
    (group(RESET, RESET), "ValueError", True),
    (group(RESET), "ExceptionGroup", False),
]


@pytest.mark.parametrize(("error", "name", "again"), NEVER)
def test_a_group_is_given_up_if_one_of_its_errors_is(error: BaseException, name: str, again: bool) -> None:
    assert isinstance(outcome(error, give_up_on=[name]), Again if again else Failed)


ASKED: list[tuple[BaseException, float | None]] = [
    (Retry(7), 7),
    (group(Retry(7), Retry(9), group(Retry(8))), 9),
    (group(Retry(7), asyncio.CancelledError()), 7),
    (group(Retry(7), VALUE), None),
    (group(asyncio.CancelledError()), None),
    (Retry(float("inf")), float("inf")),
]


@pytest.mark.parametrize(("error", "pause"), ASKED)
def test_a_retry_counts_in_a_group_in_which_nothing_else_failed(error: BaseException, pause: float | None) -> None:
    found = outcome(error)
    assert isinstance(found, Again)
    assert (found.counted, found.pause) == (pause is None, pause or 0)


def spoilt(after: Any) -> Retry:
    error = Retry(1)
    error.after = after
    return error


@pytest.mark.parametrize("after", [float("nan"), "5", None, -1, True], ids=repr)
def test_a_retry_that_has_lost_its_pause_is_a_failure(after: Any) -> None:
    """It would come at once, for ever."""
    found = outcome(spoilt(after))
    assert isinstance(found, Again)
    assert found.counted
