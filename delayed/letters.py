"""Dead letters, by the path that they had before: see `delayed.dead_letters`."""

from .dead_letters import DeadLetter, Search, edited, purge, retry, retry_all, retry_ids, search

__all__ = ["DeadLetter", "Search", "edited", "purge", "retry", "retry_all", "retry_ids", "search"]
