"""The list of invariants, and the document that has it."""

import re

import pytest

from delayed.ops.invariants import INVARIANTS, KEEP_LOSSES, MOST_LOSSES
from delayed.redis.keys import TYPES, Keys, owner
from delayed.redis.scripts import SCRIPTS
from tests import ROOT

PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()


def test_the_protocol_has_the_list() -> None:
    table = PROTOCOL.partition("## 10. Invariants")[2]
    rows = re.findall(r"^\| `([^|]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    assert rows == [(each.name, each.when, each.sentence, each.repair or "none") for each in INVARIANTS]


def test_every_key_has_a_type_and_the_protocol_gives_the_same() -> None:
    keys = Keys("Q").all()
    assert set(TYPES) == set(keys)
    for part, kind in TYPES.items():
        assert f"| `{keys[part]}` | {kind} |" in PROTOCOL


def test_names_are_unique_and_what_is_mended_says_how() -> None:
    assert len({each.name for each in INVARIANTS}) == len(INVARIANTS)
    for each in INVARIANTS:
        assert bool(each.repair) == (each.mend is not None), each.name
        assert set(each.parts) <= set(TYPES), each.name


def test_the_numbers_of_the_sweep_script() -> None:
    source = SCRIPTS["sweep"].source.decode()
    assert f"MOST = {MOST_LOSSES} " in source
    assert f"KEEP = {KEEP_LOSSES} " in source


@pytest.mark.parametrize(
    ("key", "queue"),
    [
        ("a_noti", "a"),
        ("a_b_dead", "a_b"),
        ("a_lease_x_1", "a"),
        ("a_lease_x_dead", "a"),
        ("a", None),
        ("a_x", None),
        (f"a_b_task_{'x' * 16}", "a_b"),
        (f"a_b_group_{'0' * 40}", "a_b"),
        (f"a_b_slots_{'0' * 40}", "a_b"),
        (f"a_group_{'g' * 40}", None),
    ],
)
def test_a_key_tells_whose_it_is(key: str, queue: str | None) -> None:
    assert owner(key) == queue
