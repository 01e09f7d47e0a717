"""Does a number grow? A straight line through samples, against their noise."""

import math
from collections.abc import Sequence
from typing import NamedTuple

_BLOCKS = "▁▂▃▄▅▆▇█"
_SIGMAS = 4.0  # a slope this many times its own uncertainty …
_SHARE = 0.05  # … by which the number grows in an hour by more than this share of its mean …
_PIECES = 12  # samples are averaged in so many pieces: neighbours are alike, which a fit would take for certainty


class Slope(NamedTuple):
    """A line through samples."""

    mean: float
    per_hour: float
    uncertainty: float  # of `per_hour`, one standard deviation

    def grows(self, least: float) -> bool:
        """Whether the number grows, by more than noise and by more than `least` in an hour."""
        return self.per_hour > max(_SIGMAS * self.uncertainty, _SHARE * self.mean, least)


def fit(times: Sequence[float], values: Sequence[float]) -> Slope:
    """A least-squares line through the means of pieces of the samples; times in seconds."""
    size = max(1, len(times) // _PIECES)
    places = range(0, len(times) - size + 1, size)
    x = [sum(times[i : i + size]) / size for i in places]
    y = [sum(values[i : i + size]) / size for i in places]
    count = len(x)
    mean = sum(values) / max(len(values), 1)
    if count < 3:
        return Slope(mean, 0.0, math.inf)
    middle_x, middle_y = sum(x) / count, sum(y) / count
    spread = sum((one - middle_x) ** 2 for one in x)
    slope = sum((one - middle_x) * (other - middle_y) for one, other in zip(x, y, strict=True)) / spread
    rest = sum((other - middle_y - slope * (one - middle_x)) ** 2 for one, other in zip(x, y, strict=True))
    return Slope(mean, 3600 * slope, 3600 * math.sqrt(rest / (count - 2) / spread))


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """A picture in one line, from the lowest to the highest value."""
    size = max(1, len(values) // width)
    means = [sum(values[i : i + size]) / len(values[i : i + size]) for i in range(0, len(values), size)][:width]
    low, high = min(means), max(means)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in means)
