"""Where nobody has served a queue yet, a command says what to name; an application only if it takes one."""

from collections.abc import Iterator

import click
import pytest

from delayed.cli.places import places
from delayed.redis.embedded import EmbeddedRedis
from tests.support.command import run


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis", numbered=True)) as embedded:
        yield embedded


@pytest.mark.parametrize("command", ["task list", "job list", "job run", "flow list", "watch", "task show 0123456789abcdef"])
def test_what_to_name(empty: EmbeddedRedis, command: str) -> None:
    says = run(*command.split(), "--redis", empty.url, status=2).output
    assert "which queue it serves: name a queue" in says
    with pytest.raises(click.UsageError):  # as in the thread of `delayed top`, where no command is at hand
        places(empty.url, (), None)
    assert ("--app" in says) == ("--app" in run(*command.split(), "--help").output)
