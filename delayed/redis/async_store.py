"""The scripts that a producer calls, for asyncio: a part of `store`."""

from collections.abc import Sequence
from typing import Any

from ..base.ids import digest
from .async_pool import AsyncPooled, explained_async, run_script_async
from .command import AsyncClient, ResponseError
from .durability import Durability
from .keys import Keys
from .scripts import SCRIPTS, Argument
from .store import STATE_KEPT, cancellation, many, many_submitted, tell_cancelled


class AsyncStore:
    """The scripts of one queue that producers call, for asyncio.

    Args:
        keys: the queue's keys.
        pooled: sends its commands.
        durability: what an enqueue waits for.
    """

    def __init__(self, keys: Keys, pooled: AsyncPooled, durability: Durability) -> None:
        self.keys = keys
        self._pooled = pooled
        self._durability = durability

    async def client(self) -> AsyncClient:
        """The client of the running event loop."""
        return await self._pooled.client()

    async def aclose(self) -> None:
        """Close the connections of this event loop that are our own."""
        await self._pooled.aclose()

    async def call(self, *command: Argument) -> Any:
        """Send a Redis command; the reply is as in RESP2, with bytes for strings."""
        return await self._pooled.call(*command)

    async def enqueue(self, tasks: Sequence[bytes]) -> bool:
        """As `Store.enqueue`."""
        await self._add("enqueue", (self.keys.queue, self.keys.noti), tasks)
        return False

    async def enqueue_group(self, group: str, tasks: Sequence[bytes]) -> bool:
        """As `Store.enqueue_group`."""
        own, name = self.keys, digest(group)
        return bool(await self._add("enqueue_group", (own.group(name), own.groups), [name, *tasks]))

    async def submit_many(self, group: str | None, ids: Sequence[str], tasks: Sequence[bytes]) -> bool:
        """As `Store.submit_many`."""
        return many_submitted(await self._add("submit_many", *many(self.keys, group, ids, tasks)), self.keys.queue)

    async def submit(self, keys: tuple[str, ...], arguments: Sequence[Argument]) -> list[bytes]:
        """As `Store.submit`."""
        reply: list[bytes] = await self._add("submit", keys, arguments)
        return reply

    async def turn(self, digests: Sequence[str], most: int) -> int:
        """As `Store.turn`."""
        own = self.keys
        keys = (own.queue, own.noti, own.groups, *map(own.group, digests))
        return int(await run_script_async(self._pooled, SCRIPTS["turn"], keys, (most, *digests)))

    async def cancel(self, identity: str, result: bytes, keep: int, how: bytes) -> str | None:
        """As `Store.cancel`."""
        found = await self.call("HMGET", self.keys.task(identity), "unique", "place")
        keys, words = cancellation(self.keys, identity, *found), (identity, result, keep, how, STATE_KEPT)
        state = (await run_script_async(self._pooled, SCRIPTS["cancel"], keys, words)).decode()
        tell_cancelled(self.keys.queue, identity, state)
        return state or None

    async def reserve(self, key: str, rate: float, earliest: int = 0) -> int:
        """As `Store.reserve`."""
        keys = (self.keys.pace(key),)
        try:
            return int(await run_script_async(self._pooled, SCRIPTS["reserve"], keys, (round(1e6 / rate), earliest)))
        except ResponseError as error:
            raise await explained_async(error, self._pooled, self.keys, keys) from error

    async def _add(self, script: str, keys: tuple[str, ...], arguments: Sequence[Argument]) -> Any:
        """Run a script that adds tasks, and see that they are durable."""
        try:
            return await self._added(script, keys, arguments)
        except ResponseError as error:
            raise await explained_async(error, self._pooled, self.keys, keys) from error

    async def _added(self, script: str, keys: tuple[str, ...], arguments: Sequence[Argument]) -> Any:
        durability = self._durability
        if not durability.waits:
            return await run_script_async(self._pooled, SCRIPTS[script], keys, tuple(arguments))
        with durability.trying():
            proof = durability.proof or durability.learn(await self._pooled.batch(*durability.questions))
            return durability.judge(proof, await self._pooled.batch(SCRIPTS[script].evaluate(keys, arguments), proof))
