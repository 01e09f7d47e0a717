"""`scripts/chaos`: a storm over workers, sweepers, producers and the network, and the verdict on it."""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from tests.support.clock import settable_clock
from tests.support.servers import free_port, open_redis

from .fleet import go_programs
from .judge import Judge, Verdict
from .notes import read
from .options import CLOCK, TROUBLES, Options
from .report import failures, lines, write
from .storm import Outcome, Storm
from .told import compare

_SELDOM = 10.0  # seconds between two lines of progress where there is no terminal
QUICK = Options(tasks=0, kills=0, seconds=55)


def _options() -> tuple[Options, argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about two minutes")
    parser.add_argument("--tasks", type=int, help="at least so many (1,000,000; with --quick 0)")
    parser.add_argument("--kills", type=int, help="at least so many (5000; with --quick 0)")
    parser.add_argument("--seconds", type=float, help="at least so long (0; with --quick 55)")
    parser.add_argument("--seed", type=int, help="of the random numbers (1)")
    parser.add_argument("--pause", type=float, help="seconds between two blows, on average (0.1); more for a busy machine")
    parser.add_argument("--ttl", type=float, help="seconds that a lease lives (3)")
    parser.add_argument("--beat", type=float, help="seconds between two beats (0.5)")
    parser.add_argument("--sweep", type=float, help="seconds between two sweeps (1)")
    parser.add_argument(
        "--without",
        action="append",
        choices=TROUBLES,
        default=[],
        help="leave this out; repeatable. " + "; ".join(f"{name}: {text}" for name, text in TROUBLES.items()),
    )
    parser.add_argument("--write", action="store_true", help="bring docs/reliability.md and docs/recovery.svg up to date")
    parser.add_argument("--keep", action="store_true", help="keep the notes, the events and the logs even if all is well")
    arguments = parser.parse_args()
    names = ("tasks", "kills", "seconds", "seed", "pause", "ttl", "beat", "sweep")
    given: dict[str, Any] = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    given["troubles"] = frozenset(TROUBLES) - set(arguments.without)
    return replace(QUICK if arguments.quick else Options(), **given), arguments


class _Progress:
    """One line on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._next = 0.0

    def __call__(self, text: str) -> None:
        if self._terminal:
            print(f"\r\033[K{text} …", end="", flush=True)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _SELDOM
            print(text, flush=True)

    def clear(self) -> None:
        if self._terminal:
            print("\r\033[K", end="")


def _storm(options: Options, folder: Path) -> tuple[Outcome, Verdict]:
    progress = _Progress()
    with contextlib.ExitStack() as stack:
        clock = stack.enter_context(settable_clock()) if CLOCK in options.troubles else None
        embedded = stack.enter_context(clock.redis(free_port()) if clock else open_redis())
        outcome = Storm(options, folder, embedded, clock, go=go_programs(), say=progress).run()
    events = [event.as_json() for event in outcome.events]
    (folder / "events.json").write_text(json.dumps(events))
    progress("judging")
    notes = chain(read(outcome.notes), outcome.seen)
    judge = Judge(notes, outcome.events, options.beyond_a_lease, orders=outcome.orders)
    verdict = judge.verdict
    verdict.told = compare(outcome.told, judge.history, judge.identified, judge.lives_on)
    progress.clear()
    return outcome, verdict


def main() -> int:
    """Run it; 1 if a task was lost, a repeat has no explanation, a wish was not granted, or something was left over."""
    options, arguments = _options()
    folder = Path(tempfile.mkdtemp(prefix="delayed-storm-"))
    print(f"seed {options.seed}, notes and logs in {folder}", flush=True)
    outcome, verdict = _storm(options, folder)
    print("\n".join(lines(options, outcome, verdict)))
    wrong = failures(outcome, verdict)
    print(*wrong or ["All is well."], sep="\n")
    if arguments.write:
        write(options, outcome, verdict)
    if not (wrong or arguments.keep):
        shutil.rmtree(folder)
    return int(bool(wrong))


sys.exit(main())
