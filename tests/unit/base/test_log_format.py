"""JSON lines and colours of the log."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from delayed.base.escape import EscapingFormatter
from delayed.base.log_format import ColouredFormatter, JsonFormatter
from delayed.logger import DEFAULT_LOG_FORMAT, logger, setup_process


def record(message: str, *args: object, level: int = logging.INFO, error: BaseException | None = None, **extra: Any) -> Any:
    info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("shop", level, "shop.py", 7, message, args, info)
    vars(made).update(extra)
    return made


def raised() -> BaseException:
    try:
        int("no\x1b such")
    except ValueError as error:
        return error
    raise AssertionError


def test_a_record_is_one_line_of_json_with_its_fields() -> None:
    line = JsonFormatter().format(record("%s\nended", "mail", task_id="a", seconds=float("nan"), odd=object, tags={1: "x"}))
    assert "\n" not in line
    said = json.loads(line)
    assert said["message"] == "mail\nended"
    assert (said["level"], said["logger"], said["task_id"], said["seconds"], said["tags"]) == (
        "INFO", "shop", "a", "nan", {"1": "x"}
    )  # fmt: skip
    assert said["time"].endswith("+00:00")
    assert said["odd"] == str(object)
    assert "exception" not in said


def test_json_has_the_exception_once() -> None:
    assert "ValueError: invalid literal" in json.loads(JsonFormatter().format(record("it", error=raised())))["exception"]
    said = json.loads(JsonFormatter().format(record("it", error=raised(), task_detail="only this")))
    assert said["exception"] == "only this"
    assert "task_detail" not in said


def test_what_cannot_be_shown_is_named_by_its_type() -> None:
    class Odd:
        def __str__(self) -> str:
            raise ValueError

    assert json.loads(JsonFormatter().format(record("it", odd=Odd())))["odd"] == "Odd"


def test_text_has_the_detail_of_a_task_once_and_escaped() -> None:
    shown = EscapingFormatter("%(message)s").format(record("it", error=raised(), task_detail="one\n\x1btwo"))
    assert shown == "it\n  one\n  \\x1btwo"


def test_only_the_head_is_coloured() -> None:
    shown = ColouredFormatter(DEFAULT_LOG_FORMAT).format(record("a] b\x1b[1m", level=logging.ERROR))
    assert shown.startswith("\x1b[31m[E ")
    assert shown.endswith("]\x1b[0m a] b\\x1b[1m")


@pytest.fixture
def _log_as_before() -> Iterator[None]:
    root = logging.getLogger()
    kept = (logger.handlers, logger.propagate, logger.level, logger.__class__, root.level, logging.lastResort)
    yield
    logger.handlers, logger.propagate, level, logger.__class__, root_level, logging.lastResort = kept
    logger.setLevel(level)
    root.setLevel(root_level)


@pytest.mark.usefixtures("_log_as_before")
def test_an_application_that_does_not_configure_its_log_is_heard(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest has some
    setup_process("INFO")
    logging.getLogger("shop").info("it is %s", "open")
    logging.getLogger("shop").debug("not this")
    assert capfd.readouterr().err.endswith("] it is open\n")
    own = io.StringIO()
    logging.basicConfig(stream=own, format="own %(message)s")  # it may also do so later
    logging.getLogger("shop").info("once")
    assert own.getvalue() == "own once\n"
    assert not capfd.readouterr().err


@pytest.mark.usefixtures("_log_as_before")
def test_an_application_that_configures_its_log_is_left_alone(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [logging.NullHandler()])
    root.setLevel(logging.ERROR)
    setup_process("INFO", as_json=True)
    assert root.level == logging.ERROR
    logger.info("ours", extra={"queue": "mail"})
    assert json.loads(capfd.readouterr().err)["queue"] == "mail"
