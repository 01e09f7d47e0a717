"""Recovery times as a picture: which share of the tasks ran again after which time."""

import math
from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 760, 340, 50, 40, 250, 40
_SHORTEST, _LONGEST = 0.001, 30.0  # seconds
_TICKS = (0.001, 0.01, 0.1, 1.0, 10.0)
_COLOURS = ("#1a7f37", "#bf8700", "#0969da", "#cf222e", "#8250df", "#8c959f")
_STYLE = """\
  <style>
    text { font: 13px system-ui, sans-serif; fill: #24292f }
    .title { font-weight: 600; font-size: 15px }
    .grid { stroke: #8c959f; stroke-width: 0.5; opacity: 0.5 }
    polyline { fill: none; stroke-width: 2 }
    @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }
  </style>"""


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
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"  <title>{title}</title>",
        _STYLE,
        f'  <text class="title" x="8" y="22">{title}</text>',
    ]
    for tick in _TICKS:
        x = _x(tick)
        label = f"{tick:g} s" if tick >= 1 else f"{1000 * tick:g} ms"
        lines.append(f'  <line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_y(0):.1f}" y2="{_y(1):.1f}"/>')
        lines.append(f'  <text x="{x:.1f}" y="{_HEIGHT - 20}" text-anchor="middle">{label}</text>')
    for share in (0.0, 0.5, 1.0):
        y = _y(share)
        lines.append(f'  <line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'  <text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for place, (kind, values) in enumerate(sorted(recoveries.items())):
        colour, y = _COLOURS[place % len(_COLOURS)], _TOP + 10 + 20 * place
        x = _WIDTH - _RIGHT + 14
        lines.append(f'  <polyline stroke="{colour}" points="{_points(values)}"/>')
        lines.append(f'  <rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        lines.append(f'  <text x="{x + 16}" y="{y}">{kind} ({len(values):,})</text>')
    return "\n".join([*lines, "</svg>", ""])
