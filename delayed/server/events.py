"""Events over HTTP: server-sent events of tasks and processes, as they happen."""

import asyncio
import math
import re
from collections.abc import AsyncGenerator, Sequence

from ..base.clock import monotonic
from ..errors import ConfigurationError
from ..ops.overview import known
from ..ops.watch import Watch
from ..queue.queue import Queue
from ..redis.command import RedisError, is_cluster
from .calls import Call
from .flows import queues_of
from .http import Problem, Response, Streamed
from .hub import Hub, Listener, Ordered, TooMany, formatted, order

EVENTS = "text/event-stream"
_ANY = "default"
_BEAT = 15.0  # seconds between two signs of life, and two looks whether the client may still listen
_READ = 0.001  # seconds that a read of what has been waits
_ENTRY = re.compile(r"[0-9]{1,16}-[0-9]{1,19}")
_LAST = 2**64 - 1  # of the entries of a millisecond
_MOST = 1000  # queues


async def events(call: Call) -> Response:
    """Tell what happens in several queues, or in all."""
    words = call.query.get("queues")
    if words is None and is_cluster(call.services.links.blocking):
        raise Problem(422, "on Redis Cluster say which queues: ?queues={a}1,{b}2", "not-possible")
    if words is None:
        return await _stream(call, None)
    names = list(dict.fromkeys(word for word in words.split(",") if word))
    for name in names:
        call.grant.check("read", name)
        try:
            call.services.links[name]
        except ConfigurationError as error:
            raise Problem(422, str(error), "queue-name") from None
    return await _stream(call, names)


async def queue_events(call: Call) -> Response:
    """Tell what happens in a queue."""
    return await _stream(call, [call.link.name])


async def _stream(call: Call, names: Sequence[str] | None) -> Response:
    after = call.request.headers.get("last-event-id") or call.query.get("after")  # it is empty before the first event
    if after is not None and not _ENTRY.fullmatch(after):
        raise Problem(422, "Last-Event-ID, or after, is the id of an event, such as 1700000000000-0")
    if call.request.method == "HEAD":
        return Response(b"", kind=EVENTS)
    hub = call.services.hub
    try:
        listener = await call.request.unless_gone(hub.listen(names, call.grant.covers))
    except TooMany:
        raise Problem(503, "too many listen already", "too-many-listeners", headers={"retry-after": "10"}) from None

    async def leave() -> None:
        hub.leave(listener)

    chunks = _chunks(call, hub, listener, names, after)
    return Streamed(kind=EVENTS, headers={"x-accel-buffering": "no"}, undelivered=leave, chunks=chunks)


async def _chunks(
    call: Call, hub: Hub, listener: Listener, names: Sequence[str] | None, after: str | None
) -> AsyncGenerator[bytes]:
    """What has been since `after`, and then what happens, until the client may not listen any more."""
    looked = monotonic()
    ends = looked + min(call.query.get("seconds", math.inf), call.grant.left)
    try:
        yield b"retry: 2000\n\n"
        if after is not None:
            async for page in _missed(call, listener, names, after):
                yield page
        while not listener.closed and (left := ends - monotonic()) > 0:
            message = await listener.messages(min(_BEAT, left))
            if monotonic() - looked >= _BEAT:
                looked = monotonic()
                (await call.services.access.known(call.request)).check("read")
            yield message or b": beat\n\n"
    except (Problem, RedisError):  # the client asks again, and hears why
        return
    finally:
        hub.leave(listener)


async def _missed(call: Call, listener: Listener, names: Sequence[str] | None, after: str) -> AsyncGenerator[bytes]:
    """What has been told in histories since an event; the listener hears of it no more."""
    conn = call.services.links.blocking
    watch = Watch(())
    milliseconds, number = order(after)
    alone = names is not None and len(names) == 1
    if not alone:  # others may have entries of the same number
        milliseconds, number = (milliseconds - 1, _LAST) if milliseconds else (0, 0)

    def begin() -> list[Queue]:
        chosen = known(Queue(_ANY, conn)) if names is None else names
        queues = list(queues_of((name for name in chosen[:_MOST] if listener.hears(name)), conn))
        for queue in queues:
            watch.add(queue, f"{milliseconds}-{number}")
        return queues

    queues, ordered = await asyncio.to_thread(begin), Ordered(watch)
    while True:
        found = await asyncio.to_thread(ordered.read, _READ)
        some = [each for each in found if each.event is not None or each.kind == "gap"]
        if some:
            yield b"".join(message for _, message in formatted(some))
        if watch.told_until == float("inf"):
            break
    listener.skip({queue.name: order(watch.place(queue)) for queue in queues})
