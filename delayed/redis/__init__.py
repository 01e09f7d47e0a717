"""The only wing that imports redis-py."""
