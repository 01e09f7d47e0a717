"""How to reach Redis: a client for a URL, and a connection that one thread has to itself."""

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AuthenticationError, BusyLoadingError, ConnectionError, RedisError, ResponseError, TimeoutError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from .connection import AsyncClient, Client, node_of
from .errors import ConfigurationError

DEADLINE = 4.0  # seconds that a reply may take, if nothing else is said; below the 5 in which work goes on
_SENTINEL = 1.0  # seconds that a sentinel may take to answer before the next one is asked


def connect(url: str) -> Client:
    """A client for `url`.

    Args:
        url: `redis://[[user]:password@]host[:port][/db]`, `rediss://…` (TLS), `unix://[…@]/path.sock[?db=0]`, each with
            redis-py's options as query; `redis+sentinel://[[user]:password@]host[:port][,host[:port]…]/service[/db]` for
            the master that Sentinel names; `redis+cluster://…` (or `rediss+cluster://…`) for any node of a cluster.

    Raises:
        ConfigurationError: the URL is none of these.
    """
    return cast(Client, _connected(url, redis, _through_sentinel))


def connect_async(url: str) -> AsyncClient:
    """As `connect`, for asyncio."""
    return cast(AsyncClient, _connected(url, redis.asyncio, _through_sentinel_async))


async def close_async(client: AsyncClient) -> None:
    """Close all connections of a client that `connect_async` has made, those to sentinels too."""
    await client.aclose()
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in manager.sentinels if manager is not None else ():
        await sentinel.aclose()


def _connected(url: str, kind: Any, through_sentinel: Callable[[str], Any]) -> Any:
    """A client of one `kind`, which is a module of redis-py."""
    scheme, _, rest = url.partition("://")
    try:
        if scheme in ("redis+cluster", "rediss+cluster"):
            return kind.RedisCluster.from_url(f"{scheme.removesuffix('+cluster')}://{rest}")
        if scheme == "redis+sentinel":
            return through_sentinel(url)
        return kind.Redis.from_url(url)
    except ValueError as error:
        raise ConfigurationError(
            f"{url!r} does not say where Redis is ({error}); write for example redis://localhost:6379/0, rediss://host, "
            f"unix:///run/redis.sock, redis+sentinel://host1,host2/mymaster or redis+cluster://host"
        ) from error


