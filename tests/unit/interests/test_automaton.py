"""The automaton finds what Python's `re` finds, and never takes long."""

import random
import re

from delayed.interests.automaton import _MOST_KEPT, Automaton
from delayed.interests.pattern import READ, bounded, matcher
from delayed.interests.syntax import parsed

_ATOMS = ["a", "b", "c", ".", r"\w", r"\d", "[a-b]", "[^a]", r"\s", " ", "1", r"[\d_-]", "_"]
_PLACES = ["^", "$", r"\b"]  # Python's \B does not find an empty text
_TIMES = ["*", "+", "?", "{2}", "{0,2}", "{1,}", "{0}"]


def expression(draw: random.Random, depth: int = 0) -> str:
    """A regular expression of the subset."""
    text = ""
    for _ in range(draw.randint(0, 3)):
        kind = draw.random()
        if kind < 0.1:
            text += draw.choice(_PLACES)
            continue
        part = draw.choice(_ATOMS)
        if kind < 0.4 and depth < 3:
            part = f"{draw.choice(['(', '(?:'])}a{expression(draw, depth + 1)})"
        text += part + (draw.choice(_TIMES) + draw.choice(["", "?"]) if draw.random() < 0.4 else "")
    return f"{text}|{expression(draw, depth + 1)}" if draw.random() < 0.2 and depth < 3 else text


def test_it_finds_what_re_finds() -> None:
    draw, found = random.Random(1), 0
    for _ in range(3000):
        text = expression(draw)
        automaton, other = Automaton(parsed(text)), re.compile(text.replace("$", r"\Z"), re.ASCII)
        for _ in range(4):
            subject = "".join(draw.choices("abc1 _-\n", k=draw.randint(0, 8)))
            expected = other.search(subject) is not None
            assert automaton.finds(subject) is expected, (text, subject)
            found += expected
    assert 2000 < found < 11_000  # neither side always says the same


def test_what_is_kept_is_bounded() -> None:
    automaton = Automaton(parsed("(a|b)*a(a|b){12}c"))
    draw = random.Random(2)
    for _ in range(8):
        assert not automaton.finds("".join(draw.choices("ab", k=READ)))
        kept = sum(len(state.moves) for state in automaton._states.values())
        assert kept <= _MOST_KEPT


def test_a_long_text_is_read_up_to_a_limit() -> None:
    finds = matcher("regex:x$")
    assert finds(bounded("a" * (READ - 1) + "x" + "y"))
    assert not finds(bounded("a" * READ + "x"))


def test_bytes_that_are_no_text() -> None:
    assert matcher("regex:^.\ufffd$")(bounded(b"a\xff".decode(errors="surrogateescape")))
