"""How many workers an autoscaler is told to have."""

from typing import Any

import pytest

from delayed.ops.overview import QueueView
from delayed.queue.limits import Limits
from delayed.server.scaling import desired


def seen(**said: Any) -> QueueView:
    counts = ("waiting", "groups", "grouped", "keys", "for_keys", "scheduled", "overdue", "retrying", "running", "dead")
    usual = dict.fromkeys((*counts, "workers", "sweepers", "recovered", "buried"), 0)
    return QueueView(**{"queue": "web", "oldest": None, "limits": Limits(), **usual, **said})


@pytest.mark.parametrize(
    ("view", "workers"),
    [
        (seen(), 0),
        (seen(workers=3), 0),
        (seen(workers=3, running=2), 2),
        (seen(waiting=5), 1),
        (seen(waiting=5, workers=3, running=3, limits=Limits(paused=True)), 3),
        # what tells for how long it has waited
        (seen(waiting=5, workers=3, running=3, oldest=60.0), 6),
        (seen(waiting=5000, workers=3, running=3, oldest=10.0, rate=0.1), 3),
        # what does not
        (seen(waiting=5000, workers=2, running=2, rate=50.0), 7),
        (seen(waiting=100, workers=2, running=2, rate=50.0), 2),
        (seen(grouped=3000, overdue=3000, scheduled=4000, workers=2, rate=100.0), 4),
        (seen(waiting=5, workers=3, running=3), 4),
        (seen(waiting=5, workers=3, running=2), 3),
        (seen(for_keys=5000, workers=3, running=1, rate=1.0), 1),
        # limits
        (seen(waiting=5000, workers=2, running=2, oldest=600.0, limits=Limits(concurrency=5)), 5),
        (seen(waiting=5000, workers=2, running=2, oldest=600.0, rate=9.5, limits=Limits(rate=10.0)), 2),
        (seen(waiting=5000, workers=2, running=2, rate=9.5, limits=Limits(rate=10.0)), 2),
        (seen(waiting=5000, workers=2, running=2, rate=5.0, limits=Limits(rate=10.0)), 4),
        (seen(waiting=5000, rate=5.0, limits=Limits(rate=10.0)), 34),
    ],
)
def test_as_many_workers_as_let_no_task_wait_for_too_long(view: QueueView, workers: int) -> None:
    assert desired(view, 30.0) == workers
