"""The W3C trace context of a task: how it is written and read."""

from typing import Any

import msgpack
import pytest

from delayed.backoff import Exponential
from delayed.task.decode import headers_of
from delayed.task.headers import trace_in
from delayed.task.options import OPTIONS, Options
from delayed.task.task import GoTask, PyTask

PARENT = f"00-{'4b' * 16}-{'a1' * 8}-01"
MANY: dict[str, Any] = {
    "backoff": Exponential(1), "retry_on": "a.B", "give_up_on": "a.C", "timeout": 1, "hard_timeout": 2, "result_ttl": 3,
    "expires": 4, "unique": "u", "group": "g", "concurrency_key": "c", "metadata": {"a": "b"},
}  # fmt: skip


@pytest.mark.parametrize("task", [PyTask("m:f", (1,), {"a": 2}, 3), GoTask("m.F", (1, 2))])
def test_it_stands_in_two_headers(task: PyTask | GoTask) -> None:
    plain = task.serialize()
    traced = task.traced(PARENT, "a=b")
    assert headers_of(traced.serialize()) == {"traceparent": PARENT, "tracestate": "a=b"}
    assert headers_of(task.traced(PARENT).serialize()) == {"traceparent": PARENT}
    assert task.serialize() == plain


@pytest.mark.parametrize("task", [PyTask("m:f", (1,)), GoTask("m.F", (1, 2))])
def test_without_a_context_a_task_stays_plain(task: PyTask | GoTask) -> None:
    assert task.traced("").serialize() == task.serialize()


@pytest.mark.parametrize("kind", [PyTask, GoTask])
def test_all_headers_at_once_fit(kind: type[PyTask | GoTask]) -> None:
    options = Options(**MANY).as_node("home", 1)
    python = PyTask.with_options("m:f", (), {}, 3, options)
    task = python if kind is PyTask else GoTask.with_options("m.F", (), 3, options)
    without = headers_of(task.serialize("x" * 16, 0.0))
    data = task.traced(PARENT, "a=b").serialize("x" * 16, 0.0)
    assert headers_of(data) == {**without, "traceparent": PARENT, "tracestate": "a=b"}
    assert len(headers_of(data)) == (16 if kind is PyTask else 17)
    assert msgpack.unpackb(data)


def test_each_enqueue_has_its_own() -> None:
    options = Options(timeout=5).with_id()
    task = PyTask.with_options("m:f", (), {}, None, options)
    first, second = (task.traced(PARENT.replace("01", each)).serialize("x" * 16) for each in ("00", "01"))
    assert [headers_of(data)["traceparent"][-2:] for data in (first, second)] == ["00", "01"]
    assert headers_of(first)["timeout"] == 5000
    assert options.traced(PARENT) is options.traced(PARENT)
    assert options.trace is None


def test_other_options_keep_it() -> None:
    task = PyTask("m:f").traced(PARENT).but({"result_ttl": 5})
    assert headers_of(task.serialize())["traceparent"] == PARENT


def test_it_is_no_option() -> None:
    assert "trace" not in OPTIONS


def test_a_task_that_was_read_keeps_its_bytes() -> None:
    data = PyTask("m:f", (1,)).serialize()
    assert PyTask.deserialize(data).traced(PARENT).serialize() == data


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"traceparent": PARENT}, (PARENT, "")),
        ({"traceparent": PARENT, "tracestate": "a=b"}, (PARENT, "a=b")),
        ({"traceparent": PARENT, "tracestate": 5}, (PARENT, "")),
        ({"traceparent": PARENT, "tracestate": "a" * 513}, (PARENT, "")),
        ({"traceparent": PARENT, "tracestate": "a=é"}, (PARENT, "")),
        ({"traceparent": PARENT, "tracestate": "a=\n"}, (PARENT, "")),
        ({"traceparent": PARENT.replace("00-", "cc-") + "-more"}, (PARENT.replace("00-", "cc-") + "-more", "")),
        ({"tracestate": "a=b"}, None),
        ({"traceparent": PARENT + "\n"}, None),
        ({"traceparent": PARENT.upper()}, None),
        ({"traceparent": PARENT.replace("00-", "ff-")}, None),
        ({"traceparent": PARENT.replace("4b" * 16, "0" * 32)}, None),
        ({"traceparent": PARENT.replace("a1" * 8, "0" * 16)}, None),
        ({"traceparent": PARENT.replace("00-", "cc-") + "-" + "m" * 512}, None),
        ({"traceparent": 5}, None),
        ({}, None),
    ],
)
def test_what_is_read(headers: dict[str, Any], found: tuple[str, str] | None) -> None:
    assert trace_in(headers) == found
