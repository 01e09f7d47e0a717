"""The page of `delayed exporter`."""

from collections.abc import Sequence
from contextlib import suppress

from ..base.clock import monotonic
from ..errors import ConfigurationError
from ..queue.queue import Queue
from ..redis.command import Client, RedisError
from .exposition import CONTENT_TYPE, exposition
from .metrics import metrics
from .register import served

_KEPT = 1.0  # seconds for which a page is good enough for others who ask
_MOST = 1000  # queues


class Exporter:
    """Answers scrapes.

    Args:
        conn: the client.
        names: of the queues; none: those in the register, a thousand at most.
        like: on a cluster, the register of which queue.
    """

    def __init__(self, conn: Client, names: Sequence[str], *, like: str = "default") -> None:
        self._conn, self._names = conn, names
        self._like = Queue(like, conn)
        self._body, self._made_at = b"", float("-inf")
        self._known: dict[str, Queue] = {}  # those of the last page

    def page(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and content."""
        if path != "/metrics":
            return (200, "text/plain", b"/metrics\n") if path == "/" else (404, "text/plain", b"see /metrics\n")
        if monotonic() - self._made_at > _KEPT:
            self._body = exposition(metrics(self._queues())).encode()
            self._made_at = monotonic()
        return 200, CONTENT_TYPE, self._body

    def _queues(self) -> list[Queue]:
        if self._names and not self._known:
            self._known = {name: Queue(name, self._conn) for name in self._names}
        if self._names:
            return list(self._known.values())
        try:
            names = sorted(served(self._like))[:_MOST]
        except RedisError:  # which the metrics say
            names = [self._like.name]
        found: dict[str, Queue] = {}
        for name in names:
            with suppress(ConfigurationError):  # another program has written there
                found[name] = self._known.get(name) or Queue(name, self._conn)
        self._known = found
        return list(found.values())
