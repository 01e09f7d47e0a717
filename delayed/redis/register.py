"""The register of queues that are served, as workers and sweepers keep it up to date."""

import contextlib
from collections.abc import Iterable

from ..base.clock import monotonic
from .command import ResponseError
from .store import Store

_EVERY = 60.0  # seconds between two times that the queues are registered as served


class Register:
    """Registers queues as served. Operators' commands know by this which queues there are, and notice a name that is
    misspelled."""

    def __init__(self) -> None:
        self._next = 0.0  # monotonic time

    def refresh(self, stores: Iterable[Store]) -> None:
        """Register these queues, if it is time to."""
        if monotonic() < self._next:
            return
        self._next = monotonic() + _EVERY
        for store in stores:
            with contextlib.suppress(ResponseError):  # rules (ACL) forbid it, or another program has this key
                store.serve()
