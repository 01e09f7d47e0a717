"""Patterns mean what tests/vectors/interests.json says. The Go module runs the same file."""

import json
from typing import Any

import pytest

from delayed.errors import ConfigurationError, InvalidTask
from delayed.interests.entries import entries
from delayed.interests.pattern import bounded, matcher
from delayed.interests.table import Interest, Table
from delayed.task.codec import dumps
from tests import ROOT

VECTORS = json.loads((ROOT / "tests" / "vectors" / "interests.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["patterns"], ids=lambda vector: vector["pattern"][:40])
def test_a_pattern_fits(vector: dict[str, Any]) -> None:
    fits = matcher(vector["pattern"])
    assert [text for text in vector["fits"] if not fits(bounded(text))] == []
    assert [text for text in vector["not"] if fits(bounded(text))] == []


@pytest.mark.parametrize("pattern", VECTORS["refused"], ids=lambda pattern: pattern[:40])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError):
        matcher(pattern)


@pytest.mark.parametrize("pattern", VECTORS["accepted"], ids=lambda pattern: pattern[:40])
def test_large_and_odd_patterns(pattern: str) -> None:
    matcher(pattern)


def spelled(value: Any) -> Any:
    """A text or bytes that are repeated."""
    if isinstance(value, dict):
        return value.get("head", "") + value["of"] * value["repeat"]
    return value


@pytest.mark.parametrize("vector", VECTORS["entries"], ids=lambda vector: vector["name"])
def test_entries(vector: dict[str, Any]) -> None:
    found = entries(bytes.fromhex(spelled(vector["data"])))
    assert found == [tuple(map(spelled, pair)) for pair in vector["entries"]]


@pytest.mark.parametrize("vector", VECTORS["tables"], ids=lambda vector: vector["name"])
def test_who_gets_a_copy(vector: dict[str, Any]) -> None:
    fields = list[bytes]()
    for place, each in reversed(list(enumerate(vector["interests"]))):  # in whatever order Redis gives them
        interest = Interest.of(each["queue"], each["match"], each["function"])
        fields += [interest.queue.encode(), b"%d " % place + interest.packed()]
    table = Table(fields)
    for published in vector["published"]:
        found = table.fitting(entries(dumps(published["data"])))
        assert [each.queue for each in found] == published["queues"], published


def test_too_many_entries_are_refused() -> None:
    assert len(entries(dumps(dict.fromkeys(range(1000))))) == 1000
    with pytest.raises(InvalidTask, match="1,000 entries at most, not 1,001"):
        entries(dumps(dict.fromkeys(range(1001))))
    assert len(entries(dumps([0] * 1001))) == 1000


@pytest.mark.parametrize(
    "value",
    [b"", b"1", b"x \x80", b"-1 \x82\xa8function\xa3m:f\xa5match\x91\x92\xa1*\xa1*", b"1 \xc1", b"1 \x80", b"1 \x90"],
)
def test_what_another_program_wrote_is_passed_over(value: bytes) -> None:
    table = Table([b"", b"1 t", b"q", value])
    assert table.interests == []
    assert list(table.faults) == ["q"]


@pytest.mark.parametrize(
    ("match", "function", "retry"),
    [
        ({}, "m:f", 0),
        ([], "m:f", 0),
        ("order.*", "m:f", 0),
        (7, "m:f", 0),
        ({"a": 1}, "m:f", 0),
        ({"a": "regex:("}, "m:f", 0),
        ({str(each): "" for each in range(101)}, "m:f", 0),
        ("*", "f", 0),
        ("*", "m:", 0),
        ("*", "main.", 0),
        ("*", "m:f", True),
    ],
)
def test_what_is_no_interest_is_refused(match: object, function: str, retry: int) -> None:
    with pytest.raises(ConfigurationError):
        Interest.of("q", match, function, retry)


def test_a_name_that_no_queue_can_have_is_refused() -> None:
    for name in ("", "q_dead", "delayed:interests", "delayed:interests:{a}", "delayed:queues"):
        with pytest.raises(ConfigurationError):
            Interest.of(name, "*", "m:f")
