"""What the server speaks beside its own interface: the text protocol, and the interfaces of other systems."""

import contextlib
import math
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from ..base.address import host_and_port
from ..errors import ConfigurationError
from ..logger import logger
from .access import ALL, Access, is_loopback, rate_text
from .access import Grant as Granted
from .calls import Services
from .compat.couch_actions import Actions
from .compat.couchqueue import PREFIXES as COUCHQUEUE
from .compat.couchqueue import CouchQueue
from .compat.taskq import PREFIX as TASKQ
from .compat.taskq import TaskQ
from .http import Problem, Receive, Scope, Send
from .numbers import NumberedTasks
from .quota import Connection, Quotas
from .serve import Settings
from .sweeping import Sweeping
from .text.door import Grant, Refused
from .text.server import MOST, TTL, TextServer

_OPEN = "others could reach {}, and there are no tokens: make one (`delayed token create`), or listen on 127.0.0.1"
COMPATIBLE = ("taskq", "couchqueue")


def with_protocols(settings: Settings, text: Sequence[str], compat: Sequence[str], ttl: float = TTL) -> Settings:
    """The settings of a server that speaks these, too.

    Args:
        settings: of the server.
        text: addresses for the text protocol, as host:port.
        compat: some of `COMPATIBLE`.
        ttl: seconds in which a task has to be ended that TaskQ's clients have.

    Raises:
        ConfigurationError: one of them there is not.
    """
    unknown = [each for each in compat if each not in COMPATIBLE]
    if unknown:
        raise ConfigurationError(f"the server is compatible with {' and '.join(COMPATIBLE)}, not with {', '.join(unknown)}")
    if not text and not compat:
        return settings
    own = _Protocols([_address(each) for each in text], compat, settings, ttl)
    return replace(settings, mounts={**(settings.mounts or {}), **own.mounts}, beside=(*settings.beside, own.beside))


def _address(text: str) -> tuple[str, int]:
    host, port = host_and_port(text, 7979)
    return host or "0.0.0.0", port  # noqa: S104  # as asked for, and there have to be tokens


class _Late:
    """An application that is there when the server runs."""

    def __init__(self) -> None:
        self.app: TaskQ | CouchQueue | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)


class _Protocols:
    def __init__(self, text: Sequence[tuple[str, int]], compat: Sequence[str], settings: Settings, ttl: float) -> None:
        self._text, self._settings, self._ttl = text, settings, ttl
        self._taskq = _Late() if "taskq" in compat else None
        self._couchqueue = _Late() if "couchqueue" in compat else None
        self.mounts: dict[str, _Late] = {}
        if self._taskq is not None:
            self.mounts[TASKQ] = self._taskq
        if self._couchqueue is not None:
            self.mounts |= dict.fromkeys(COUCHQUEUE, self._couchqueue)

    @contextlib.asynccontextmanager
    async def beside(self, services: Services) -> AsyncIterator[None]:
        """Serve as long as this lasts."""
        links, consumer, access = services.links, services.consumer, services.access
        sweeping = Sweeping(links)
        numbered = NumberedTasks(links, consumer, self._ttl, sweeping)
        if self._taskq is not None:
            self._taskq.app = TaskQ(numbered, access, min(services.most, MOST))
        if self._couchqueue is not None:
            self._couchqueue.app = CouchQueue(Actions(links, consumer, sweeping, services.later), access, services.most)
        server = TextServer(links, consumer, numbered=numbered, door=AccessDoor(access), ttl=self._ttl)
        tls = _tls(self._settings)
        async with sweeping.running():
            try:
                for host, port in self._text:
                    if not is_loopback(host) and await access.open():
                        raise ConfigurationError(_OPEN.format(host))
                    try:
                        bound = await server.listen(host, port, tls=tls)
                    except OSError as error:
                        raise ConfigurationError(f"cannot listen on {host}:{port}: {error}") from error
                    logger.info("The text protocol is spoken on %s:%d", host, bound)
                yield
            finally:
                await server.close()


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.certificate, settings.key)
    return context


class _Grant:
    """What somebody may do, with refusals as the text protocol has them."""

    def __init__(self, grant: Granted, quotas: Quotas) -> None:
        self._grant, self._quotas = grant, quotas
        self.size = grant.size

    def check(self, right: str, queue: str | None = None) -> None:
        try:
            self._grant.check(right, queue)
        except Problem as problem:
            raise Refused(problem.detail) from None

    def check_function(self, path: str) -> None:
        try:
            self._grant.check_function(path)
        except Problem as problem:
            raise Refused(problem.detail) from None

    def admit(self, count: int) -> tuple[int, str]:
        rate = self._grant.rate
        if rate is None:
            return count, ""
        admitted, wait = self._quotas.admit(self._grant.name, rate, count)
        return admitted, f"this token may send {rate_text(rate)}: try again in {math.ceil(wait)} s"

    def enter(self, connection: Connection) -> None:
        most = self._grant.connections
        if most is not None and not self._quotas.enter(self._grant.name, most, connection):
            raise Refused(f"this token may have {most} connections at once")


class AccessDoor:
    """Lets in who shows a token, and without tokens the programs of this machine.

    Args:
        access: knows the tokens.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def grant(self, token: str | None, address: str) -> Grant:
        """What a client may do.

        Raises:
            Refused: nothing.
        """
        if token is not None:
            grant = await self._access.of_token(token)
            if grant is None:
                raise Refused("this token is not known, has expired or was revoked")
            return _Grant(grant, self._access.quotas)
        if not await self._access.open():
            raise Refused("this needs a token: HELLO 1 token=TOKEN")
        if address != "unix" and not is_loopback(address):
            raise Refused("without tokens only programs of this machine are served: make one with `delayed token create`")
        return _Grant(ALL, self._access.quotas)
