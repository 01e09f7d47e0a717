"""Connects to Redis: makes a client for a URL, and connections that one thread owns."""

import contextlib
import inspect
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.backoff import NoBackoff
from redis.cluster import REDIS_ALLOWED_KEYS, ClusterNode
from redis.crc import key_slot
from redis.exceptions import ConnectionError, RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from ..base.loops import PerLoop
from ..errors import ConfigurationError
from .address import CLUSTER, SENTINEL, UNIX, Address, read
from .async_pool import Clients, Given, Room, node_of_async
from .command import NEEDS_PASSWORD, AsyncClient, Client, is_refused
from .pool import node_of
from .sentinels import AsyncSentinelPool, NewestAsyncSentinel, NewestSentinel, SentinelPool, place

DEADLINE = 4.0  # seconds that a reply may take, if nothing else is said; below the 5 in which work goes on
_SENTINEL = 1.0  # seconds that a sentinel may take to answer before the next one is asked
_MOST = 50  # connections of a client that we make, if nothing else is said
_PATIENCE = 20.0  # seconds that a command waits for one of them to be free, likewise
_NODES = 1 << 16  # connections that redis-py may open to a node of a cluster, as we count them ourselves
_OURS = ("max_connections", "timeout", "sentinel_username", "sentinel_password")  # options that no connection has
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_ca_path")


def connect(url: str) -> Client:
    """A client for `url`. Where all its connections are busy, a command waits for one.

    Args:
        url: `redis://[[user]:password@]host[:port][/db]`, `rediss://…` (TLS), `unix://[…@]/path.sock[?db=0]`;
            `redis+sentinel://[…@]host[:port][,host[:port]…]/service[/db]` for the primary that Sentinel names;
            `redis+cluster://[…@]host[:port][,host[:port]…]` for some nodes of a cluster (both with `rediss+` for TLS). Each
            with options as query, mostly redis-py's, such as `?socket_timeout=3`; see docs/operations.md.

    Raises:
        ConfigurationError: the URL is none of these.
    """
    address = read(url)
    most, patience = _limits(address)
    options = _options(address, redis.SSLConnection if address.tls else redis.Connection)
    if address.kind == CLUSTER:
        return _cluster(address, options, partial(redis.BlockingConnectionPool, timeout=patience), most)
    pool_options: dict[str, Any] = {"max_connections": most, "timeout": patience}
    if address.kind == SENTINEL:
        of_sentinels = _of_sentinels(address, options, Retry(NoBackoff(), 0))
        return cast(Client, _primary(address, NewestSentinel, of_sentinels, SentinelPool, options | pool_options))
    kind = (
        redis.UnixDomainSocketConnection if address.kind == UNIX else redis.SSLConnection if address.tls else redis.Connection
    )
    pool = redis.BlockingConnectionPool(connection_class=kind, **pool_options, **_where(address), **options)
    return cast(Client, redis.Redis.from_pool(pool))


def connect_async(url: str) -> AsyncClient:
    """As `connect`, for asyncio, in one event loop."""
    address = read(url)
    most, patience = _limits(address)
    options = _options(address, redis.asyncio.SSLConnection if address.tls else redis.asyncio.Connection)
    if address.kind == CLUSTER:
        return _cluster_async(address, options)
    pool_options: dict[str, Any] = {"max_connections": most, "timeout": patience}
    if address.kind == SENTINEL:
        of_sentinels = _of_sentinels(address, options, redis.asyncio.retry.Retry(NoBackoff(), 0))
        primary = _primary(address, NewestAsyncSentinel, of_sentinels, AsyncSentinelPool, options | pool_options)
        return cast(AsyncClient, primary)
    plain = redis.asyncio.SSLConnection if address.tls else redis.asyncio.Connection
    kind = redis.asyncio.UnixDomainSocketConnection if address.kind == UNIX else plain
    pool = redis.asyncio.BlockingConnectionPool(connection_class=kind, **pool_options, **_where(address), **options)
    return redis.asyncio.Redis.from_pool(pool)


def clients_for(conn: AsyncClient | str) -> tuple[AsyncClient, Clients]:
    """A client, and what gives the one of each event loop: for a URL each has its own, and a client that was given has one."""
    if not isinstance(conn, str):
        return conn, Given(conn)
    limits = _limits(read(conn))
    first = [connect_async(conn)]  # whose loop is not known yet

    def make() -> tuple[AsyncClient, Room | None]:
        return first.pop() if first else connect_async(conn), Room(*limits)

    return first[0], PerLoop(make, lambda made: close_async(made[0]), lambda made: _abandon_all(made[0]))


async def close_async(client: AsyncClient) -> None:
    """Close all connections of a client that `connect_async` has made, those to sentinels too."""
    await client.aclose()
    for sentinel in _sentinels(client):
        await sentinel.aclose()


def _sentinels(client: object) -> list[Any]:
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return list(manager.sentinels) if manager is not None else []


