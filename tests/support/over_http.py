"""A queue on a server that tests use as one on Redis: producers' calls go over HTTP, and what tests look into is Redis."""

import copy
from collections.abc import Callable
from typing import Any

from delayed.queue.async_queue import AsyncQueue
from delayed.queue.handle import AsyncHandle, Handle
from delayed.queue.queue import Queue
from delayed.redis.command import Client
from delayed.redis.embedded import EmbeddedRedis
from delayed.remote import Remote
from delayed.remote.async_queue import AsyncRemoteQueue
from delayed.remote.queue import RemoteQueue


class Both(RemoteQueue):
    """A queue on a server. Its store, its client and what belongs to workers are those of the same queue on Redis."""

    def __init__(self, remote: Remote, direct: Queue) -> None:
        super().__init__(remote._connections, direct.name, max_task_size=direct.max_task_size)
        outcomes = self.store.outcomes
        self.store = copy.copy(direct.store)
        self.store.outcomes = outcomes  # type: ignore[method-assign]  # what producers ask for
        self.conn = direct.conn
        self.dequeue_timeout, self.keep_alive_timeout = direct.dequeue_timeout, direct.keep_alive_timeout


class Made:
    """Stands for a class: called, it makes something, also as `Handle[int](…)`.

    Args:
        make: what is called.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._make(*args, **options)

    def __getitem__(self, kind: object) -> "Made":
        return self


class OverHttp:
    """Makes queues and handles as the classes of these names do, of one Redis through its server; those of others as ever.

    Args:
        server: the Redis.
        remote: the server.
    """

    def __init__(self, server: EmbeddedRedis, remote: Remote) -> None:
        self._server, self._remote = server, remote

    def _is_ours(self, conn: Any) -> bool:
        if isinstance(conn, str):
            return conn.startswith(self._server.url)
        pool = getattr(conn, "connection_pool", None)
        return (
            pool is not None and pool.connection_kwargs.get("path") == self._server.url.partition("://")[2].partition("?")[0]
        )

    def queue(self, name: str, conn: Client | str, *args: Any, **options: Any) -> Queue:
        """For `Queue`."""
        direct = Queue(name, conn, *args, **options)
        return Both(self._remote, direct) if self._is_ours(conn) else direct

    def async_queue(self, name: str, conn: Any, **options: Any) -> AsyncQueue:
        """For `AsyncQueue`."""
        if not self._is_ours(conn):
            return AsyncQueue(name, conn, **options)
        return AsyncRemoteQueue(self._remote._async_connections, name, **options)

    @staticmethod
    def handle(queue: Queue, id: str, **how: Any) -> Handle[Any]:  # noqa: A002  # its name everywhere
        """For `Handle`."""
        return queue.handle(id, **how)

    @staticmethod
    def async_handle(queue: AsyncQueue, id: str, **how: Any) -> AsyncHandle[Any]:  # noqa: A002  # likewise
        """For `AsyncHandle`."""
        return queue.handle(id, **how)
