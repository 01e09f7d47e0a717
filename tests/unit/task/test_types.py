"""Extension types, and the conversion of arguments by annotation."""

from __future__ import annotations

import enum
import json
import typing
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import msgpack
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayed.errors import ConfigurationError, NotEncodable, Reason, Unrunnable
from delayed.job.functions import Coroutine, Functions, converting
from delayed.task import extensions
from delayed.task.codec import dumps, loads
from delayed.task.decode import decode, readable
from delayed.task.task import PyTask
from delayed.task.types import Unfit, by_annotation, converter, encoder

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "types.json").read_text())["vectors"]
_READ: dict[str, Callable[[Any], Any]] = {
    "decimal": Decimal,
    "uuid": uuid.UUID,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda micro: timedelta(microseconds=int(micro)),
    "path": Path,
    "set": set,
    "frozenset": frozenset,
}
_SCALARS = st.one_of(
    st.decimals(allow_nan=False),
    st.uuids(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.text(st.characters(exclude_characters="\0", codec="utf-8")).map(Path),
    st.integers(-(2**63), 2**64 - 1),
    st.text(),
    st.none(),
)
_HASHABLE = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3), max_leaves=3
)
_VALUES = st.recursive(
    _SCALARS | st.sets(_HASHABLE, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_SCALARS, inner, max_size=3),
)


@given(_VALUES)
def test_values_come_back_as_they_were(value: Any) -> None:
    came = loads(dumps(value))
    assert came == value
    assert type(came) is type(value)
    assert loads(dumps(came)) == value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    if vector["kind"] == "invalid":
        with pytest.raises(Unrunnable) as refusal:
            loads(data)
        assert refusal.value.reason is Reason.UNDECODABLE
        return
    value = _READ[vector["kind"]](vector["value"])
    assert loads(data) == value
    assert type(loads(data)) is type(value)
    if vector["canonical"]:
        assert dumps(value) == data


def _reason(task: bytes) -> Reason | None:
    try:
        decode(task)
    except Unrunnable as refusal:
        return refusal.reason
    return None


@given(st.integers(-128, 127), st.binary(max_size=40))
def test_odd_payloads_are_undecodable_and_nothing_else(code: int, payload: bytes) -> None:
    task = msgpack.packb(["m:f", [msgpack.ExtType(code, payload)]]) if code >= 0 else b"\x92\xa3m:f\x91\xc7%c%c" % (
        len(payload), code & 0xFF,
    ) + payload  # fmt: skip
    assert _reason(task) in (None, Reason.UNDECODABLE)


def test_subclasses_are_sent_as_what_they_are() -> None:
    class Price(Decimal):
        pass

    class Id(uuid.UUID):
        pass

    class Moment(datetime):
        pass

    assert loads(dumps([Price("1.0"), Id(int=5)])) == [Decimal("1.0"), uuid.UUID(int=5)]
    with pytest.raises(TypeError):  # its own things would be lost; it is no date
        dumps(Moment(2026, 1, 1, tzinfo=UTC))


def test_a_deep_set_neither_leaves_nor_arrives() -> None:
    data = dumps(1)
    for _ in range(20_000):
        data = msgpack.packb([msgpack.ExtType(7, data)])
    with pytest.raises(Unrunnable, match="it is in 4 others"):
        loads(data)
    value: frozenset[Any] = frozenset()
    for _ in range(5000):
        value = frozenset({value})
    with pytest.raises(NotEncodable, match="deep"):
        PyTask("m:f", (value,)).serialize()


def test_values_that_hash_alike_are_refused_and_many_others_are_not() -> None:
    alike = [Decimal(1) + index * (2**61 - 1) for index in range(1500)]
    with pytest.raises(Unrunnable, match="hash alike"):
        loads(msgpack.packb(msgpack.ExtType(7, dumps(alike))))
    with pytest.raises(Unrunnable, match="hash alike"):
        loads(dumps(dict.fromkeys(alike)))
    many = [uuid.UUID(int=index << 64 | 3) for index in range(3000)]
    assert loads(dumps([many, set(many), dict.fromkeys(many)])) == [many, set(many), dict.fromkeys(many)]


class Money:
    def __init__(self, amount: Decimal, currency: str) -> None:
        self.amount, self.currency = amount, currency


