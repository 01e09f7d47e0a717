"""Draws the rates that stand on the page as bars: tasks with results, kinds of tasks, no-ops."""

from collections.abc import Mapping

from tests.support.svg import Picture

from .contenders import BARE, OURS
from .kind_targets import DRAIN
from .kinds import KINDS, RESULT
from .measure_drain import TITLE as NO_OPS
from .measure_kinds import TITLE

_WIDTH, _LEFT, _ROW, _TOP, _BAR, _HEADING = 760, 130, 24, 40, 16, 32
_ROOM = 90  # for the number behind the longest bar
_STYLE = [".peer { fill: #8c959f } .ours { fill: #1a7f37 } .bound { fill: #bf8700 }"]
_PYTHON = f"{OURS}, Python"
Rates = dict[str, float]


def _rates(section: str, column: int) -> Rates:
    """The medians in one column of a section's first table, by what stands in the first column."""
    found: Rates = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) > column:
            number = cells[column].partition(" ")[0].replace(",", "")
            if number.replace(".", "", 1).isdecimal():
                found[cells[0]] = float(number)
    return found


def _best(rates: Rates) -> Rates:
    """The best configuration of each system."""
    best: Rates = {}
    for label, rate in rates.items():
        name, _, variant = label.partition(", ")
        name = f"{name} ({variant.partition(',')[0]})" if name == OURS else name
        best[name] = max(best.get(name, 0), rate)
    return best


def _groups(sections: Mapping[str, str]) -> dict[str, Rates]:
    """What is drawn, by its heading, the fastest first."""
    kinds = _rates(sections.get(TITLE, ""), DRAIN)
    results = {label.partition(": ")[2]: rate for label, rate in kinds.items() if label.startswith(f"{RESULT}: ")}
    ours = {kind: kinds[f"{kind}: {_PYTHON}"] for kind in KINDS if f"{kind}: {_PYTHON}" in kinds}
    groups = {
        "Tasks with results": _best(results),
        "Kinds of tasks, our Python worker": ours,
        "No-op tasks without results": _best(_rates(sections.get(NO_OPS, ""), 1)),
    }
    return {heading: dict(sorted(rates.items(), key=lambda item: -item[1])) for heading, rates in groups.items() if rates}


def _style_of(name: str, heading: str) -> str:
    return "bound" if name == BARE else "ours" if name.startswith(OURS) or "our " in heading else "peer"


def chart(sections: Mapping[str, str]) -> str:
    """The picture of a page, given by its sections. Each group of bars has its own scale."""
    groups = _groups(sections)
    height = _TOP + sum(_HEADING + _ROW * len(rates) for rates in groups.values()) + 10
    picture = Picture("Tasks per second, one worker process, best configuration", (_WIDTH, height), _STYLE)
    y = _TOP
    for heading, rates in groups.items():
        picture.text(8, y + _BAR, heading)
        y += _HEADING
        scale = (_WIDTH - _LEFT - _ROOM) / max(rates.values())
        for name, rate in rates.items():
            length, middle = max(rate * scale, 1), y + _BAR - 3
            picture.text(_LEFT - 8, middle, name, "end")
            picture.shape("rect", class_=_style_of(name, heading), x=_LEFT, y=y, width=f"{length:.1f}", height=_BAR, rx=2)
            picture.text(f"{_LEFT + length + 6:.1f}", middle, f"{rate:,.0f}")
            y += _ROW
    return str(picture)
