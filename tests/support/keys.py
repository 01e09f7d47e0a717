"""The keys that a queue has left."""

import redis


def left(client: redis.Redis, name: str) -> set[str]:
    """All that begin with this name, but for its statistics, which stay."""
    return {key for each in client.scan_iter(f"{name}*") if "_stats_" not in (key := each.decode(errors="replace"))}
