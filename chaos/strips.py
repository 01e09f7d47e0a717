"""The samples of a soak as a picture: one small curve for each number of each process."""

from collections.abc import Mapping, Sequence

from tests.support.svg import Picture

_WIDTH, _ROW, _LEFT, _CURVE, _TOP = 760, 22, 300, 360, 40
_STYLE = ["polyline { fill: none; stroke: #1a7f37; stroke-width: 1.2 }"]


def _points(times: Sequence[float], values: Sequence[float], y: float) -> str:
    """At most 200 points; the height of a strip is from nought to a tenth more than the highest value."""
    step = max(1, len(values) // 200)
    top = 1.1 * max(values) or 1
    width = _CURVE / (max(times) or 1)
    some = list(zip(times, values, strict=False))[::step]
    return " ".join(f"{_LEFT + moment * width:.1f},{y - value / top * (_ROW - 4):.1f}" for moment, value in some)


def strips(times: Sequence[float], series: Mapping[tuple[str, str], Sequence[float]]) -> str:
    """SVG with a strip for each (process, number)."""
    rows = sorted(series.items(), key=lambda item: (item[0][1], item[0][0]))
    height = _TOP + _ROW * len(rows) + 10
    title = f"{max(times) / 60:.0f} minutes at full load; each strip begins at nought"
    picture = Picture(title, (_WIDTH, height), _STYLE, font=12)
    for row, ((name, what), values) in enumerate(rows):
        y = _TOP + _ROW * (row + 1)
        picture.text(_LEFT - 8, y - 5, f"{what}: {name}", "end")
        picture.shape("polyline", points=_points(times, values, y))
        picture.text(_LEFT + _CURVE + 8, y - 5, f"{values[-1]:,.1f}")
    return str(picture)
