"""Connections, keys and scripts: the only part that imports redis-py."""
