"""The scripts that a producer calls, for asyncio: a part of `store`."""

from collections.abc import Sequence
from typing import Any

from ..base.ids import token
from ..base.place import place
from .async_pool import AsyncPooled, explained_async, run_script_async
from .command import AsyncClient, ResponseError, is_cluster, same_slot
from .connect import DEADLINE
from .durability import Durability
from .keys import Keys, interests_of
from .places import STATE_KEPT, Grouped, many, many_submitted
from .scripts import SCRIPTS, Argument
from .telling import cancellation, member_waiting, tell_cancelled, told


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

    async def enqueue(self, tasks: Sequence[bytes]) -> None:
        """As `Store.enqueue`."""
        await self._add("enqueue", (self.keys.queue, self.keys.noti), tasks)

    async def submit_many(self, tasks: Grouped, ids: Sequence[str]) -> list[str]:
        """As `Store.submit_many`."""
        return many_submitted(await self._add(*many(self.keys, tasks, ids)), self.keys.queue)

    async def submit_once(
        self, tasks: Grouped, ids: Sequence[str], request: str | None, kept: int = STATE_KEPT
    ) -> list[str] | None:
        """As `submit_many`, perhaps with a key that remembers it, for so many milliseconds. None if one of the ids or the
        request is known."""
        reply = await self._add(*many(self.keys, tasks, ids, request, kept))
        return None if reply == 0 else many_submitted(reply, self.keys.queue)

    async def interests(self) -> str:
        """As `Store.interests`."""
        return interests_of(self.keys.queue, is_cluster(await self.client()))

    async def interest(self, record: bytes, most: int) -> int:
        """As `Store.interest`."""
        keys = (await self.interests(),)
        words = (self.keys.queue, record, token(), most)
        try:
            return int(await run_script_async(self._pooled, SCRIPTS["interest"], keys, words))
        except ResponseError as error:
            raise await explained_async(error, self._pooled, self.keys, keys) from error

    async def publish(self, keys: tuple[str, ...], arguments: Sequence[Argument]) -> list[bytes] | None:
        """As `Store.publish`."""
        reply = await self._add("publish", keys, arguments, unchanged=list)
        return reply if isinstance(reply, list) else None

    async def number(self, tasks: Sequence[bytes]) -> int:
        """As `Store.number`."""
        return int(await self._add("number", (self.keys.queue, self.keys.noti, self.keys.numbers), tasks))

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
        unique, where, data = await self.call("HMGET", self.keys.task(identity), "unique", "place", "data")
        member = member_waiting(data)
        far = member is not None and is_cluster(await self.client()) and not same_slot(self.keys.queue, member.home)
        named, entry = told(self.keys, member, "e", b"c", far=far)
        keys = cancellation(self.keys, identity, unique, where, named)
        words = (identity, result, keep, how, STATE_KEPT, entry, place())
        state = (await run_script_async(self._pooled, SCRIPTS["cancel"], keys, words)).decode()
        tell_cancelled(self.keys.queue, identity, state)
        return state or None

    async def erase(self, identity: str) -> str | None:
        """As `Store.erase`."""
        state: bytes = await run_script_async(self._pooled, SCRIPTS["erase"], (self.keys.task(identity),), ())
        return state.decode() or None

    async def reserve(self, key: str, rate: float, earliest: int = 0) -> int:
        """As `Store.reserve`."""
        keys = (self.keys.pace(key),)
        try:
            return int(await run_script_async(self._pooled, SCRIPTS["reserve"], keys, (round(1e6 / rate), earliest)))
        except ResponseError as error:
            raise await explained_async(error, self._pooled, self.keys, keys) from error

    async def _add(
        self, script: str, keys: tuple[str, ...], arguments: Sequence[Argument], unchanged: type | None = None
    ) -> Any:
        """As `Store._add`."""
        try:
            return await self._added(script, keys, arguments, unchanged)
        except ResponseError as error:
            raise await explained_async(error, self._pooled, self.keys, keys) from error

    async def _added(self, script: str, keys: tuple[str, ...], arguments: Sequence[Argument], unchanged: type | None) -> Any:
        durability = self._durability
        if not durability.waits:
            return await run_script_async(self._pooled, SCRIPTS[script], keys, tuple(arguments))
        with durability.trying():
            proof = durability.proof or durability.learn(await self._pooled.batch(*durability.questions))
            command, patience = SCRIPTS[script].evaluate(keys, arguments), durability.seconds + DEADLINE
            replies = await self._pooled.batch(command, proof, patience=patience)
            return durability.judge(proof, replies, unchanged)
