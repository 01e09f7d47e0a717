"""A worker that begins and ends many members of one group together tells their workflow of each."""

import pytest

from delayed import PyTask, Queue
from delayed.workflow import group
from tests.conftest import burst


@pytest.mark.parametrize("size", [1, 3, 200, 1500])
def test_what_comes_after_a_group_runs(queue: Queue, size: int) -> None:
    members = [PyTask("operator:add", (number, 1)) for number in range(size)]
    run = group(members).then(PyTask("operator:add", (1, 1))).submit(queue)
    burst(queue)
    status = run.status()
    assert (status.state, status.left, status.succeeded) == ("succeeded", 0, size + 1)
