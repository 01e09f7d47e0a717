"""Which server this is."""

from collections.abc import Mapping
from typing import Any


def product_of(about: Mapping[str, Any]) -> tuple[str, str | None]:
    """Name and version of a server, by what INFO says. (Valkey has both: `redis_version` is what it is compatible with.)"""
    if "valkey_version" in about:
        return "Valkey", about["valkey_version"]
    return "Redis", about.get("redis_version")
