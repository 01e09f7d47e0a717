"""A server, as a place where queues are."""

import os
import ssl
from typing import Any
from urllib.parse import urlencode

from ..errors import ConfigurationError
from ..queue.origin import Origin
from .asks import Ask, checked
from .async_connections import AsyncConnections
from .async_queue import AsyncRemoteQueue
from .attempts import Place
from .connections import Connections
from .queue import RemoteQueue

SERVER, TOKEN = "DELAYED_SERVER", "DELAYED_TOKEN"  # names of variables of the environment


class Remote(Origin):
    """A server (`delayed server`), for programs that produce and operate over HTTP. Nothing connects before the first request.

    ```python
    remote = Remote("https://tasks.example.com", token=…)
    handle = remote.queue("web").enqueue(PyTask("shop:pay", (17,), result_ttl=3600))
    handle.result(timeout=20)

    app = App(remote)
    ```

    Threads may share it, and so may event loops and the processes that a fork makes.

    Args:
        url: where it is; None for DELAYED_SERVER of the environment.
        token: what `delayed token create` has printed; None for DELAYED_TOKEN of the environment, or for no token.
        timeout: seconds that it may take for an answer.
        patience: seconds for which a request that got no answer is sent again. None is ever carried out twice: what may not be
            repeated, such as `publish`, is not, once it may have arrived.
        tls: how servers are checked, for https; None for what the system trusts.

    Raises:
        ConfigurationError: something of that cannot work.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        patience: float = 20.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        url = url or os.environ.get(SERVER)
        if not url:
            raise ConfigurationError(f"where is the server? Give its URL, or set {SERVER}")
        token = token if token is not None else os.environ.get(TOKEN) or None
        place = Place.of(url, token, tls=tls, timeout=timeout, patience=patience)
        self._connections, self._async_connections = Connections(place), AsyncConnections(place)

    def __repr__(self) -> str:
        return f"Remote({str(self._connections.place)!r})"

    def queue(self, name: str, **options: Any) -> RemoteQueue:
        """The queue of this name; `options` are those of `RemoteQueue`, such as `max_task_size`."""
        return RemoteQueue(self._connections, name, **options)

    def async_queue(self, name: str, **options: Any) -> AsyncRemoteQueue:
        """As `queue`, for asyncio."""
        return AsyncRemoteQueue(self._async_connections, name, **options)

    def queue_names(self, like: str | None = None) -> list[str]:
        """The names of the queues that are served, and that the token is for; on Redis Cluster, of those with the {tag} of the
        queue `like`."""
        found: list[str] = []
        query: dict[str, str] = {} if like is None else {"like": like}
        while True:
            ask = Ask("GET", f"/v1/queues?{urlencode(query)}" if query else "/v1/queues")
            page = checked(self._connections.ask(ask), ask).value
            found += [each["queue"] for each in page["queues"]]
            if page["next"] is None:
                return found
            query["after"] = page["next"]

    def close(self) -> None:
        """Close the connections of threads; the next request opens others. (Those of an event loop close with it.)"""
        self._connections.close()
