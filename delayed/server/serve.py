"""Runs the server: its sockets, its signals, its end."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from ..base.address import host_and_port
from ..errors import ConfigurationError
from ..logger import logger
from ..redis.keys import TOKENS
from ..redis.pool import Pooled
from ..system.systemd import ServiceManager
from .access import Access, is_loopback
from .app import App
from .calls import Services
from .consumer import Consumer
from .guard import GuardedProtocol
from .links import Links

BODY = 8 << 20  # bytes of a request
_BACKLOG = 2048
_GRACE = 30  # seconds in which requests that have begun may end
_KEEP_ALIVE = 75  # seconds that a connection may be idle
_HANDSHAKE = 5.0  # seconds for those of the last connections
_FIRST_FD = 3  # of those that systemd hands over
Beside = Callable[[Services], AbstractAsyncContextManager[object]]  # what runs as long as the server does


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the server is asked for.

    Args:
        url: where Redis is.
        http: addresses, as host:port.
        uds: paths of Unix sockets.
        certificate, key: files, for TLS.
        most: bytes that the body of a request may have.
        connections: how many there may be at once; None for any number.
        mounts: other applications, by the beginning of their paths.
        beside: what else runs, over the same parts.
    """

    url: str
    http: Sequence[str] = ()
    uds: Sequence[str] = ()
    certificate: str | None = None
    key: str | None = None
    most: int = BODY
    connections: int | None = None
    mounts: Mapping[str, Any] | None = None
    beside: Sequence[Beside] = ()


def run(settings: Settings) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP.

    Raises:
        ConfigurationError: an address that cannot work, or one that everybody reaches, and no token.
    """
    links = Links(settings.url)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(each) for each in _sockets(settings)]
        if not sockets:
            raise ConfigurationError("the server has no address: give it --http or --uds")
        _see_that_tokens_are_there(links, sockets)
        config = uvicorn.Config(
            "delayed", http=GuardedProtocol, ws="none", loop="uvloop", lifespan="off", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, backlog=_BACKLOG, timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE, limit_concurrency=settings.connections, ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
        )  # fmt: skip
        factory = config.get_loop_factory()
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_serve(settings, links, config, sockets))


def _see_that_tokens_are_there(links: Links, sockets: Sequence[socket.socket]) -> None:
    names = [each.getsockname()[0] for each in sockets if each.family != socket.AF_UNIX]
    far = [name for name in names if not is_loopback(name)]
    if far and not Pooled(links.blocking, TOKENS).call("EXISTS", TOKENS):
        raise ConfigurationError(
            f"others could reach {', '.join(far)}, and there are no tokens: make one (`delayed token create`), or listen on "
            f"127.0.0.1"
        )


async def _serve(settings: Settings, links: Links, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
    services = Services(links, Consumer(links), Access(links), settings.most)
    config.app = App(services, settings.mounts)
    manager = ServiceManager()
    server = _Server(config, services, manager)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(links.aclose)
        for beside in settings.beside:
            await stack.enter_async_context(beside(services))
        places = ", ".join(map(_place, sockets))
        logger.info("The server listens on %s", places)
        manager.ready(f"listening on {places}")
        await server.serve(sockets)
        await services.consumer.close()  # once more: what has ended while the last requests did is counted
    logger.info("The server has ended")


class _Server(uvicorn.Server):
    """As uvicorn's, with an end that lets nobody wait, and loses no request.

    Args:
        config: of uvicorn.
        services: for which clients may be waiting.
        manager: is told.
    """

    def __init__(self, config: uvicorn.Config, services: Services, manager: ServiceManager) -> None:
        super().__init__(config)
        self._services, self._manager = services, manager

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """While this lasts, signals stop the server; the second one at once."""
        loop = asyncio.get_running_loop()
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        for number in handled:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        self._manager.stopping("finishing requests")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, answer those who wait, let the others end."""
        self._services.stopping.set()
        self.server_state.stopping = True  # type: ignore[attr-defined]  # of our own, for connections that come yet
        closing = asyncio.gather(*(stop() for stop in self._services.when_stopping))
        await self._accept_the_last((sockets or [])[_handed() :])
        await super().shutdown(sockets)
        await closing

    async def _accept_the_last(self, sockets: Sequence[socket.socket]) -> None:
        """Stop listening, and serve the connections that are made, but not accepted yet: their clients have been told that
        somebody is there. (What systemd has opened stays open: who comes next serves those.)"""
        kept = [each.dup() for each in sockets]  # for the kernel they still listen
        for server in self.servers:
            server.close()
        loop, serving = asyncio.get_running_loop(), []
        for each in kept:
            with each:
                each.setblocking(False)
                each.listen(0)  # who comes from now on is not answered, and is refused in a moment
                with contextlib.suppress(OSError):  # until there are no more
                    while True:
                        connection, _ = each.accept()
                        serving.append(loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl))
        if serving:
            await asyncio.wait([asyncio.ensure_future(each) for each in serving], timeout=_HANDSHAKE)

    def _protocol(self) -> asyncio.Protocol:
        return GuardedProtocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def _sockets(settings: Settings) -> Iterator[socket.socket]:
    yield from _inherited()
    for address in settings.http:
        yield _bound(address)
    for path in settings.uds:
        yield _unix(path)


def is_handed_sockets() -> bool:
    """Whether systemd has opened sockets for this process (see sd_listen_fds(3))."""
    return os.environ.get("LISTEN_PID") == str(os.getpid())


def _inherited() -> Iterator[socket.socket]:
    for number in range(_FIRST_FD, _FIRST_FD + _handed()):
        yield socket.socket(fileno=number)


def _handed() -> int:
    """How many sockets systemd has opened for this process."""
    return int(os.environ.get("LISTEN_FDS", "0")) if is_handed_sockets() else 0


def _bound(address: str) -> socket.socket:
    host, port = host_and_port(address, 7677)
    host = host or "0.0.0.0"  # noqa: S104  # as asked for, and there have to be tokens
    try:
        family, kind, protocol, _, name = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(name)
        found.listen(_BACKLOG)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {address}: {error}") from error
    return found


def _unix(path: str) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if Path(path).is_socket():  # of one that was killed
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(path) == 0:
                    raise ConfigurationError(f"somebody listens on {path} already")
            Path(path).unlink()
        found.bind(path)
        Path(path).chmod(0o660)
        found.listen(_BACKLOG)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {path}: {error}") from error
    return found


def _place(listening: socket.socket) -> str:
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
