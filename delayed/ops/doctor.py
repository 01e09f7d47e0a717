"""Reads the facts about a server and its queues that `diagnosis` judges."""

from collections.abc import Callable
from statistics import median
from typing import Any

from ..base.clock import monotonic, now
from ..queue.queue import Queue
from ..redis.command import Caller, Client, ResponseError, is_cluster, pairs
from ..redis.pool import Pooled
from ..redis.scripts import SCRIPTS
from ..task.decode import headers_of
from .checks import Finding
from .diagnosis import QueueFacts, ServerFacts
from .fsck import PATIENCE, Checked, examine
from .info import LeaseInfo, inspect
from .product import product_of

PINGS = 50
_SLOWLOG = 128  # entries
_NEXT = 50  # waiting tasks


def read(client: Client, key: str = "", pings: int = PINGS) -> ServerFacts:
    """Read the facts about the server.

    Args:
        client: the way to it.
        key: on a cluster it decides which node.
        pings: how many round trips are measured.

    Raises:
        redis.exceptions.RedisError: it cannot be reached.
    """
    caller = Pooled(client, key)
    forbidden: list[str] = []
    about = _allowed(forbidden, "INFO", _info, caller)
    product, version = product_of(about)
    facts = ServerFacts(
        product=product,
        version=version,
        mode=about.get("redis_mode", about.get("server_mode")),
        role=about.get("role"),
        through_cluster=is_cluster(client),
        aof=None if "aof_enabled" not in about else about["aof_enabled"] == "1",
        aof_failed=about.get("aof_last_write_status", "ok") != "ok",
        snapshot_failed=about.get("rdb_last_bgsave_status", "ok") != "ok",
        policy=about.get("maxmemory_policy"),
        memory_limit=_number(about.get("maxmemory")),
        memory_used=_number(about.get("used_memory")),
        replicas=_number(about.get("connected_slaves")),
    )
    for command, action in (
        ("PING", lambda caller: _round_trips(caller, pings)),
        ("TIME", _clock),
        ("CONFIG", _config),
        ("SLOWLOG", _slow),
    ):
        facts = facts._replace(**_allowed(forbidden, command, action, caller))
    return facts._replace(unreadable=tuple(forbidden))


def queue_facts(queue: Queue, patience: float = PATIENCE, examined: list[Finding] | None = None) -> QueueFacts:
    """Diagnose a queue.

    Args:
        queue: the queue.
        patience: seconds, as for `fsck.examine`.
        examined: what that has found, if it is known.
    """
    found = Checked(queue.name, [], examine(queue, patience) if examined is None else examined).wrong
    stuck = sum(finding.invariant == "held-live" for finding in found)
    seen = inspect(queue)
    workers, sweepers = (sum(each.get("kind") == kind for each in seen.processes) for kind in ("worker", "sweeper"))
    return QueueFacts(
        queue.name, seen.waiting, workers, sweepers, stuck, patience, len(found) - stuck,
        seen.scheduled, seen.overdue, seen.groups, seen.oldest, *_old_workers(queue, seen.leases),
        queue.limits().paused,
    )  # fmt: skip


def _old_workers(queue: Queue, leases: list[LeaseInfo]) -> tuple[int, bool]:
    """How many workers of the older packages hold a task, which they do under names of another form, and whether one of the
    next tasks has headers."""
    old = sum(each.alive and not queue.keys.owns_lease(each.lease) for each in leases)
    return old, bool(old) and any(map(headers_of, queue.store.call("LRANGE", queue.keys.queue, 0, _NEXT - 1)))


def _allowed(forbidden: list[str], command: str, action: Callable[[Caller], dict[str, Any]], caller: Caller) -> dict[str, Any]:
    """What `action` reads; nothing if the server does not let us, as many a provider's does not."""
    try:
        return action(caller)
    except ResponseError:
        forbidden.append(command)
        return {}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _info(caller: Caller) -> dict[str, str]:
    rows = caller.call("INFO").decode(errors="replace").splitlines()
    return {name: value for name, colon, value in (row.partition(":") for row in rows) if colon}


def _round_trips(caller: Caller, pings: int) -> dict[str, float]:
    took = []
    for _ in range(pings):
        began = monotonic()
        caller.call("PING")
        took.append((monotonic() - began) * 1000)
    return {"round_trip": median(took), "longest": max(took)}


def _clock(caller: Caller) -> dict[str, float]:
    before = now()
    seconds, microseconds = caller.call("TIME")
    return {"clock_ahead": int(seconds) + int(microseconds) / 1e6 - (before + now()) / 2}


def _config(caller: Caller) -> dict[str, Any]:
    """One name at a time: older servers take no more, and all together would send us passwords."""

    def get(name: str) -> str | None:
        reply = caller.call("CONFIG", "GET", name)
        return next((value.decode() for value in pairs(reply).values()), None)

    limits = (get("client-output-buffer-limit") or "").split()
    normal = limits[limits.index("normal") + 1] if "normal" in limits else None
    return {
        "fsync": get("appendfsync"),
        "save": get("save"),
        "timeout": _number(get("timeout")),
        "replicas_needed": _number(get("min-replicas-to-write")),
        "buffer_limit": _number(normal),
    }


def _slow(caller: Caller) -> dict[str, Any]:
    """Calls of our scripts in the log of slow commands."""
    ours = {script.sha.encode() for script in SCRIPTS.values()}
    took = [entry[2] / 1000 for entry in caller.call("SLOWLOG", "GET", _SLOWLOG) if ours & set(entry[3][1:2])]
    return {"slow_calls": len(took), "slowest": max(took, default=0.0)}
