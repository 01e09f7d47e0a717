"""What may be asked for, and that whatever cannot be meant is refused where it is written."""

import copy
import functools
import inspect
import operator
import pickle
import random
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from delayed.backoff import Constant, Exponential
from delayed.cron.definition import define
from delayed.cron.expression import Cron
from delayed.delay import FunctionOptions, HookOptions, ScheduleOptions, delayed
from delayed.errors import ConfigurationError, InvalidSchedule, InvalidTask, NotEncodable, NotInTask, Retry
from delayed.events import subscribe
from delayed.hooks import NAMES, Hooks
from delayed.job.job import current_task
from delayed.task.options import OPTIONS, Options, TaskOptions
from delayed.task.task import GoTask, PyTask
from delayed.testing.drain import drain
from delayed.testing.fake import fake_queue

QUEUE = fake_queue("images")
task = delayed(QUEUE)
nothing: Any = None


def thumb(path: str, w: int, h: int = 50) -> str:
    return path


def sketch(path: str, w: int) -> str:
    return path


def elastic(path: str, **more: object) -> None: ...


def about_itself() -> list[object]:
    job = current_task()
    job.progress(1, 2, "begun")
    return [job.direct, job.id, job.attempt, job.retries, job.cancelled, job.func_path, repr(job)]


def enqueue_itself() -> None:
    job = current_task()
    job.queue.enqueue(PyTask(thumb, [job.func_path, 1]))


class Kind:
    @staticmethod
    def static() -> None: ...

    def method(self) -> None: ...

    @classmethod
    def of_the_class(cls) -> None: ...


decorated = task(thumb, result_ttl=600)


def _without_spans(kind: Any) -> Any:
    """Where seconds are, a `timedelta` will do, which is gone once it has been checked."""
    kinds = [each for each in get_args(kind) if each is not timedelta]
    return functools.reduce(operator.or_, kinds) if len(kinds) < len(get_args(kind)) else kind


def test_type_checkers_are_told_of_the_options_that_there_are() -> None:
    told, there = get_type_hints(TaskOptions), get_type_hints(Options)
    lists = {"retry_on", "give_up_on"}  # of which one may be given bare
    own = {field.name: there[field.name] for field in fields(Options) if field.name in OPTIONS - lists}
    said = {name: _without_spans(kind) for name, kind in told.items() if name not in lists}
    assert said == own
    assert set(told) | {"retry"} == OPTIONS
    assert get_type_hints(HookOptions) == {name: get_type_hints(Hooks.__new__)[name] for name in NAMES}
    assert set(get_type_hints(FunctionOptions)) == set(told) | set(NAMES)
    singular = {"result_ttl", "track", "at", "after", "unique", "unique_mode", "unique_for", "join", "rate_key", "rate"}
    assert set(get_type_hints(ScheduleOptions)) == (set(told) - singular) | set(NAMES)


