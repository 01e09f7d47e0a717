"""The scripts that producers call: a part of `store.Store`."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from ..base.ids import token
from .command import redis_errors
from .keys import interests_of
from .places import Grouped, many, many_submitted
from .scripts import SCRIPTS, Argument
from .store_base import BaseStore


class Adding(BaseStore):
    """What producers do with a queue."""

    def enqueue(self, tasks: Sequence[bytes]) -> None:
        """Put tasks at the end of the queue, all or none of them."""
        self._add("enqueue", (self.keys.queue, self.keys.noti), tasks)

    def submit_many(self, tasks: Grouped, ids: Sequence[str]) -> list[str]:
        """Put tasks at the ends of the queue and of groups, all or none of them.

        Args:
            tasks: by their group.
            ids: of those that are tracked: all of them, or none.

        Returns:
            The digests of groups that had no tasks: it may be their turn now.

        Raises:
            redis.exceptions.ResponseError: a task with one of these ids is known.
        """
        return many_submitted(self._add(*many(self.keys, tasks, ids)), self.name)

    def adding(self, tasks: Grouped, ids: Sequence[str]) -> Generator[None, None, list[str]]:
        """As `submit_many`, in two steps: the tasks are sent in the first, what comes of that is known after the second."""
        return many_submitted((yield from self._adding(*many(self.keys, tasks, ids))), self.name)

    def _adding(self, script: str, keys: tuple[str, ...], arguments: Sequence[Argument]) -> Generator[None, None, Any]:
        if self._durability.waits or self._caller is not self._pooled or not self._pooled.ample:
            reply = self._add(script, keys, arguments)
            yield
            return reply
        command = SCRIPTS[script].command(keys, tuple(arguments))
        try:
            try:
                return (yield from self._pooled.steps(*command))
            except redis_errors.NoScriptError:
                return self._pooled.call(*SCRIPTS[script].with_source(command))
        except redis_errors.ResponseError as error:
            raise self.explained(error, keys) from error

    def submit(self, keys: tuple[str, ...], arguments: Sequence[Argument]) -> list[bytes]:
        """Enqueue one task that asks for more than a place at the tail (see `Producer`). Returns its state and an id."""
        reply: list[bytes] = self._add("submit", keys, arguments)
        return reply

    def number(self, tasks: Sequence[bytes]) -> int:
        """Put tasks at the end of the queue, each with the next number of the queue as its last eight bytes, which are not
        among those given. Returns the number of the last one."""
        return int(self._add("number", (self.keys.queue, self.keys.noti, self.keys.numbers), tasks))

    @property
    def interests(self) -> str:
        """The key of the interests of this queue and of others."""
        return interests_of(self.name, self._cluster)

    def interest(self, record: bytes, most: int) -> int:
        """Note in what this queue has an interest; forget it if `record` is empty. Returns 1; 0 if it had none; -1 if `most`
        queues have one."""
        return int(self._run("interest", (self.interests,), self.name, record, token(), most))

    def publish(self, keys: tuple[str, ...], arguments: Sequence[Argument]) -> list[bytes] | None:
        """Put copies into the queues with an interest (see `publishing`). Returns None, or the fields of the interests and
        their values in turn, if others are there than the caller knows: nothing has happened."""
        reply = self._add("publish", keys, arguments, unchanged=list)
        return reply if isinstance(reply, list) else None

    def reserve(self, key: str, rate: float, earliest: int = 0) -> int:
        """Take the next free instant of a rate key, which are 1/`rate` seconds apart. Returns it in milliseconds since 1970.

        Args:
            key: the rate key.
            rate: instants a second.
            earliest: the earliest that will do, in milliseconds since 1970; 0 for now.
        """
        return int(self._run("reserve", (self.keys.pace(key),), round(1e6 / rate), earliest))

    def deliver(self, tokens: Mapping[int, str], connection: str, address: str, keep: int, most: int) -> int:
        """Note who got the tasks with these numbers, and by which tokens of leases. `most` of those who had them before are
        remembered, all for so many milliseconds. Returns how many tasks they are."""
        keys = tuple(map(self.keys.number, tokens))
        return int(self._run("deliver", keys, keep, most, connection, address, *tokens.values()))
