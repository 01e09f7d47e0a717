"""What must hold for any payload."""

import logging
import os
import time
from collections import Counter

import redis

from delayed.dead_letters.letter import dead_letters
from delayed.errors import Unrunnable
from delayed.logger import logger
from delayed.queue.queue import Queue
from delayed.sweeper.sweep import sweep
from delayed.system.process import resident_size
from delayed.task.decode import parse, path_of, readable, show
from delayed.task.edit import with_retry
from delayed.worker.worker import Worker

from .payloads import TARGET, Mutator

LONGEST = 5.0  # seconds that one payload may take; a thousandth of it would be long
GROWTH = 200 << 20  # bytes of memory that a run may add
_BATCH = 100_000


def check(data: bytes) -> bool:
    """Whether `data` is a task; anything but a task or `Unrunnable` is an error."""
    try:
        readable(data)
    except Unrunnable as refusal:
        refusal.detail.encode(errors="replace")
    show(data)
    path_of(data).encode()
    try:
        path, args, kwargs, retry, _ = parse(data)
    except Unrunnable:
        return False
    assert ":" in path
    assert isinstance(args, list | tuple)
    assert isinstance(kwargs, dict)
    if retry:
        again = parse(with_retry(data, retry - 1 if retry > 0 else retry))
        assert again[0] == path
        assert len(again[1]) == len(args)
        assert len(again[2]) == len(kwargs)
        assert again[3] == (retry - 1 if retry > 0 else retry)
    return True


def fuzz_decoder(count: int, seed: int) -> tuple[int, float, int]:
    """Check `count` payloads. Returns how many were tasks, the longest time that one took, and the bytes of memory that the
    run added."""
    mutator, tasks, longest, before = Mutator(seed), 0, 0.0, resident_size()
    for number in range(count):
        data = mutator.one()
        began = time.thread_time()  # what a neighbour of this process takes does not count
        try:
            tasks += check(data)
        except BaseException as error:
            error.add_note(f"payload {number} of seed {seed}: {data[:200].hex()} ({len(data)} bytes)")
            raise
        took = time.thread_time() - began
        if took > longest:
            longest = took
            assert took < LONGEST, f"{took} s for payload {number} of seed {seed}: {data.hex()}"
        if number % _BATCH == 0:
            assert resident_size() - before < GROWTH, f"after {number} payloads of seed {seed}"
    grown = resident_size() - before
    assert grown < GROWTH
    return tasks, longest, grown


def fuzz_worker(count: int, seed: int, queue: Queue, client: redis.Redis) -> Counter[str]:
    """Let a worker have `count` payloads. Returns how each ended; none is missing."""
    mutator = Mutator(seed)
    logger.propagate, handler = False, logging.StreamHandler(open(os.devnull, "w", errors="backslashreplace"))  # noqa: PTH123, SIM115
    logger.addHandler(handler)  # all is formatted, and nothing shown
    try:
        ends: Counter[str] = Counter()
        while (done := ends.total()) < count:
            ends += _batch([mutator.one() for _ in range(min(5000, count - done))], queue, client)
        return ends
    finally:
        logger.propagate = True
        logger.removeHandler(handler)
        handler.stream.close()


def _batch(payloads: list[bytes], queue: Queue, client: redis.Redis) -> Counter[str]:
    client.rpush(queue.name, *payloads)
    client.rpush(queue.keys.noti, *["1"] * len(payloads))
    worker = Worker(queue, allow=[TARGET], burst=True, unready_for=0)
    worker.run()
    letters = list(dead_letters(queue))
    about = worker.describe()
    ends = Counter(letter.reason for letter in letters) + Counter(ran=about["succeeded"])
    assert ends.total() == len(payloads), f"{len(payloads)} went in, and {ends} came out"
    untouched = Counter(letter.data for letter in letters if letter.reason != "failed")
    assert untouched <= Counter(payloads), "a dead letter has other bytes than its task"
    assert sweep(queue.store) == (0, 0, 0, 0)
    assert (queue.len(), client.hlen(queue.keys.processing), about["superseded"]) == (0, 0, 0)
    client.delete(queue.keys.dead)
    return ends
