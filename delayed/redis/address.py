"""Parses the URL of a Redis server: one grammar for Python and Go, with tests/vectors/addresses.json for both.

Nothing that is raised here shows a password: neither the message nor what it is chained to. So the URL is read by hand, as
libraries quote what they could not read.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote_to_bytes

from ..errors import ConfigurationError

SERVER, UNIX, SENTINEL, CLUSTER = "server", "unix", "sentinel", "cluster"


class _Scheme(NamedTuple):
    kind: str
    tls: bool
    port: int


_SCHEMES = {
    "redis": _Scheme(SERVER, False, 6379),
    "rediss": _Scheme(SERVER, True, 6379),
    "unix": _Scheme(UNIX, False, 0),
    "redis+sentinel": _Scheme(SENTINEL, False, 26379),
    "rediss+sentinel": _Scheme(SENTINEL, True, 26379),
    "redis+cluster": _Scheme(CLUSTER, False, 6379),
    "rediss+cluster": _Scheme(CLUSTER, True, 6379),
}
_EXAMPLES = (
    "write for example redis://localhost:6379/0, rediss://host, unix:///run/redis.sock, "
    "redis+sentinel://host1,host2/mymaster or redis+cluster://host"
)
_ESCAPES = "`#`, `/`, `?`, `@` and `%` in a user, a password or a value are written %23, %2F, %3F, %40 and %25"
_NAME = re.compile(r"""[^\x00-\x20\x7f"'<>\\^`{|}\[\]/?#@%:,]+""")
_SHOWN = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
_DIGITS = re.compile(r"\d{1,9}", re.ASCII)
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_YES, _NO = ("1", "t", "true", "y", "yes", "on"), ("0", "f", "false", "n", "no", "off")


class _Wrong(Exception):
    """Why a URL is none of ours; it quotes nothing that might be a password."""


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL.

    Args:
        kind: `server`, `unix`, `sentinel` or `cluster`.
        tls: whether all connections are encrypted.
        hosts: names (or IP addresses) and ports, of the sentinels or of some nodes of a cluster, too.
        path: of a Unix socket.
        service: what Sentinel calls the primary.
        db: the number of the database.
        username, password: for Redis.
        options: the rest, under redis-py's names, as numbers where they are numbers.
    """

    kind: str
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    path: str | None
    service: str | None
    db: int
    username: str | None
    password: str | None = field(repr=False)
    options: dict[str, Any] = field(repr=False)


def read(url: str) -> Address:
    """What `url` says.

    Raises:
        ConfigurationError: it does not say where Redis is. No password is shown, and no other error stands behind it.
    """
    try:
        return _read(url)
    except _Wrong as wrong:
        reason = str(wrong)
    raise ConfigurationError(f"{shown(url)} does not say where Redis is: {reason}; {_EXAMPLES}")


def shown(url: str) -> str:
    """As much of a URL that may be wrong anywhere as cannot be a password."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in _SCHEMES:
        return "the address of Redis"
    hidden, at, tail = rest.rpartition("@")
    hosts = re.split("[/?#]", tail, maxsplit=1)[0].split(",")
    if not hidden and not at:  # what looks like a port may be a password whose host was forgotten
        hosts = [host if host.startswith("[") else host.partition(":")[0] for host in hosts]
    where = ",".join(hosts) if all(map(_SHOWN.fullmatch, hosts)) else "…"
    return f"{scheme}://{'***@' if at else ''}{where}"


def _read(url: str) -> Address:
    scheme, _, rest = url.partition("://")
    how = _SCHEMES.get(scheme.lower())
    if url[:1] in ("'", '"'):
        _wrong("there are quotes around it")
    if how is None or "://" not in url:
        _wrong(f"it does not begin with {', '.join(f'{name}://' for name in _SCHEMES)}")
    if any(char <= " " or char == "\x7f" for char in url):
        _wrong("there is a space or a line break in it")
    end = min((place for char in "/?" if (place := rest.find(char)) >= 0), default=len(rest))
    authority, (path, _, query) = rest[:end], rest[end:].partition("?")
    if "#" in url or "@" in query or ("@" in path and (how.kind != UNIX or authority)):
        _wrong(_ESCAPES)
    credentials, _, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    options = _options(query, how)
    db = options.pop("db", None)
    service, socket, number = _path(path, how.kind)
    if db is not None and number is not None and db != number:
        _wrong("it names two databases")
    chosen = db if db is not None else number or 0
    if how.kind == CLUSTER and chosen:
        _wrong("a cluster has one database, 0")
    who = _once(options, "username", _decoded(user))
    secret = _once(options, "password", _decoded(password))
    if who and not secret:
        _wrong("a user has a password: user:password@ (a password alone is written :password@)")
    return Address(how.kind, how.tls, _hosts(hosts, how), socket, service, chosen, who, secret, options)


def _wrong(reason: str) -> NoReturn:
    raise _Wrong(reason)


def _once(options: dict[str, Any], name: str, before_host: str) -> str | None:
    given: str = options.pop(name, "")
    if given and before_host:
        _wrong(f"it gives the {name} twice")
    return given or before_host or None


