"""The small pure modules."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from delayed.base.clock import milliseconds
from delayed.base.ids import _drawn, token
from delayed.base.pauses import pause_before_another
from delayed.errors import ConfigurationError, Reason, Unready, Unrunnable
from delayed.job.allow import AllowAny, AllowList
from delayed.job.failure import describe, misfit, verdict
from delayed.job.functions import Functions
from delayed.redis.keys import Keys
from delayed.system.signals import SignalPipe, dump_threads
from delayed.system.systemd import ServiceManager
from delayed.task.decode import Call
from delayed.worker.prefetch import BUDGET, MOST, Prefetch


def test_all_keys_begin_with_the_name_and_leases_share_its_slot() -> None:
    keys = Keys("{mail}")
    assert keys.processing == "{mail}_processing"
    assert keys.lease("abc") == "{mail}_lease_abc"
    assert keys.lease("abc", 7) == "{mail}_lease_abc_7"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a_noti",
        "a_processing",
        "a_lost",
        "a_dead",
        "a_workers",
        "a_stats",
        "a_scheduled",
        "a_cron",
        "a_cron_due",
        "a_lease_b",
        f"a_task_{'x' * 16}",
        f"a_unique_{'0' * 40}",
        f"a_slots_{'f' * 40}",
        f"a_waits_{'f' * 40}",
        f"a_group_{'a' * 40}",
        f"a\nb_group_{'a' * 40}",
    ],
)
def test_names_that_would_share_keys_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        Keys(name)


@pytest.mark.parametrize(
    "name",
    ["a", "a b", "ä", "{x}", "a:b", "a_lease", "noti", "_noti_", "a_task_x", f"a_group_{'A' * 40}", f"a_task_{'x' * 17}"],
)
def test_other_names_are_fine(name: str) -> None:
    assert Keys(name).noti == f"{name}_noti"


def test_allow_list_matches_whole_paths() -> None:
    allowed = AllowList(["myapp.tasks:*", "other:one"])
    assert "myapp.tasks:anything" in allowed
    assert "other:one" in allowed
    for path in ("myapp.tasksx:f", "xmyapp.tasks:f", "other:oneself", "os:system", ""):
        assert path not in allowed
    assert "os:system" in AllowAny()


@pytest.mark.parametrize("patterns", [[], ["myapp.tasks"], ["a:b", "myapp.*"]])
def test_allow_lists_that_cannot_be_meant_are_refused(patterns: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        AllowList(patterns)


def test_one_pattern_may_be_a_string() -> None:
    assert AllowList("a:*").patterns == ("a:*",)


def test_pace_doubles_while_tasks_are_quick_and_falls_to_one_when_they_are_slow() -> None:
    prefetch = Prefetch()
    sizes = []
    for _ in range(10):
        sizes.append(prefetch.size)
        prefetch.learn(prefetch.size, prefetch.size * 1e-6, prefetch.size * 10)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 128, MOST, MOST]
    prefetch.learn(128, 128 * 0.001, 1280)
    assert prefetch.size == round(BUDGET / 0.001)
    prefetch.learn(1, 2.0, 10)
    assert prefetch.size == 1


def test_pace_falls_when_there_is_little_to_take() -> None:
    prefetch = Prefetch()
    for _ in range(10):
        prefetch.learn(prefetch.size, 1e-6, 10)
    sizes = []
    for _ in range(8):
        prefetch.learn(1, 1e-6, 10)
        sizes.append(prefetch.size)
    assert sizes == [64, 32, 16, 8, 4, 2, 2, 2]


def test_pace_takes_few_large_tasks() -> None:
    prefetch = Prefetch()
    for _ in range(10):
        prefetch.learn(prefetch.size, 1e-6, prefetch.size << 18)
    assert prefetch.size == 4


def test_seconds_become_milliseconds_in_one_place() -> None:
    assert [milliseconds(s) for s in (10, 0.25, 0.0001)] == [10_000, 250, 1]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("os:system", Reason.NOT_ALLOWED),
        ("tasks:nope", Reason.UNKNOWN_FUNCTION),
        ("tasks:NOT_CALLABLE", Reason.UNKNOWN_FUNCTION),
        ("no_such_module:f", Reason.UNKNOWN_FUNCTION),
        ("tasks.no_package:f", Reason.UNKNOWN_FUNCTION),
        ("tasks:two.__call__", Reason.UNKNOWN_FUNCTION),
    ],
)
def test_paths_without_a_function_that_may_run(path: str, reason: Reason) -> None:
    with pytest.raises(Unready) as refusal:
        Functions(AllowList(["tasks:*", "tasks.*:*", "no_such_module:*"]))[path]
    assert refusal.value.reason is reason


@pytest.mark.parametrize(
    "path", ["tasks:__setattr__", "tasks:__init__", "tasks:__delattr__", "tasks:__class__", "tasks:__doc__"]
)
def test_what_every_module_has_is_no_task(path: str) -> None:
    with pytest.raises(Unrunnable) as refusal:
        Functions(AllowList(["tasks:*"]))[path]
    assert (type(refusal.value), refusal.value.reason) == (Unrunnable, Reason.NOT_ALLOWED)
    for allowed in (AllowList([path]), AllowAny()):  # nor if it is named
        with pytest.raises(Unrunnable) as refusal:
            Functions(allowed)[path]
        assert refusal.value.reason is Reason.UNKNOWN_FUNCTION


def test_a_function_of_two_underscores_has_to_be_named() -> None:
    assert "m:__f" in AllowList(["m:__f"])
    assert "m:_f" in AllowList(["m:_*"])
    for pattern in ("m:*", "*:*", "m:__*", "m:__?", "m:__[f]"):
        assert "m:__f" not in AllowList([pattern])


@pytest.mark.parametrize("path", [":f", "m:", ".m:f", "m..n:f", "m.:f", "m\0n:f"])
def test_what_is_no_path_will_never_lead_to_a_function(path: str) -> None:
    with pytest.raises(Unrunnable) as refusal:
        Functions(AllowAny())[path]
    assert (type(refusal.value), refusal.value.reason) == (Unrunnable, Reason.UNKNOWN_FUNCTION)


@pytest.mark.parametrize(
    "code",
    [
        "raise RuntimeError('at import')",
        "import no_such_dependency",
        "def f(:",
        "import broken_module.sub",
        "raise SystemExit(3)",
    ],
)
def test_an_import_that_raises_is_a_failure_of_the_task(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    functions = Functions(AllowAny())
    call = Call("broken_module:f", (), {}, 0)
    try:
        functions[call.func_path]
    except BaseException as error:
        found = verdict(None, call, error)
    assert (found.reason, found.ready) == (Reason.FAILED, False)
    assert "broken_module.py" in found.detail
    assert "importlib" not in found.detail


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"c": 1}), ((1,), {"a": 1}), ((1,), {5: 1})])
def test_arguments_that_do_not_fit_are_told_from_errors_inside(args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    function = Functions(AllowAny())["tasks:two"]
    refusal = misfit(function, Call("tasks:two", args, kwargs, 0), _raised(function, args, kwargs))
    assert refusal is not None
    assert refusal.reason is Reason.BAD_ARGUMENTS
    assert "tasks:two" in refusal.detail


def _raised(function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> BaseException:
    try:
        function(*args, **kwargs)
    except TypeError as error:
        return error
    raise AssertionError("it should have raised")


def test_a_type_error_inside_a_task_is_a_failure() -> None:
    function = Functions(AllowAny())["tasks:inner_type_error"]
    error = _raised(function, (), {})
    assert misfit(function, Call("tasks:inner_type_error", (), {}, 0), error) is None
    assert describe(error).startswith("Traceback")
    assert "len(5)" in describe(error)
    assert __file__ not in describe(error)


def test_without_a_service_manager_nothing_is_said() -> None:
    notifier = ServiceManager()
    assert notifier.watchdog == 0
    notifier.ready("x")


def test_what_the_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "4000000")
        notifier = ServiceManager()
        assert notifier.watchdog == 4
        notifier.ready("working")
        notifier.alive()
        notifier.status("well")
        notifier.stopping("going")
        said = [manager.recv(100).decode() for _ in range(4)]
    assert said == ["READY=1\nSTATUS=working", "WATCHDOG=1", "STATUS=well", "STOPPING=1\nSTATUS=going"]
    notifier.alive()  # the manager is gone: that is logged, not raised


def test_abstract_sockets_and_another_process_s_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0delayed-test-notify")
        monkeypatch.setenv("NOTIFY_SOCKET", "@delayed-test-notify")
        monkeypatch.setenv("WATCHDOG_USEC", "4000000")
        monkeypatch.setenv("WATCHDOG_PID", "1")
        notifier = ServiceManager()
        notifier.alive()
        assert manager.recv(100) == b"WATCHDOG=1"
        assert notifier.watchdog == 0


def test_signals_arrive_in_order_and_handlers_are_restored() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    with SignalPipe() as signals:
        assert signals.installed
        assert signals.read() == []
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.raise_signal(number)
        assert signals.read() == [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]
    assert {number: signal.getsignal(number) for number in before} == before


def test_outside_the_main_thread_no_handler_is_installed() -> None:
    seen: list[bool] = []

    def other() -> None:
        with SignalPipe() as signals:
            seen.append(signals.installed)
            seen.append(bool(signals.read()))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [False, False]


def test_the_dump_has_every_thread() -> None:
    assert "MainThread" in dump_threads()
    assert "test_the_dump_has_every_thread" in dump_threads()


def test_pauses_between_attempts_double_up_to_the_longest_and_keep_half_at_least() -> None:
    for failures, longest in ((1, 0.05), (2, 0.1), (5, 0.8), (6, 1.0), (1000, 1.0)):
        pauses = [pause_before_another(failures, 0.05, 1.0) for _ in range(100)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest


def test_a_token_can_stand_on_a_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    _drawn.clear()
    monkeypatch.setattr("delayed.base.ids.urlsafe_b64encode", lambda _: b"-6fX6y_ZSNePHqnr" + b"--------a-------")
    assert [token(), token()] == ["_6fX6y_ZSNePHqnr", "_-------a-------"]


def test_a_forked_process_draws_tokens_of_its_own() -> None:
    token()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, token().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 16).decode() not in {token() for _ in range(1000)}
