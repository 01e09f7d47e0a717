"""Metrics for Prometheus, over the server's own port."""

import asyncio

from ..ops.exporter import Exporter
from ..ops.exposition import CONTENT_TYPE
from ..ops.overview import known
from .calls import Call
from .http import Response

_EXPORTERS = 100  # that are kept: one for each choice of queues


async def metrics(call: Call) -> Response:
    """The metrics of the queues that are served, and that the client may see."""
    some, exporters, grant = call.any_link, call.services.exporters, call.grant
    conn, like = call.services.links.blocking, call.query.get("like", "")

    def read() -> bytes:
        names: tuple[str, ...] = ()
        if "*" not in grant.queues:
            names = tuple(sorted(name for name in known(some.blocking) if grant.covers(name)))
            if not names:
                return b""
        exporter = exporters.get((like, *names))
        if exporter is None:
            if len(exporters) >= _EXPORTERS:
                exporters.clear()
            exporter = exporters[like, *names] = Exporter(conn, names, like=some.name)
        return exporter.page("/metrics")[2]

    return Response(await asyncio.to_thread(read), kind=CONTENT_TYPE)
