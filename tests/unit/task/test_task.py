import json
from datetime import UTC, datetime, time, timedelta, timezone
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayed.backoff import Constant, Exponential, Linear
from delayed.errors import InvalidTask, NotEncodable, Reason, Unrunnable
from delayed.task.decode import decode, path_of, readable
from delayed.task.edit import with_retry
from delayed.task.task import GoTask, PyTask
from tests import ROOT

VECTORS = json.loads((ROOT / "tests" / "vectors" / "tasks.json").read_text())["vectors"]
NAMES = [vector["name"] for vector in VECTORS]


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_vector_decodes(vector: dict[str, Any]) -> None:
    data, means = bytes.fromhex(vector["hex"]), vector["means"]
    if vector["language"] == "python":
        call = decode(data)
        assert call.func_path == means["func_path"]
        assert list(call.args) == means["args"]
        assert call.kwargs == means["kwargs"]
        assert call.retry == means["retry"]
        assert call.headers == means.get("headers")
    else:
        with pytest.raises(Unrunnable) as refusal:
            decode(data)
        assert refusal.value.reason in (Reason.WRONG_LANGUAGE, Reason.UNDECODABLE)
        assert path_of(data) == means["func_path"]
        if "headers" in means:
            assert readable(data)[2] == means["headers"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["canonical"]], ids=[v["name"] for v in VECTORS if v["canonical"]])
def test_vector_encodes(vector: dict[str, Any]) -> None:
    means = vector["means"]
    options = dict(means.get("options", {}))
    if "backoff" in options:
        kind, *numbers = options["backoff"]
        options["backoff"] = {"constant": Constant, "linear": Linear, "exponential": Exponential}[kind](*numbers)
    task: PyTask | GoTask
    if vector["language"] == "python":
        task = PyTask(means["func_path"], means["args"], means["kwargs"], means["retry"], **options)
    else:
        task = GoTask(means["func_path"], means["payload"], means.get("retry", 0), **options)
    headers = means.get("headers", {})
    at = headers["enqueued"] / 1000 if "enqueued" in headers else None
    assert task.serialize(headers.get("id"), at).hex() == vector["hex"]


instants = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))])).filter(
    lambda when: 1 < when.year < 9999
)
keys = st.one_of(st.integers(-(2**63), 2**64 - 1), st.text(), st.binary(), st.booleans(), st.none())
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False),
        st.text(),
        st.binary(),
        instants,
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(keys, inner)),
    max_leaves=20,
)


@given(args=st.lists(values), kwargs=st.dictionaries(st.text(), values), retry=st.integers(-1, 10))
def test_what_is_sent_arrives(args: list[Any], kwargs: dict[str, Any], retry: int) -> None:
    call = decode(PyTask("m:f", args, kwargs, retry).serialize())
    assert (call.func_path, list(call.args), dict(call.kwargs), call.retry) == ("m:f", args, kwargs, retry)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_task_or_refused(data: bytes) -> None:
    try:
        call = decode(data)
    except Unrunnable:
        path_of(data)
    else:
        assert ":" in call.func_path


def test_defect_u14_maps_with_integer_keys_decode() -> None:
    data = msgpack.packb(["m:f", [{1: "one", -5: {2: 3}}]])
    assert decode(data).args == [{1: "one", -5: {2: 3}}]


def test_defect_u4_a_go_task_without_arguments_is_an_array() -> None:
    assert msgpack.unpackb(GoTask("main.Zero").serialize()) == ["main.Zero", b"\xc0"]


