"""What others wrote stays text, on a terminal and in a log."""

import io
import json
import logging
import unicodedata

import pytest

from delayed.base.checks import as_time
from delayed.base.escape import EscapingFormatter, escaped, indented
from delayed.base.text import clipped, summary
from delayed.cli.common import as_json_text

CONTROLS = (
    "\x00\x07\x08\t\n\x0b\x0c\r\x1b[2J\x7f\x85\x9b31m\xad\u200b\u200e\u2028\u2029\u202e\u2066\u061c\ufeff\ud800\U000e0001"
)


def test_no_control_character_is_left_and_the_rest_stays() -> None:
    shown = escaped(f"mod:é漢😀{CONTROLS}")
    assert shown.startswith(r"mod:é漢😀\x00\x07\x08\t\n\x0b\x0c\r\x1b[2J\x7f\x85\x9b31m\xad\u200b")
    assert shown.isprintable()
    assert not [each for each in shown if unicodedata.category(each)[0] == "C" or unicodedata.category(each) in ("Zl", "Zp")]
    assert escaped("a b") == "a b"
    assert escaped(None) == "None"


def test_lines_are_kept_and_indented() -> None:
    assert indented("a\r\nFORGED\x1b\n\nb\u2028c") == "  a\n  FORGED\\x1b\n  \n  b\\u2028c"


def test_the_log_has_one_line_that_begins_at_the_edge_for_each_record() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(EscapingFormatter("[%(levelname)s] %(message)s"))
    log = logging.Logger("test")
    log.addHandler(handler)
    forged = ValueError("x\x1b\n[E 261127 12:00:00 1 worker:1] FORGED")
    log.error("callback of %s failed", "mod:\x9b\nFORGED", exc_info=forged)
    first, *rest = stream.getvalue().splitlines()
    assert first == r"[ERROR] callback of mod:\x9b"
    assert rest[0] == "  FORGED failed"
    assert rest[-2:] == [r"  ValueError: x\x1b", "  [E 261127 12:00:00 1 worker:1] FORGED"]
    assert all(line.startswith("  ") for line in rest)


@pytest.mark.parametrize("value", [CONTROLS, {CONTROLS: [CONTROLS]}, "é漢😀", 1.5, None])
def test_a_result_as_json_is_exact_and_printable(value: object) -> None:
    text = as_json_text(value)
    assert text.isprintable()
    assert json.loads(text) == value


def test_a_moment_is_in_utc_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert as_time(1_767_225_600) == "2026-01-01 00:00:00+00:00"
    assert as_time(1e300) == "1e+300 s after 1970"


TRACEBACK = 'Traceback (most recent call last):\n  File "/a.py", line 3, in f\n    raise E("x")\n'


@pytest.mark.parametrize(
    ("detail", "says"),
    [
        (f"{TRACEBACK}m.E: first\nsecond\n\nthird", "m.E: first"),
        (f"{TRACEBACK}KeyError: 1\n\nDuring handling of…\n\n{TRACEBACK}m.E: last\n", "m.E: last"),
        ("boom\ngoroutine 1 [running]:\nmain.F()\n\t/a.go:3", "boom"),
        ("no module named x", "no module named x"),
        ("  + Exception Group Traceback (most recent call last):\n  | Group: two (2 sub-exceptions)\n  +-", "Group: two"),
        ("", ""),
    ],
)  # fmt: skip
def test_of_a_letter_the_line_that_says_most_is_listed(detail: str, says: str) -> None:
    assert summary(detail).startswith(says)


def test_what_is_cut_off_shows() -> None:
    assert [clipped("abcdef", most) for most in (6, 4)] == ["abcdef", "abc…"]
