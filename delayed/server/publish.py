"""What is published, and who has an interest in it, over HTTP."""

import asyncio
from collections.abc import Sequence
from typing import Any

from ..errors import InvalidAct, InvalidTask, NotDurable
from ..interests.table import Interest
from ..ops import actions
from ..task.headers import trace_in
from .calls import Call
from .http import Problem, Response
from .lines import durable, problem_of


async def publish(call: Call) -> Response:
    """Put copies into the queues that have an interest."""
    functions = dict[str, str]()

    def check(interested: Sequence[Interest]) -> None:
        for interest in interested:
            call.grant.check("enqueue", interest.queue)
            call.grant.check_function(interest.function)
            functions[interest.queue] = interest.function

    queue = durable(call, call.any_link)
    try:
        await queue.interests()  # as they are now: of what nobody is interested in any more nobody has to have the right
        ids = await queue.publish_checked(call.body["data"], check, trace_in(call.request.headers))
    except (InvalidTask, NotDurable) as error:
        raise problem_of(error) from None
    copies = [{"queue": name, "id": identity, "function": functions.get(name)} for name, identity in ids.items()]
    return Response({"copies": copies})


async def list_interests(call: Call) -> Response:
    """Show the interests of queues."""
    table = await call.any_link.queue.interests()
    return Response({"interests": [_shown(each) for each in table.interests if call.grant.covers(each.queue)]})


async def set_interest(call: Call) -> Response:
    """Let a queue have an interest."""
    body = call.body
    match: Any = body.get("match", "*")
    function, retry = body["function"], int(body.get("retry", 0))
    call.grant.check_function(function)
    await asyncio.to_thread(actions.set_interest, call.link.blocking, call.actor, match, function, retry)
    return Response(_shown(Interest.of(call.link.name, match, function, retry)))


async def remove_interest(call: Call) -> Response:
    """Let it have none."""
    try:
        await asyncio.to_thread(actions.remove_interest, call.link.blocking, call.actor)
    except InvalidAct:
        raise Problem(404, "this queue has no interest") from None
    return Response({})


def _shown(interest: Interest) -> dict[str, Any]:
    pairs = [list(pair) for pair in interest.match]
    return {"queue": interest.queue, "match": pairs, "function": interest.function, "retry": interest.retry}
