"""How pages write numbers, times and names."""

import shlex
from urllib.parse import unquote

import pytest

from delayed.web.words import age, clock, name_in, number, part, size, visible, word


def test_numbers_and_times() -> None:
    assert (number(1234567), number(0)) == ("1,234,567", "0")
    assert [age(each) for each in (None, 0, 9.94, 59, 60, 3599, 7200, 90_000)] == [
        "-", "0.0 s", "9.9 s", "59 s", "1.0 min", "60.0 min", "2.0 h", "1.0 d",
    ]  # fmt: skip
    assert [size(each) for each in (None, 0, 1023, 1024, 5 << 20, 3 << 30)] == [
        "-",
        "0 B",
        "1023 B",
        "1.0 KiB",
        "5.0 MiB",
        "3.0 GiB",
    ]
    assert clock(None) == ""
    assert clock(0) == "1970-01-01 00:00:00 UTC"
    assert clock(1e20) == f"{1e20:.0f}"  # another program's


@pytest.mark.parametrize("name", ["mail", "a/b", "a~1b", "~", "~0~1/", "ä b", "%2F", "../..", "?#&", "it's", 'a"b', "<b>"])
def test_a_name_in_a_path_and_in_a_search(name: str) -> None:
    assert "/" not in unquote(part(name))
    assert name_in(unquote(part(name))) == name
    assert shlex.split(f"queue:{word(name)} x") == [f"queue:{name}", "x"]


def test_what_cannot_be_seen_is_written_out() -> None:
    plain = '<p title="ä">one\ntwo é</p>'
    assert visible(plain) is plain
    assert visible("<p>\x1b[1m\r\n\tx\u202e\r</p>\n") == "<p>\\x1b[1m\n\tx\\u202e\\r</p>\n"
    form = '<input value="\u202e"><textarea name="a">\x07</textarea>'
    assert visible(f"{form}\x07") == f"{form}\\x07"
