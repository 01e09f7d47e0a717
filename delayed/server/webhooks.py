"""A worker that runs nothing itself: it posts each task to an endpoint, and the answer says what becomes of the task."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import http.client
import io
import signal
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..base.clock import monotonic, now
from ..base.text import counted
from ..errors import ConfigurationError, LeaseLost
from ..logger import logger
from ..redis.command import RedisError
from ..system.systemd import ServiceManager
from ..task.headers import milliseconds_in
from .consumer import Bury, Consumer, Ending, Lease, Retry, Succeed
from .forms import lease_shown, trace_of
from .links import Links
from .mapping import NotJSON, parse, write

_TTL = 30.0  # seconds of a lease, which is extended while the endpoint works
_WAIT = 10.0  # seconds for tasks
_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # statuses after which it may be better later
_LONGEST = 1 << 20  # bytes of an answer that are read
_SHOWN = 2000  # characters of it that a dead letter has
_LATER = 24 * 3600.0  # seconds that an endpoint may put a task off
_PREFIX = "whsec_"  # of a secret, as Standard Webhooks writes one


@dataclass(frozen=True, slots=True)
class Answer:
    """What the endpoint said; status 0: nothing."""

    status: int
    kind: str = ""  # its media type
    body: bytes = b""
    after: float | None = None  # seconds that it asks for


class Deadline:
    """By when all of a request has to be over: a timeout of a socket is for each step of it.

    Args:
        seconds: until then.
    """

    def __init__(self, seconds: float) -> None:
        self._at = monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until then.

        Raises:
            TimeoutError: none.
        """
        left = self._at - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")  # as a socket says it
        return left


