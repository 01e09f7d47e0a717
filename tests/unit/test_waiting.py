"""A wait that fails says what it saw last."""

from functools import partial
from itertools import count

import pytest

from tests.conftest import eventually

DEPTH = 6


def is_deep(depth: int) -> bool:
    found = [depth, depth]
    return sum(found) >= 2 * DEPTH


def why(check: object, seconds: float = 0) -> str:
    """What a wait for `check` says when it fails."""
    with pytest.raises(AssertionError) as raised:
        eventually(check, seconds)  # type: ignore[arg-type]
    return str(raised.value)


def test_it_ends_when_it_is_so() -> None:
    numbers = count()
    eventually(lambda: next(numbers) == 3)
    assert next(numbers) == 4


def test_it_names_what_is_compared_and_the_values() -> None:
    found = {"tasks": 4}
    assert "found['tasks'] was 4" in why(lambda: found["tasks"] == DEPTH)
    assert "\n  len(found) was 1\n  DEPTH was 6" in why(lambda: len(found) == DEPTH)
    assert "found was {'tasks': 4}" in why(lambda: not found)
    assert "found.get('letters') was None" in why(lambda: found.get("letters"))
    assert "(DEPTH, found['tasks'])[1:] was (4,)" in why(lambda: (DEPTH, found["tasks"])[1:] == (5,))


def test_of_what_is_joined_only_what_was_looked_at_is_named() -> None:
    found = {"tasks": 4, "letters": 0}
    said = why(lambda: found["tasks"] == DEPTH and found["letters"] == 1)
    assert "found['tasks'] was 4" in said
    assert "letters" not in said
    assert "each was 4" in why(lambda: all(each == DEPTH for each in (DEPTH, 4, 5)))


def test_it_looks_into_functions_of_the_tests() -> None:
    depth = 4
    assert "sum(found) was 8" in why(lambda: is_deep(depth))
    assert "sum(found) was 10" in why(partial(is_deep, 5))
    assert "sum(found) was 6" in why(lambda depth=3: is_deep(depth))


def test_a_function_of_asserts_says_what_its_assert_says() -> None:
    def check() -> None:
        assert len("four") == DEPTH

    assert "4" in why(check)


def test_a_lambda_that_finds_nothing_has_not_found_it() -> None:
    nothing: dict[str, int] = {}
    assert "list(nothing).count('x') was 0" in why(lambda: list(nothing).count("x"))
    assert "nothing.get('x') was None" in why(lambda: nothing.get("x"))


def test_what_has_no_source_is_waited_for_too() -> None:
    nothing: list[int] = []
    assert "the check was 0" in why(nothing.__len__)
