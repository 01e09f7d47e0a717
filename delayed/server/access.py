"""Who may do what: bearer tokens in Redis, of which only hashes are kept."""

import hashlib
import ipaddress
import math
import re
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Self
from urllib.parse import urlsplit

import msgpack

from ..base.clock import monotonic, now
from ..errors import ConfigurationError
from ..ops.audit import Actor
from ..redis.command import Caller, pairs
from ..redis.keys import TOKENS
from .http import Problem, Request
from .links import Links
from .quota import Quotas

RIGHTS = ("enqueue", "consume", "read", "operate")
_PREFIX = "dq_"  # of a token, so that scanners for secrets know one
_TRUSTED = 5.0  # seconds for which what was read of a token is good
_MOST = 10_000  # tokens that are remembered for so long
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_CHALLENGE = {"www-authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class Grant:
    """What the bearer of a token may do.

    Args:
        name: what it is called.
        may: some of `RIGHTS`.
        queues: patterns for the names of queues.
        functions: patterns for the functions that may be enqueued.
        expires: seconds since 1970; None for never.
        created: likewise.
        rate: so many requests in so many seconds that each server takes; None for any number.
        connections: how many there may be at once with each server; None for any number.
        size: bytes that the body of a request may have; None for as many as the server takes.
    """

    name: str
    may: tuple[str, ...] = RIGHTS
    queues: tuple[str, ...] = ("*",)
    functions: tuple[str, ...] = ("*",)
    expires: float | None = None
    created: float = 0.0
    rate: tuple[int, float] | None = None
    connections: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        unknown = [each for each in self.may if each not in RIGHTS]
        if unknown or not self.may:
            raise ConfigurationError(f"a token may do some of {', '.join(RIGHTS)}, not {', '.join(unknown) or 'nothing'}")
        if not self.queues or not self.functions:
            raise ConfigurationError("a token is for at least one pattern of queues, and one of functions: '*' is for all")
        if (self.rate is not None and min(self.rate) <= 0) or any(each is not None and each < 1 for each in self._bounds):
            raise ConfigurationError("a token's rate, its number of connections and the size of its bodies are above 0")

    @property
    def _bounds(self) -> tuple[int | None, int | None]:
        return self.connections, self.size

    def actor(self, address: str) -> Actor:
        """Who acts with it from this address, for the audit."""
        return Actor(self.name[:100], f"http {address}")

    def covers(self, queue: str) -> bool:
        """Whether it is for this queue."""
        return "*" in self.queues or any(fnmatchcase(queue, pattern) for pattern in self.queues)

    def check(self, right: str, queue: str | None = None) -> None:
        """See that it allows this.

        Raises:
            Problem: it does not.
        """
        if right not in self.may:
            raise Problem(403, f"this token may {', '.join(self.may)}, and this needs {right}")
        if queue is not None and not self.covers(queue):
            raise Problem(403, f"this token is not for the queue {queue!r:.200}")

    def check_function(self, path: str) -> None:
        """See that this function may be enqueued.

        Raises:
            Problem: it may not.
        """
        if "*" not in self.functions and not any(fnmatchcase(path, pattern) for pattern in self.functions):
            raise Problem(403, f"this token may not enqueue the function {path!r:.200}", "function-not-allowed")

    def packed(self) -> bytes:
        """As it stands in Redis."""
        said = {name: getattr(self, name) for name in self.__slots__}
        for name in ("rate", "connections", "size"):  # an older server does not know them
            if said[name] is None:
                del said[name]
        found: bytes = msgpack.packb(said)
        return found

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The opposite.

        Raises:
            ValueError: it is none.
        """
        try:
            found = msgpack.unpackb(data)
            may, queues, functions = (tuple(found.pop(name)) for name in ("may", "queues", "functions"))
            rate = found.pop("rate", None)
            return cls(may=may, queues=queues, functions=functions, rate=rate and (int(rate[0]), float(rate[1])), **found)
        except Exception as error:  # msgpack raises a dozen types
            raise ValueError("no grant") from error

    @property
    def is_over(self) -> bool:
        """Whether it has expired."""
        return self.left <= 0

    @property
    def left(self) -> float:
        """Seconds until it has."""
        return math.inf if self.expires is None else max(0.0, self.expires - now())


ALL = Grant("loopback")


def hashed(token: str) -> str:
    """What stands in Redis for a token, which is as random as its hash."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


class Tokens:
    """The tokens in Redis, for operators.

    Args:
        caller: sends commands.
    """

    def __init__(self, caller: Caller) -> None:
        self._call = caller.call

    def create(self, grant: Grant) -> str:
        """Make a token, which nobody can read again.

        Raises:
            ConfigurationError: there is one of this name.
        """
        if any(each.name == grant.name for _, each in self.all()):
            raise ConfigurationError(f"there is a token called {grant.name!r}; revoke it, or choose another name")
        token = _PREFIX + secrets.token_urlsafe(32)
        self._call("HSET", TOKENS, hashed(token), grant.packed())
        return token

    def all(self) -> Sequence[tuple[str, Grant]]:
        """Hashes and grants, the oldest first."""
        found = []
        for key, value in pairs(self._call("HGETALL", TOKENS)).items():
            try:
                found.append((key.decode(), Grant.of(value)))
            except ValueError:
                continue
        return sorted(found, key=lambda each: each[1].created)

    def revoke(self, name: str) -> int:
        """Remove the tokens of this name, or whose hash begins so (eight characters at least). Returns how many."""
        chosen = [key for key, grant in self.all() if grant.name == name or (len(name) >= 8 and key.startswith(name))]
        return int(self._call("HDEL", TOKENS, *chosen)) if chosen else 0


class Access:
    """Decides what the sender of a request may do.

    Args:
        links: the way to Redis.
    """

    def __init__(self, links: Links) -> None:
        self._pooled = links.pooled(TOKENS)
        self._seen: OrderedDict[str, tuple[float, Grant | None]] = OrderedDict()
        self._any = (0.0, True)  # until when it is known, and whether there is any token
        self.quotas = Quotas()

    async def grant(self, request: Request) -> Grant:
        """What the sender of a new request may do, whose body may have as many bytes as that says.

        Raises:
            Problem: who it is, is not known, or it asks too much.
        """
        grant = await self.known(request)
        if grant.size is not None:
            request.most = min(request.most, grant.size)
        most, connection = grant.connections, request.connection
        if most is not None and connection is not None and not self.quotas.enter(grant.name, most, connection):
            says = f"this token may have {most} connections at once"
            raise Problem(429, says, headers={"retry-after": "1"}, close=True)
        if grant.rate is not None:
            admitted, wait = self.quotas.admit(grant.name, grant.rate)
            if not admitted:
                says = f"this token may send {rate_text(grant.rate)}"
                raise Problem(429, says, headers={"retry-after": str(math.ceil(wait))})
        return grant

    async def known(self, request: Request) -> Grant:
        """What a sender may do.

        Raises:
            Problem: who it is, is not known.
        """
        given = request.headers.get("authorization")
        if given is None:
            return await self._without(request)
        match = re.fullmatch(r"(?i:bearer) +([\w.~+/=-]{1,200})", given)
        if match is None:
            raise Problem(401, "write the header as Authorization: Bearer TOKEN", headers=_CHALLENGE)
        grant = await self.of_token(match[1])
        if grant is None:
            raise Problem(401, "this token is not known, has expired or was revoked", headers=_CHALLENGE)
        return grant

    async def of_token(self, token: str) -> Grant | None:
        """What the bearer of a token may do; None if it is none."""
        key = hashed(token)
        until, grant = self._seen.get(key, (0.0, None))
        if monotonic() >= until:
            data = await self._pooled.call("HGET", TOKENS, key)
            grant = _read(data)
            self._seen[key] = monotonic() + _TRUSTED, grant
            self._seen.move_to_end(key)
            if len(self._seen) > _MOST:
                self._seen.popitem(last=False)
        return None if grant is None or grant.is_over else grant

    async def ping(self) -> None:
        """See that Redis answers."""
        await self._pooled.call("EXISTS", TOKENS)

    async def open(self) -> bool:
        """Whether there are no tokens at all, so that programs of this machine need none."""
        until, is_any = self._any
        if monotonic() >= until:
            is_any = bool(await self._pooled.call("EXISTS", TOKENS))
            self._any = monotonic() + _TRUSTED, is_any
        return not is_any

    async def _without(self, request: Request) -> Grant:
        if not await self.open():
            raise Problem(401, "this needs a token, in a header Authorization: Bearer TOKEN", headers=_CHALLENGE)
        if not _is_here(request):
            says = "without tokens only programs of this machine are served: make one with `delayed token create`"
            raise Problem(401, says, headers=_CHALLENGE)
        return ALL


def rate_text(rate: tuple[int, float]) -> str:
    """A rate, for people."""
    count, seconds = rate
    return f"{count:g} requests in {seconds:g} s"


def _read(data: Any) -> Grant | None:
    try:
        return None if data is None else Grant.of(data)
    except ValueError:
        return None


@lru_cache(maxsize=1000)
def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_here(request: Request) -> bool:
    """Whether a program of this machine asks by itself: no proxy, and no page in a browser that was made to."""
    headers = request.headers
    if request.peer is not None and not is_loopback(request.peer):
        return False
    if any(name in headers for name in _FORWARDED):
        return False
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    origins = [f"//{headers['host']}"] if "host" in headers and request.peer is not None else []
    origins += [headers["origin"]] if "origin" in headers else []
    return all(_host_is_here(each) for each in origins)


def _host_is_here(origin: str) -> bool:
    try:
        return is_loopback(urlsplit(origin).hostname or "")
    except ValueError:
        return False
