"""The way to Redis of one queue, on which all parts of `store.Store` stand."""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from ..base.later import Later
from ..task.headers import Holds, Member
from .command import Caller, Command, is_cluster, redis_errors, run_script, same_slot
from .durability import Durability
from .keys import Keys
from .pool import Pooled
from .scripts import SCRIPTS, Argument
from .telling import told

if TYPE_CHECKING:
    from . import foreign
    from .command import Client, RedisError
else:
    foreign = Later("delayed.redis.foreign")

_SLICE = 1 << 20  # bytes of tasks that are read at once, about


class BaseStore:
    """The way to Redis of one queue.

    Args:
        keys: the queue's keys.
        pooled: sends its commands.
        conn: the client, to ask what is wrong.
        durability: what an enqueue waits for.
    """

    def __init__(self, keys: Keys, pooled: Pooled, conn: "Client", durability: Durability) -> None:
        self.keys = keys
        self.conn = conn
        self._cluster = is_cluster(conn)
        self._durability = durability
        self._pooled = pooled
        self._caller: Caller = pooled

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.keys.queue

    def over(self, caller: Caller) -> Self:
        """The same queue with its commands sent through `caller`, for example a worker's own connection."""
        other = copy.copy(self)
        other._caller = caller
        return other

    def at(self, keys: Keys) -> Self:
        """Another queue, its commands sent the same way."""
        other = copy.copy(self)
        other.keys = keys
        return other

    def pooled_at(self, keys: Keys) -> Self:
        """Another queue, its commands sent over the client's own connections: it may be on another node of a cluster."""
        other = self.at(keys)
        other._caller = other._pooled = Pooled(self.conn, keys.queue)
        return other

    def call(self, *command: Argument) -> Any:
        """Send a Redis command as this queue sends its own. The reply is as in RESP2, with bytes for strings."""
        try:
            return self._caller.call(*command)
        except redis_errors.ResponseError as error:
            named = [each for each in command if isinstance(each, str)]
            raise foreign.explained(error, self.conn, self.keys, named) from error

    def batch(self, *commands: Command) -> list[Any]:
        """Send Redis commands at once, over one connection, and return their replies as `call` does."""
        replies = self._pooled.batch(*commands)
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception) and isinstance(reply, redis_errors.ResponseError):
                named = [each for each in command if isinstance(each, str)]
                raise foreign.explained(reply, self.conn, self.keys, named) from reply
        return replies

    def exchange(self, *commands: Command) -> list[Any]:
        """As `batch`; an error that Redis replies with stands among the replies."""
        return self._pooled.batch(*commands)

    def read(self, *commands: Command) -> list[Any]:
        """As `exchange`, of commands that only read keys of one server, all in one instant and as one command. (Whoever may
        not read some of the keys may run no script on any of them: then they are sent one by one.)"""
        keys, words = list[str](), list[Argument]()
        for name, *rest in commands:
            first = {"TIME": 0, "MGET": len(rest), "EXISTS": len(rest)}.get(str(name), 1)
            keys += map(str, rest[:first])
            words += [name, first, len(rest) - first, *rest[first:]]
        try:
            replies: list[Any] = run_script(self._caller, SCRIPTS["read"], tuple(keys), tuple(words))
        except redis_errors.ResponseError:
            return self.exchange(*commands)
        return replies

    def slices(
        self, kinds: Mapping[str, str], most: int, start: int = 0, size: int = _SLICE
    ) -> tuple[bool, list[list[bytes]]]:
        """Tasks that wait, of several keys one after the other, until there are enough.

        Args:
            kinds: key → `list` or `zset`.
            most: how many tasks.
            start: how many of the first key are passed by.
            size: how many bytes, about.

        Returns:
            Whether there may be more, and the tasks of each key, of sorted sets with their scores in turn: up to the last key
            that was read.
        """
        more, *pages = self._run("slices", tuple(kinds), most, size, start, *kinds.values())
        return bool(more), pages

    def explained(self, error: "RedisError", touched: Sequence[str] = ()) -> "RedisError":
        """`error`, or, if a key of this queue or one of `touched` has a foreign type, a `ForeignType` that names it and says
        what to do."""
        return foreign.explained(error, self.conn, self.keys, touched)

    def run(self, script: str, keys: tuple[str, ...], *arguments: Argument) -> Any:
        """Run a script, for the parts that know its keys."""
        return self._run(script, keys, *arguments)

    def _run(self, script: str, keys: tuple[str, ...], *arguments: Argument) -> Any:
        try:
            return run_script(self._caller, SCRIPTS[script], keys, arguments)
        except redis_errors.ResponseError as error:
            raise foreign.explained(error, self.conn, self.keys, keys) from error

    def add(self, script: str, keys: tuple[str, ...], arguments: Sequence[Argument]) -> Any:
        """As `run`, of one that adds tasks: it returns when they are durable."""
        return self._add(script, keys, arguments)

    def _add(self, script: str, keys: tuple[str, ...], arguments: Sequence[Argument], unchanged: type | None = None) -> Any:
        """Run a script that adds tasks, and see that they are durable: unless its reply is of the type `unchanged`."""
        durability = self._durability
        if not durability.waits:
            return self._run(script, keys, *arguments)
        with durability.trying():
            proof = durability.proof or durability.learn(self._pooled.batch(*durability.questions))
            replies = self._pooled.batch(SCRIPTS[script].evaluate(keys, arguments), proof)
            return durability.judge(proof, replies, unchanged)

    def told(self, member: Member | None, kind: str, rest: bytes = b"") -> tuple[tuple[str, ...], bytes]:
        """See `told`."""
        if member is None:
            return (), b""
        return told(self.keys, member, kind, rest, far=self._cluster and not self.reaches(member.home))

    def reaches(self, queue: str) -> bool:
        """Whether scripts for this queue may touch the keys of another: on a cluster only those of its slot."""
        return not self._cluster or same_slot(self.name, queue)

    def _held(self, holds: Holds) -> tuple[str, tuple[str, ...]]:
        """What scripts that end several leases are told of a task: its id, or what stands for that, and its five keys."""
        if holds.id is None and holds.slots is None:
            return "", ()
        return holds.id or "-", self.keys.own(holds)
