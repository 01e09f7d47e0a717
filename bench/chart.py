"""A bar chart in SVG."""

import statistics
from collections.abc import Mapping, Sequence
from html import escape

from .contenders import BARE, OURS

_WIDTH, _LEFT, _ROW, _TOP, _BAR = 760, 130, 24, 40, 16
_ROOM = 90  # for the number behind the longest bar
_STYLE = """\
  <style>
    text { font: 13px system-ui, sans-serif; fill: #24292f }
    .title { font-weight: 600; font-size: 15px }
    .peer { fill: #8c959f } .ours { fill: #1a7f37 } .bound { fill: #bf8700 }
    @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }
  </style>"""


def _bars(rates: Mapping[str, Sequence[float]]) -> list[tuple[str, float]]:
    """The best configuration of each system, fastest first."""
    best: dict[str, float] = {}
    for label, values in rates.items():
        name, _, variant = label.partition(", ")
        name = f"{name} ({variant.partition(',')[0]})" if name == OURS else name
        best[name] = max(best.get(name, 0), statistics.median(values))
    return sorted(best.items(), key=lambda item: -item[1])


def _kind(name: str) -> str:
    return "bound" if name == BARE else "ours" if name.startswith(OURS) else "peer"


def chart(rates: Mapping[str, Sequence[float]]) -> str:
    """Bars of the tasks/s, by label of contender."""
    bars = _bars(rates)
    height = _TOP + _ROW * len(bars) + 10
    scale = (_WIDTH - _LEFT - _ROOM) / max((rate for _, rate in bars), default=1)
    title = "No-op tasks per second, one worker process, best configuration"
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"  <title>{title}</title>",
        _STYLE,
        f'  <text class="title" x="8" y="22">{title}</text>',
    ]
    for row, (name, rate) in enumerate(bars):
        y, length = _TOP + row * _ROW, max(rate * scale, 1)
        middle = y + _BAR - 3
        lines += [
            f'  <text x="{_LEFT - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>',
            f'  <rect class="{_kind(name)}" x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="2"/>',
            f'  <text x="{_LEFT + length + 6:.1f}" y="{middle}">{rate:,.0f}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
