"""Tables of the command line."""

import pytest

from delayed.cli.info import span
from delayed.cli.table import Cell, table


def test_columns_are_aligned_and_colours_do_not_count() -> None:
    rows = [[Cell("a"), Cell("10", "red")], [Cell("队"), Cell("5")], [Cell("x\x1b[31m"), Cell("7")]]
    plain = ["queue       n", "a          10", "队          5", "x\\x1b[31m   7"]
    assert list(table(["queue", "n"], rows, colours=False)) == plain
    coloured = list(table(["queue", "n"], rows, colours=True))
    assert coloured[1] == "a          \x1b[31m10\x1b[0m"
    assert coloured[0] == plain[0]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (9.94, "9.9 s"), (119, "119 s"), (252, "4.2 min"), (7300, "2.0 h"), (864_000, "10 d")]
)
def test_a_length_of_time_is_short(seconds: float, text: str) -> None:
    assert span(seconds) == text
