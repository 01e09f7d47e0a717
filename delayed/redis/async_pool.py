"""Sends commands through the pool of the running event loop's client: `pool` for redis-py's asyncio clients."""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import redis.asyncio
from redis.asyncio.cluster import PipelineCommand
from redis.crc import key_slot
from redis.exceptions import (
    ConnectionError,
    MaxConnectionsError,
    MovedError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from .command import CONFUSED, REDIRECTIONS, AsyncClient, Command, as_bytes, pack
from .foreign import foreign, is_about_types, out_of_memory
from .keys import Keys
from .pool import doubt, explain_full, full, tell_refusal
from .scripts import Argument, Script

_OTHER_LOOP = (
    "a client of redis.asyncio belongs to the event loop in which it was first used: give the AsyncQueue a URL, and it has "
    "connections in each loop"
)


class Room:
    """So many commands at once, which wait for each other: redis-py's asyncio clients would refuse one more.

    Args:
        most: how many.
        seconds: how long one waits.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._free = asyncio.Semaphore(most)

    async def __aenter__(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
        except TimeoutError:
            raise ConnectionError(full(self._most, self._seconds)) from None

    async def __aexit__(self, *_: object) -> None:
        self._free.release()


class Clients(Protocol):
    """The client of each event loop, and how many commands it takes at once, if it must be kept from more."""

    async def here(self) -> tuple[AsyncClient, Room | None]:
        """Those of the running loop."""

    async def close(self) -> None:
        """Close what is ours, in the running loop."""


class Given:
    """A client that somebody has given us, for one loop.

    Args:
        client: it.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def here(self) -> tuple[AsyncClient, Room | None]:
        """The client, in whichever loop."""
        return self._client, None

    async def close(self) -> None:
        """It is not ours to close."""


class AsyncPooled:
    """As `Pooled`, for redis-py's asyncio clients.

    Args:
        clients: the clients.
        key: any key of the queue.
    """

    def __init__(self, clients: Clients, key: str) -> None:
        self._clients = clients
        self._slot = key_slot(as_bytes(key))
        self._stale = False  # as in `Pooled`

    async def client(self) -> AsyncClient:
        """The client of the running loop."""
        return (await self._clients.here())[0]

    async def aclose(self) -> None:
        """Close what is ours, in the running loop."""
        await self._clients.close()

    async def call(self, *command: Argument) -> Any:
        """Send `command` once and return the reply."""
        client, room = await self._clients.here()
        async with room or contextlib.nullcontext():
            try:
                if isinstance(client, redis.asyncio.RedisCluster):
                    return await self._call_cluster(client, command)
                (reply,) = await _exchange_async(client, (command,))
            except RedisError as error:
                tell_refusal(client, error)
                raise
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def batch(self, *commands: Command, patience: float | None = None) -> list[Any]:
        """Send commands at once over one connection and return their replies, an error reply as an exception.

        Args:
            commands: what is sent.
            patience: seconds that each reply may take, but on a cluster; None for the `socket_timeout` of the client.
        """
        client, room = await self._clients.here()
        async with room or contextlib.nullcontext():
            try:
                if isinstance(client, redis.asyncio.RedisCluster):
                    return await self._batch_cluster(client, commands)
                return await _exchange_async(client, commands, patience)
            except RedisError as error:
                tell_refusal(client, error)
                raise

    async def _call_cluster(self, client: redis.asyncio.RedisCluster, command: Command) -> Any:
        node = await node_of_async(client, self._slot)
        try:
            return await client.execute_command(*command, target_nodes=[node])
        except MaxConnectionsError as error:
            raise MaxConnectionsError(full(client.connection_kwargs.get("max_connections", 0), None)) from error
        except ResponseError:
            raise
        except BaseException as error:
            doubt(error)
            raise

    async def _batch_cluster(self, client: redis.asyncio.RedisCluster, commands: Sequence[Command]) -> list[Any]:
        fresh, self._stale = self._stale, True
        for _ in range(REDIRECTIONS):
            node = await node_of_async(client, self._slot, fresh=fresh)
            sent = [PipelineCommand(position, *command) for position, command in enumerate(commands)]
            try:
                await node.execute_pipeline(sent)
            except BaseException as error:
                doubt(error)
                raise
            if not isinstance(sent[0].result, MovedError):
                self._stale = isinstance(sent[0].result, Exception)
                return [command.result for command in sent]
            fresh = True
        raise ConnectionError(CONFUSED)


async def node_of_async(client: redis.asyncio.RedisCluster, slot: int, *, fresh: bool = False) -> Any:
    """As `node_of`, for asyncio."""
    try:
        await client.initialize()
        if fresh:
            await client.nodes_manager.initialize()
        return client.nodes_manager.get_node_from_slot(slot)
    except RedisClusterException as error:  # which is no RedisError
        raise ConnectionError(str(error)) from error


async def _exchange_async(client: Any, commands: Sequence[Command], patience: float | None = None) -> list[Any]:
    replies: list[Any] = []
    packed = [pack(*command) for command in commands]
    pool = client.connection_pool
    try:
        connection = await pool.get_connection()
    except ConnectionError as error:
        explain_full(pool, error)
        raise
    except RuntimeError as error:
        error.add_note(_OTHER_LOOP)
        raise
    try:
        await connection.send_packed_command(packed)
        for _ in commands:
            try:
                replies.append(await connection.read_response(disable_decoding=True, timeout=patience))
            except ResponseError as error:
                replies.append(error)
        return replies
    except BaseException as error:
        with contextlib.suppress(RuntimeError):  # its loop is closed
            await connection.disconnect(nowait=True)
        doubt(error)
        if isinstance(error, RuntimeError):
            error.add_note(_OTHER_LOOP)
        raise
    finally:
        with contextlib.suppress(RuntimeError):
            await pool.release(connection)


async def run_script_async(caller: AsyncPooled, script: Script, keys: tuple[str, ...], arguments: Command = ()) -> Any:
    """As `run_script`, for asyncio."""
    command = script.command(keys, arguments)
    try:
        return await caller.call(*command)
    except NoScriptError:
        return await caller.call(*script.with_source(command))


async def explained_async(error: RedisError, caller: "AsyncPooled", keys: Keys, touched: Iterable[str] = ()) -> RedisError:
    """As `explained`, for asyncio."""
    if not is_about_types(error):
        return out_of_memory(error, keys)
    found: dict[str, str] = {}
    for key in keys.kinds(touched):
        with contextlib.suppress(RedisError):
            found[key] = (await caller.call("TYPE", key)).decode()
    return foreign(error, keys, found)
