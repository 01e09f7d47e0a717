"""The pytest plug-in, in test runs of its own."""

import textwrap

import pytest

pytest_plugins = ["pytester"]

JOBS = """
    from delayed import App

    app = App("redis://127.0.0.1:1/0", priorities=["mail"], queues=["bulk"])
    seen = []

    @app.task(queue="mail", retry=3)
    def welcome(user, total="0"):
        seen.append((user, total))
        return f"{user}: {total}"

    @app.task
    def broken():
        raise ValueError("the cause")
"""


@pytest.fixture
def shop(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(jobs=textwrap.dedent(JOBS))
    return pytester


def run(shop: pytest.Pytester, tests: str, *words: str, ini: str = "delayed_app = jobs:app") -> pytest.RunResult:
    shop.makeini(f"[pytest]\naddopts = --strict-markers -p no:xdist -p no:valkey -p no:schemathesis\npythonpath = .\n{ini}\n")
    shop.makepyfile(test_shop=textwrap.dedent(tests))
    return shop.runpytest_subprocess(*words)


@pytest.mark.slow
def test_each_test_begins_empty_in_memory_or_on_a_server(shop: pytest.Pytester) -> None:
    tests = """
        import pytest
        from datetime import timedelta
        from delayed.testing import assert_enqueued, drain, enqueued, inline, travel
        from delayed.worker.application import worker_of
        from jobs import app, seen, welcome

        @pytest.fixture(autouse=True)
        def _begins_empty(delayed_app):
            assert delayed_app is app
            assert enqueued(app) == []
            seen.clear()

        def test_memory():
            welcome.delay(1)
            welcome.options(queue="bulk").delay(2)
            assert drain(app) == 2
            welcome.options(after=3600).delay(3)
            assert drain(app) == 0
            travel(app, timedelta(hours=1))
            assert drain(app) == 1
            with inline(app):
                assert welcome.options(priority="high", result_ttl=60).delay(4).result() == "4: 0"
                app.enqueue_many([welcome.call(5), welcome.call(6)])
            assert sorted(user for user, _ in seen) == [1, 2, 3, 4, 5, 6]
            welcome.delay(7)

        @pytest.mark.parametrize("time", [1, 2])
        @pytest.mark.delayed_server
        def test_server(time):
            handle = welcome.options(result_ttl=60).delay(1)
            welcome.delay(2)
            worker_of(app, burst=True).run()
            assert handle.result(5) == "1: 0"
            assert seen == [(1, "0"), (2, "0")]
            welcome.delay(3)

        def test_memory_again():
            welcome.delay(8, total="9")
            assert_enqueued(welcome, user=8, total="9")
    """
    run(shop, tests).assert_outcomes(passed=4)


@pytest.mark.slow
def test_a_failure_shows_the_lines_of_the_test_and_of_the_task(shop: pytest.Pytester) -> None:
    tests = """
        from delayed.testing import assert_enqueued, drain
        from jobs import app, broken, welcome

        def test_assertion(delayed_app):
            welcome.delay(7)
            assert_enqueued(welcome, 8)  # the line

        def test_task(delayed_app):
            broken.delay()
            drain(app)  # the other line
    """
    result = run(shop, tests)
    result.assert_outcomes(failed=2)
    said = result.stdout.str()
    assert ">       assert_enqueued(welcome, 8)  # the line" in said
    assert "jobs:welcome(8): it does not wait in App('bulk', 'mail.high', 'mail', 'mail.low', 'default'). There is:" in said
    assert "mail: jobs:welcome(7), retry 3" in said
    assert ">       drain(app)  # the other line" in said
    assert 'raise ValueError("the cause")' in said
    assert "delayed/" not in said.replace("pytest_delayed", "")


@pytest.mark.slow
def test_an_application_of_a_fixture(shop: pytest.Pytester) -> None:
    tests = """
        import pytest
        from delayed.testing import enqueued
        from jobs import app, welcome

        @pytest.fixture
        def delayed_application():
            return app

        def test_it(delayed_app):
            welcome.delay(1)
            assert len(enqueued(delayed_app)) == 1
    """
    run(shop, tests, ini="").assert_outcomes(passed=1)


def test_without_an_application_it_says_what_to_do(shop: pytest.Pytester) -> None:
    result = run(shop, "def test_it(delayed_app): ...", ini="")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*such as delayed_app = shop.jobs:app, or override the fixture delayed_application*"])


def test_it_costs_nothing_if_it_is_not_used(shop: pytest.Pytester) -> None:
    tests = """
        import sys

        def test_it(request):
            assert request.config.pluginmanager.has_plugin("delayed")
            assert not {"delayed", "fakeredis", "redis"} & set(sys.modules)
    """
    run(shop, tests).assert_outcomes(passed=1)