@pytest.mark.parametrize("retry", ["3", 1.5, True, 10**30, -(10**30), {"a": 1}])
@pytest.mark.parametrize(
    "make",
    [
        lambda retry: PyTask("m:f", retry=retry),
        lambda retry: GoTask("main.F", (1,), retry),
        lambda retry: task(retry=retry),
        lambda retry: task(sketch, retry=retry),
        lambda retry: decorated.options(retry=retry),
        lambda retry: task.cron("* * * * *", retry=retry)(sketch),
    ],
)
def test_what_is_no_count_of_retries(make: Callable[[Any], object], retry: object) -> None:
    with pytest.raises(InvalidTask, match=r"retry must be a whole number below 2\*\*63 \(negative: until it succeeds\), not "):
        make(retry)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"track": "no"}, "track must be True or False, not 'no'"),
        ({"unique": "a", "join": "yes"}, "join must be True or False"),
        ({"unique": ""}, "unique must be a string that is not empty"),
        ({"group": ""}, "group must be a string that is not empty"),
        ({"concurrency_key": 7}, "concurrency_key must be a string"),
        ({"concurrency_key": "a", "concurrency": 0}, "a number of tasks above 0"),
        ({"backoff": Constant(1)}, "backoff does nothing without retry: .* such as retry=3"),
        ({"retry_on": KeyError}, "retry_on does nothing without retry"),
        ({"give_up_on": KeyError}, "give_up_on does nothing without retry"),
        ({"unique_for": 60}, "unique_for does nothing without unique"),
        ({"unique_mode": "while_queued"}, "unique_mode does nothing without unique"),
        ({"join": True}, "join does nothing without unique"),
        ({"concurrency": 2}, "concurrency does nothing without concurrency_key"),
    ],
)
def test_options_that_are_wrong_or_useless(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidTask, match=words):
        PyTask("m:f", **options)
    with pytest.raises(InvalidTask, match=words):
        GoTask("main.F", None, **options)
    with pytest.raises(InvalidTask, match=words):
        task(sketch, **options).delay("x", 1)


def test_what_an_option_needs_may_come_later() -> None:
    partly = task(sketch, backoff=Constant(1), retry_on=KeyError, unique_for=60, unique_mode="while_queued", join=True)
    assert partly.options(retry=1, unique="a").delay("x", 1).id
    assert partly.options(retry=0, unique="b").delay("x", 1).id  # somebody has decided so
    assert partly.options(backoff=None, retry_on=(), unique="c").delay("x", 1).id
    assert PyTask("m:f", None, None, 0, backoff=Constant(1)).retry == 0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Retry(after=-3), ConfigurationError, "not below 0, as in .*, not -3"),
        (lambda: Retry(nothing), ConfigurationError, "number of seconds"),
        (lambda: Retry(float("nan")), ConfigurationError, "number of seconds"),
        (lambda: Retry(True), ConfigurationError, "number of seconds"),
        (lambda: Exponential(1, jitter=nothing), InvalidTask, "jitter must be True or False"),
        (lambda: Hooks(on_success=3), InvalidTask, "on_success must be a function"),  # type: ignore[arg-type]
        (lambda: subscribe(nothing), ConfigurationError, "subscribe takes a function"),
        (lambda: GoTask(nothing), InvalidTask, "not the path of a Go function"),
    ],
)
def test_other_values_that_are_wrong(call: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_a_copy_of_a_retry_is_the_same() -> None:
    for each in (Retry(0.5, "not yet"), pickle.loads(pickle.dumps(Retry(0.5, "not yet"))), copy.copy(Retry(0.5, "not yet"))):
        assert (each.after, str(each), repr(each)) == (0.5, "not yet", "Retry(0.5, 'not yet')")
    assert str(Retry()) == "the task asked for it"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("retries", "retry"), ("retri", "retry"), ("ttl", "result_ttl"), ("timeuot", "timeout"), ("key", "concurrency_key")],
)
def test_an_unknown_option_says_which_was_meant(wrong: str, meant: str) -> None:
    options: dict[str, Any] = {wrong: 3}
    for call in (decorated.options, task, functools.partial(PyTask, "m:f")):
        with pytest.raises(InvalidTask, match=f"no option '{wrong}'; did you mean '{meant}'"):
            call(**options)


