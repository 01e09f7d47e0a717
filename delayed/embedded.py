"""A private Redis server."""

from .redis.embedded import EmbeddedRedis, server_path

__all__ = ["EmbeddedRedis", "server_path"]
