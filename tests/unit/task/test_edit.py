"""Another count of retries, and other headers, for tasks of any shape."""

from typing import Any

import msgpack
import pytest

from delayed.task.decode import headers_of
from delayed.task.edit import with_retry
from delayed.task.task import GoTask, PyTask

_MORE = {"attempt": 1}


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        (["m:f"], ["m:f", [], {}, 1, _MORE]),
        (["m:f", [7]], ["m:f", [7], {}, 1, _MORE]),
        (["m:f", [7], {"a": 1}], ["m:f", [7], {"a": 1}, 1, _MORE]),
        (["m:f", [7], {"a": 1}, 2], ["m:f", [7], {"a": 1}, 1, _MORE]),
        (["m:f", [7], {"a": 1}, 2, {"b": 1}], ["m:f", [7], {"a": 1}, 1, {"b": 1, **_MORE}]),
        (["p.F"], ["p.F", None, {**_MORE, "retry": 1}]),
        ("p.F", ["p.F", None, {**_MORE, "retry": 1}]),
        (["p.F", b"\x07"], ["p.F", b"\x07", {**_MORE, "retry": 1}]),
        (["p.F", b"\x07", {"retry": 2, "b": 1}], ["p.F", b"\x07", {"retry": 1, "b": 1, **_MORE}]),
    ],
)
def test_headers_are_added(task: Any, fields: list[Any]) -> None:
    assert msgpack.unpackb(with_retry(msgpack.packb(task), 1, _MORE)) == fields


def test_what_we_write_is_repeated() -> None:
    for task in (PyTask("m:f", (1,), retry=3, track=True), GoTask("p.F", (1,), retry=3, track=True)):
        data = task.serialize("a" * 16)
        again = with_retry(data, 2, _MORE)
        assert headers_of(again)["id"] == "a" * 16
        assert headers_of(again)["attempt"] == 1