def test_an_unknown_option_says_which_there_are() -> None:
    with pytest.raises(InvalidTask, match=r"there are retry, backoff, .*, concurrency, rate_key, rate, metadata$"):
        PyTask("m:f", xyz=3)  # type: ignore[call-arg]
    with pytest.raises(InvalidTask, match=r"there are retry, backoff, .*, on_start, on_success, on_failure, on_retry$"):
        task(xyz=3)  # type: ignore[call-overload]
    with pytest.raises(InvalidTask, match="did you mean 'on_success'"):
        task(on_sucess=print)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (decorated, r"call thumb.delay\(…\), or enqueue PyTask\(thumb, \(…\)\)"),
        (len, r"not builtin_function_or_method .*: enqueue PyTask\(len, \(…\)\)"),
        ("shop.tasks:thumb", r"enqueue PyTask\('shop.tasks:thumb', \(…\)\)"),
        ("main.Thumb", r"enqueue GoTask\('main.Thumb', \(…\)\)"),
        (3, "not int 3: such as PyTask"),
    ],
)
def test_what_is_no_task(what: Any, words: str) -> None:
    for call in (QUEUE.enqueue, lambda what: QUEUE.enqueue_many([what])):
        with pytest.raises(InvalidTask, match=f"^a queue takes a PyTask or a GoTask, .*{words}"):
            call(what)


def test_an_option_among_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("after", "retry"):
        wrong: dict[str, Any] = {name: 3}
        with pytest.raises(InvalidTask, match=rf"{name} is an option, .*: thumb.options\({name}=3\).delay\(…\)"):
            decorated.delay("x", 1, **wrong)
    before = QUEUE.len()
    decorated.delay("x", w=1)
    task(elastic).delay("x", after=3)  # its own business

    def timed(at: int) -> None: ...

    timed.__qualname__ = "timed"
    monkeypatch.setattr(sys.modules[__name__], "timed", timed, raising=False)
    task(timed).delay(at=3)
    assert QUEUE.len() == before + 3


@pytest.mark.parametrize(
    "function",
    [
        Kind.static,
        Kind.method,
        Kind.of_the_class,
        Kind().method,
        Path.exists,
        lambda: None,
        functools.partial(print, 1),
        [].append,
        5,
    ],
)
def test_functions_that_no_worker_could_find(function: Any) -> None:
    for call in (task, task(retry=1), PyTask, task.cron("* * * * *")):
        with pytest.raises(InvalidTask, match=r"has no path that a worker could import|needs a function"):
            call(function)


def timed(function: Callable[..., object]) -> Callable[..., object]:
    """A decorator as people write it."""

    def wrapper(*args: object) -> object:
        return function(*args)

    return wrapper


