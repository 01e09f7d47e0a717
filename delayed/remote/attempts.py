"""Where a server is, and whether a request is sent to it again."""

import random
import ssl
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import urlsplit

from ..base.clock import monotonic
from ..errors import ConfigurationError
from .asks import Answer, Ask
from .errors import ServerAway

_FIRST, _LONGEST = 0.05, 1.0  # seconds of a pause
_KEPT = 300  # seconds, at least: a server that was stopped for a while may carry out what it had got before
_PORTS = {"http": 80, "https": 443}
_AGAIN = (429, 502, 503, 504)  # statuses that may be over in a moment
_UNSURE = "the request may or may not have been carried out"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is, and how it is spoken to.

    Args:
        host, port: where.
        path: what the paths of all requests begin with.
        tls: for connections by TLS; None for others.
        token: shown with each request.
        timeout: seconds that it may take for something.
        patience: seconds for which what has failed is tried again.
    """

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None
    token: str | None = field(repr=False)
    timeout: float
    patience: float

    @classmethod
    def of(cls, url: str, token: str | None, *, tls: ssl.SSLContext | None, timeout: float, patience: float) -> "Place":
        """At a URL.

        Raises:
            ConfigurationError: it is none of a server, or a number cannot work.
        """
        wrong = f"the URL of a server is such as https://tasks.example.com or http://127.0.0.1:7677, not {url!r:.200}"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ConfigurationError(wrong) from None
        if parts.scheme not in _PORTS or not host or parts.query or parts.fragment or parts.username or parts.password:
            raise ConfigurationError(wrong)
        if tls is not None and parts.scheme == "http":
            raise ConfigurationError(f"{url!r:.200} is no URL for TLS: it would begin with https://")
        if token is not None and not (token and token.isascii() and token.isprintable()):
            raise ConfigurationError("a token is what `delayed token create` has printed")
        if not timeout > 0 or not 0 <= patience <= 300:
            raise ConfigurationError(
                f"timeout is seconds above 0, and patience seconds up to 300, not {timeout} and {patience}"
            )
        if parts.scheme == "https":
            tls = tls or ssl.create_default_context()
        return cls(host, port or _PORTS[parts.scheme], parts.path.rstrip("/"), tls, token, timeout, patience)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}{self.path}"

    @property
    def keep(self) -> int:
        """Seconds for which the server shall know a request again: longer than it can be on its way."""
        return max(_KEPT, round(2 * (self.patience + self.timeout)))

    def headers_of(self, ask: Ask) -> dict[str, str]:
        """All headers of a request but those that HTTP itself needs."""
        found = {"accept": "application/json", "user-agent": "delayed", **ask.headers}
        if self.token is not None:
            found["authorization"] = f"Bearer {self.token}"
        return found


class Attempts:
    """The attempts to get a request answered.

    Args:
        place: where it goes.
        ask: the request.
    """

    def __init__(self, place: Place, ask: Ask) -> None:
        self._place, self._ask = place, ask
        self._deadline = monotonic() + (place.patience if ask.patience is None else min(place.patience, ask.patience))
        self._pause = _FIRST
        self._sent = False  # one of them may have been carried out

    def failed(self, error: Exception, *, sent: bool, kept: bool) -> float:
        """No answer came. Returns the seconds until the next attempt.

        Args:
            error: why.
            sent: whether the request, or a part of it, was sent.
            kept: whether that was over a connection that was kept: it has ended with that.

        Raises:
            ServerAway: there is none.
        """
        self._sent = self._sent or sent
        if sent and not self._ask.repeatable:
            self._give_up(error)
        if kept:
            return 0.0
        if self._is_over:
            self._give_up(error)
        return self._next()

    def answered(self, answer: Answer) -> float | None:
        """An answer came. Returns the seconds until the next attempt; None if this is the answer."""
        if answer.status not in _AGAIN or self._is_over:
            return None
        code = str(answer.says.get("code", ""))
        if code in ("not-durable", "redis-refuses"):
            return None
        nothing_done = answer.status == 429 or (answer.status == 503 and not code)  # nobody was there to do it
        if not nothing_done and not self._ask.repeatable:
            return None
        wanted = answer.headers.get("retry-after", "")
        return min(max(self._next(), float(wanted) if wanted.isdecimal() else 0.0), max(0.0, self._deadline - monotonic()))

    @property
    def _is_over(self) -> bool:
        return monotonic() >= self._deadline

    def _next(self) -> float:
        self._pause = min(2 * self._pause, _LONGEST)
        return random.uniform(self._pause / 2, self._pause)

    def _give_up(self, error: Exception) -> NoReturn:
        why = str(error) or type(error).__name__
        away = ServerAway(f"no answer from {self._place}: {why}")
        away.add_note(_UNSURE if self._sent else "nothing was sent")
        raise away from error
