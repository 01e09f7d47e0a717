"""The rates of the contenders as bars."""

import statistics
from collections.abc import Mapping, Sequence

from tests.support.svg import Picture

from .contenders import BARE, OURS

_WIDTH, _LEFT, _ROW, _TOP, _BAR = 760, 130, 24, 40, 16
_ROOM = 90  # for the number behind the longest bar
_STYLE = [".peer { fill: #8c959f } .ours { fill: #1a7f37 } .bound { fill: #bf8700 }"]


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
    picture = Picture(title, (_WIDTH, height), _STYLE)
    for row, (name, rate) in enumerate(bars):
        y, length = _TOP + row * _ROW, max(rate * scale, 1)
        middle = y + _BAR - 3
        picture.text(_LEFT - 8, middle, name, "end")
        picture.shape("rect", class_=_kind(name), x=_LEFT, y=y, width=f"{length:.1f}", height=_BAR, rx=2)
        picture.text(f"{_LEFT + length + 6:.1f}", middle, f"{rate:,.0f}")
    return str(picture)