@pytest.fixture
def _own_types(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_own", "_around"):
        monkeypatch.setattr(extensions, name, dict(getattr(extensions, name)))


@pytest.mark.usefixtures("_own_types")
def test_own_types(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotEncodable, match=r"args\[0\] is of type .*Money, which MessagePack cannot carry"):
        PyTask("m:f", (Money(Decimal(1), "EUR"),)).serialize()
    encoder(Money, 101, lambda money: [money.amount, money.currency], lambda pair: Money(*pair))
    data = PyTask("m:f", (Money(Decimal("9.90"), "EUR"),)).serialize()
    came = decode(data).args[0]
    assert (came.amount, came.currency) == (Decimal("9.90"), "EUR")
    encoder(Money, 101, lambda money: money.currency, lambda text: Money(Decimal(1 // 0), text))
    with pytest.raises(Unrunnable, match=r"extension type 101 \(Money\): ZeroDivisionError"):
        decode(data)
    monkeypatch.setattr(extensions, "_own", {})
    with pytest.raises(Unrunnable, match="extension type 101, and this process has no encoder"):
        decode(data)
    assert readable(data)[1][0].code == 101  # for a human to read
    with pytest.raises(Unrunnable, match="extension type 31, which this version does not know"):
        loads(msgpack.packb(msgpack.ExtType(31, b"")))


@pytest.mark.usefixtures("_own_types")
def test_an_encoder_that_cannot_work_is_refused() -> None:
    class Other:
        pass

    def same(value: Any) -> Any:
        return value

    for code in (31, 128, True, "40"):
        with pytest.raises(ConfigurationError, match="from 32 to 127"):
            encoder(Money, code, same, same)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is sent as the int"):
        encoder(Number, 33, same, same)
    encoder(Money, 33, same, same)
    encoder(Money, 33, same, same)  # a module may be loaded again
    with pytest.raises(ConfigurationError, match="Money: use another"):
        encoder(Other, 33, same, same)
    with pytest.raises(NotEncodable):  # it is encoded as itself
        PyTask("m:f", (Money(Decimal(1), ""),)).serialize()


class Number(enum.IntEnum):
    ONE = 1


class Color(enum.Enum):
    RED = "red"
    PAIR = (1, 2)
    PRICE = Decimal("1.5")


class Shade(enum.Enum):
    DARK = "dark"


@dataclass(frozen=True)
class Item:
    id: uuid.UUID
    color: Color = Color.RED
    sizes: tuple[int, ...] = ()
    within: Item | None = None
    hash: int = field(default=0, init=False, compare=False)


class Point(NamedTuple):
    x: int
    color: Color = Color.RED


class Address(TypedDict, total=False):
    street: str
    color: Color


class Order(pydantic.BaseModel):
    id: uuid.UUID
    total: Decimal
    items: list[Item]
    number: int = pydantic.Field(alias="no")


class Event(msgspec.Struct):
    id: uuid.UUID
    total: Decimal
    when: datetime
    shade: Shade


_ID = uuid.UUID(int=7)
_ITEM = Item(_ID, Color.PAIR, (1, 2), Item(_ID))
if typing.TYPE_CHECKING:
    from nowhere import Something  # type: ignore[import-not-found]


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Number, Number.ONE),
        (Color, Color.PAIR),
        (Color, Color.PRICE),
        (Item, _ITEM),
        (list[Item], [_ITEM]),
        (Sequence[Item], [_ITEM]),
        (dict[str, tuple[Item, Number]], {"a": (_ITEM, Number.ONE)}),
        (tuple[int, ...], (1, 2)),
        (tuple, (1, [2])),
        (set[Color], {Color.RED, Color.PAIR}),
        (frozenset[Point], frozenset({Point(1, Color.PAIR)})),
        (Point, Point(1, Color.RED)),
        (Address, {"street": "x", "color": Color.RED}),
        (Item | None, None),
        (Item | None, _ITEM),
        (str | Color, "red"),
        (Decimal | float, 1.5),
        (Item | Point, Point(3)),
        (Order, Order(id=_ID, total=Decimal("1.10"), items=[Item(_ID, sizes=(1,))], no=3)),
        (Event, Event(_ID, Decimal("1.10"), datetime(2026, 1, 1, tzinfo=UTC), Shade.DARK)),
        (typing.Annotated[Color, "red"], Color.RED),
        (typing.NewType("Shade", Color), Color.RED),
        (Any, 5),
    ],
)
def test_annotations_bring_values_back(hint: Any, value: Any) -> None:
    def function(plain: int, value: Any, *rest: Any, named: Any = None, **others: Any) -> None: ...

    function.__annotations__ = {"plain": int, "value": hint, "rest": hint, "named": hint, "others": hint}
    task = decode(PyTask("m:f", (1, value, value), {"named": value, "other": value}).serialize())
    convert = converter(function)
    if hint is Any:
        assert convert is None
        return
    assert convert is not None
    args, kwargs = convert(task.args, task.kwargs)
    assert (args, kwargs) == ([1, value, value], {"named": value, "other": value})
    assert type(args[1]) is type(value)


@pytest.mark.parametrize(
    ("hint", "value", "came"),
    [
        (uuid.UUID, str(_ID), _ID),
        (Decimal, "1.5", Decimal("1.5")),
        (Decimal, 2, Decimal(2)),
        (date, "2026-01-02", date(2026, 1, 2)),
        (datetime, "2026-01-02T03:04:05+00:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (time, "03:04", time(3, 4)),
        (timedelta, 1.5, timedelta(seconds=1.5)),
        (Path, "/tmp", Path("/tmp")),
        (set, [1, 1], {1}),
        (set[uuid.UUID], [str(_ID)], {_ID}),
    ],
)
def test_what_json_has_instead_is_taken(hint: Any, value: Any, came: Any) -> None:
    assert _one(hint)(value) == came


def _one(hint: Any) -> Callable[[Any], Any]:
    def function(value: Any) -> None: ...

    function.__annotations__ = {"value": hint}
    convert = converter(function)
    assert convert is not None
    return lambda value: convert([value], {})[0][0]


@pytest.mark.parametrize(
    ("hint", "value", "words"),
    [
        (Color, "purple", "value: str is not the value of a Color"),
        (Decimal, 1.5, "value: float is not Decimal, nor a str or int of it"),
        (uuid.UUID, "x", "value: ValueError badly formed"),
        (uuid.UUID, None, "value: NoneType is not UUID"),
        (Item, {"id": _ID, "sizes": 1}, r"value: \.sizes: int is not"),
        (Item, {"id": _ID, "new": 1}, "value: Item has no field 'new'"),
        (Item, {}, "value: TypeError .*missing"),
        (list[Item], [3], r"value: \[0\]: int is not Item"),
        (tuple[int, str], [1], "value: 1 values are not tuple"),
        (dict[str, Color], [1], "value: list is not a dict"),
        (Item | None, 3, r"value: int is not Item \| NoneType"),
        (Order, {"id": 5}, "value: ValidationError"),
        (Event, {"id": 5}, "value: ValidationError"),
    ],
)
def test_what_does_not_fit_says_where(hint: Any, value: Any, words: str) -> None:
    with pytest.raises(Unfit, match=words):
        _one(hint)(value)


def test_what_is_for_type_checkers_only_is_left_alone_and_the_rest_is_not() -> None:
    def function(item: Something, color: Color) -> None: ...

    convert = converter(function)
    assert convert is not None
    assert convert([{"a": 1}], {"color": "red"}) == ([{"a": 1}], {"color": Color.RED})


def test_too_many_arguments_are_left_for_the_call_to_refuse() -> None:
    def function(color: Color) -> None: ...

    convert = converter(function)
    assert convert is not None
    assert convert(["red", 2], {"x": 1}) == ([Color.RED, 2], {"x": 1})


def paint(color: Color) -> Color:
    return color


async def paint_later(color: Color) -> Color:
    return color


def test_only_functions_that_ask_for_it_are_converted() -> None:
    assert converting(paint) is paint
    by_annotation(paint)
    by_annotation(paint_later)
    try:
        functions = Functions({f"{__name__}:paint", f"{__name__}:paint_later"})
        assert functions[f"{__name__}:paint"]("red") is Color.RED
        later = functions[f"{__name__}:paint_later"]
        assert isinstance(later, Coroutine)
        assert later(color="red") is Color.RED
    finally:
        del paint.__delayed_convert__, paint_later.__delayed_convert__  # type: ignore[attr-defined]
