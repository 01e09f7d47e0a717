"""Who may see the pages, and what they may do: by a token in the printed address, by passwords, or as a proxy says."""

import base64
import binascii
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from ..errors import ConfigurationError
from ..ops.acts import ROLES, Act, highest, may

_COOKIE = "delayed_session"
_SESSIONS = 1000  # at most, the latest


class Rule(NamedTuple):
    """A role in the queues whose names fit a pattern."""

    role: str
    pattern: str


class Rights(Protocol):
    """What a token allows, by which acts are told apart more finely than by roles. Equal ones allow the same."""

    def refusal(self, rights: Sequence[str], queue: str) -> str:
        """Why it does not allow what needs these rights in a queue; empty if it does."""

    def refusal_of(self, function: str) -> str:
        """Why it does not allow to enqueue calls of the function with this path; empty if it does."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks, and what they may do.

    Args:
        role: `view`, `operate` or `admin`; each may do what those before it may. Or several with commas between them, each for
            the queues whose names fit a pattern: `view,operate:web:*`. In a queue the highest of those that fit counts, and a
            queue that none fits is not shown.
        name: of the person, for the audit.
        rights: if it is for these, and not for the role, to say what they may do: the role says what they see then.

    Raises:
        ConfigurationError: there is no such role.
    """

    role: str
    name: str
    rights: Rights | None = None
    rules: tuple[Rule, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found = [each.strip().partition(":") for each in self.role.split(",")]
        object.__setattr__(self, "rules", tuple(Rule(role, pattern or "*") for role, _, pattern in found))
        for role, colon, pattern in found:
            if role not in ROLES or (colon and not pattern):
                known = ", ".join(ROLES)
                raise ConfigurationError(f"a role is one of {known}, or several as view,operate:web:*, and not {self.role!r}")

    def of(self, queue: str) -> str:
        """The role in this queue; empty if it is not to be seen."""
        return highest(rule.role for rule in self.rules if fnmatchcase(queue, rule.pattern))

    def refusal(self, act: Act, queue: str) -> str:
        """Why they may not do this in a queue; empty if they may."""
        role = self.of(queue)
        if not role:
            return "this queue is not shown here"
        if self.rights is not None:
            return self.rights.refusal(act.rights, queue)
        return "" if may(role, act.role) else f"this needs the role {act.role}, and yours is {role}"

    def refusal_of(self, function: str) -> str:
        """Why they may not enqueue calls of this function; empty if they may."""
        return "" if self.rights is None else self.rights.refusal_of(function)

    @property
    def everywhere(self) -> str:
        """A role that they have in each queue that they see."""
        general = [rule.role for rule in self.rules if rule.pattern == "*"]
        return min((highest([rule.role, *general]) for rule in self.rules), key=ROLES.index)


Authenticate = Callable[[Request], "Access | Response | None"]
"""Who asks; None: somebody who may not see anything; or a reply that lets them say who they are."""


class User(NamedTuple):
    """Somebody with a password."""

    password: str
    role: str


def everyone(role: str = "view", name: str = "anybody") -> Authenticate:
    """Whoever reaches the server has this role: for a server that others protect."""
    access = Access(role, name)
    return lambda _: access


def passwords(users: Mapping[str, User]) -> Authenticate:
    """Basic authentication (RFC 7617). Use it behind TLS."""
    known = {name: (user.password.encode(), Access(user.role, name)) for name, user in users.items()}
    ask = PlainTextResponse("Say who you are.", 401, {"WWW-Authenticate": 'Basic realm="delayed", charset="UTF-8"'})

    def authenticate(request: Request) -> Access | Response | None:
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        try:
            name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return ask
        expected, access = known.get(name, (b"", None))
        same = hmac.compare_digest(password.encode(), expected)  # also of names that are not known: that takes as long
        return access if same and access is not None and kind.lower() == "basic" else ask

    return authenticate


def by_header(header: str, role: str | None = "view", roles: Mapping[str, str] | None = None) -> Authenticate:
    """A proxy has found out who it is, and says so in a header. It must remove that header from what others send.

    Args:
        header: the name of the header.
        role: of those who are not in `roles`; None: they see nothing.
        roles: name → role.
    """
    if role is not None:
        Access(role, "")
    given = {name: Access(each, name) for name, each in (roles or {}).items()}

    def authenticate(request: Request) -> Access | None:
        name = request.headers.get(header, "")
        if name in given or role is None:
            return given.get(name)
        return Access(role, name[:100]) if name else None

    return authenticate


class OneTimeToken:
    """Whoever opens the address with the token first has a session until the browser ends; the token is used up then.

    Args:
        role: of the session.
        name: for the audit.
    """

    def __init__(self, role: str = "admin", name: str = "operator") -> None:
        self.token = secrets.token_urlsafe(24)
        self._access, self._sessions = Access(role, name), dict[str, None]()

    def __call__(self, request: Request) -> Access | Response | None:
        """As `Authenticate`."""
        if request.cookies.get(_COOKIE, "") in self._sessions:
            return self._access
        given = request.query_params.get("token", "")
        if not (self.token and given and hmac.compare_digest(given.encode(), self.token.encode())):
            return None
        self.token = ""
        return self._begun(request)

    def _begun(self, request: Request) -> Response:
        session = secrets.token_urlsafe(32)
        self._sessions[session] = None
        if len(self._sessions) > _SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        reply = RedirectResponse(request.url.path + (f"?{urlencode(rest)}" if rest else ""), 303)
        secure = request.url.scheme == "https"
        reply.set_cookie(
            _COOKIE, session, httponly=True, samesite="strict", secure=secure, path=request.scope.get("root_path", "") + "/"
        )
        return reply
