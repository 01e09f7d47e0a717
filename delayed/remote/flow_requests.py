"""What is asked about workflows whose home is a queue on a server, whoever sends it."""

from typing import Any, get_args
from urllib.parse import quote, urlencode

from ..errors import InvalidTask, UnknownTask
from ..workflow.again import RetryMode
from ..workflow.compose import Flow
from ..workflow.graph import Ref
from ..workflow.run import FlowStatus, NodeStatus, checked_signal
from .asks import Answer, Ask, body_of, checked
from .flow_values import body_of_flow, flow_status_in, node_in, node_value_in
from .requests import Request, Requests, request
from .values import shown

_PATH = "/v1/workflows"
_PAGE = 1000


class FlowRequests:
    """What is asked about one workflow.

    Args:
        home: the queue that has its keys, by its name.
        identity: its id.
    """

    def __init__(self, home: str, identity: str) -> None:
        self._home, self.id = home, identity

    def _ask(self, method: str, *parts: str, body: Any = None, repeatable: bool = True, **query: Any) -> Ask:
        names = "/".join(quote(each, safe="@", errors="surrogateescape") for each in (self.id, *parts))
        found = {"queue": self._home, **{name: value for name, value in query.items() if value is not None}}
        path = f"{_PATH}/{names}?{urlencode(found, errors='surrogateescape')}"
        return Ask(method, path, None if method == "GET" else body_of(body or {}), repeatable=repeatable)

    def status(self) -> Request[FlowStatus]:
        """Where it is."""
        return request(self._ask("GET"), flow_status_in)

    def nodes(self, state: str | None, after: int | None) -> Request[tuple[list[NodeStatus], int | None]]:
        """A page of its nodes, and where the next one begins."""
        ask = self._ask("GET", "nodes", state=state, after=after, limit=_PAGE)
        return request(ask, lambda found: ([node_in(each) for each in found["nodes"]], found["next"]))

    def _node(self, which: Ref | int | str) -> Ask:
        name = f"@{which.blocks[0].number}" if isinstance(which, Ref) else str(which)
        if not name or name in (".", ".."):
            raise UnknownTask(f"workflow {self.id} has no node {which!r:.100}")
        return self._ask("GET", "nodes", name)

    def node(self, which: Ref | int | str) -> Request[NodeStatus]:
        """One node."""
        return request(self._node(which), node_in)

    def value(self, which: Ref | int | str) -> Request[Any]:
        """What it has returned."""
        return request(self._node(which), lambda found: node_value_in(found, self.id))

    def cancel(self) -> Request[None]:
        """Cancel it. Nothing happens if it has ended."""
        ask = self._ask("POST", "cancel")

        def read(answer: Answer) -> None:
            if answer.says.get("code") != "not-now":
                checked(answer, ask)

        return Request(ask, read)

    def signal(self, name: str, payload: Any) -> Request[bool]:
        """Give it a signal."""
        ask = self._ask("POST", "signal", body={"name": checked_signal(name), "payload": shown(payload)})
        return request(ask, lambda found: bool(found["first"]))

    def retry(self, mode: RetryMode) -> Request[int]:
        """Let it go on. (Said again, it would be refused, as it goes on.)"""
        if mode not in get_args(RetryMode):
            raise InvalidTask(f"mode is one of {', '.join(get_args(RetryMode))}, not {mode!r}")
        return request(self._ask("POST", "retry", body={"mode": mode}, repeatable=False), lambda found: int(found["count"]))


def submission(requests: Requests, flow: Flow, home: str) -> Request[str]:
    """Start a workflow in its home. Its id comes back.

    Raises:
        InvalidTask: it cannot be sent.
    """
    if flow.home.name != home:
        raise InvalidTask(f"the home of this workflow is {flow.home.name!r}: submit it there, not in {home!r}")
    # One that is forgotten sooner than the server is tried again would be made once more.
    repeatable = flow.keep >= requests.keep
    ask = requests.adding(_PATH, body_of(body_of_flow(flow)), trace=flow.trace, repeatable=repeatable)

    def read(found: dict[str, Any]) -> str:
        if not found["known"]:
            flow.tell_started(found["id"])
        return str(found["id"])

    return request(ask, read)


def listing(home: str, *, ended: bool, after: str | None) -> Request[tuple[list[str], str | None]]:
    """A page of the ids of the workflows of a queue, and where the next one begins."""
    query = {"queue": home, "ended": "true" if ended else "false", "limit": _PAGE, **({"after": after} if after else {})}
    ask = Ask("GET", f"{_PATH}?{urlencode(query, errors='surrogateescape')}")
    return request(ask, lambda found: ([each["id"] for each in found["workflows"]], found["next"]))
