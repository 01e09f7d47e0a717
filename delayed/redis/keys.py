"""All keys of a queue, and the names that a queue cannot have. No other module and no script builds a key."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache

from ..base.ids import digest
from ..errors import ConfigurationError
from ..task.headers import Holds

REGISTER = "delayed:queues"  # sorted set: the queues that processes of ours serve, by when they last said so
AUDIT = "delayed:audit"  # stream: what operators have done, to any queue
AUDIT_ENTRY = ("who", "from", "act", "queue", "what", "count", "result")  # fields of its entries
INTERESTS = "delayed:interests"  # hash: a queue → its place and what it wants to get of what is published (MessagePack)
TOKENS = "delayed:tokens"  # hash: SHA-256 of a token of the server → what its bearer may do (MessagePack)
COUCHQUEUE = "delayed:couchqueue"  # what keys begin with that CouchQueue's interface has beside queues
REQUESTS = "delayed:requests"  # what keys begin with that remember a request to enqueue, so that it can be repeated
_SHARED = {
    REGISTER: "the register of queues",
    AUDIT: "the audit of operators' acts",
    INTERESTS: "the table of interests",
    TOKENS: "the tokens of the server",
    COUCHQUEUE: "what CouchQueue's interface keeps",
    REQUESTS: "what remembers requests",
}
_LEASE = "_lease_"
TYPES = {
    "queue": "list",
    "noti": "list",
    "processing": "hash",
    "lost": "hash",
    "dead": "stream",
    "workers": "hash",
    "stats": "hash",
    "stats_total": "hash",
    "scheduled": "zset",
    "wake": "list",
    "cron": "hash",
    "cron_due": "zset",
    "cron_defined": "hash",
    "control": "hash",
    "history": "stream",
    "bucket": "hash",
    "groups": "list",
    "waited": "hash",
    "deferred": "hash",
    "flow_outbox": "list",
    "flow_ids": "zset",
    "flow_due": "zset",
    "bulk_jobs": "hash",
    "numbers": "string",
}
_SUFFIXES = tuple(f"_{part}" for part in TYPES if part != "queue")
CONTROL = ("paused", "concurrency", "rate", "burst")  # fields of the hash, and others of it:
HISTORY = ("history", "history_days", "history_bytes")
STATS = ("recovered", "buried")  # of this one,
LETTER = ("task", "reason", "detail", "worker")  # and of each entry of `dead`
_OF_A_TASK = re.compile(r"_task_[\w-]{16}|_(?:unique|slots|pace)_[0-9a-f]{40}|_number_[0-9]{1,20}", re.ASCII)
_OF_A_FLOW = r"flow(?:_marks|_joins)?_[\w-]{10}|flow_bodies_[0-9]+_[\w-]{10}"
_OF_A_TIME = r"stats_(?:minutes|hours|days)_[0-9]{1,9}"
_OF_ONE = re.compile(
    rf"(.+)_(?:task_[\w-]{{16}}|number_[0-9]{{1,20}}|(?:unique|slots|pace|waits|group)_[0-9a-f]{{40}}|{_OF_A_FLOW}|{_OF_A_TIME})",
    re.ASCII | re.DOTALL,
)
_OF_FLOWS = re.compile(rf"_(?:{_OF_A_FLOW})", re.ASCII)
_OF_STATS = re.compile(f"_{_OF_A_TIME}", re.ASCII)
_OF_A_GROUP = re.compile(r"_group_[0-9a-f]{40}", re.ASCII)
_OF_WAITS = re.compile(r"_waits_[0-9a-f]{40}", re.ASCII)
_TAG = re.compile(r"\{[^}]+\}")  # what places a key on a cluster; Redis takes the first
_SOUGHT = re.compile(rb"unique:[0-9a-f]{40}|slots:[0-9a-f]{40}:([0-9]{1,16})")  # what tasks wait for
_KINDS = {  # of those
    "task": "hash",
    "unique": "string",
    "slots": "hash",
    "pace": "string",
    "number": "string",
    "group": "list",
    "waits": "zset",
    "stats": "hash",
}
_digest_of_slots = lru_cache(maxsize=1024)(digest)  # many tasks have the same concurrency key
_FLOW_KINDS = {"marks": "string", "joins": "list", "bodies": "list"}  # likewise, of those of workflows


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
    stats_total: str = field(init=False)  # hash: a function's path, or '' for the sum → what workers counted: `statistics`
    scheduled: str = field(
        init=False
    )  # sorted set: 16 characters (see `scheduled`) and a task, by when it is due (milliseconds)
    wake: str = field(init=False)  # list: a '1' when something is due earlier than all before, for sweepers to wait for
    cron: str = field(init=False)  # hash: a schedule's name → what it is (MessagePack)
    cron_due: str = field(init=False)  # sorted set: the names of schedules that are not paused, by their next occurrence
    cron_defined: str = field(init=False)  # hash: the names of schedules that code has registered → SHA-1 of what they were
    control: str = field(init=False)  # hash: what operators want: paused, concurrency, rate, burst, and what the history keeps
    history: str = field(init=False)  # stream: what has happened to tasks: see docs/protocol.md, section 7h
    bucket: str = field(init=False)  # hash with a TTL: tokens, at → how many there were when (milliseconds since 1970)
    groups: str = field(init=False)  # list: the SHA-1 of each group that has waiting tasks, in the order of their turns
    waited: str = field(init=False)  # hash: how the name of a set `waits` ends → what the tasks in it wait for
    deferred: str = field(init=False)  # hash with a TTL: SHA-1 of a task that could not run yet → 'first:last:count'
    flow_outbox: str = field(
        init=False
    )  # list: the workflows in which something has happened that is to be carried into their joins
    flow_ids: str = field(init=False)  # sorted set: the workflows, by when they are forgotten (milliseconds)
    flow_due: str = field(init=False)  # sorted set: a workflow and what its time is over for, by when it is (milliseconds)
    bulk_jobs: str = field(init=False)  # hash: operators' acts on many tasks: id → how far each is; open:<id> → go or stop
    numbers: str = field(init=False)  # string: how many tasks got a number so far (see `number`)

    def __post_init__(self) -> None:
        name = self.queue
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"a queue's name must be a string that is not empty, not {name!r}")
        try:
            name.encode(errors="surrogateescape")
        except UnicodeEncodeError as error:
            raise ConfigurationError(f"{name!r} cannot be the name of a queue: it has no form in UTF-8 ({error})") from error
        for taken, what in _SHARED.items():
            if name == taken or name.startswith(f"{taken}:"):
                raise ConfigurationError(f"{name!r} cannot be the name of a queue: it is {what}")
        if owner(name) is not None:
            raise ConfigurationError(
                f"{name!r} cannot be the name of a queue: it would share keys with another queue; choose one that does "
                f"not contain {_LEASE!r} and does not end in {', '.join(_SUFFIXES)}, in _task_ and 16 characters, "
                f"in _unique_, _slots_, _pace_, _waits_ or _group_ and 40 hexadecimal digits, in _number_ and digits, "
                f"in _flow_ and 10 characters, or in _stats_minutes_, _stats_hours_ or _stats_days_ and a number"
            )
        for part in TYPES.keys() - {"queue"}:
            object.__setattr__(self, part, f"{name}_{part}")

    def kinds(self, touched: Iterable[str] = ()) -> dict[str, str]:
        """Key → the type that it has if it is there, as Redis's TYPE names it; also those of `touched` that belong to one
        task or group."""
        kinds = {key: TYPES[part] for part, key in self.all().items()}
        for key in touched:
            if self.owns_for_a_task(key) or self.owns_group(key) or self.owns_waits(key) or self.owns_stats(key):
                kinds[key] = _KINDS[key[len(self.queue) :].split("_")[1]]
            elif self.owns_flow(key):
                kinds[key] = _FLOW_KINDS.get(key[len(self.queue) :].split("_")[2], "hash")
        return kinds

    def foreign(self, found: Mapping[str, str]) -> str | None:
        """What to say of keys that hold another program's data; None if there are none.

        Args:
            found: key → the type that it has.
        """
        wrong = [
            f"the key {key!r} of queue {self.queue!r} is a {found[key]} and not a {kind}"
            for key, kind in self.kinds(found).items()
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

    def job_lease(self, identity: str) -> str:
        """string with a TTL: the lease of whoever works on an operator's job."""
        return self.lease(f"job_{identity}")

    def task(self, identity: str) -> str:
        """hash with a TTL: the state of a tracked task, and its result."""
        return f"{self.queue}_task_{identity}"

    def flow(self, flow: str) -> str:
        """hash: a workflow: what it is, its nodes, what has become of them."""
        return f"{self.queue}_flow_{flow}"

    def marks(self, flow: str) -> str:
        """string: one character for each node of a workflow: what has become of it."""
        return f"{self.queue}_flow_marks_{flow}"

    def joins(self, flow: str) -> str:
        """list: what has happened in a workflow, until it has been carried into its joins."""
        return f"{self.queue}_flow_joins_{flow}"

    def bodies(self, flow: str, number: int) -> str:
        """list: the tasks of one set of nodes of a workflow, if these are many."""
        return f"{self.queue}_flow_bodies_{number}_{flow}"

    def unique(self, key: str) -> str:
        """string with a TTL: the id of the task that has a unique key."""
        return self.unique_by(digest(key))

    def unique_by(self, sha1: str) -> str:
        """As `unique`, of a key that is named by its `digest`; and string: the id of the workflow that has one."""
        return f"{self.queue}_unique_{sha1}"

    def group(self, sha1: str) -> str:
        """list: the waiting tasks of one group, named by its `digest`."""
        return f"{self.queue}_group_{sha1}"

    def slots(self, key: str) -> str:
        """hash with a TTL: of the tasks with one concurrency key that run: lease → length of the task."""
        return f"{self.queue}_slots_{_digest_of_slots(key)}"

    def pace(self, key: str) -> str:
        """string with a TTL: the next free instant of a rate key, in microseconds since 1970."""
        return f"{self.queue}_pace_{digest(key)}"

    def number(self, number: int) -> str:
        """string with a TTL: who holds the task with a number (MessagePack)."""
        return f"{self.queue}_number_{number}"

    def waits(self, key: str) -> str:
        """sorted set: the tasks that wait for `key`, which is one of `slots` or `unique`: as in the schedule, by when they
        came. A unique key's digest stands there read from its end, so that it is no concurrency key's."""
        sha1 = key[-40:]
        return f"{self.queue}_waits_{sha1 if key == f'{self.queue}_slots_{sha1}' else sha1[::-1]}"

    def stats_of(self, tier: str, number: int) -> str:
        """hash with a TTL: rows of statistics. `tier`: minutes (of the hour of that number since 1970), hours (of the day), or
        days (of the thirty days)."""
        return f"{self.queue}_stats_{tier}_{number}"

    def sought(self, name: str, what: bytes) -> tuple[str, str, int] | None:
        """What a field of `waited` means: where the tasks wait, the key that they wait for, and how many slots there are or 0.
        None for what no script has written."""
        found = _SOUGHT.fullmatch(what)
        line = f"{self.queue}_waits_{name}"
        if found is None or not self.owns_waits(line):
            return None
        kind, sha1 = what.decode().split(":")[:2]
        return line, f"{self.queue}_{kind}_{sha1}", int(found[1] or 0)

    def own(self, holds: Holds) -> tuple[str, ...]:
        """The five keys of what a task may hold, in the order that all scripts know: state, unique key, who waits for that,
        slots, who waits for one. The key `processing` stands for what it has not."""
        none = self.processing
        unique = none if holds.unique is None else self.unique(holds.unique)
        slots = none if holds.slots is None else self.slots(holds.slots)
        lines = (none if key is none else self.waits(key) for key in (unique, slots))
        state = none if holds.id is None else self.task(holds.id)
        return (state, unique, next(lines), slots, next(lines))

    @property
    def home(self) -> tuple[str, str, str, str]:
        """What every script that ends leases begins with: where tasks are held, where those wait that it wakes."""
        return self.processing, self.queue, self.noti, self.waited

    def all(self) -> dict[str, str]:
        """The keys that there is one of: what a field above is called → the key."""
        return asdict(self)

    def owns_lease(self, key: str) -> bool:
        """Whether `key` is a lease of this queue, by its form."""
        return key.startswith(self.queue + _LEASE)

    def owns_for_a_task(self, key: str) -> bool:
        """Whether `key` belongs to one task of this queue, by its form."""
        return key.startswith(self.queue) and bool(_OF_A_TASK.fullmatch(key, len(self.queue)))

    def owns_unique(self, key: str) -> bool:
        """Whether `key` is a unique key of this queue, by its form."""
        return self.owns_for_a_task(key) and key.startswith(f"{self.queue}_unique_")

    def owns_waits(self, key: str) -> bool:
        """Whether `key` has tasks of this queue that wait for another key, by its form."""
        return key.startswith(self.queue) and bool(_OF_WAITS.fullmatch(key, len(self.queue)))

    def owns_flow(self, key: str) -> bool:
        """Whether `key` belongs to one workflow of this queue, by its form."""
        return key.startswith(self.queue) and bool(_OF_FLOWS.fullmatch(key, len(self.queue)))

    def owns_stats(self, key: str) -> bool:
        """Whether `key` has rows of this queue's statistics, by its form."""
        return key.startswith(self.queue) and bool(_OF_STATS.fullmatch(key, len(self.queue)))

    def owns_group(self, key: str) -> bool:
        """Whether `key` has the waiting tasks of a group of this queue, by its form."""
        return key.startswith(self.queue) and bool(_OF_A_GROUP.fullmatch(key, len(self.queue)))