def client_of(conn: object) -> Client:
    """The client that a `Queue` is given, or one for the URL that it is given.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(conn, str):
        return connect(conn)
    if isinstance(conn, Client):
        return conn
    hint = "; for that client there is AsyncQueue" if isinstance(conn, AsyncClient) else ""
    raise ConfigurationError(f"a Queue needs a redis.Redis, a redis.RedisCluster or a URL, not {_shown(conn)}{hint}")


def async_client_of(conn: object) -> AsyncClient:
    """As `client_of`, for an `AsyncQueue`."""
    if isinstance(conn, str):
        return connect_async(conn)
    if isinstance(conn, AsyncClient):
        return conn
    hint = "; for that client there is Queue" if isinstance(conn, Client) else ""
    raise ConfigurationError(
        f"an AsyncQueue needs a redis.asyncio.Redis, a redis.asyncio.RedisCluster or a URL, not {_shown(conn)}{hint}"
    )


def _shown(conn: object) -> str:
    kind = type(conn)
    return "None" if conn is None else f"a {kind.__module__}.{kind.__qualname__}"


def address(client: Client) -> str:
    """Where `client` looks for Redis, as a URL without password."""
    if isinstance(client, redis.RedisCluster):
        nodes = client.nodes_manager.startup_nodes.values()
        return f"redis+cluster://{','.join(sorted(str(node.name) for node in nodes))}"
    pool: Any = client.connection_pool
    options: dict[str, Any] = pool.connection_kwargs
    user = f"{options['username']}@" if options.get("username") else ""
    db = options.get("db") or 0
    if isinstance(pool, SentinelConnectionPool):
        sentinels = [each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels]
        hosts = ",".join(f"{each['host']}:{each['port']}" for each in sentinels)
        return f"redis+sentinel://{user}{hosts}/{pool.service_name}/{db}"
    if "path" in options:
        return f"unix://{user}{options['path']}?db={db}"
    scheme = "rediss" if issubclass(pool.connection_class, redis.SSLConnection) else "redis"
    return f"{scheme}://{user}{options.get('host', 'localhost')}:{options.get('port', 6379)}/{db}"


def check_access(client: Client) -> None:
    """Ask the server once whether it lets us in. One that cannot be asked now may be up later: that is no error.

    Raises:
        ConfigurationError: it does not know our user or password, or has no database of this number.
    """
    try:
        connection = dedicated(client, b"", DEADLINE)
        try:
            connection.connect()
            connection.send_command("PING")
            connection.read_response()
        finally:
            connection.disconnect()
    except (RedisError, OSError, UnicodeError) as error:
        if _is_refused(error):
            raise ConfigurationError(
                f"{address(client)} does not let us in: {str(error).rstrip('.')}; correct the user, the password or the "
                f"database in the URL"
            ) from error


def _is_refused(error: Exception) -> bool:
    """Whether it would be refused again."""
    if isinstance(error, BusyLoadingError):
        return False
    return isinstance(error, AuthenticationError) or (
        isinstance(error, ResponseError | ConnectionError)
        and any(word in str(error) for word in ("WRONGPASS", "NOAUTH", "invalid password", "DB index", "Invalid Database"))
    )


class NewestSentinel(Sentinel):
    """Asks all sentinels, and believes the one that has heard of the latest failover: one that has not would send us to the
    old primary for as long as it is behind, again and again."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """The address of the primary."""
        states = []
        sentinels: list[Any] = self.sentinels
        for sentinel in sentinels:
            with contextlib.suppress(ConnectionError, TimeoutError):
                states.append(sentinel.sentinel_masters().get(service_name))
        return _newest(states, self.check_master_state, service_name)


class NewestAsyncSentinel(redis.asyncio.sentinel.Sentinel):
    """As `NewestSentinel`, for asyncio."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """The address of the primary."""
        states = []
        sentinels: list[Any] = self.sentinels
        for sentinel in sentinels:
            with contextlib.suppress(ConnectionError, TimeoutError):
                states.append((await sentinel.sentinel_masters()).get(service_name))
        return _newest(states, self.check_master_state, service_name)


def _newest(states: list[Any], is_up: Any, service: str) -> tuple[str, int]:
    """What the sentinel says that has heard of the latest failover."""
    known = [state for state in states if state and is_up(state, service)]
    if not known:
        raise MasterNotFoundError(f"no sentinel knows a primary of {service!r} that is up")
    newest = max(known, key=lambda state: int(state["config-epoch"]))
    return newest["ip"], newest["port"]


def _through_sentinel(url: str) -> redis.Redis:
    return cast(redis.Redis, _master(url, NewestSentinel, Retry(NoBackoff(), 0)))


def _through_sentinel_async(url: str) -> redis.asyncio.Redis:
    return cast(redis.asyncio.Redis, _master(url, NewestAsyncSentinel, redis.asyncio.retry.Retry(NoBackoff(), 0)))


def _master(url: str, kind: Any, never_again: object) -> Any:
    """A client for the primary; `never_again` is the retry policy for the sentinels, of which there are others to ask."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("a Sentinel URL names its service after the hosts")
    sentinels = []
    for host in hosts.split(","):
        name, _, port = host.partition(":")
        sentinels.append((name, int(port or 26379)))
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    if credentials:
        options.update(username=unquote(user) or None, password=unquote(password) or None)
    impatient = {"socket_timeout": _SENTINEL, "socket_connect_timeout": _SENTINEL, "retry": never_again}
    return kind(sentinels, sentinel_kwargs=impatient).master_for(service, db=int(db or 0), **options)


def dedicated(client: Client, key: bytes, deadline: float) -> Any:
    """A connection of redis-py that belongs to no pool, not connected yet, that never repeats a command."""
    if isinstance(client, redis.RedisCluster):
        slot = key_slot(key)
        try:
            node = node_of(client, slot, fresh=True)
        except RedisError:  # the old table is better than none
            node = node_of(client, slot, fresh=False)
        client = client.get_redis_connection(node)
    pool = client.connection_pool
    options = {
        name: value for name, value in pool.connection_kwargs.items() if not name.startswith(("maint_", "orig_", "himport"))
    }
    options.update(
        socket_timeout=deadline,
        socket_connect_timeout=deadline,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        decode_responses=False,
        health_check_interval=0,
        protocol=2,
    )
    return pool.connection_class(**options)


def let_the_kernel_watch(sock: socket.socket, deadline: float) -> None:
    """Let each send and each receive fail after `deadline` seconds, and notice a peer that is gone. (With a time-out of
    Python's own each would cost one more system call.)"""
    if not isinstance(sock, ssl.SSLSocket):
        seconds, microseconds = divmod(round(deadline * 1_000_000), 1_000_000)
        timeval = struct.pack("@ll", seconds, microseconds)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, timeval)
        sock.settimeout(None)
    _watch_the_peer(sock)


def _watch_the_peer(sock: socket.socket) -> None:
    """Notice a host that is gone without a word also while a blocking pop may take minutes."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", DEADLINE * 1000)):
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, int(value))
