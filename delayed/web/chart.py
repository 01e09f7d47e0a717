"""Draws how tasks ended, step by step, as SVG: a bar for each step, made of its outcomes."""

from collections.abc import Iterator, Sequence
from html import escape

from ..ops.statistics import Counted
from .words import clock, number

_WIDTH, _HEIGHT, _ABOVE, _BELOW = 900, 140, 16, 18
KINDS = {
    "succeeded": ("succeeded",),
    "retried": ("retried",),
    "failed": ("failed", "buried"),
    "other": ("cancelled", "expired"),
}


def bars(steps: Sequence[tuple[float, Counted]]) -> str:
    """The chart as an SVG element."""
    most = max((_count(each, "all") for _, each in steps), default=0)
    body = "".join(part for place, step in enumerate(steps) for part in _bar(place, len(steps), step, most)) if most else ""
    total = sum(_count(each, "all") for _, each in steps)
    label = f"Attempts that ended: {number(total)}, at most {number(most)} in one step"
    first, last = (escape(clock(steps[place][0])[:16]) for place in (0, -1)) if steps else ("", "")
    bottom = _ABOVE + _HEIGHT
    return (
        f'<svg class="graph chart" role="img" aria-label="{label}" viewBox="0 0 {_WIDTH} {bottom + _BELOW}">'
        f'<text class="quiet" x="0" y="11">{number(most)}</text><path class="edge" d="M0 {bottom} H{_WIDTH}"/>{body}'
        f'<text class="quiet start" x="0" y="{bottom + 14}">{first}</text>'
        f'<text class="quiet end" x="{_WIDTH}" y="{bottom + 14}">{last} UTC</text></svg>'
    )


def _count(counted: Counted, kind: str) -> int:
    ends = counted.outcomes
    return sum(ends[name] for name in (KINDS[kind] if kind in KINDS else (each for some in KINDS.values() for each in some)))


def _bar(place: int, steps: int, step: tuple[float, Counted], most: int) -> Iterator[str]:
    time, counted = step
    counts = {kind: _count(counted, kind) for kind in KINDS}
    if not any(counts.values()):
        return
    said = ", ".join(f"{number(count)} {kind}" for kind, count in counts.items() if count)
    width = _WIDTH / steps
    x, top = place * width, float(_ABOVE + _HEIGHT)
    yield f"<g><title>{escape(clock(time))}: {said}</title>"
    for kind, count in counts.items():
        if count:
            height = max(1.0, count / most * _HEIGHT)
            top -= height
            box = f'x="{x:.1f}" y="{top:.1f}" width="{max(1.0, width - 2):.1f}" height="{height:.1f}"'
            yield f'<rect class="bar {kind}" {box}/>'
    yield "</g>"
