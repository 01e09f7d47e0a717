"""Writes docs/benchmarks.md and the chart."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import redis

from delayed import __version__
from delayed.ops.product import product_of
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
scripts/bench --runs 2 --write   # each contender twice instead of three times: under 25 minutes
scripts/bench --only growth --huge   # and with 10 million waiting tasks
scripts/bench --quick        # few contenders, small sizes: under four minutes
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
    ]


def write(results: Sequence[Result], about: Sequence[str], whole: bool) -> None:
    """docs/benchmarks.md and docs/benchmarks.svg. Unless this was the `whole`, what other measures have found stays."""
    file = ROOT / "docs" / "benchmarks.md"
    text = page(results, about, "" if whole else file.read_text())
    file.write_text(text)
    file.with_suffix(".svg").write_text(chart(sections(text)))


def page(results: Sequence[Result], about: Sequence[str], before: str = "") -> str:
    """docs/benchmarks.md, with what stood there `before` of other measures and of the machine."""
    found = {result.title: "\n".join(result.markdown()[2:]).strip() for result in results}
    machines = [f"- {line}" for line in about]
    if before:
        machines = [line for line in before.partition("\n## ")[0].splitlines() if line.startswith("- ")]
        found = {title: f"Measured alone. {' '.join(about)}\n\n{text}" for title, text in found.items()}
    all_of_them = {**sections(before), **found}
    kinds_first = sorted(all_of_them.items(), key=lambda item: not item[0].startswith(TITLE))
    guarantees = [f"| {name} | {text} |" for name, text in GUARANTEES.items()]
    lines = [_HEAD, *machines, ""]
    lines += [f"## {title}\n\n{text}\n" for title, text in kinds_first]
    lines += [f"## {_GUARANTEES}\n", "| system | guarantee, by its documentation |", "| --- | --- |", *guarantees, ""]
    return "\n".join([*lines, f"## {_HOW}\n", _REPEAT])


def sections(text: str) -> dict[str, str]:
    """What stands on the page of each measure, by its title."""
    titled = (each.partition("\n") for each in text.split("\n## ")[1:])
    return {title: rest.strip() for title, _, rest in titled if title not in (_GUARANTEES, _HOW)}
