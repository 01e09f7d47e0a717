"""All keys of a queue, and the names that a queue cannot have. No other module and no script builds a key."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from .errors import ConfigurationError

_LEASE = "_lease_"
_SUFFIXES = ("_noti", "_processing", "_lost", "_dead", "_workers", "_stats", "_scheduled", "_wake", "_cron", "_cron_due")
TYPES = {
    "queue": "list",
    "noti": "list",
    "processing": "hash",
    "lost": "hash",
    "dead": "stream",
    "workers": "hash",
    "stats": "hash",
    "scheduled": "zset",
    "wake": "list",
    "cron": "hash",
    "cron_due": "zset",
}
_OF_A_TASK = re.compile(r"_(?:task|result)_[\w-]{16}|_unique_[0-9a-f]{40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of the queue `queue`.

    Raises:
        ConfigurationError: the name is empty or no text, or would make keys that belong to another queue.
    """

    queue: str  # list: waiting tasks
    noti: str = field(init=False)  # list: a '1' for each waiting task
    processing: str = field(init=False)  # hash: lease → the task held under it
    lost: str = field(init=False)  # hash: SHA-1 of a task → 'losses:sweep'; gone a day after the last loss
    dead: str = field(init=False)  # stream: dead letters (task, reason, detail, worker)
    workers: str = field(init=False)  # hash: a process's own lease → what it says of itself (MessagePack)
    stats: str = field(init=False)  # hash: recovered, buried → counts since the queue exists
    scheduled: str = field(init=False)  # sorted set: 16 characters and a task, by when it is due (milliseconds since 1970)
    wake: str = field(init=False)  # list: a '1' when something is due earlier than all before, for sweepers to wait for
    cron: str = field(init=False)  # hash: a schedule's name → what it is (MessagePack)
    cron_due: str = field(init=False)  # sorted set: the names of schedules that are not paused, by their next occurrence

    def __post_init__(self) -> None:
        name = self.queue
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"a queue's name is a string that is not empty, not {name!r}")
        try:
            name.encode(errors="surrogateescape")
        except UnicodeEncodeError as error:
            raise ConfigurationError(f"{name!r} cannot be the name of a queue: it has no form in UTF-8 ({error})") from error
        if name.endswith(_SUFFIXES) or _LEASE in name:
            raise ConfigurationError(
                f"{name!r} cannot be the name of a queue: it would share keys with another queue; choose one that does "
                f"not contain {_LEASE!r} and does not end in {', '.join(_SUFFIXES)}"
            )
        for suffix in _SUFFIXES:
            object.__setattr__(self, suffix[1:], name + suffix)

    def kinds(self) -> dict[str, str]:
        """Key → the type that it has if it is there, as Redis's TYPE names it."""
        return {key: TYPES[part] for part, key in self.all().items()}

    def foreign(self, found: Mapping[str, str]) -> str | None:
        """What to say of keys that hold another program's data; None if there are none.

        Args:
            found: key → the type that it has.
        """
        wrong = [
            f"the key {key!r} of queue {self.queue!r} is a {found[key]} and not a {kind}"
            for key, kind in self.kinds().items()
            if found.get(key, "none") not in ("none", kind)
        ]
        if not wrong:
            return None
        return (
            f"WRONGTYPE: {'; '.join(wrong)}. No task has been touched. Another program uses that key: rename it (RENAME) or "
            f"remove it, or give the queue another name; `delayed fsck` shows what is wrong with a queue"
        )

    def lease(self, token: str, number: int | None = None) -> str:
        """string with a TTL: a process's own lease, or the numbered ones under which it holds tasks."""
        name = f"{self.queue}{_LEASE}{token}"
        return name if number is None else f"{name}_{number}"

    def task(self, identity: str) -> str:
        """hash with a TTL: the state of a tracked task."""
        return f"{self.queue}_task_{identity}"

    def result(self, identity: str) -> str:
        """list with a TTL: how a tracked task ended, in one element; those who wait for it turn the list, and take nothing."""
        return f"{self.queue}_result_{identity}"

    def unique(self, key: str) -> str:
        """string with a TTL: the id of the task that has a unique key."""
        return f"{self.queue}_unique_{hashlib.sha1(key.encode(errors='surrogateescape'), usedforsecurity=False).hexdigest()}"

    def all(self) -> dict[str, str]:
        """The keys that there is one of: what a field above is called → the key."""
        return asdict(self)

    def owns_lease(self, key: str) -> bool:
        """Whether `key` is a lease of this queue, by its form."""
        return key.startswith(self.queue + _LEASE)

    def owns_for_a_task(self, key: str) -> bool:
        """Whether `key` belongs to one task of this queue, by its form."""
        return key.startswith(self.queue) and bool(_OF_A_TASK.fullmatch(key, len(self.queue)))


def owner(key: str) -> str | None:
    """The queue that `key` belongs to by its form. None if it has none of our forms: it may be a list of waiting tasks."""
    name, lease, _ = key.partition(_LEASE)
    if lease:
        return name
    return next((key.removesuffix(suffix) for suffix in _SUFFIXES if key.endswith(suffix)), None)


def token() -> str:
    """Something that nobody can guess and nobody has used: 96 random bits in 16 characters."""
    return secrets.token_urlsafe(12)