def _decoded(text: str) -> str:
    if _ESCAPE.search(text):
        _wrong(_ESCAPES)
    data = unquote_to_bytes(text)
    decoded = data.decode(errors="replace")
    if decoded.encode() != data or "\x00" in decoded:
        _wrong("what is written with % in it is not UTF-8")
    return decoded


def _hosts(text: str, how: _Scheme) -> tuple[tuple[str, int], ...]:
    if how.kind == UNIX:
        if text:
            _wrong("the path of a socket is absolute: unix:///path")
        return ()
    hosts = text.split(",")
    if how.kind == SERVER and len(hosts) > 1:
        _wrong("it names several hosts: redis+sentinel:// and redis+cluster:// have several")
    return tuple(_host(host, how) for host in hosts)


def _host(text: str, how: _Scheme) -> tuple[str, int]:
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        name = _decoded(inside)
        if not bracket or not _is_ipv6(name) or (rest and not rest.startswith(":")):
            _wrong("what stands in brackets is an IPv6 address: [::1] or [::1]:6379")
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
        if ":" in port:
            _wrong("an IPv6 address stands in brackets: [::1]")
        name = _decoded(host) or ("localhost" if how.kind == SERVER else "")
        if not _NAME.fullmatch(name):
            _wrong("one of its hosts is missing or no name")
    if port and not (_DIGITS.fullmatch(port) and 0 < int(port) < 65536):
        _wrong("a port is a number from 1 to 65535")
    return name, int(port or how.port)


def _is_ipv6(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).version == 6
    except ValueError:
        return False


def _path(path: str, kind: str) -> tuple[str | None, str | None, int | None]:
    """The service, the socket and the database that a path names."""
    if kind == UNIX:
        socket = _decoded(path)
        if len(socket) < 2:
            _wrong("it names no socket: unix:///path")
        return None, socket, None
    parts = path.removesuffix("/").split("/")[1:]
    service = None
    if kind == SENTINEL:
        if not parts or not parts[0]:
            _wrong("a Sentinel URL names its service after the hosts")
        service = _decoded(parts.pop(0))
    if len(parts) > 1:
        _wrong("nothing follows the number of the database")
    return service, None, _number(parts[0], "a database") if parts else None


def _number(text: str, what: str, least: int = 0) -> int:
    if not _DIGITS.fullmatch(text) or int(text) < least:
        _wrong(f"{what} is a whole number" + (f", at least {least}" if least else ""))
    return int(text)


def _options(query: str, how: _Scheme) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in filter(None, query.split("&")):
        name, equals, text = pair.partition("=")
        if name not in _OPTIONS:
            _wrong(_unknown(name, query))
        if not equals or not text:
            _wrong(f"{name} has no value")
        if name in found:
            _wrong(f"it gives {name} twice")
        if name.startswith("ssl_") and not how.tls:
            _wrong(f"{name} is for addresses that begin with rediss")
        if name.startswith("sentinel_") and how.kind != SENTINEL:
            _wrong(f"{name} is for redis+sentinel:// and rediss+sentinel://")
        found[name] = _OPTIONS[name](_decoded(text.replace("+", " ")), name)
    if found.get("sentinel_username") and not found.get("sentinel_password"):
        _wrong("sentinel_username needs sentinel_password")
    return found


def _unknown(name: str, query: str) -> str:
    if "password" in query or not re.fullmatch("[a-z_]{1,40}", name):  # it may be a piece of one
        return "it has an option that there is not"
    close = difflib.get_close_matches(name, _OPTIONS, 1)
    return f"there is no option {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")


def _text(text: str, _name: str) -> str:
    return text


def _flag(text: str, name: str) -> bool:
    if text.lower() not in _YES + _NO:
        _wrong(f"{name} is true or false")
    return text.lower() in _YES


def _seconds(text: str, name: str) -> float:
    if not _SECONDS.fullmatch(text) or not float(text) > 0:
        _wrong(f"{name} must be a number of seconds above 0")
    return float(text)


def _count(least: int) -> Callable[[str, str], int]:
    return lambda text, name: _number(text, name, least)


def _one_of(*words: str, number: bool = False) -> Callable[[str, str], Any]:
    def choose(text: str, name: str) -> Any:
        if text not in words:
            _wrong(f"{name} must be one of {', '.join(words)}")
        return int(text) if number else text

    return choose


_OPTIONS: dict[str, Callable[[str, str], Any]] = {
    "db": _count(0),
    "username": _text,
    "password": _text,
    "sentinel_username": _text,
    "sentinel_password": _text,
    "client_name": _text,
    "protocol": _one_of("2", "3", number=True),
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "socket_keepalive": _flag,
    "socket_read_size": _count(1),
    "health_check_interval": _count(0),
    "retry_on_timeout": _flag,
    "max_connections": _count(1),
    "timeout": _seconds,
    "decode_responses": _flag,
    "encoding": _text,
    "encoding_errors": _text,
    "ssl_ca_certs": _text,
    "ssl_ca_path": _text,
    "ssl_ca_data": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_password": _text,
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_check_hostname": _flag,
    "ssl_min_version": _one_of("771", "772", number=True),
    "ssl_ciphers": _text,
}
