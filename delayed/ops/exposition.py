"""Metrics as text for Prometheus: its exposition format, version 0.0.4."""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from ..redis.statistics import BOUNDS, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_SHOWN = (0.02, 0.25, 2.5, 30.0)  # of BOUNDS: each bucket is a series of each queue
_BUCKETS = tuple((BOUNDS.index(bound) + 1, f"{bound:g}") for bound in _SHOWN)  # how many of ours are up to there


class Sum(NamedTuple):
    """Seconds, and of how many tasks."""

    seconds: float
    tasks: int


class Sample(NamedTuple):
    """One value of a metric, or a histogram, or (of the type `summary`) a sum."""

    labels: str  # see `labels`; empty for none
    value: float | Histogram | Sum


class Family(NamedTuple):
    """One metric: its name without the prefix, its type, what it is, and its values."""

    name: str
    kind: str
    help: str
    samples: list[Sample]


def labels(**named: str) -> str:
    """Labels, as text."""
    return ",".join([f'{name}="{_text(value)}"' for name, value in named.items()])


def exposition(families: Iterable[Family]) -> str:
    """The text. A metric without values is left out."""
    lines: list[str] = []
    for family in families:
        if family.samples:
            _write(lines, family)
    return "\n".join([*lines, ""])


def _write(lines: list[str], family: Family) -> None:
    name = f"delayed_{family.name}"
    lines += (f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}")
    for labelled, value in family.samples:
        shown = f"{{{labelled}}}" if labelled else ""
        if isinstance(value, Histogram):
            _write_histogram(lines, name, labelled, value)
        elif isinstance(value, Sum):
            lines += (f"{name}_sum{shown} {_number(value.seconds)}", f"{name}_count{shown} {value.tasks}")
        else:
            lines.append(f"{name}{shown} {_number(value)}")


def _write_histogram(lines: list[str], name: str, labelled: str, value: Histogram) -> None:
    shown, all_of_them = f"{{{labelled}}}" if labelled else "", value.tasks
    start = f"{name}_bucket{{{labelled},le=" if labelled else f"{name}_bucket{{le="
    for count, bound in _BUCKETS:
        lines.append(f'{start}"{bound}"}} {sum(value.buckets[:count])}')
    lines += (
        f'{start}"+Inf"}} {all_of_them}',
        f"{name}_sum{shown} {_number(value.seconds)}",
        f"{name}_count{shown} {all_of_them}",
    )


@lru_cache(maxsize=10_000)
def _text(value: str) -> str:
    """A name may have no form in UTF-8."""
    return value.encode(errors="replace").decode().translate(_ESCAPES)


def _number(value: float) -> str:
    return str(value) if type(value) is int else str(int(value)) if value == int(value) else repr(float(value))
