"""One short method for each Lua script that changes what exists: all changes of a queue's state go through one of them."""

from .store_adding import Adding
from .store_endings import Endings
from .store_operating import Operating
from .store_sweeping import Sweeping
from .store_taking import Taking


class Store(Adding, Taking, Endings, Sweeping, Operating):
    """The scripts of one queue, and the way to Redis: see `BaseStore` for the arguments."""
