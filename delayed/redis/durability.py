"""Durability of an enqueue: whether it waits for the primary's disk, for replicas, or for nothing.

The proof goes out with the task, over the same connection and in the same round trip, because WAIT and WAITAOF speak of what
their own connection wrote. Redis has carried out the enqueue by then: a proof that fails is reported, and undoes nothing.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from ..base.checks import is_number
from ..base.clock import milliseconds
from ..errors import ConfigurationError, NotDurable
from .command import pairs
from .scripts import Argument

MEMORY = "memory"
TIMEOUT = 3.0  # seconds; `appendfsync everysec` takes up to two of them
Command = tuple[Argument, ...]
_APPEND = ("CONFIG", "GET", "append*")  # appendonly and appendfsync, in one pattern for the sake of Redis 6.2
_WHAT_NOW = (
    "The task is on the primary and may run, so enqueue it again only if twice is all right; see that Redis is as "
    "docs/operations.md says, or give it more time with durability_timeout"
)


class Durability:
    """A queue's durability.

    Args:
        text: `memory`, `aof` or `replicas:N`.
        seconds: how long an enqueue waits at most.

    Raises:
        ConfigurationError: it is none of these, or the time is not above 0.
    """

    def __init__(self, text: str, seconds: float = TIMEOUT) -> None:
        match = re.fullmatch(r"memory|aof|replicas:([1-9]\d{0,3})", text) if isinstance(text, str) else None
        if match is None:
            raise ConfigurationError(f"durability must be 'memory', 'aof' or 'replicas:N' (N at least 1), not {text!r}")
        if not (is_number(seconds) and 0 < seconds < 3600):
            raise ConfigurationError(
                f"durability_timeout must be a number of seconds above 0 (and below an hour), not {seconds!r}"
            )
        self.text = text
        self.seconds = seconds
        self._replicas = int(match[1] or 0)
        self.questions: tuple[Command, ...] = () if self._replicas else (("WAITAOF", 1, 0, 1), _APPEND)
        """Commands whose replies `learn` wants to know before the first enqueue."""
        self.proof: Command | None = None
        """The command that goes out with an enqueue; None if it has to be learnt first."""
        self._forget()

    @property
    def waits(self) -> bool:
        """Whether an enqueue waits for anything."""
        return self.text != MEMORY

    @contextlib.contextmanager
    def trying(self) -> Iterator[None]:
        """Around an enqueue. If it goes wrong, the next one may meet another server, which is asked again."""
        try:
            yield
        except Exception:
            self._forget()
            raise

    def _forget(self) -> None:
        self.proof = ("WAIT", self._replicas, milliseconds(self.seconds)) if self._replicas else None

    def learn(self, replies: list[Any]) -> Command:
        """Choose the proof by the replies to `questions`; an error reply comes as an exception.

        Raises:
            ConfigurationError: this server cannot make anything durable, or does not say whether it does.
            redis.exceptions.ResponseError: it is not a primary, or not now.
        """
        asked, settings = replies
        if not isinstance(asked, Exception):
            proof: Command = ("WAITAOF", 1, 0, milliseconds(self.seconds))
        elif "appendonly" in str(asked):
            raise ConfigurationError("durability='aof' needs `appendonly yes` on the Redis server; it has no append-only file")
        elif "unknown command" not in str(asked) and "permission" not in str(asked):
            raise asked
        elif isinstance(settings, Exception):
            raise ConfigurationError(
                f"durability='aof' needs WAITAOF (Redis 7.2), or to see with CONFIG GET that `appendfsync` is `always`; this "
                f"server says: {asked}; {settings}. Allow one of the commands, or use durability='replicas:1'"
            )
        elif not _always(settings):
            raise ConfigurationError(
                "durability='aof' needs WAITAOF (Redis 7.2), or `appendonly yes` with `appendfsync always` in the "
                "configuration of an older server; this one has neither"
            )
        else:
            proof = _APPEND
        self.proof = proof
        return proof

    def judge(self, proof: Command, replies: list[Any], unchanged: type | None = None) -> Any:
        """Look at the replies to what added tasks and to the proof; an error reply comes as an exception. Returns the first;
        one of the type `unchanged` says that nothing was added, and needs no proof.

        Raises:
            redis.exceptions.ResponseError: nothing was added.
            NotDurable: it was added, and is not durable.
        """
        added, proven = replies
        if isinstance(added, Exception):
            raise added
        if unchanged is not None and isinstance(added, unchanged):
            return added
        self._check(proof, proven)
        return added

    def _check(self, proof: Command, reply: Any) -> None:
        if isinstance(reply, Exception):
            raise NotDurable(0, f"{self.text}: Redis took the task and then said: {reply}. {_WHAT_NOW}") from reply
        if self._replicas:
            if reply < self._replicas:
                raise NotDurable(
                    reply, f"{reply} of {self._replicas} replicas had the task after {self.seconds:g} s. {_WHAT_NOW}"
                )
        elif proof == _APPEND:
            if not _always(reply):
                raise NotDurable(0, f"the server does not have `appendfsync always` any more. {_WHAT_NOW}")
        elif reply[0] < 1:
            raise NotDurable(0, f"the append-only file did not have the task after {self.seconds:g} s. {_WHAT_NOW}")


def _always(settings: Any) -> bool:
    """Whether CONFIG says that what was acknowledged is on the disk."""
    known = {_text(name): _text(value) for name, value in pairs(settings).items()}
    return known.get("appendonly") == "yes" and known.get("appendfsync") == "always"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