def well_timed(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def wrapper(*args: object) -> object:
        return function(*args)

    return wrapper


class Timed:
    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def __call__(self, *args: object) -> object:
        return self.function(*args)


def plain(*_: object) -> None: ...


def generates() -> Iterator[int]:
    yield 1


async def generates_too() -> AsyncIterator[int]:
    yield 1


def nested() -> Callable[[], None]:
    def inside() -> None: ...

    return inside


@pytest.mark.parametrize(
    ("function", "says", "not_"),
    [
        (timed(plain), r"if timed is a decorator, put @functools\.wraps\(function\) above", "define it"),
        (timed(nested()), r"functools\.wraps", "lambda"),
        (Timed(plain), r"an object of Timed .*functools\.update_wrapper", "def"),
        (nested(), r"defined inside of nested: move it to the top of its module", "class"),
        (lambda: None, r"a lambda .*`def` at the top of a module", "wraps"),
        (functools.partial(plain, 1), r"a partial .*enqueue plain itself", "def"),
        (Kind().method, r"Kind\.method .*belongs to a class", "wraps"),
        (Kind.static, r"Kind\.static .*belongs to a class", "wraps"),
        (generates, r"generates is a generator function", "path"),
        (generates_too, r"generates_too is a generator function", "path"),
        (5, r"a task needs a function or the path of one, not 5", "def"),
    ],
)
def test_a_refusal_names_the_cause_that_applies(function: Any, says: str, not_: str) -> None:
    for call in (task, task(retry=1), PyTask, task.cron("* * * * *")):
        with pytest.raises(InvalidTask, match=says) as refused:
            call(function)
        assert not_ not in str(refused.value)


def test_a_path_that_leads_elsewhere_is_refused_where_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[__name__]
    wrapped = well_timed(plain)
    with pytest.raises(InvalidTask, match=r"test_options:plain does not lead to this function: there is something else"):
        PyTask(wrapped)
    own = task(wrapped)  # it may still get there, as a decorator's result does
    with pytest.raises(InvalidTask, match="does not lead to this function"):
        own.delay()
    monkeypatch.setattr(module, "plain", wrapped)
    before = QUEUE.len()
    own.delay()
    assert PyTask(wrapped).func_path == PyTask(plain.__wrapped__).func_path == f"{__name__}:plain"  # type: ignore[attr-defined]
    assert QUEUE.len() == before + 1
    monkeypatch.delattr(module, "plain")
    with pytest.raises(InvalidTask, match="there is nothing of that name"):
        PyTask(wrapped)
    monkeypatch.setattr(module.__spec__, "_initializing", True, raising=False)
    assert PyTask(wrapped).func_path == f"{__name__}:plain"  # it is being imported


@pytest.mark.parametrize("name", ["unique", "group", "concurrency_key"])
def test_keys_that_have_no_utf8_form_are_refused_as_others_are(name: str) -> None:
    options: dict[str, Any] = {name: "a\ud800b"}
    with pytest.raises(NotEncodable, match=f"{name} has characters that have no UTF-8 form"):
        PyTask("m:f", **options)
    options = {name: "a\udcffb"}  # another program's bytes go through
    QUEUE.enqueue(PyTask("m:f", **options))


def test_functions_that_take_no_attributes() -> None:
    for function in (len, random.randint):
        with pytest.raises(InvalidTask, match=r"cannot have a .delay\(\): enqueue PyTask"):
            task(function)
    assert PyTask(len).func_path == "builtins:len"
    assert PyTask(random.randint).func_path == "random:randint"


def test_a_function_of_the_script_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def f() -> None: ...

    f.__module__, f.__qualname__ = "__main__", "f"
    script = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", script)
    own = task(task.cron("* * * * *")(f))
    with pytest.warns(UserWarning, match="^__main__:f is a function of the script itself.* a module of its own") as seen:
        own.delay()
    own.delay()  # once is enough
    assert PyTask(f).func_path == "__main__:f"
    assert [Path(each.filename) for each in seen] == [Path(__file__)]
    script.__spec__ = types.SimpleNamespace(name="shop.tasks")  # type: ignore[assignment]  # as `python -m shop.tasks`
    assert PyTask(f).func_path == "shop.tasks:f"


def test_a_schedule_that_cannot_be_says_whose_it_is() -> None:
    with pytest.raises(InvalidSchedule, match=r"^shop:f: the tasks of a schedule are all the same"):
        define(PyTask("shop:f", track=True), Cron("* * * * *", "UTC", "skip"))


def test_a_scheduled_function_may_have_hooks() -> None:
    def heard() -> None: ...

    heard.__qualname__ = "heard"
    task.cron("* * * * *", on_success=print)(heard)
    assert Hooks.of(heard).on_success is print


def test_a_direct_call_has_a_task_that_nobody_waits_for() -> None:
    assert about_itself() == [True, None, 1, 0, False, "", "<a direct call>"]
    with pytest.raises(NotInTask, match=r"called directly, and has no queue. Ask `current_task\(\).direct`"):
        enqueue_itself()
    queue = fake_queue()
    handle = queue.enqueue(PyTask(about_itself, (), result_ttl=60))
    queue.enqueue(PyTask(enqueue_itself))
    assert drain(queue) == 3
    assert handle.result(0.001)[:6] == [False, handle.id, 1, 0, False, f"{__name__}:about_itself"]
    assert current_task().direct


def test_the_signatures_stay_upstream_s() -> None:
    assert list(inspect.signature(PyTask).parameters)[:4] == ["func", "args", "kwargs", "retry"]
    assert list(inspect.signature(GoTask).parameters)[:2] == ["func_path", "args"]
