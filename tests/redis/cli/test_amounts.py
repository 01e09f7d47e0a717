"""What is no number, length of time or moment on the command line, or a monstrous one, ends in a clear error."""

import contextlib
import random
import shlex
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from delayed.cli import run as run_commands
from delayed.cli.amounts import Count, Number
from delayed.cli.main import main
from delayed.queue.queue import Queue
from delayed.supervisor.supervisor import Supervisor
from delayed.sweeper.sweeper import Sweeper
from delayed.task.task import PyTask
from tests.support.letters import bury

LONG, DIGIT = "9" * 5000, chr(0x661)  # digits of which Python makes no number, and one of another script
ODD = (
    "", " ", "x", "-", ".", "..", "-1", "-0", "0", "1", "7", "0.001", "1e-400", "1e5", "1e11", "1e12", "1e18", "1e308",
    "1e400", "nan", "-nan", "inf", "-inf", "Infinity", "1_000", "0x10", DIGIT, "1,", "1,2", "nan,1", "inf,1", "9" * 9,
    "1" + "0" * 9, "9" * 19, "9" * 30, "9" * 400, LONG, f"-{'9' * 30}", f"-{LONG}",
    "1..2h", "1.2.3h", ".h", "90m", "0s", "1.5d", "1e3s", "-1h", "nand", f"{DIGIT}h", "9" * 11 + "d", "9" * 400 + "d", "1h1m",
    "2026-02-30", "2026-01-31", "2026-01-31T12:00", "1969-12-31", "0001-01-01", "9999-12-31T23:59:59", "10000-01-01",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-31T12:00:00+99:00",
    "constant:nan", "linear:1:inf", "exponential:1e400", "constant:" + "9" * 400,
    "replicas:", "replicas:-1", "replicas:" + "9" * 30, f"replicas:{LONG}", ":", ":99999", f"h:{DIGIT}", f"h:{LONG}",
)  # fmt: skip
# Commands that end by themselves; Q is a queue.
COMMANDS = """
enqueue Q tasks:noop; enqueue Q tasks:noop --rate-key k; enqueue Q tasks:noop --unique k --unique-for 9
enqueue Q tasks:noop --concurrency-key k; enqueue Q a/b.C --go; task list Q; task peek Q; task delete Q --task x
task cancel Q --task x; task move Q --task x; task show AAAAAAAAAAAAAAAA Q; task history AAAAAAAAAAAAAAAA Q
dead list Q; dead causes Q; dead retry Q; dead purge Q; queue limit Q; queue limit Q --rate 1; queue peek Q; queue history Q
history Q; stats Q; stats; audit Q; flow list Q; interest add Q tasks:noop; fsck Q; doctor Q; health Q; health Q --live
token create me --may produce; worker Q --allow-any; worker Q --allow-any -c 1; sweeper Q
""".replace(";", "\n").strip()  # fmt: skip


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """All commands, by what calls them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def open_options(command: click.Command) -> list[click.Option]:
    """The options of a command that take any text, a number among them."""
    return [
        each
        for each in command.params
        if isinstance(each, click.Option) and not each.is_flag and not isinstance(each.type, click.Choice | click.Path)
        if each.nargs == 1 and each.name not in ("url", "app_path")
    ]


def is_number(option: click.Option) -> bool:
    """Whether it is for something that has a number in it; the others take any text."""
    numeric = not isinstance(option.type, click.types.StringParamType) or option.callback is not None
    return numeric or option.name in ("durability", "weights", "cursor", "listen")


def read(command: click.Command, option: click.Option, text: str) -> Any:
    """What an option makes of a text.

    Raises:
        click.UsageError: nothing, and this says why.
    """
    value = option.process_value(click.Context(command), (text,) if option.multiple else text)
    several = value if isinstance(value, tuple) else [value]
    assert not isinstance(option.type, Count | Number) or all(abs(each) <= 1e12 for each in several), (option.name, text)
    return value


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=[path for path, _ in commands()])
def test_an_option_takes_finite_numbers_or_refuses_them(path: str, command: click.Command) -> None:
    del path
    for option in open_options(command):
        for text in ODD:
            with contextlib.suppress(click.UsageError):
                read(command, option, text)


def test_no_number_is_without_bounds() -> None:
    plain = {
        f"{path} {option.name}": type(option.type).__name__
        for path, command in commands()
        for option in open_options(command)
        if isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
        and not isinstance(option.type, Count | Number)
    }
    assert plain.keys() == {f"queue limit {name}" for name in ("concurrency", "rate", "burst")}  # Queue.limit() says more


@pytest.fixture
def _ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are made, and do not run."""
    for name in ("_run_one", "end_within", "setup_log", "say_hello", "warn_of_missing_sweepers"):
        monkeypatch.setattr(run_commands, name, lambda *_, **__: None)
    for kind in (Supervisor, Sweeper):
        monkeypatch.setattr(kind, "run", lambda _: 0)


def told_well(result: Result) -> bool:
    """Whether a command has worked, or has said in its own words why not."""
    return result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.slow
@pytest.mark.usefixtures("_ends_at_once")
@pytest.mark.parametrize("line", [each.strip() for each in COMMANDS.splitlines()])
def test_what_is_taken_does_no_harm(queue: Queue, redis_url: str, line: str) -> None:
    queue.enqueue(PyTask("tasks:noop", ("waits",), after=1e6))
    bury(queue, PyTask("tasks:noop"))
    words = [queue.name if word == "Q" else word for word in shlex.split(line)]
    path, command = max(
        ((path, command) for path, command in commands() if line.startswith(path)), key=lambda found: len(found[0])
    )
    runner = CliRunner()
    for option in open_options(command):
        if option.name == "wait":  # that long
            continue
        for text in ODD if is_number(option) else ODD[::20]:
            try:
                read(command, option, text)
            except click.UsageError:
                continue  # and it has told why
            result = runner.invoke(main, [*words, f"{option.opts[0]}={text}", "--redis", redis_url])
            assert told_well(result), (path, option.opts[0], text, result.exception)
            assert "Traceback" not in result.output
    queue.limit()


@pytest.mark.parametrize("seed", range(4))
def test_any_text_is_a_number_or_none(seed: int) -> None:
    draw = random.Random(seed)
    options = [(command, option) for _, command in commands() for option in open_options(command)]
    for _ in range(3000):
        command, option = draw.choice(options)
        text = "".join(draw.choices("0123456789.-+eEnaif_:,smhdTZ " + DIGIT, k=draw.randrange(12)))
        with contextlib.suppress(click.UsageError):
            read(command, option, text)
