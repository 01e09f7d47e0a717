"""Tests of workflows run twice: with queues on Redis, and with the same ones through a server (`delayed.remote`)."""

from collections.abc import Iterator

import pytest
import redis

from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.remote import Remote
from tests.support.api import serve
from tests.support.over_http import Made, OverHttp
from tests.support.processes import Fleet

from .not_over_http import FAIL, NOT_RUN

_MODULES = {"test_workflows", "test_run"}
_NAMES = {"Queue": "queue", "AsyncQueue": "async_queue", "Handle": "handle", "AsyncHandle": "async_handle"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in _MODULES and "queue" in metafunc.fixturenames:
        name = metafunc.function.__name__
        marks = [pytest.mark.xfail(reason=FAIL[name], strict=True)] if name in FAIL else []
        ways = ["redis"] if name in NOT_RUN else ["redis", pytest.param("server", marks=marks)]
        metafunc.parametrize("through", ways, indirect=True)


@pytest.fixture(scope="session")
def remote(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with Fleet(server.url, tmp_path_factory.mktemp("server")) as processes:
        api = serve(processes)[1]
        yield Remote(f"http://127.0.0.1:{api.port}")


@pytest.fixture(autouse=True)
def through(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> OverHttp | None:
    """Through what queues are reached: None for Redis itself."""
    if getattr(request, "param", "redis") == "redis":
        return None
    over = OverHttp(request.getfixturevalue("server"), request.getfixturevalue("remote"))
    for name, method in _NAMES.items():
        if hasattr(request.module, name):
            monkeypatch.setattr(request.module, name, Made(getattr(over, method)))
    return over


@pytest.fixture
def queue(name: str, client: redis.Redis, through: OverHttp | None) -> Queue:
    make = Queue if through is None else through.queue
    return make(name, client, dequeue_timeout=0.5)
