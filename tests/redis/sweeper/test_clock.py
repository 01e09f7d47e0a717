"""The clock that tests set is the server's, and nobody else's."""

import time

from delayed.job.allow import AllowAny
from delayed.queue import Queue
from delayed.worker import Worker
from tests.support.clock import settable_clock


def test_a_server_follows_its_clock_and_its_leases_end_by_it() -> None:
    with settable_clock() as clock, clock.redis() as server, server.client() as client:
        client.set("lease", "x", px=60_000)
        assert abs(_ahead_of_us(client.time())) < 30
        clock.step(3600.25)
        assert 3570 < _ahead_of_us(client.time()) < 3630
        assert client.get("lease") is None
        clock.step(-7200.5)
        assert -3630 < _ahead_of_us(client.time()) < -3570
        assert clock.ahead == -3600.25


def _ahead_of_us(reply: tuple[int, int]) -> float:
    seconds, microseconds = reply
    return seconds + microseconds / 1e6 - time.time()


def test_a_worker_goes_by_it_before_its_first_beat() -> None:
    with settable_clock() as clock, clock.redis() as server, server.client() as client:
        clock.step(-7200)
        worker = Worker(Queue("clock", client), allow=AllowAny())  # nothing of it runs yet
        assert abs(worker.state.clock.now() - (time.time() - 7200)) < 600
