"""Parts that several commands share: the address of Redis, the display of errors, common options."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec

import click

from ..base.escape import escaped, indented
from ..errors import ConfigurationError, DelayedError
from ..logger import setup_process
from ..redis.command import redis_errors
from ..redis.environment import url_of_environment

P = ParamSpec("P")
EXIT_NO_APP = 78  # EX_CONFIG of sysexits.h: the application cannot be imported
_LONGEST = 1000  # characters of a sentence
_CONNECTING = re.compile(r"Error (?:-?\d+ )?connecting to (.+?)\. ")  # redis-py's words
_CERTIFICATE = "; see ssl_ca_certs and TLS in docs/operations.md"


def _url() -> str:
    try:
        return url_of_environment()
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error


class Group(click.Group):
    """A group whose help says all of the first sentence about each command."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(_LONGEST)) for name, each in commands if each is not None])


def explained(command: Callable[P, None]) -> Callable[P, None]:
    """Turn expected errors into one line and exit status 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except BrokenPipeError:  # who reads what we print has enough: click ends in silence
            raise
        except (DelayedError, redis_errors.RedisError, OSError, UnicodeError) as error:
            first, *rest = str(error).split("\n")  # it may quote what a task has said
            first = _CONNECTING.sub(r"cannot connect to \1: ", first)
            first += _CERTIFICATE if "CERTIFICATE_VERIFY_FAILED" in first else ""
            notes = (f"({note})" for note in getattr(error, "__notes__", ()))
            raise click.ClickException("\n".join([escaped(first), *map(indented, [*rest, *notes])])) from error

    return run


class NotImported(click.ClickException):
    """A module of the user's cannot be imported."""

    exit_code = EXIT_NO_APP


def load(modules: Sequence[str]) -> None:
    """Import modules as `python -m` would: the application lives in its own folder. If one cannot be: exit status 78."""
    sys.path.insert(0, str(Path.cwd()))
    for name in modules:
        if not all(part.isidentifier() for part in name.split(".")):
            raise click.ClickException(f"{name!r:.100} is no name of a module, such as myapp.tasks")
        try:
            import_module(name)
        except (ImportError, SyntaxError) as error:
            raise NotImported(f"cannot import {name!r}: {error} (the current folder is {Path.cwd()})") from error


def check_names(queues: Sequence[str]) -> None:
    """Refuse names such as a,b: other programs take them as two queues, here they would be one."""
    for name in queues:
        if "," in name:
            apart = " ".join(part for part in name.split(",") if part)
            raise click.UsageError(f"{name!r} would be one queue; write several with spaces between: {apart}")


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the option --redis, as `url`, and `explained` errors."""
    option = click.option(
        "--redis",
        "url",
        metavar="URL",
        default=_url,
        show_default="DELAYED_REDIS_URL, else REDIS_URL",
        help="Where Redis is: redis://, rediss://, unix://, redis+sentinel://, redis+cluster://.",
    )
    return option(explained(command))


_log_level = click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
    help="The least level that is logged.",
)
_log_format = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines for people, or one JSON object for each line.",
)


def log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --log-level and --log-format, as `log_level` and `log_format`."""
    return _log_level(_log_format(command))


def setup_log(log_level: str, log_format: str) -> None:
    """Log as these options say."""
    setup_process(log_level.upper(), as_json=log_format == "json")


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def show(lines: Iterable[str]) -> None:
    """Print lines, in which there may be text from Redis: none of them reaches the terminal as anything else."""
    for line in lines:
        click.echo(escaped(line))


def hint(line: str) -> None:
    """Print a line on standard error, likewise."""
    click.echo(escaped(line), err=True)


def as_json_text(value: Any) -> str:
    """What a task has returned, as JSON: bytes in hexadecimal, and as text what JSON does not have."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=lambda odd: odd.hex() if isinstance(odd, bytes) else str(odd))
    except (TypeError, ValueError):  # a map with keys that JSON does not have
        text = json.dumps(repr(value), ensure_ascii=False)
    # What a terminal could take for a command stands only in strings, where JSON has another word for it: the same value.
    return text if text.isprintable() else "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
