"""The long run: `scripts/fuzz --decoder 10000000 --worker 200000`."""

import argparse
import faulthandler
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.system.process import resident_size

from .checks import GROWTH, fuzz_decoder, fuzz_worker

_SHARE = 500_000  # payloads of one seed


def main() -> None:
    """Print what was done; an error ends it."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--decoder", type=int, default=1_000_000, help="payloads for the decoder")
    parser.add_argument("--worker", type=int, default=20_000, help="payloads for a worker on a real Redis")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
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
