"""The long run: `scripts/fuzz --decoder 10000000 --worker 200000`."""

import argparse
import faulthandler
import re
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.system.process import resident_size
from tests.support.processes import Fleet

from .checks import GROWTH, fuzz_decoder, fuzz_worker
from .frames import fuzz_parser, fuzz_server

_SHARE = 500_000  # payloads of one seed


def _frames(options: argparse.Namespace) -> None:
    began = time.monotonic()
    shares = [min(_SHARE, options.frames - start) for start in range(0, options.frames, _SHARE)]
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(fuzz_parser, shares, range(options.seed, options.seed + len(shares))))
    requests, longest, grown = (
        sum(each[0] for each in results),
        max(each[1] for each in results),
        max(each[2] for each in results),
    )
    assert grown < GROWTH, grown
    print(
        f"parser: {sum(shares):,} frames in {time.monotonic() - began:.0f} s, {requests:,} requests; the longest took "
        f"{longest * 1000:.1f} ms; memory grew by {grown / 2**20:.0f} MiB at most"
    )
    if options.server:
        _frames_for_a_server(options.server, options.seed)


def _frames_for_a_server(count: int, seed: int) -> None:
    with EmbeddedRedis() as server, TemporaryDirectory() as folder, Fleet(server.url, Path(folder)) as fleet:
        process = fleet.delayed("server", "--http", "127.0.0.1:0", "--text", "127.0.0.1:0").ready()
        found = re.search(r"text protocol is spoken on 127\.0\.0\.1:(\d+)", process.log.read_text())
        assert found
        port = int(found[1])
        fuzz_server(count // 10, seed, port)  # what is kept for ever is there then
        before, began = psutil.Process(process.pid).memory_info().rss, time.monotonic()
        answered = fuzz_server(count, seed + 1, port)
        grown = psutil.Process(process.pid).memory_info().rss - before
        assert grown < GROWTH, grown
        log = process.log.read_text()
        assert "Traceback" not in log, log
    print(
        f"server: {count:,} frames in {time.monotonic() - began:.0f} s; {answered:,} requests behind them were answered; "
        f"memory grew by {grown / 2**20:.0f} MiB"
    )


def main() -> None:
    """Print what was done; an error ends it."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--decoder", type=int, default=1_000_000, help="payloads for the decoder")
    parser.add_argument("--worker", type=int, default=20_000, help="payloads for a worker on a real Redis")
    parser.add_argument(
        "--frames", type=int, default=0, help="frames for the parser of the text protocol, and for nothing else"
    )
    parser.add_argument(
        "--server", type=int, default=0, help="of these, frames for a server, each over a connection of its own"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.frames:
        _frames(options)
        return
    began = time.monotonic()
    shares = [min(_SHARE, options.decoder - start) for start in range(0, options.decoder, _SHARE)]
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(fuzz_decoder, shares, range(options.seed, options.seed + len(shares))))
    tasks = sum(result[0] for result in results)
    longest, grown = max(result[1] for result in results), max(result[2] for result in results)
    print(
        f"decoder: {sum(shares):,} payloads in {time.monotonic() - began:.0f} s, {tasks:,} of them tasks; the longest took "
        f"{longest * 1000:.1f} ms; memory grew by {grown / 2**20:.0f} MiB at most"
    )
    faulthandler.dump_traceback_later(3600, exit=True)  # a worker that hangs
    began, before = time.monotonic(), resident_size()
    with EmbeddedRedis() as server, server.client() as client, warnings.catch_warnings():
        ends = fuzz_worker(options.worker, options.seed, Queue("fuzz", client), client)
    faulthandler.cancel_dump_traceback_later()
    grown = resident_size() - before
    assert grown < GROWTH, grown
    print(
        f"worker: {ends.total():,} payloads in {time.monotonic() - began:.0f} s: {dict(ends.most_common())}; none lost; "
        f"memory grew by {grown / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    main()
