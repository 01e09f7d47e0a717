"""What can go wrong with a server beside what can go wrong with a queue."""

from ..errors import DelayedError
from ..redis.command import ConnectionError


class ServerError(DelayedError):
    """The server has not done what it was asked for.

    Args:
        message: what it says.
        status: of HTTP.
        code: a short name of the kind of problem.
    """

    def __init__(self, message: str, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class AccessDenied(ServerError):
    """The server wants a token, or a token that allows more."""


class ServerAway(ServerError, ConnectionError):
    """The server cannot be reached, or does not answer. (For code that handles it so, this is a
    `redis.exceptions.ConnectionError`, as a queue raises it without Redis.)"""
