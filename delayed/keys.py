"""All keys of a queue, and the names that a queue cannot have. No other module and no script builds a key."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import ConfigurationError

_LEASE = "_lease_"
_SUFFIXES = ("_noti", "_processing", "_lost", "_dead", "_workers", "_stats", "_scheduled")


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
        for suffix in ("noti", "processing", "lost", "dead", "workers", "stats"):
            object.__setattr__(self, suffix, f"{name}_{suffix}")

    def kinds(self) -> dict[str, str]:
        """Key → the type that it has if it is there, as Redis's TYPE names it."""
        lists, hashes = (self.queue, self.noti), (self.processing, self.lost, self.workers, self.stats)
        return {**dict.fromkeys(lists, "list"), **dict.fromkeys(hashes, "hash"), self.dead: "stream"}

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
