"""What settings mean for tasks."""

import pytest

from delayed.ops.diagnosis import LEVELS, Advice, QueueFacts, ServerFacts, diagnose, diagnose_queue, lines
from tests import ROOT

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
SAFE = ServerFacts(
    version="7.4.1",
    mode="standalone",
    role="master",
    aof=True,
    fsync="always",
    save="",
    policy="noeviction",
    memory_limit=2**30,
    memory_used=2**20,
    replicas=0,
    replicas_needed=0,
    timeout=0,
    buffer_limit=0,
    round_trip=0.1,
    longest=0.5,
    clock_ahead=0.001,
)
SERVED = QueueFacts("default", 3, workers=2, sweepers=1, stuck=0, stuck_for=6, faults=0)


def worst(advice: list[Advice]) -> str:
    return advice[0].level


def test_a_safe_set_up_has_no_more_than_notes() -> None:
    assert worst(diagnose(SAFE)) == "note"
    assert {advice.about for advice in diagnose(SAFE) if advice.level == "note"} == {"replicas"}


@pytest.mark.parametrize(
    ("changed", "level", "about", "says"),
    [
        ({"aof": False}, "problem", "persistence", "every task is lost"),
        ({"aof": False, "save": "900 1"}, "problem", "persistence", "only snapshots (save 900 1)"),
        ({"aof": False, "save": None}, "problem", "persistence", "no append-only file"),
        ({"aof_failed": True}, "problem", "persistence", "write to the append-only file failed"),
        ({"snapshot_failed": True}, "warning", "snapshots", "failed"),
        ({"fsync": "no"}, "warning", "persistence", "half a minute"),
        ({"fsync": "everysec"}, "note", "persistence", "about a second"),
        ({"fsync": None}, "note", "persistence", "could not be read"),
        ({"policy": "allkeys-lru"}, "problem", "eviction", "whole queues are evicted"),
        ({"policy": "volatile-ttl"}, "problem", "eviction", "leases are evicted"),
        ({"policy": "allkeys-lru", "memory_limit": 0}, "warning", "eviction", "once there is one"),
        ({"memory_limit": 0}, "note", "memory", "no limit"),
        ({"memory_used": 2**30}, "warning", "memory", "each enqueue fails"),
        ({"replicas": 2}, "warning", "replicas", "a fail-over loses"),
        ({"replicas": 2, "replicas_needed": 1}, "note", "replicas", "min-replicas-max-lag"),
        ({"role": "slave"}, "problem", "server", "replica"),
        ({"mode": "sentinel"}, "problem", "server", "Sentinel"),
        ({"mode": "cluster"}, "problem", "cluster", "one node"),
        ({"mode": "cluster", "through_cluster": True}, "note", "cluster", "{tag}"),
        ({"version": "6.0.16"}, "problem", "version", "lacks commands"),
        ({"version": "5.0"}, "problem", "version", "lacks commands"),
        ({"version": "6.2.14"}, "note", "version", "WAITAOF"),
        ({"version": "7.0"}, "note", "version", "WAITAOF"),
        ({"version": "7.2.4"}, "ok", "version", "7.2.4"),
        ({"version": "10.1"}, "ok", "version", "Redis 10.1"),
        ({"product": "Valkey", "version": "9.1.2"}, "ok", "version", "Valkey 9.1.2"),
        ({"timeout": 60}, "warning", "connections", "timeout 60"),
        ({"buffer_limit": 1000}, "warning", "connections", "client-output-buffer-limit"),
        ({"round_trip": 20.0}, "warning", "latency", "each enqueue waits"),
        ({"longest": 1500.0}, "warning", "latency", "drop a connection that does not answer"),
        ({"slow_calls": 3, "slowest": 40.0}, "note", "slow log", "3 calls"),
        ({"clock_ahead": -7.0}, "warning", "clock", "7.000 s behind ours"),
        ({"unreadable": ("CONFIG",)}, "note", "permissions", "CONFIG may not be used"),
    ],
)
def test_each_setting_that_matters_changes_the_advice(changed: dict[str, object], level: str, about: str, says: str) -> None:
    advice = diagnose(SAFE._replace(**changed))  # type: ignore[arg-type]
    found = [each for each in advice if (each.level, each.about) == (level, about) and says in each.says]
    assert found, advice
    assert found[0] not in diagnose(SAFE) or level == "ok"
    assert worst(advice) in (level, "note")


def test_what_could_not_be_read_is_no_problem() -> None:
    assert diagnose(ServerFacts()) == []
    assert worst(diagnose(ServerFacts(unreadable=("INFO", "CONFIG")))) == "note"


@pytest.mark.parametrize(
    ("changed", "level", "says"),
    [
        ({}, "ok", "2 workers and 1 sweeper are seen; 3 tasks wait"),
        ({"stuck": 4}, "problem", "4 tasks are held by dead workers, for 6 s or longer"),
        ({"stuck": 1}, "problem", "1 task is held by dead workers, for 6 s or longer"),
        ({"sweepers": 0}, "warning", "no sweeper is running"),
        ({"workers": 0}, "warning", "3 tasks wait"),
        ({"workers": 0, "waiting": 0}, "note", "no worker is running"),
        ({"workers": 0, "waiting": 0, "groups": 2}, "warning", "those of 2 groups"),
        ({"scheduled": 7, "oldest": 4.2}, "ok", "3 tasks wait, 7 scheduled (0 overdue), the oldest for 4 s or longer"),
        ({"faults": 2}, "warning", "fsck finds 2"),
        ({"paused": True}, "warning", "it is paused: none of its tasks begins, and 3 tasks wait"),
        ({"paused": True, "waiting": 0}, "note", "it is paused"),
    ],
)
def test_each_lack_of_a_queue_is_said(changed: dict[str, int], level: str, says: str) -> None:
    advice = diagnose_queue(SERVED._replace(**changed))  # type: ignore[arg-type]
    assert len(advice) == 1
    assert (advice[0].level, advice[0].about) == (level, "default")
    assert says in advice[0].says


def test_the_worst_comes_first_and_says_what_to_change() -> None:
    advice = diagnose(SAFE._replace(aof=False, timeout=5, role="slave"))
    levels = [LEVELS.index(each.level) for each in advice]
    assert levels == sorted(levels)
    assert all(each.change for each in advice if each.level in ("problem", "warning") and each.about != "snapshots")


def test_operations_shows_what_is_printed() -> None:
    facts = SAFE._replace(fsync=None, aof=False, save="3600 1", version="6.2.14", replicas=1, memory_limit=0)
    shown = [*diagnose(facts), *diagnose_queue(SERVED._replace(sweepers=0, stuck=1))]
    assert f"```\n$ delayed doctor default\n{chr(10).join(lines(shown))}\n```" in OPERATIONS
