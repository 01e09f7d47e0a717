"""Writes docs/benchmarks.md and the chart."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import redis

from delayed import __version__
from delayed.ops.doctor import product_of
from tests.support.servers import info

from .chart import chart
from .contenders import GUARANTEES
from .measure_kinds import TITLE
from .placement import REDIS_CORE, ROOT, WORK_CORE, server
from .result import Result

_HEAD = """\
# Benchmarks

What `scripts/bench` found on one machine. Compare numbers within one section only. Redis has one core, the measured process
another; a task adds one to a byte of its own in a shared file, so that **every run is checked: each task ran exactly once**.
Contenders take turns; a number is the median of the runs, with the range. First come tasks as people use them, which ask for
something and keep results; then no-ops without results, which show what the rest costs.

![Tasks per second by one worker process](benchmarks.svg)
"""
_GUARANTEES = "What each of them guarantees"
_HOW = "How to repeat"
_REPEAT = """\
```bash
scripts/bench --write        # all; installs the peers under .cache/bench
scripts/bench --quick        # few contenders, small sizes: under three minutes
scripts/bench --kinds        # kinds of tasks alone: under five minutes
scripts/bench --kinds timeout result   # plain tasks and those
scripts/bench --only drain rq huey   # names of measures or contenders
BENCH_SHARED=1 scripts/bench --only drain   # Redis and the measured process on one core
```

With `--write`, what was measured alone replaces its own sections.
"""


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> list[str]:
    """Where the numbers come from."""
    with server() as embedded, embedded.client() as client:
        product, version = product_of(info(client, "server"))
    return [
        f"{_processor()}, {os.cpu_count()} cores; Redis on core {REDIS_CORE}, the measured process on core {WORK_CORE}.",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {product} {version}, "
        f"redis-py {redis.__version__}, delayedq {__version__}.",
        f"Load of the machine (1, 5, 15 minutes) at the end: {' '.join(f'{load:.1f}' for load in os.getloadavg())}.",
    ]


def write(results: Sequence[Result], about: Sequence[str], whole: bool) -> None:
    """docs/benchmarks.md and docs/benchmarks.svg. Unless this was the `whole`, the sections of other measures stay."""
    page = ROOT / "docs" / "benchmarks.md"
    machine_of_all, sections = ("\n".join(f"- {line}" for line in about), {}) if whole else _sections(page.read_text())
    found = {result.title: "\n".join(result.markdown()[2:]).strip() for result in results}
    if not whole and results:
        found[results[0].title] = "\n\n".join(["Measured alone. " + " ".join(about), found[results[0].title]])
    first = {title: text for title, text in {**sections, **found}.items() if title.startswith(TITLE)}
    sections = {**first, **sections, **found}
    parts = [_HEAD, machine_of_all, "", *(f"## {title}\n\n{text}\n" for title, text in sections.items())]
    guarantees = [f"| {name} | {text} |" for name, text in GUARANTEES.items()]
    parts += [
        f"## {_GUARANTEES}\n",
        "| system | guarantee, by its documentation |",
        "| --- | --- |",
        *guarantees,
        "",
        f"## {_HOW}\n",
        _REPEAT,
    ]
    page.write_text("\n".join(parts).rstrip() + "\n")
    page.with_suffix(".svg").write_text(chart(sections))


def _sections(page: str) -> tuple[str, dict[str, str]]:
    """What a page says of the machine, and the text of each measure by its title."""
    head, *rest = page.split("\n## ")
    titled = {title: text.strip() for title, _, text in (each.partition("\n") for each in rest)}
    measures = {title: text for title, text in titled.items() if title not in (_GUARANTEES, _HOW)}
    return "\n".join(line for line in head.split("\n") if line.startswith("- ")), measures