@lru_cache(maxsize=1024)
def home_of(queue: str) -> Keys | None:
    """The keys of the queue that a task calls the home of its workflow; None if that is no name of a queue."""
    try:
        return Keys(queue)
    except ConfigurationError:
        return None


def register_of(queue: str, cluster: bool) -> str:
    """sorted set: the register in which `queue` stands. On a cluster there is one for each hash tag."""
    return _shared(REGISTER, queue, cluster)


def audit_of(queue: str, cluster: bool) -> str:
    """stream: the audit in which acts on `queue` stand. On a cluster there is one for each hash tag."""
    return _shared(AUDIT, queue, cluster)


def interests_of(queue: str, cluster: bool) -> str:
    """hash: the interests of `queue` and others. On a cluster there is one for each hash tag."""
    return _shared(INTERESTS, queue, cluster)


def request_of(queue: str, sha1: str) -> str:
    """string or hash with a TTL: that a request to enqueue something in `queue`, named by its digest, has been carried out."""
    return f"{_shared(REQUESTS, queue, cluster=True)}:{sha1}"


def _shared(key: str, queue: str, cluster: bool) -> str:
    if not cluster:
        return key
    tagged = _TAG.search(queue)
    return f"{key}:{tagged[0] if tagged else '{' + queue + '}'}"


def owner(key: str) -> str | None:
    """The queue that `key` belongs to by its form. None if it has none of our forms: it may be a list of waiting tasks."""
    name, lease, _ = key.partition(_LEASE)
    if lease:
        return name
    if match := _OF_ONE.fullmatch(key):
        return match[1]
    return next((key.removesuffix(suffix) for suffix in _SUFFIXES if key.endswith(suffix)), None)
