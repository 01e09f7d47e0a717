"""A short run of what `scripts/fuzz` does at length."""

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from delayed.queue.queue import Queue
from tests import ROOT

from .checks import check, fuzz_decoder, fuzz_worker
from .payloads import Mutator, corpus


def test_mutated_payloads_are_tasks_or_refused() -> None:
    tasks, _, _ = fuzz_decoder(5_000, seed=0)
    assert 250 < tasks < 2_500  # enough of both


@pytest.mark.slow
def test_a_worker_loses_no_mutated_payload(queue: Queue, client: redis.Redis) -> None:
    ends = fuzz_worker(2_000, 0, queue, client)
    assert {"ran", "undecodable", "not_allowed", "wrong_language", "unknown_header"} <= set(ends)


@given(st.data())
def test_spliced_payloads_are_tasks_or_refused(data: st.DataObject) -> None:
    known = st.sampled_from(corpus())
    first, second = data.draw(known), data.draw(known)
    check(
        first[: data.draw(st.integers(0, len(first)))]
        + data.draw(st.binary())
        + second[data.draw(st.integers(0, len(second))) :]
    )


@pytest.mark.parametrize("level", [b"\x91", b"\x81\xa1k", b"\x81", b"\xdc\x00\x01"])
@pytest.mark.parametrize("depth", [200, 500, 1000, 1024, 100_000])
def test_deep_payloads_are_tasks_or_refused(level: bytes, depth: int) -> None:
    check(b"\x92\xa3m:f" + level * depth + b"\xc0")
    check(b"\x91" + level * depth + b"\xc0")


def test_the_same_seed_makes_the_same_payloads() -> None:
    one, other = Mutator(3), Mutator(3)
    assert [one.one() for _ in range(100)] == [other.one() for _ in range(100)]


def test_the_script_is_there() -> None:
    assert (ROOT / "scripts" / "fuzz").stat().st_mode & 0o111
