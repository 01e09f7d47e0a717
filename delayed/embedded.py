"""`EmbeddedRedis`: a private Redis server for development and tests."""

from .redis.embedded import EmbeddedRedis, server_path

__all__ = ["EmbeddedRedis", "server_path"]
