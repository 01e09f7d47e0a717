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
from .placement import REDIS_CORE, ROOT, WORK_CORE, server
from .result import Result

_HEAD = """\
# Benchmarks

What `scripts/bench` found on one machine. Compare numbers within this page only. Redis has one core, the measured process
another; a no-op task adds one to a byte of its own in a shared file, so that **every run is checked: each task ran exactly
once**. Contenders take turns; a number is the median of the runs, with the range. Results are off everywhere.

![Tasks per second by one worker process](benchmarks.svg)
"""
_REPEAT = """\
## How to repeat

```bash
scripts/bench --write        # all; installs the peers under .cache/bench
scripts/bench --quick        # under two minutes, few contenders, small sizes
scripts/bench --only drain rq huey   # names of measures or contenders
BENCH_SHARED=1 scripts/bench --only drain   # Redis and the measured process on one core
```
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


def write(results: Sequence[Result], about: Sequence[str]) -> None:
    """docs/benchmarks.md and docs/benchmarks.svg."""
    lines = [_HEAD, *(f"- {line}" for line in about), ""]
    for result in results:
        lines += result.markdown()
    lines += ["## What each of them guarantees", "", "| system | guarantee, by its documentation |", "| --- | --- |"]
    lines += [f"| {name} | {text} |" for name, text in GUARANTEES.items()]
    lines += ["", _REPEAT]
    folder = ROOT / "docs"
    (folder / "benchmarks.md").write_text("\n".join(lines).rstrip() + "\n")
    drained = next((result for result in results if result.name == "drain"), None)
    if drained is not None:
        (folder / "benchmarks.svg").write_text(chart(drained.values))
