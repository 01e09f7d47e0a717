"""The producer's side of queues and applications over HTTP: for programs that reach a server, and not Redis."""

from .errors import AccessDenied, ServerAway, ServerError
from .letters import RemoteLetter, RemoteTask
from .remote import Remote

__all__ = ["AccessDenied", "Remote", "RemoteLetter", "RemoteTask", "ServerAway", "ServerError"]
