"""CouchQueue's interface over HTTP: `/api`, and its routes also without that."""

import re
import secrets
from functools import partial
from typing import Any
from xml.sax.saxutils import escape

from ...base.clock import monotonic, now
from ...base.text import traceback_of
from ...errors import DelayedError
from ...logger import logger
from ...redis.command import RedisError
from ..access import Access
from ..http import JSON, Disconnected, Problem, Receive, Request, Response, Scope, Send, aside, deliver
from .couch_actions import Actions
from .couch_operate import Client
from .couch_parameters import InternalError, Refusal, of_query, parameters
from .plain_json import written

PREFIXES = ("/api", "/task", "/worker", "/interest", "/queue", "/status")
_INTERNAL = "Error: The server experienced an internal error"
_CALLBACK = re.compile(r"[A-Za-z_$][\w$.]{0,99}", re.ASCII)
_SESSION = re.compile(r'(?:^|[;,])[ \t]*sessionID="?([0-9a-f]{40})"?[ \t]*(?:[;,]|$)')
_TAG = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class CouchQueue:
    """The interface, as an ASGI application.

    Args:
        actions: what it does.
        access: says who may do what.
        most: bytes that the body of a request may have.
    """

    def __init__(self, actions: Actions, access: Access, most: int) -> None:
        self._actions, self._access, self._most = actions, access, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began, request = monotonic(), Request(scope, receive, self._most)
        session = _session(request)
        given: dict[str, Any] = {}
        status, body = 200, b""
        try:
            given = of_query(request)
            grant = await self._access.grant(request)  # before anything is made of what they send
            body = await request.body()
            given = await aside(len(body), partial(parameters, request, body))
            fields = await self._actions.run(given["action"], given, Client(grant, request.client[0]))
        except Disconnected:
            return
        except InternalError:
            await _response({"error": _INTERNAL}, given, session).send(send)
            return
        except Refusal as refusal:
            fields = {**refusal.fields, "error": refusal.error}
        except Problem as problem:
            fields, status = {"error": f"Error: {problem.detail}"}, problem.status
        except (DelayedError, RedisError) as error:
            fields = {"error": f"Error: {error}"}
        except Exception as error:
            logger.error("%s %.200r failed\n%s", request.method, "/".join(request.segments), traceback_of(error))
            fields = {"error": _INTERNAL}
        times = {"requestDuration": round((monotonic() - began) * 1000), "currentTime": round(now() * 1000)}
        fields["serverInformation"] = {"serverName": "couchqueue", "apiVersion": "0.0.1", **times}
        fields["requestorInformation"] = {"id": session, "remoteIP": request.client[0], "receivedParams": given}
        response = await aside(len(body), partial(_response, fields, given, session, status))
        if given.get("action") == "taskGet" and "task" in fields:  # nobody else can have it now
            response.undelivered = lambda: self._actions.give_back(fields["task"]["taskId"])
        await deliver(request, response, send)


def _response(fields: dict[str, Any], given: dict[str, Any], session: str, status: int = 200) -> Response:
    headers = {"x-powered-by": "couchqueue", "set-cookie": f"sessionID={session}; path=/; HttpOnly"}
    callback = given.get("callback")
    if isinstance(callback, str) and _CALLBACK.fullmatch(callback):
        return Response(f"{callback}({written(fields)});".encode(), status, headers, "application/javascript")
    if given.get("outputType") == "xml":
        text = f'<?xml version="1.0" encoding="utf-8"?>\n<XML>{_xml(fields)}</XML>\n'
        return Response(text.encode(errors="replace"), status, headers, "application/xml")
    return Response(written(fields).encode(), status, headers, JSON)


def _session(request: Request) -> str:
    found = _SESSION.search(request.headers.get("cookie", ""))
    return secrets.token_hex(20) if found is None else found[1]


def _xml(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(_element(str(name), each) for name, each in value.items())
    if isinstance(value, list | tuple):
        return "".join(_element("item", each) for each in value)
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return escape(_NOT_IN_XML.sub("\ufffd", text))


def _element(name: str, value: Any) -> str:
    if _TAG.fullmatch(name):
        return f"<{name}>{_xml(value)}</{name}>"
    return f'<entry name="{escape(_NOT_IN_XML.sub(chr(0xFFFD), name), {chr(34): "&quot;"})}">{_xml(value)}</entry>'
