"""A workflow is stored as tests/vectors/flows.json says. The Go module runs the same file."""

import json
from typing import Any

import pytest

from tests.vectors.make_flows import DESCRIPTIONS, PATH, pages

VECTORS = json.loads(PATH.read_text())["vectors"]


def test_all_are_there() -> None:
    assert [{name: value for name, value in each.items() if name != "pages"} for each in VECTORS] == DESCRIPTIONS


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_what_is_stored(vector: dict[str, Any]) -> None:
    assert pages(vector) == vector["pages"]
