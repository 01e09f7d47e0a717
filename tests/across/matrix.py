"""Every producer with every worker and every sweeper, ours and upstream's, in every scenario: `scripts/interop`.

Upstream's Go package comes through the module proxy. Where that does not have it, DELAYED_UPSTREAM_GO may name the program of
tests/across/upstream, built elsewhere; without one, its cells are not run, and the exit status is 1.
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple, TypeVar

import redis

from delayed.ops.product import product_of
from tests.support.servers import open_redis

from .agents import Agent, NotBuilt, ours_go, ours_python, theirs_go, theirs_python
from .cells import SCENARIOS, Cell, Outcome, run
from .defects import Verdict, judge, judge_exchange
from .pairs import Exchange, exchange
from .payloads import payloads
from .report import Results, document, tables

AT_ONCE = 8  # cells; they wait most of the time
QUICK_PAYLOADS = 40
Key = TypeVar("Key")
Result = TypeVar("Result")


class Server(NamedTuple):
    """What a cell needs of its surroundings."""

    client: redis.Redis
    url: str
    folder: Path


def cells(agents: list[Agent], *, quick: bool) -> list[Cell]:
    """All of them; if `quick`, each pair in each scenario with one sweeper, which differs from pair to pair."""
    found = []
    pairs = [(producer, worker) for producer in agents for worker in agents]
    for scenario in SCENARIOS:
        for number, (producer, worker) in enumerate(pairs):
            sweepers = [agents[(number + number // len(agents)) % len(agents)]] if quick else agents
            found += [Cell(scenario, producer, worker, sweeper) for sweeper in sweepers]
    return sorted(found, key=lambda cell: cell.scenario != "killed")  # these take longest, so they begin


def in_parallel(work: Iterable[tuple[Key, Callable[[], Result]]], what: str) -> dict[Key, Result]:
    """The results, with a line of progress."""
    results: dict[Key, Result] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {pool.submit(job): key for key, job in work}
        for future in as_completed(running):
            results[running[future]] = future.result()
            end = "\r" if sys.stderr.isatty() else "\n"
            if end == "\r" or len(results) % 32 == 0 or len(results) == len(running):
                print(f"{what}: {len(results)} of {len(running)}", end=end, file=sys.stderr, flush=True)
    return results


def available() -> tuple[list[Agent], dict[str, str]]:
    """The four programs, and which cannot be had here, with the reason."""
    agents = [ours_python(), ours_go(), theirs_python()]
    try:
        return [*agents, theirs_go()], {}
    except NotBuilt as error:
        return agents, {"upstream Go": str(error)}


def everything(agents: list[Agent], server: Server, *, quick: bool) -> Results:
    """Run all cells and all payloads, and judge them."""
    values = payloads()
    if quick:
        values = values[:: len(values) // QUICK_PAYLOADS + 1]

    def one(cell: Cell) -> Callable[[], Outcome]:
        return lambda: run(cell, *server)

    def pair(producer: Agent, worker: Agent) -> Callable[[], Exchange]:
        return lambda: exchange(producer, worker, values, *server)

    outcomes = in_parallel(((place(cell), one(cell)) for cell in cells(agents, quick=quick)), "cells")
    by_place = {place(cell): cell for cell in cells(agents, quick=quick)}
    pairs = {(producer.name, worker.name): (producer, worker) for producer in agents for worker in agents}
    exchanges = in_parallel(((names, pair(*both)) for names, both in pairs.items()), "pairs")
    return Results(
        names=[agent.name for agent in agents],
        cells={where: judge(by_place[where], outcome) for where, outcome in outcomes.items()},
        payloads={names: judge_exchange(*pairs[names], values, found) for names, found in exchanges.items()},
        raw={
            "cells": [{"cell": where, **dataclasses.asdict(outcome)} for where, outcome in outcomes.items()],
            "payloads": [{"pair": names, **dataclasses.asdict(found)} for names, found in exchanges.items()],
        },
    )


def place(cell: Cell) -> tuple[str, str, str, str]:
    """Where a cell stands in the tables."""
    return cell.scenario, cell.producer.name, cell.worker.name, cell.sweeper.name


def failures(results: Results) -> list[str]:
    """What makes the run fail: anything but ok where all parts are ours, and whatever no defect explains."""

    def bad(names: Iterable[str], verdict: Verdict) -> bool:
        ours = all(name.startswith("ours") for name in names)
        return not verdict.explained or (ours and bool(verdict.defects))

    every: list[tuple[str, tuple[str, ...], Verdict]] = [
        (" ".join(where), where[1:], verdict) for where, verdict in results.cells.items()
    ]
    every += [(" ".join(names), names, verdict) for names, verdict in results.payloads.items()]
    return [f"{title}: {verdict.text}" for title, names, verdict in every if bad(names, verdict)]


def main(arguments: list[str] | None = None) -> int:
    """See `scripts/interop --help`."""
    parser = argparse.ArgumentParser(prog="scripts/interop", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every pair with one sweeper, and 40 payloads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw results")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/interop.md")
    options = parser.parse_args(arguments)
    if options.write and options.quick:
        parser.error("docs/interop.md has the tables of a full run")
    began = time.monotonic()
    os.environ.pop("DELAYED_REDIS_URL", None)
    agents, missing = available()
    own = open_redis()
    with tempfile.TemporaryDirectory() as folder, own as server, server.client() as client:
        results = everything(agents, Server(client, server.url, Path(folder)), quick=options.quick)
        product, version = product_of(client.info())
    results.missing = missing
    print(tables(results))
    print(f"{len(results.cells)} cells and {len(results.payloads)} pairs in {time.monotonic() - began:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(results.raw, indent=1))
    if options.write and not missing:
        document(results, f"{product} {version}")
    wrong = failures(results) + [f"{name} was not run: {reason}" for name, reason in missing.items()]
    print("\n".join(["FAILED:", *wrong]) if wrong else "0 tasks lost or repeated where all parts are ours")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
