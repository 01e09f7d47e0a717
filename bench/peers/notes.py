"""What a contender notes for the harness, in the file `BENCH_NOTES` if there is to be one: how long enqueuing took, and the
ids of the tasks; later, what their results were.
"""

import contextlib
import json
import os
import time

KEPT = os.environ.get("BENCH_RESULTS") == "1"  # results are kept, and tasks return their number
ONE_BY_ONE = os.environ.get("BENCH_ONE_BY_ONE") == "1"
_FILE = os.environ.get("BENCH_NOTES")


def chunks(count, size):
    """Ranges of so many tasks as go in together."""
    size = 1 if ONE_BY_ONE else size
    return (range(first, min(first + size, count)) for first in range(0, count, size))


@contextlib.contextmanager
def enqueuing():
    """Around what is timed; the ids go into the list that it gives."""
    ids = []
    began = time.perf_counter()
    yield ids
    if _FILE:
        _write({"seconds": time.perf_counter() - began, "ids": ids})


def noted_ids():
    with open(_FILE) as file:
        return json.load(file)["ids"]


def note_results(results):
    results = [result for result in results if result is not None]
    _write({"results": len(results), "sum": sum(results)})


def _write(notes):
    with open(_FILE, "w") as file:
        json.dump(notes, file)
