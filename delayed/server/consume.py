"""Consumers over HTTP."""

import asyncio
from collections.abc import Callable
from typing import Any

from ..base.text import summary
from ..errors import LeaseLost, Reason
from ..redis.keys import home_of
from ..task.decode import headers_of
from ..task.headers import member_in
from .calls import Call
from .consumer import Bury, Ending, Release, Retry, Succeed, UnknownLease
from .flow_forms import inputs_of, is_node_of
from .forms import lease_shown, text
from .http import Problem, Response
from .leases import read_token


async def take(call: Call) -> Response:
    """Take tasks."""
    body = {"max": 1, "ttl": 60.0, **(call.body or {})}
    queue, consumer, wait = call.link.name, call.services.consumer, call.wait
    taking = consumer.take(queue, int(body["max"]), wait, body["ttl"])
    leases = await (call.request.unless_gone(taking) if wait else taking)

    async def give_back() -> None:
        await consumer.give_back(leases)

    found = Response({"leases": [lease_shown(lease) for lease in leases]})
    found.undelivered = give_back if leases else None
    return found


def _token(call: Call, token: str) -> str:
    """A token, if its queue is one of the client's."""
    try:
        call.grant.check("consume", read_token(token)[1])
    except UnknownLease as error:
        raise Problem(404, str(error), "unknown-lease") from None
    return token


def _lost() -> Problem:
    return Problem(409, summary(str(LeaseLost())), "lease-lost")


async def extend(call: Call) -> Response:
    """Let a lease live longer."""
    try:
        held = await call.services.consumer.extend(_token(call, call.names["token"]), call.body["ttl"])
    except LeaseLost:
        raise _lost() from None
    return Response(held._asdict())


async def progress(call: Call) -> Response:
    """Say how far a task is."""
    body = call.body
    try:
        cancelled = await call.services.consumer.progress(
            _token(call, call.names["token"]), body["done"], body.get("total"), body.get("note", "")
        )
    except LeaseLost:
        raise _lost() from None
    return Response({"cancelled": cancelled})


async def inputs(call: Call) -> Response:
    """What the node of a workflow that is held finds of the nodes before it."""
    first, limit = call.query.get("after", 0), call.query.get("limit", 100)
    try:
        link, data = await call.services.consumer.held(_token(call, call.names["token"]))
    except LeaseLost:
        raise _lost() from None
    member = member_in(headers_of(data))
    keys = None if member is None else home_of(member.home)
    if member is None or keys is None:
        return Response({"many": False, "inputs": [], "next": None})
    store = link.store.at(keys) if link.store.reaches(member.home) else link.store.pooled_at(keys)
    if not call.grant.covers(member.home) and not await asyncio.to_thread(is_node_of, store, member, link.name):
        says = f"this token is not for {text(member.home)!r:.200}, the home of the workflow, which has no such node here"
        raise Problem(403, says)
    many, found, more = await asyncio.to_thread(inputs_of, store, member, first, limit)
    return Response({"many": many, "inputs": found, "next": first + len(found) if more else None})


async def succeed(call: Call) -> Response:
    """The task is done."""
    return await _end(call, "succeed")


async def retry(call: Call) -> Response:
    """The attempt has failed."""
    return await _end(call, "retry")


async def bury(call: Call) -> Response:
    """The task has failed for good."""
    return await _end(call, "bury")


async def release(call: Call) -> Response:
    """The task goes back."""
    return await _end(call, "release")


async def _end(call: Call, action: str) -> Response:
    try:
        state = await call.services.consumer.end(_token(call, call.names["token"]), _ending(action, call.body or {}))
    except LeaseLost:
        raise _lost() from None
    return Response({"state": state})


async def end_many(call: Call) -> Response:
    """End many leases."""
    chosen = [(_token(call, each["token"]), _ending(each["action"], each)) for each in call.body["endings"]]
    return Response({"states": await call.services.consumer.end_many(chosen)})


def _ending(action: str, body: dict[str, Any]) -> Ending:
    return _ENDINGS[action](body)


def _retry(body: dict[str, Any]) -> Ending:
    chosen = {name: body[name] for name in ("error", "kind", "detail", "delay", "counted") if name in body}
    return Retry(**chosen)


_ENDINGS: dict[str, Callable[[dict[str, Any]], Ending]] = {
    "succeed": lambda body: Succeed(body.get("result")),
    "retry": _retry,
    "bury": lambda body: Bury(body.get("detail", ""), Reason(body.get("reason", Reason.FAILED))),
    "release": lambda _: Release(),
}
