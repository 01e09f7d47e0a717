"""Reads what a server and its queues say of themselves, for `advice` to judge."""

import contextlib
from collections.abc import Callable
from statistics import median
from typing import Any

from .advice import Facts, Served
from .clock import monotonic, now
from .connection import Caller, Client, Pooled, ResponseError, is_cluster
from .fsck import PATIENCE, examine
from .info import inspect
from .queue import Queue
from .scripts import SCRIPTS

_PINGS = 50
_SLOWLOG = 128  # entries


def read(client: Client, key: str = "") -> Facts:
    """What can be read of the server.

    Args:
        client: the way to it.
        key: on a cluster it decides which node.

    Raises:
        redis.exceptions.RedisError: it cannot be reached.
    """
    caller = Pooled(client, key)
    forbidden: list[str] = []
    about = _allowed(forbidden, "INFO", lambda: _info(caller), {})
    facts = Facts(
        version=about.get("redis_version"),
        mode=about.get("redis_mode"),
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
    with contextlib.suppress(ResponseError):  # some proxies do not know PING or TIME
        facts = facts._replace(**_times(caller))
    facts = facts._replace(**_allowed(forbidden, "CONFIG", lambda: _config(caller), {}))
    facts = facts._replace(**_allowed(forbidden, "SLOWLOG", lambda: _slow(caller), {}))
    return facts._replace(unreadable=tuple(forbidden))


def serve(queue: Queue, patience: float = PATIENCE) -> Served:
    """What there is to say of a queue.

    Args:
        queue: the queue.
        patience: seconds, as for `fsck.examine`.
    """
    found = examine(queue, patience)
    stuck = sum(finding.invariant == "held-live" for finding in found)
    seen = inspect(queue)
    workers, sweepers = (sum(each.get("kind") == kind for each in seen.processes) for kind in ("worker", "sweeper"))
    return Served(queue.name, seen.waiting, workers, sweepers, stuck, patience, len(found) - stuck)


def _allowed(forbidden: list[str], command: str, action: Callable[[], dict[str, Any]], default: dict[str, Any]) -> Any:
    """What `action` returns; `default` if the server does not let us, as many a provider's does not."""
    try:
        return action()
    except ResponseError:
        forbidden.append(command)
        return default


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _info(caller: Caller) -> dict[str, str]:
    rows = caller.call("INFO").decode(errors="replace").splitlines()
    return {name: value for name, colon, value in (row.partition(":") for row in rows) if colon}


def _times(caller: Caller) -> dict[str, Any]:
    """How long a round trip takes, and what the server's clock says."""
    took = []
    for _ in range(_PINGS):
        began = monotonic()
        caller.call("PING")
        took.append((monotonic() - began) * 1000)
    before = now()
    seconds, microseconds = caller.call("TIME")
    ahead = int(seconds) + int(microseconds) / 1e6 - (before + now()) / 2
    return {"round_trip": median(took), "longest": max(took), "clock_ahead": ahead}


def _config(caller: Caller) -> dict[str, Any]:
    """One name at a time: older servers take no more, and all together would send us passwords."""

    def get(name: str) -> str | None:
        reply = caller.call("CONFIG", "GET", name)
        pairs = list(reply.items()) if isinstance(reply, dict) else list(zip(reply[::2], reply[1::2], strict=True))
        return pairs[0][1].decode() if pairs else None

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
