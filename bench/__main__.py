"""`scripts/bench`: measures this project and its peers, and says what was reached."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .kinds import KINDS
from .measure_costs import measure_costs
from .measure_drain import measure_drain, measure_latency
from .measure_enqueue import measure_enqueue
from .measure_eyes import measure_eyes
from .measure_footprint import measure_footprint
from .measure_growth import measure_growth
from .measure_idle import measure_idle
from .measure_joins import measure_joins
from .measure_kinds import measure_kinds
from .measure_load import measure_load
from .measure_queueing import measure_queueing
from .measure_scheduled import measure_scheduled
from .measure_server import measure_server
from .options import Options, Progress
from .others import Others
from .placement import REDIS_CORE
from .report import machine, write
from .result import Result

MEASURES: dict[str, Callable[[Options, Progress], list[Result]]] = {
    "kinds": measure_kinds,
    "drain": measure_drain,
    "latency": measure_latency,
    "enqueue": measure_enqueue,
    "idle": measure_idle,
    "load": measure_load,
    "costs": measure_costs,
    "footprint": measure_footprint,
    "queueing": measure_queueing,
    "growth": measure_growth,
    "scheduled": measure_scheduled,
    "joins": measure_joins,
    "server": measure_server,
    "eyes": measure_eyes,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few contenders and small sizes: under four minutes")
    parser.add_argument(
        "--runs",
        type=int,
        help="how often each contender runs (3; with --quick 2, with --kinds 1); 2: under 25 minutes for all",
    )
    kinds = f"only kinds of tasks: all, or plain and those named ({', '.join(KINDS)})"
    parser.add_argument("--kinds", nargs="*", choices=KINDS, metavar="KIND", help=kinds)
    names = ", ".join(MEASURES)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=f"measures ({names}), or contenders to drain")
    parser.add_argument("--huge", action="store_true", help="10 million waiting tasks too (needs 1 GB)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single number")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and docs/benchmarks.svg")
    arguments = parser.parse_args()
    if arguments.write and arguments.kinds:
        parser.error("--write needs all kinds: it replaces the section")
    return arguments


def _options(arguments: argparse.Namespace) -> Options:
    kinds = arguments.kinds is not None
    return Options(
        quick=arguments.quick,
        runs=arguments.runs or (1 if kinds else 2 if arguments.quick else 3),
        only=("kinds", *arguments.only) if kinds else tuple(arguments.only),
        huge=arguments.huge,
        kinds=tuple(arguments.kinds or ()),
    )


def _selected(only: tuple[str, ...]) -> list[str]:
    named = [name for name in MEASURES if name in only]
    contenders = [word for word in only if word not in MEASURES]
    return list(dict.fromkeys([*named, *(["drain"] if contenders else [])])) or list(MEASURES)


def _prefer_the_machines_redis() -> None:
    """Rather than the one in our environment, which is older; that is used where there is no other."""
    ours = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join(folder for folder in os.environ["PATH"].split(os.pathsep) if folder != ours)


def main() -> int:
    """Measure and report; 1 if something could not be measured."""
    arguments = _arguments()
    options = _options(arguments)
    _prefer_the_machines_redis()
    os.sched_setaffinity(0, {REDIS_CORE})  # the harness stays off the core of what it measures
    progress, others, began, failed = Progress(), Others(), time.monotonic(), False
    results: list[Result] = []
    for name in _selected(options.only):
        try:
            found = MEASURES[name](options, progress)
        except Exception as error:  # one measure that fails must not cost the others
            failed = True
            found = [Result(name, f"{name} failed: {type(error).__name__}: {error}")]
        progress.clear()
        results += found
        for result in found:
            print("\n".join(result.lines()), flush=True)
    about = [*machine(), others.line(), f"It took {time.monotonic() - began:.0f} s."]
    print("", *about, sep="\n")
    if arguments.json:
        data = {"machine": about, "results": [vars(one) | {"targets": [vars(t) for t in one.targets]} for one in results]}
        arguments.json.write_text(json.dumps(data, indent=1))
    if arguments.write:
        write(results, about, whole=not options.only)
    return int(failed)


sys.exit(main())
