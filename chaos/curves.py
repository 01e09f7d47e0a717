"""Recovery times as a picture: which share of the tasks ran again after which time."""

import math
from collections.abc import Mapping, Sequence

from tests.support.svg import Picture

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 760, 340, 50, 40, 250, 40
_SHORTEST, _LONGEST = 0.001, 30.0  # seconds
_TICKS = (0.001, 0.01, 0.1, 1.0, 10.0)
_COLOURS = ("#1a7f37", "#bf8700", "#0969da", "#cf222e", "#8250df", "#8c959f")
_STYLE = [".grid { stroke: #8c959f; stroke-width: 0.5; opacity: 0.5 }", "polyline { fill: none; stroke-width: 2 }"]


def _x(seconds: float) -> float:
    share = math.log(max(seconds, _SHORTEST) / _SHORTEST) / math.log(_LONGEST / _SHORTEST)
    return _LEFT + min(share, 1) * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _points(values: Sequence[float]) -> str:
    """A curve of at most 200 points."""
    ordered = sorted(values)
    places = sorted({round(i * (len(ordered) - 1) / 200) for i in range(201)})
    return " ".join(f"{_x(ordered[i]):.1f},{_y((i + 1) / len(ordered)):.1f}" for i in places)


def curves(recoveries: Mapping[str, Sequence[float]]) -> str:
    """SVG of a curve for each kind of kill."""
    title = "From a kill to the next begin of the task: share of the tasks"
    picture = Picture(title, (_WIDTH, _HEIGHT), _STYLE)
    for tick in _TICKS:
        x = f"{_x(tick):.1f}"
        picture.shape("line", class_="grid", x1=x, x2=x, y1=f"{_y(0):.1f}", y2=f"{_y(1):.1f}")
        picture.text(x, _HEIGHT - 20, f"{tick:g} s" if tick >= 1 else f"{1000 * tick:g} ms", "middle")
    for share in (0.0, 0.5, 1.0):
        y = _y(share)
        picture.shape("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}")
        picture.text(_LEFT - 6, f"{y + 4:.1f}", f"{share:.0%}", "end")
    for place, (kind, values) in enumerate(sorted(recoveries.items())):
        colour, left, row = _COLOURS[place % len(_COLOURS)], _WIDTH - _RIGHT + 14, _TOP + 10 + 20 * place
        picture.shape("polyline", stroke=colour, points=_points(values))
        picture.shape("rect", x=left, y=row - 9, width=10, height=10, fill=colour)
        picture.text(left + 16, row, f"{kind} ({len(values):,})")
    return str(picture)
