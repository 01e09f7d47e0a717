"""JSON as JavaScript writes it."""

import json
import math
from typing import Any

_LEVELS = 200  # of nesting that can be written, also as XML


def written(value: Any) -> str:
    """A value in JSON. What is no JSON becomes what JavaScript makes of it: no number is null."""
    text = json.dumps(_sane(value), separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="replace").decode()  # what was no text stays readable


def is_shallow(value: Any) -> bool:
    """Whether a value is not nested too deeply to be written: a client sends nothing that is, but others may."""
    level = [value]
    for _ in range(_LEVELS):
        maps = [each.values() for each in level if isinstance(each, dict)]
        lists = [each for each in level if isinstance(each, list | tuple)]
        level = [each for some in (*maps, *lists) for each in some]
        if not level:
            return True
    return False


def _sane(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _sane(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_sane(each) for each in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)
