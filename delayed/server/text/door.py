"""Who may do what over the text protocol."""

from typing import Protocol

from ...errors import DelayedError
from ..quota import Connection


class Refused(DelayedError):
    """Somebody may not do what they ask for."""


class Grant(Protocol):
    """What somebody may do."""

    @property
    def size(self) -> int | None:
        """Bytes that a body may have; None for as many as the server takes."""

    def check(self, right: str, queue: str | None = None) -> None:
        """See that this is allowed: to `enqueue` into a queue, to `consume` from it, to `read` of it.

        Raises:
            Refused: it is not.
        """

    def check_function(self, path: str) -> None:
        """See that this function may be enqueued.

        Raises:
            Refused: it may not.
        """

    def admit(self, count: int) -> tuple[int, str]:
        """How many of so many requests may be carried out, and what is said of the others."""

    def enter(self, connection: Connection) -> None:
        """Use a connection with it.

        Raises:
            Refused: there are too many.
        """


class Door(Protocol):
    """Lets clients in."""

    async def grant(self, token: str | None, address: str) -> Grant:
        """What a client may do that shows a token, or none.

        Raises:
            Refused: nothing.
        """


class _Everything:
    size = None

    def check(self, right: str, queue: str | None = None) -> None:
        """Anything goes."""

    def check_function(self, path: str) -> None:
        """Likewise."""

    def admit(self, count: int) -> tuple[int, str]:
        """Likewise."""
        return count, ""

    def enter(self, connection: Connection) -> None:
        """Likewise."""


class OpenDoor:
    """Lets everybody do everything: for a server that only programs of this machine reach."""

    async def grant(self, token: str | None, address: str) -> Grant:  # noqa: ARG002  # it is the same for all
        """Everything."""
        return _Everything()
