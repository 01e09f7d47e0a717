"""Says what the storm over workflows found: for the terminal, and for docs/reliability.md."""

import platform
from collections.abc import Mapping
from datetime import UTC, datetime

from delayed import __version__

from ..member import ROOT
from .judge import Verdict

_DOCUMENT = ROOT / "docs" / "reliability.md"
_BEGIN = "<!-- what follows is written by scripts/chaos --joins --write -->\n"
_END = "<!-- what precedes is written by scripts/chaos --joins -->\n"


def lines(found: Verdict, kills: Mapping[str, int], seconds: float) -> list[tuple[str, str]]:
    """What was found, and how much of it."""
    outside, within = sum(kills.values()), sum(found.suicides.values())
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(found.states.items()))
    return [
        ("workflows", f"{found.graphs:,} ({states})"),
        ("… whose creator died, and which nobody created again", f"{found.unborn:,}"),
        ("nodes", f"{found.nodes:,}"),
        ("nodes that ran", f"{found.executed:,}"),
        ("kills", f"{outside + within:,}"),
        (
            "… at something that is said about a workflow",
            ", ".join(f"{count:,} {how} it" for how, count in found.suicides.items()),
        ),
        ("… at any moment", ", ".join(f"{count:,} {kind}" for kind, count in kills.items())),
        ("**joins lost**", f"**{len(found.lost)}**"),
        ("**nodes that began early**", f"**{len(found.early)}** of {found.checked:,} looked at"),
        ("**callbacks and nodes enqueued twice**", f"**{len(found.twice)}**"),
        ("executions repeated because of a kill", f"{found.repeats:,}"),
        ("**workflows with a node without a final state**", f"**{len(found.unended)}**"),
        ("states of nodes and workflows that the model does not know", f"{len(found.wrong)}"),
        ("time", f"{seconds:.0f} s"),
    ]


def write(rows: list[tuple[str, str]], seed: int, *, go: bool) -> None:
    """Bring the document up to date."""
    about = f"{datetime.now(UTC):%Y-%m-%d}, delayedq {__version__}, Python {platform.python_version()}, seed {seed}"
    table = ["|  | found |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows)]
    made = "\n".join((f"{about}{', Go nodes too' if go else ''}.", "", *table))
    before, _, rest = _DOCUMENT.read_text().partition(_BEGIN)
    _DOCUMENT.write_text(f"{before}{_BEGIN}\n{made}\n\n{_END}{rest.partition(_END)[2]}")
