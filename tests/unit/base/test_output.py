"""Lines of the log wait for nobody for long, and an application does not silence its operator."""

import logging
import logging.config
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from delayed.base.output import OutputHandler
from delayed.logger import _Operators, logger


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture(autouse=True)
def _deferral(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delayed.base.output._PATIENCE", 0.02)


def record(text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("delayed", logging.INFO, __file__, 1, text, args, None)


def said(reader: int) -> str:
    """What is in the pipe."""
    os.set_blocking(reader, False)
    found = b""
    while True:
        try:
            piece = os.read(reader, 65536)
        except BlockingIOError:
            return found.decode()
        if not piece:
            return found.decode()
        found += piece


def test_lines_arrive(pipe: tuple[int, int]) -> None:
    handler = OutputHandler(pipe[1])
    handler.handle(record("one %s", "é\ud800"))
    handler.handle(record("x" * 20_000))
    assert said(pipe[0]) == "one é\\ud800\n" + "x" * 20_000 + "\n"


def test_nobody_reads_and_nobody_waits(pipe: tuple[int, int]) -> None:
    """What was missed is counted, and a line that was torn is ended."""
    handler = OutputHandler(pipe[1])
    for number in range(200):
        handler.handle(record("%d %s", number, "x" * 1000))
    assert handler.dropped > 100
    missing = handler.dropped
    first = said(pipe[0]).splitlines()
    assert first[0] == f"0 {'x' * 1000}"
    handler.handle(record("afterwards"))
    *notice, last = said(pipe[0]).splitlines()
    assert last == "afterwards"
    assert f"({missing} lines of this log are missing" in "".join(notice)
    handler.handle(record("and then"))
    assert said(pipe[0]) == "and then\n"


def test_others_may_go_on_blocking(pipe: tuple[int, int]) -> None:
    OutputHandler(pipe[1])
    assert os.get_blocking(pipe[1])


def test_a_lock_that_a_task_holds_is_not_waited_for(pipe: tuple[int, int]) -> None:
    handler = OutputHandler(pipe[1])
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        handler.acquire()
        held.set()
        free.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    try:
        handler.handle(record("nevertheless"))
        assert said(pipe[0]) == "nevertheless\n"
    finally:
        free.set()
        thread.join()


class Mute:
    def __str__(self) -> str:
        raise RuntimeError


def test_what_cannot_be_shown_costs_its_line(pipe: tuple[int, int]) -> None:
    handler = OutputHandler(pipe[1])
    handler.handle(record("it said %s", Mute()))
    assert said(pipe[0]) == "INFO it said %s (RuntimeError)\n"


def test_without_a_reader_nothing_is_raised() -> None:
    reader, writer = os.pipe()
    handler = OutputHandler(writer)
    os.close(reader)
    handler.handle(record("nobody"))
    os.close(writer)
    handler.handle(record("nowhere"))
    assert handler.dropped == 2


def test_it_follows_where_its_descriptor_leads(pipe: tuple[int, int], tmp_path: Path) -> None:
    descriptor = os.dup(pipe[1])
    handler = OutputHandler(descriptor)
    handler.handle(record("first"))
    with (tmp_path / "log").open("wb") as log:
        os.dup2(log.fileno(), descriptor)
    handler.handle(record("second"))
    assert said(pipe[0]) == "first\n"
    assert (tmp_path / "log").read_text() == "second\n"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.dup2(ours.fileno(), descriptor)
        handler.handle(record("third"))
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
    os.close(descriptor)


@pytest.fixture
def operators(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """As `setup_logger` makes it, for one test."""
    root = logging.getLogger()
    before: Any = (logger.__class__, root.handlers[:], root.level, logging.root.manager.disable)
    monkeypatch.setattr(logger, "handlers", [OutputHandler(pipe[1])])
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.__class__ = _Operators
    yield logger
    logger.__class__, root.handlers, level, logging.root.manager.disable = before
    root.setLevel(level)
    logger.__dict__.pop("disabled", None)
    logger.disabled = False


@pytest.mark.parametrize("how", ["dictConfig", "fileConfig", "disable", "shutdown", "disabled"])
def test_an_application_does_not_silence_its_operator(
    operators: logging.Logger, pipe: tuple[int, int], how: str, tmp_path: Path
) -> None:
    if how == "dictConfig":
        logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL", "handlers": []}})
    elif how == "fileConfig":
        text = "[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n[logger_root]\nlevel=CRITICAL\nhandlers=\n"
        (tmp_path / "logging.ini").write_text(text)
        logging.config.fileConfig(tmp_path / "logging.ini")
    elif how == "disable":
        logging.disable(logging.CRITICAL)
    elif how == "shutdown":
        logging.shutdown()
    else:
        operators.disabled = True
    operators.info("heard %d", 1)
    operators.debug("not asked for")
    operators.error("heard %d", 2)
    assert said(pipe[0]) == "heard 1\nheard 2\n"


class Broken(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise ConnectionError("the log's own server is away")


def test_a_handler_of_the_application_may_raise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(logger, "handlers", [Broken()])
    logger.error("no")
    assert "the log's own server is away" in capsys.readouterr().err
