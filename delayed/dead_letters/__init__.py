"""Dead letters: finds, edits, retries and removes them."""

from .letter import DeadLetter, dead_letter, dead_letters
from .retry import edited, purge, retry, retry_all, retry_ids
from .search import Search, search

__all__ = [
    "DeadLetter",
    "Search",
    "dead_letter",
    "dead_letters",
    "edited",
    "purge",
    "retry",
    "retry_all",
    "retry_ids",
    "search",
]
