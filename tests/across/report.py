"""The matrix as tables."""

import os
import platform
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from delayed import __version__
from tests import ROOT
from tests.support.upstream import UPSTREAM

from .agents import PREBUILT
from .defects import LEGEND, Verdict

DOCUMENT = ROOT / "docs" / "interop.md"
BY_HAND = "\n## Tasks that ask for more\n"  # the section that is not made here, and stays
TITLES = {
    "normal": "Normal work",
    "killed": "The worker is killed (SIGKILL) in mid-task",
    "graceful": "The worker is stopped in mid-task (SIGTERM; upstream: SIGHUP)",
}
ABOUT = """# Who works with whom

[moving-over.md](moving-over.md) says what changes in programs that were written for the published packages.

Every combination of producer, worker and sweeper, ours and the published packages', on a real Redis. To update it:

```bash
scripts/interop --write
```

Each cell has a queue and processes of its own. A Python worker gets Python tasks and a Go worker Go tasks, from each of the
producers.

- Normal work: five tasks and one that fails are run, and nothing is left behind.
- Killed: the worker gets SIGKILL in mid-task. The cell's sweeper brings the task back; a new worker of the same kind runs it
  and the two that waited.
- Stopped: the worker is asked to stop in mid-task. It finishes that task; the two that wait are run by a new worker.

`ok` means that each task ran once (the killed one: began twice and ended once), and that nothing stayed behind. What is not
`ok` has the number of the defect of upstream's that explains it (the legend is below). No cell is left out.
"""


@dataclass
class Results:
    """All that the matrix found."""

    names: list[str]  # the agents
    cells: dict[tuple[str, str, str, str], Verdict]
    payloads: dict[tuple[str, str], Verdict]
    raw: dict[str, Any]
    missing: dict[str, str] = field(default_factory=dict)  # agents that could not be had, with the reason


def tables(results: Results) -> str:
    """One table for each scenario, one for the payloads, and the legend."""
    parts = [f"## {title}\n\n{_scenario(results, scenario)}" for scenario, title in TITLES.items()]
    names = [*results.names, *results.missing]
    rows = [[producer, *(_text(results, results.payloads.get((producer, worker))) for worker in names)] for producer in names]
    parts.append(f"## Payloads that come back equal\n\n{_table(['producer ↓, worker →', *names], rows)}")
    verdicts = [*results.cells.values(), *results.payloads.values()]
    used = {defect for verdict in verdicts for defect in verdict.defects}
    legend = "\n".join(
        f"- **{label}**: {text}." for label, text in LEGEND.items() if label in used or (label == "U7" and "U14" in used)
    )
    parts.append(f"## Legend\n\n{legend}")
    return "\n\n".join(parts) + "\n"


def _scenario(results: Results, scenario: str) -> str:
    names = [*results.names, *results.missing]
    rows = []
    for producer in names:
        for worker in names:
            found = [results.cells.get((scenario, producer, worker, sweeper)) for sweeper in names]
            rows.append([f"{producer} → {worker}", *(_text(results, verdict) for verdict in found)])
    return _table(["producer → worker", *(f"sweeper: {name}" for name in names)], rows)


def _text(results: Results, verdict: Verdict | None) -> str:
    """A cell; an empty one is not part of a quick run."""
    return verdict.text if verdict else "not run" if results.missing else ""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def document(results: Results, server: str) -> None:
    """Write docs/interop.md."""
    go = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()
    required = (ROOT / "tests" / "interop" / "upstream" / "go.mod").read_text().split()
    theirs = required[required.index("github.com/yizhisec/go-delayed") + 1]
    if PREBUILT in os.environ:
        theirs += " (in a program that was built beforehand)"
    versions = (
        f"Versions: ours {__version__}; upstream Python {UPSTREAM}; upstream Go {theirs}; Python {platform.python_version()}; "
        f"{go.replace('go', 'Go ')}; {server}; redis-py {version('redis')}."
    )
    _, heading, text = DOCUMENT.read_text().partition(BY_HAND)
    DOCUMENT.write_text(f"{ABOUT}\n{versions}\n\n{tables(results)}{heading}{text}")
