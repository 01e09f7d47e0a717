"""The pytest plug-in of delayed: the fixture `delayed_app`, and the mark `delayed_server`.

It lies outside of the package, which pytest would import for each test run otherwise, used or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from delayed import App
    from delayed.embedded import EmbeddedRedis

MARK = "delayed_server"
OPTION = "delayed_app"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that names the application."""
    parser.addini(OPTION, "the delayed.App of the fixture delayed_app, as module:attribute, such as shop.jobs:app")


def pytest_configure(config: pytest.Config) -> None:
    """The mark, for --strict-markers."""
    config.addinivalue_line("markers", f"{MARK}: the queues of delayed_app are on a real Redis, started for the tests")


@pytest.fixture(scope="session")
def delayed_application(request: pytest.FixtureRequest) -> App:
    """The application of the option `delayed_app`. Override this fixture to use another one."""
    reference = str(request.config.getini(OPTION))
    if not reference:
        pytest.fail(
            f"which application? Say it in pytest's configuration, such as {OPTION} = shop.jobs:app, or override the fixture "
            "delayed_application",
            pytrace=False,
        )
    found: App = import_module("delayed.app.app").find_app(reference)
    return found


@pytest.fixture(scope="session")
def _delayed_server() -> Iterator[EmbeddedRedis]:
    """The Redis server of the tests that are marked."""
    embedded: Any = import_module("delayed.embedded")
    with embedded.EmbeddedRedis() as server:
        yield server


@pytest.fixture
def delayed_app(request: pytest.FixtureRequest, delayed_application: App) -> Iterator[App]:
    """The application, whose queues are empty and in memory; in a test with the mark `delayed_server` they are on a real Redis
    of the test run's own, so that workers can serve them."""
    testing: Any = import_module("delayed.testing")
    if request.node.get_closest_marker(MARK) is None:
        with testing.faked(delayed_application):
            yield delayed_application
        return
    server: EmbeddedRedis = request.getfixturevalue("_delayed_server")
    with server.client() as client:
        client.flushall()
    with testing.on_server(delayed_application, server.url):
        yield delayed_application
