"""Tasks that are known by their numbers, which are counted from 1 in each queue: as TaskQ's clients know them.

A number is no secret, and says nothing about who holds the task. So it is noted who got it, and an end by somebody who has
lost the task is refused while another one works on it: see docs/decisions/late-acks.md.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import msgpack

from ..redis.command import Command, RedisError
from ..redis.store import Store
from .consumer import Consumer, Release, Succeed
from .links import Link, Links
from .sweeping import Sweeping
from .text.bodies import Content, Wrapping, content_of

KEPT = 86_400_000  # milliseconds for which it is known who got a task
_EARLIER = 8  # consumers that are remembered who have lost a task
_LOOKED_AT = 100  # tasks at the head of a queue, where those are that somebody has lost


class Peer(NamedTuple):
    """Somebody who takes and ends tasks."""

    connection: str  # of which there is one
    address: str


class Numbered(NamedTuple):
    """A task that has been taken."""

    number: int
    body: bytes
    token: str


class _Delivery(NamedTuple):
    """Who got a task last, and who before that."""

    token: str
    connection: str
    address: str
    earlier: list[str]  # connections

    @classmethod
    def read(cls, data: object) -> Self | None:
        try:
            found = cls(*msgpack.unpackb(data, unicode_errors="surrogateescape"))
        except Exception:  # there is none, or another program wrote it
            return None
        return found if isinstance(found.token, str) and isinstance(found.earlier, list) else None

    def accepts(self, peer: Peer) -> bool:
        """Whether `peer` may end the task: it has it, or may have it from the one who has it, and has not lost it."""
        if peer.connection == self.connection:
            return True
        return peer.connection not in self.earlier and (not self.earlier or peer.address == self.address)


class NumberedTasks:
    """Enqueues, hands out and ends tasks by numbers.

    Args:
        links: the queues.
        consumer: hands out tasks.
        ttl: seconds in which a task has to be ended.
        sweeping: hears which queues are used, and brings back what was not ended; None: other processes do.
    """

    def __init__(self, links: Links, consumer: Consumer, ttl: float, sweeping: Sweeping | None = None) -> None:
        self._links, self._consumer, self._ttl = links, consumer, ttl
        self._sweeping = sweeping

    def note(self, queue: str) -> None:
        """A queue is used."""
        if self._sweeping is not None:
            self._sweeping.note(queue)

    async def enqueue(self, queue: str, bodies: Sequence[bytes], wrapping: Wrapping) -> int:
        """Put bodies at the end of a queue. Returns the number of the first; those of the others follow."""
        link = self._links[queue]
        self.note(queue)
        return await link.queue.store.number([wrapping.task(body) for body in bodies]) - len(bodies) + 1

    async def take(self, queue: str, peer: Peer, most: int, wait: float = 0, ttl: float | None = None) -> list[Numbered]:
        """Take up to so many tasks, which `peer` is noted to have."""
        self.note(queue)
        leases = await self._consumer.take(queue, most, wait, ttl or self._ttl)
        if not leases:
            return []
        link = self._links[queue]
        contents = [content_of(lease.data) for lease in leases]
        contents = await self._with_numbers(link, contents)
        found = [Numbered(content.number, content.body, lease.token) for content, lease in zip(contents, leases, strict=True)]
        tokens = {task.number: task.token for task in found}
        await link.call(lambda store: store.deliver(tokens, *peer, KEPT, _EARLIER), len(tokens))
        return found

    @staticmethod
    async def _with_numbers(link: Link, contents: list[Content]) -> list[Content]:
        """With numbers also for tasks that somebody else has enqueued."""
        lacking = sum(content.number == 0 for content in contents)
        if not lacking:
            return contents
        (last,) = await _sent(link, [("INCRBY", link.keys.numbers, lacking)])
        following = iter(range(last - lacking + 1, last + 1))
        return [content if content.number else Content(content.body, next(following)) for content in contents]

    async def acknowledge(self, queue: str, peer: Peer, numbers: Sequence[tuple[int, str | None]]) -> list[bool]:
        """End tasks that are done.

        Args:
            queue: where they are from.
            peer: who says so.
            numbers: which, and the tokens by which this connection has got them, if it has.

        Returns:
            Which of them have ended by this.
        """
        link = self._links[queue]
        tokens = [token for _, token in numbers]
        unknown = [position for position, token in enumerate(tokens) if token is None]
        if unknown:
            (notes,) = await _sent(link, [("MGET", *(link.keys.number(numbers[position][0]) for position in unknown))])
            for position, note in zip(unknown, notes, strict=True):
                delivery = _Delivery.read(note)
                if delivery is not None and delivery.accepts(peer):
                    tokens[position] = delivery.token
        ends = [(position, token) for position, token in enumerate(tokens) if token is not None]
        states = await self._consumer.end_many([(token, Succeed()) for _, token in ends])
        ended = [False] * len(numbers)
        late: dict[int, int] = {}  # numbers of tasks that this one has lost → their positions
        for (position, _), state in zip(ends, states, strict=True):
            ended[position] = state is not None
            if state is None:
                late[numbers[position][0]] = position
        for number in await self._taken_back(link, late) if late else ():
            ended[late[number]] = True
        gone = [link.keys.number(number) for (number, _), is_over in zip(numbers, ended, strict=True) if is_over]
        if gone:
            await _sent(link, [("UNLINK", *gone)])
        return ended

    async def give_back(self, queue: str, task: Numbered) -> None:
        """Put a task back to the head of the queue that could not be delivered."""
        await self._consumer.end_many([(task.token, Release())])
        await _sent(self._links[queue], [("UNLINK", self._links[queue].keys.number(task.number))])

    async def _taken_back(self, link: Link, late: dict[int, int]) -> list[int]:
        """Remove tasks that wait to be handed out again, and which are done. Returns those that did."""
        (head,) = await _sent(link, [("LRANGE", link.keys.queue, 0, _LOOKED_AT - 1)])
        found = [(number, data) for data in head if (number := content_of(data).number) in late]
        removed: list[int] = []
        for number, data in found:
            (state,) = await link.call(partial(_removed, data=data), [b"removed"])
            if state:
                removed.append(number)
                await self._consumer.count(link.name, data)
        return removed


def _removed(store: Store, data: bytes) -> int:
    return store.remove(store.keys.queue, [data])


async def _sent(link: Link, commands: Sequence[Command]) -> list[Any]:
    replies = await link.batch(commands)
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies
