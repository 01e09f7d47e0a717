"""The primary is killed under load, and another takes over. `scripts/failover` does it many times, and writes the table."""

from pathlib import Path

import pytest

from delayed.queue.queue import Queue
from tests.support.failover import fail_over, serve
from tests.support.processes import Fleet
from tests.support.servers import Cluster, Sentinels

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", [Sentinels, Cluster])
def test_what_a_replica_had_confirmed_is_executed(kind: type[Sentinels] | type[Cluster], tmp_path: Path) -> None:
    with kind(tmp_path) as servers, Fleet(servers.url, tmp_path) as fleet:
        serve(fleet, "{q}")
        queue = Queue("{q}", servers.url, durability="replicas:1", durability_timeout=0.3)
        result = fail_over(servers, queue, tmp_path / "ran")
        print(result)
        assert result.acknowledged >= 50
        assert result.lost == 0