def test_timestamps_of_all_three_sizes_become_aware_datetimes() -> None:
    for seconds, nanoseconds, want in (
        (1, 0, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (1, 500_000_000, datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)),
        (-1, 0, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (2**34, 0, datetime(2514, 5, 30, 1, 53, 4, tzinfo=UTC)),
    ):
        data = msgpack.packb(["m:f", [msgpack.Timestamp(seconds, nanoseconds)]])
        assert decode(data).args == [want]


def test_instants_outside_of_datetime_and_map_keys_that_are_arrays_still_arrive() -> None:
    far = msgpack.Timestamp(10**12, 5)
    assert decode(msgpack.packb(["m:f", [far]])).args == [far]
    assert decode(msgpack.packb(["m:f", [{(1, (2, 3)): 4}]])).args == [{(1, (2, 3)): 4}]


def test_a_string_that_is_not_utf8_arrives_and_leaves_unchanged() -> None:
    data = b"\x92\xa3m:f\x91\xa2\xff\xfe"
    args = decode(data).args
    assert PyTask("m:f", list(args)).serialize() == data


@pytest.mark.parametrize(
    ("argument", "place", "kind"),
    [
        (1j, "args[1]", "complex"),
        (time(1, tzinfo=UTC), "args[1]", "with a time zone"),
        ({(1, object())}, "an element of args[1][1]", "object"),
        ({frozenset({frozenset({frozenset({frozenset()})})})}, "args[1]", "4 levels deep at most"),
        ([{"x": [object()]}], "args[1][0]['x'][0]", "object"),
        ({(1, object()): 1}, "a key of args[1][1]", "object"),
        (2**64, "args[1]", "int"),
        (-(2**63) - 1, "args[1]", "int"),
        (datetime(2026, 1, 1), "args[1]", "without a time zone"),
        ("\ud800", "args[1]", "str"),
    ],
)
def test_what_cannot_be_sent_is_named(argument: object, place: str, kind: str) -> None:
    with pytest.raises(NotEncodable) as error:
        PyTask("m:f", (1, argument)).serialize()
    assert place in str(error.value)
    assert kind in str(error.value)
    with pytest.raises(NotEncodable):
        GoTask("main.F", [1, argument]).serialize()


def test_a_keyword_argument_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(NotEncodable, match=r"kwargs\['size'\] is of type complex"):
        PyTask("m:f", (), {"size": 1j}).serialize()


def test_too_deep_nesting_is_an_error_that_says_so() -> None:
    value: list[Any] = []
    for _ in range(1100):
        value = [value]
    with pytest.raises(NotEncodable, match="nested more than"):
        PyTask("m:f", (value,)).serialize()


@pytest.mark.parametrize("path", ["", "f", "m:", ":f", "main.Note"])
def test_a_path_that_no_python_worker_can_find_is_refused(path: str) -> None:
    with pytest.raises(InvalidTask):
        PyTask(path)


@pytest.mark.parametrize("path", ["", "Note", "main.", ".Note", "m:f"])
def test_a_path_that_no_go_worker_can_find_is_refused(path: str) -> None:
    with pytest.raises(InvalidTask):
        GoTask(path)


def test_functions_that_cannot_be_imported_are_refused() -> None:
    def local() -> None: ...

    for func in (lambda: None, local, 5):
        with pytest.raises(InvalidTask):
            PyTask(func)  # type: ignore[arg-type]


def test_a_function_is_sent_by_its_path() -> None:
    assert PyTask(json.dumps).func_path == "json:dumps"


@pytest.mark.parametrize("args", ["text", {1}, 5])
def test_arguments_that_are_not_a_list_are_refused(args: Any) -> None:
    with pytest.raises(InvalidTask):
        PyTask("m:f", args)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xc1", Reason.UNDECODABLE),
        (b"", Reason.UNDECODABLE),
        (b"\x92\xa3m:f", Reason.UNDECODABLE),
        (msgpack.packb(5), Reason.UNDECODABLE),
        (msgpack.packb([]), Reason.UNDECODABLE),
        (msgpack.packb([1, 2]), Reason.UNDECODABLE),
        (msgpack.packb(["m:f", 5]), Reason.UNDECODABLE),
        (msgpack.packb(["m:f", [], []]), Reason.UNDECODABLE),
        (msgpack.packb(["m:f", [], {}, "x"]), Reason.UNDECODABLE),
        (msgpack.packb(["m:f", [], {}, 0, 5]), Reason.UNDECODABLE),
        (msgpack.packb(["main.F", b"\xc0"]), Reason.WRONG_LANGUAGE),
        (msgpack.packb(["m:f", [], {}, 0, {"!new": 1}]), Reason.UNKNOWN_HEADER),
    ],
)
def test_what_is_not_a_python_task_is_refused_with_a_reason(data: bytes, reason: Reason) -> None:
    with pytest.raises(Unrunnable) as refusal:
        decode(data)
    assert refusal.value.reason is reason


def test_headers_that_need_not_be_understood_are_ignored() -> None:
    assert decode(msgpack.packb(["m:f", [1], {}, 0, {"new": 1}])).args == [1]


def test_a_retry_changes_the_count_and_no_other_byte() -> None:
    head = b"\x95\xa3m:f\x91" + b"\xca\x3f\x80\x00\x00" + b"\x81\xa1k\xd2\x00\x00\x00\x01"  # float32, a wide integer
    tail = b"\x81\xa1h\x01"
    assert with_retry(head + b"\x05" + tail, 4) == head + b"\x04" + tail
    assert with_retry(head + b"\xcd\x01\x00" + tail, 255) == head + b"\xcc\xff" + tail


def test_readable_shows_the_arguments_of_go_tasks() -> None:
    assert readable(GoTask("main.F", ["x", 1]).serialize()) == ["main.F", ["x", 1]]
