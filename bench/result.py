"""What a measure found, against what the project wants."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


def number(value: float) -> str:
    """A number with as many digits as are worth reading."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """The median, with the range where there is one."""
    middle = number(statistics.median(values))
    if len(values) < 2:
        return middle
    return f"{middle} ({number(min(values))}–{number(max(values))})"


@dataclass(frozen=True)
class Target:
    """A wish, and whether it was fulfilled."""

    wish: str
    found: str
    reached: bool

    def line(self) -> str:
        """For people."""
        return f"{'reached' if self.reached else 'MISSED'}: {self.wish}: {self.found}"


@dataclass
class Result:
    """One measure."""

    name: str
    title: str
    columns: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)  # every single run, for --json
    notes: list[str] = field(default_factory=list)

    def want(self, wish: str, found: float, limit: float, unit: str = "", least: bool = False) -> None:
        """Compare with a limit, which is the highest that will do, or the lowest with `least`."""
        reached = found >= limit if least else found <= limit
        self.targets.append(Target(wish, f"{number(found)}{unit}", reached))

    def lines(self) -> list[str]:
        """As a text table with its targets."""
        table = [self.columns, *self.rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(self.columns))]
        body = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
        return ["", self.title, *body, *self.notes, *(target.line() for target in self.targets)]

    def markdown(self) -> list[str]:
        """As a section of a document."""
        head = ["| " + " | ".join(self.columns) + " |", "| --- " + "| ---: " * (len(self.columns) - 1) + "|"]
        rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in self.rows]
        notes = ["", *self.notes] if self.notes else []
        targets = ["", *(f"- {target.line()}" for target in self.targets)] if self.targets else []
        return [f"## {self.title}", "", *head, *rows, *notes, *targets, ""]