def _abandon_all(client: Any) -> None:
    """Let go of the connections of a client whose loop is closed."""
    nodes = getattr(client, "nodes_manager", None)
    if nodes is not None:
        client._initialize = False  # else it complains when it is collected
        pools = [node._connections for node in nodes.nodes_cache.values()]
    else:
        clients = [client, *_sentinels(client)]
        pools = [[*each.connection_pool._available_connections, *each.connection_pool._in_use_connections] for each in clients]
    for connections in pools:
        for connection in connections:
            abandon(connection)


def abandon(connection: Any) -> None:
    """Close the socket of a connection of redis.asyncio whose loop is closed, so that nothing can be awaited. (asyncio has no
    public way.)"""
    writer, connection._writer, connection._reader = connection._writer, None, None
    transport: Any = writer.transport if writer is not None else None
    beneath: Any = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    if beneath is not None:
        transport._closed = True  # as it would have been, had it been closed
    for each in (transport, beneath):
        with contextlib.suppress(Exception):
            each.abort()  # which counts as closed from then on, and cannot ask its loop for the rest
        with contextlib.suppress(Exception):
            each._call_connection_lost(None)


def _limits(address: Address) -> tuple[int, float]:
    """How many connections there may be, and how many seconds a command waits for one."""
    return address.options.get("max_connections", _MOST), address.options.get("timeout", _PATIENCE)


def _where(address: Address) -> dict[str, Any]:
    if address.kind == UNIX:
        return {"path": address.path}
    ((host, port),) = address.hosts
    return {"host": host, "port": port}


def _options(address: Address, kind: type[Any]) -> dict[str, Any]:
    """What each connection to Redis gets, apart from where it is; `kind` is a class of redis-py that shall know it."""
    found = {name: value for name, value in address.options.items() if name not in _OURS}
    if address.kind != CLUSTER:
        found["db"] = address.db
    if address.username or address.password:
        found.update(username=address.username, password=address.password)
    if address.tls:
        found.setdefault("ssl_check_hostname", found.get("ssl_cert_reqs") != "none")  # not all versions of redis-py do it
        if "ssl_min_version" in found:
            found["ssl_min_version"] = ssl.TLSVersion(found["ssl_min_version"])
        _check_tls(found)
    inits: list[Any] = [vars(each)["__init__"] for each in kind.__mro__ if "__init__" in vars(each)]
    known = {name for init in inits if init is not object.__init__ for name in inspect.signature(init).parameters}
    _see_that_all_are_known(found, known)
    return found


def _see_that_all_are_known(options: dict[str, Any], known: set[str]) -> None:
    unknown = options.keys() - known
    if unknown:
        raise ConfigurationError(
            f"redis-py {redis.__version__} does not know {', '.join(sorted(unknown))} here: leave it out, or upgrade redis-py"
        )