class _Connection(http.client.HTTPConnection):
    """A connection for one request, with a deadline.

    Args:
        host, port: to where.
        tls: for TLS.
        deadline: of the request.
    """

    def __init__(self, host: str, port: int | None, tls: ssl.SSLContext | None, deadline: Deadline) -> None:
        default = http.client.HTTPConnection.default_port if tls is None else http.client.HTTPSConnection.default_port
        super().__init__(host, port or default)
        self.default_port = default  # what Host leaves out
        self._tls, self._deadline = tls, deadline

    def connect(self) -> None:
        """Reach one of the host's addresses."""
        error = OSError(f"{self.host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self._deadline.left)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.connect(address)
                if self._tls is not None:
                    sock.settimeout(self._deadline.left)
                    sock = self._tls.wrap_socket(sock, server_hostname=self.host)
                sock.settimeout(self._deadline.left)
                self.sock = sock
                return
            except OSError as why:
                sock.close()
                error = why
        raise error

    def response_class(self, sock: socket.socket, **how: Any) -> http.client.HTTPResponse:  # type: ignore[override]  # makes one
        """The answer, of which nothing is read after the deadline."""
        response = http.client.HTTPResponse(sock, **how)
        raw = response.fp.detach()
        response.fp = io.BufferedReader(_Timed(raw, sock, self._deadline))
        return response


class _Timed(io.RawIOBase):
    """What comes over a socket until a deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: Deadline) -> None:
        self._raw, self._sock, self._deadline = raw, sock, deadline

    def readable(self) -> bool:
        """It is read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """What has come, if anything comes in time."""
        self._sock.settimeout(self._deadline.left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """End it."""
        self._raw.close()
        super().close()


class Endpoint:
    """Where tasks are posted.

    Args:
        url: http:// or https://.
        secret: signs each body; None for none.

    Raises:
        ConfigurationError: it is no such URL, or no secret.
    """

    def __init__(self, url: str, secret: str | None) -> None:
        parts = urlsplit(url)
        try:
            self._port = parts.port
        except ValueError:
            self._port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or self._port == -1:
            raise ConfigurationError(f"{url!r} is no URL of an endpoint: write it as https://host/path")
        self._host, self._secure = parts.hostname, parts.scheme == "https"
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._key = _key(secret)
        self._tls = ssl.create_default_context() if self._secure else None

    def headers(self, identity: str, body: bytes) -> dict[str, str]:
        """Those of Standard Webhooks: an id, which is the same for each attempt, the time, and a signature of both and of the
        body."""
        moment = str(round(now()))
        found = {"content-type": "application/json", "webhook-id": identity, "webhook-timestamp": moment}
        if self._key is not None:
            signed = hmac.new(self._key, f"{identity}.{moment}.".encode() + body, hashlib.sha256).digest()
            found["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
        return found

    def post(self, identity: str, body: bytes, seconds: float, trace: Mapping[str, str]) -> Answer:
        """Post a body with the headers of a trace, and read the answer, in so many seconds. It blocks."""
        connection = _Connection(self._host, self._port, self._tls, Deadline(seconds))
        try:
            connection.request("POST", self._path, body, {**self.headers(identity, body), **trace})
            found = connection.getresponse()
            text = found.read(_LONGEST + 1)
            return Answer(found.status, found.headers.get_content_type(), text, _seconds(found.headers.get("retry-after")))
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, body=f"{type(error).__name__}: {error}".encode())
        finally:
            connection.close()


def _key(secret: str | None) -> bytes | None:
    if secret is None:
        return None
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True) if secret.startswith(_PREFIX) else secret.encode()
    except ValueError:
        raise ConfigurationError(f"what follows {_PREFIX} in a secret is base64") from None
    if len(key) < 16:
        raise ConfigurationError("a secret has 16 bytes at least")
    return key


def _seconds(text: str | None) -> float | None:
    return min(float(text), _LATER) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else None


def ending_of(answer: Answer) -> Ending:
    """What becomes of a task after this answer."""
    said = answer.body[:_SHOWN].decode(errors="replace")
    if 200 <= answer.status < 300:
        return _success(answer)
    if answer.status == 0 or answer.status in _AGAIN:
        kind = "http.Unreachable" if answer.status == 0 else f"http.Status{answer.status}"
        return Retry(f"the endpoint answered {answer.status}" if answer.status else said, kind, said, answer.after)
    return Bury(f"the endpoint answered {answer.status}, which says that another attempt would not help\n{said}")


def _success(answer: Answer) -> Ending:
    if not answer.body or answer.kind != "application/json":
        return Succeed()
    if len(answer.body) > _LONGEST:
        return Bury(f"the endpoint answered with more than {_LONGEST:,} bytes")
    try:
        return Succeed(parse(answer.body))
    except NotJSON as error:
        return Bury(f"the endpoint answered {answer.status} with a body that is no JSON: {error}")


class WebhookWorker:
    """Posts the tasks of a queue.

    Args:
        url: where Redis is.
        queue: from where.
        endpoint: to where.
        concurrency: how many at once.
        seconds: for one request, if the task does not say.
    """

    def __init__(self, url: str, queue: str, endpoint: Endpoint, *, concurrency: int = 10, seconds: float = 60) -> None:
        self._url, self._queue, self._endpoint = url, queue, endpoint
        self._concurrency, self._seconds = concurrency, seconds
        self._threads = ThreadPoolExecutor(concurrency, "delayed-webhook")
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Work until SIGTERM, SIGINT or SIGHUP; what has been posted is waited for."""
        loop, links = asyncio.get_running_loop(), Links(self._url)
        consumer, manager = Consumer(links), ServiceManager()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop, manager)
        logger.info("Posting the tasks of %s, %s at once", self._queue, self._concurrency)
        manager.ready("posting tasks")
        running: set[asyncio.Task[None]] = set()
        while not self._stopping.is_set():
            for lease in await self._taken(consumer, self._concurrency - len(running)):
                running.add(asyncio.create_task(self._work(consumer, lease)))
            if len(running) == self._concurrency:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            running = {task for task in running if not task.done()}
        if running:
            logger.info("Waiting for %s", counted(len(running), "answer"))
            await asyncio.wait(running)
        await consumer.close()
        await links.aclose()

    def _stop(self, manager: ServiceManager) -> None:
        self._stopping.set()
        manager.stopping("waiting for answers")

    async def _taken(self, consumer: Consumer, most: int) -> list[Lease]:
        """Tasks; none if it is time to stop."""
        taking = asyncio.ensure_future(consumer.take(self._queue, min(most, 100), _WAIT, _TTL))
        stopping = asyncio.ensure_future(self._stopping.wait())
        both: list[asyncio.Future[Any]] = [taking, stopping]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        try:
            if self._stopping.is_set():
                taking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await consumer.give_back(await taking)
                return []
            return await taking
        except RedisError as error:
            logger.warning("Redis cannot be asked for tasks: %s", error)
            await asyncio.sleep(1)
            return []

    async def _work(self, consumer: Consumer, lease: Lease) -> None:
        """Post one task, and end it."""
        body = write(_body(lease))
        seconds = milliseconds_in(lease.headers, "timeout") / 1000 or self._seconds
        beat = asyncio.create_task(_beat(consumer, lease))
        try:
            loop = asyncio.get_running_loop()
            about = (_identity(lease), body, seconds, trace_of(lease))
            answer = await loop.run_in_executor(self._threads, self._endpoint.post, *about)
            await consumer.end(lease.token, ending_of(answer))
        except LeaseLost:
            logger.error("The lease of %s was lost while it was posted: somebody else has the task", lease.path)
        except RedisError as error:
            logger.error("The end of %s could not be said; it will be posted again: %s", lease.path, error)
        finally:
            beat.cancel()


async def _beat(consumer: Consumer, lease: Lease) -> None:
    while True:
        await asyncio.sleep(_TTL / 3)
        with contextlib.suppress(RedisError):
            try:
                await consumer.extend(lease.token, _TTL)
            except LeaseLost:
                return


def _identity(lease: Lease) -> str:
    """The same for each attempt of a task; of one without an id, for each whose bytes are the same."""
    return lease.id or hashlib.sha256(lease.data).hexdigest()[:32]


def _body(lease: Lease) -> Mapping[str, Any]:
    """A task as the endpoint sees it: it has no need of the token, as its answer ends the task."""
    return {name: value for name, value in lease_shown(lease).items() if name not in ("token", "deadline")}