def _check_tls(options: dict[str, Any]) -> None:
    """See now that certificates and keys can be used: later each connection would fail, again and again."""
    for name in _FILES:
        path = options.get(name)
        if path is not None and not (Path(path).exists() and os.access(path, os.R_OK)):
            raise ConfigurationError(f"{name} in the URL of Redis: {path!r} is not there, or not ours to read")
    certificates, key = options.get("ssl_certfile"), options.get("ssl_keyfile")
    problem = "ssl_keyfile needs ssl_certfile" if key and not certificates else ""
    try:
        context = ssl.create_default_context()
        if any(options.get(name) for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data")):
            context.load_verify_locations(*(options.get(name) for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data")))
        if certificates:
            context.load_cert_chain(certificates, key, options.get("ssl_password") or "")  # without one OpenSSL would ask
        if "ssl_ciphers" in options:
            context.set_ciphers(options["ssl_ciphers"])
    except (OSError, ValueError) as error:
        problem = problem or str(error)
    if problem:
        raise ConfigurationError(f"the ssl_… options in the URL of Redis cannot be used: {problem}")


def _of_sentinels(address: Address, options: dict[str, Any], never_again: object) -> dict[str, Any]:
    """What each connection to a sentinel gets; there are others to ask."""
    found = {name: value for name, value in options.items() if name.startswith("ssl_")}
    found.update(ssl=address.tls, socket_timeout=_SENTINEL, socket_connect_timeout=_SENTINEL, retry=never_again)
    names = {"username": "sentinel_username", "password": "sentinel_password"}
    return found | {name: address.options[given] for name, given in names.items() if given in address.options}


def _primary(address: Address, kind: Any, of_sentinels: dict[str, Any], pool: type[Any], options: dict[str, Any]) -> Any:
    sentinels = kind(address.hosts, sentinel_kwargs=of_sentinels)
    return sentinels.master_for(address.service, connection_pool_class=pool, ssl=address.tls, **options)


def _cluster(address: Address, options: dict[str, Any], pool: Any, most: int) -> Client:
    found = {name: value for name, value in options.items() if name in REDIS_ALLOWED_KEYS or name.startswith("ssl_")}
    _see_that_all_are_known(found, set(REDIS_ALLOWED_KEYS))
    (host, port), *others = address.hosts
    name = host.replace("%", "%25")
    url = f"redis{'s' * address.tls}://{f'[{name}]' if ':' in name else name}:{port}"  # only with one it takes a pool's class
    nodes = [ClusterNode(*each) for each in others]
    try:
        return redis.RedisCluster(url=url, startup_nodes=nodes, connection_pool_class=pool, max_connections=most, **found)
    except RedisClusterException as error:  # which is no RedisError
        reason = str(error)
    if is_refused(ConnectionError(reason)):
        raise ConfigurationError(
            f"the cluster does not let us in: {reason.rstrip('.')}; correct the user or the password in the URL"
        )
    raise ConnectionError(reason)


def _cluster_async(address: Address, options: dict[str, Any]) -> AsyncClient:
    known = set(inspect.signature(redis.asyncio.RedisCluster.__init__).parameters)
    found = {name: value for name, value in options.items() if name in known or name.startswith("ssl_")}
    _see_that_all_are_known(found, known)
    nodes = [AsyncClusterNode(*each) for each in address.hosts]
    return redis.asyncio.RedisCluster(startup_nodes=nodes, ssl=address.tls, max_connections=_NODES, **found)


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


def async_clients_of(conn: object) -> tuple[AsyncClient, Clients]:
    """As `client_of`, for an `AsyncQueue`: as `clients_for`."""
    if isinstance(conn, str | AsyncClient):
        return clients_for(conn)
    hint = "; for that client there is Queue" if isinstance(conn, Client) else ""
    raise ConfigurationError(
        f"an AsyncQueue needs a redis.asyncio.Redis, a redis.asyncio.RedisCluster or a URL, not {_shown(conn)}{hint}"
    )


def _shown(conn: object) -> str:
    kind = type(conn)
    return "None" if conn is None else f"a {kind.__module__}.{kind.__qualname__}"


def address(client: Client | AsyncClient) -> str:
    """Where `client` looks for Redis, as a URL without password."""
    if isinstance(client, redis.RedisCluster | redis.asyncio.RedisCluster):
        nodes = client.nodes_manager.startup_nodes.values()
        return f"redis+cluster://{','.join(sorted(str(node.name) for node in nodes))}"
    pool: Any = client.connection_pool
    options: dict[str, Any] = pool.connection_kwargs
    user = f"{options['username']}@" if options.get("username") else ""
    db = options.get("db") or 0
    secure = "s" * issubclass(pool.connection_class, redis.SSLConnection | redis.asyncio.SSLConnection)
    if isinstance(pool, SentinelConnectionPool | redis.asyncio.sentinel.SentinelConnectionPool):
        hosts = ",".join(place(each) for each in pool.sentinel_manager.sentinels)
        return f"redis{secure}+sentinel://{user}{hosts}/{pool.service_name}/{db}"
    if "path" in options:
        return f"unix://{user}{options['path']}?db={db}"
    return f"redis{secure}://{user}{place(client)}/{db}"


def check_access(client: Client) -> None:
    """Ask the server once whether it lets us in. One that cannot be asked now may be up later: that is no error.

    Raises:
        ConfigurationError: it does not know our user or password, or has no database of this number; or a sentinel does not
            let us in, and none names the primary.
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
        if is_refused(error):
            raise ConfigurationError(refusal(client, error)) from error


def refusal(client: Client | AsyncClient, error: Exception) -> str:
    """What to say if the server does not let us in: which one, and never the password."""
    says = str(error).rstrip(".")
    says = "Authentication required" if any(each in says for each in NEEDS_PASSWORD) else says
    return f"{address(client)} does not let us in: {says}; correct the user, the password or the database in the URL"


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
    return pool.connection_class(**_own_options(pool.connection_kwargs, deadline, Retry(NoBackoff(), 0)))


async def dedicated_async(client: AsyncClient, key: bytes, deadline: float) -> Any:
    """As `dedicated`, for asyncio, and connected."""
    server: Any
    if isinstance(client, redis.asyncio.RedisCluster):
        server = await node_of_async(client, key_slot(key))
    else:
        server = client.connection_pool
    options = _own_options(server.connection_kwargs, deadline, redis.asyncio.retry.Retry(NoBackoff(), 0))
    connection = server.connection_class(**options)
    try:
        with closed_is_lost():
            await connection.connect()
    except BaseException:
        with contextlib.suppress(Exception):
            await connection.disconnect(nowait=True)
        raise
    return connection


@contextlib.contextmanager
def closed_is_lost() -> Iterator[None]:
    """Around the use of a dedicated connection: uvloop has an error of its own for one that has been closed meanwhile."""
    try:
        yield
    except RuntimeError as error:
        if "is closed" not in str(error):
            raise
        raise ConnectionError(str(error)) from error


def _own_options(given: dict[str, Any], deadline: float, never_again: object) -> dict[str, Any]:
    options = {name: value for name, value in given.items() if not name.startswith(("maint_", "orig_", "himport", "oss_"))}
    options.update(
        socket_timeout=deadline,
        socket_connect_timeout=deadline,
        retry=never_again,
        retry_on_error=[],
        decode_responses=False,
        health_check_interval=0,
        protocol=2,
    )
    return options


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
