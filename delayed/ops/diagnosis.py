"""Judges a server's settings and suggests fixes. It reads nothing: `doctor` does that."""

from collections.abc import Iterator
from typing import NamedTuple

from ..base.text import counted

LEVELS = ("problem", "warning", "note", "ok")  # a problem: tasks can be lost, or stay held, and nobody is told
OLDEST = (6, 2)  # the version of Redis that the scripts need
_WAITAOF = (7, 2)
_FULL = 0.8  # of maxmemory
_SLOW, _VERY_SLOW = 5.0, 1000.0  # milliseconds for a round trip: the median, the longest
_OVERDUE = 10.0  # seconds for which what is due may still be in the schedule
_APART = 1.0  # seconds between two clocks
_SMALL_BUFFER = 16 << 20  # bytes; a reply with tasks has a mebibyte or so, unless a task is larger


class ServerFacts(NamedTuple):
    """Facts about a server; None where one could not be read."""

    product: str = "Redis"  # or Valkey
    version: str | None = None  # of the product
    mode: str | None = None  # standalone, cluster, sentinel
    role: str | None = None  # master, slave
    through_cluster: bool = False  # our client is one for a cluster
    aof: bool | None = None
    fsync: str | None = None  # always, everysec, no
    aof_failed: bool = False  # the last write to it
    save: str | None = None  # the rule for snapshots; empty: none
    snapshot_failed: bool = False  # the last one
    policy: str | None = None  # maxmemory-policy
    memory_limit: int | None = None  # bytes; 0: none
    memory_used: int | None = None  # bytes
    replicas: int | None = None
    replicas_needed: int | None = None  # min-replicas-to-write
    timeout: int | None = None  # seconds after which an idle connection is closed; 0: never
    buffer_limit: int | None = None  # bytes of replies that may wait for a client; 0: any number
    round_trip: float | None = None  # milliseconds, the median
    longest: float | None = None  # milliseconds, the longest
    clock_ahead: float | None = None  # seconds that the server's clock is ahead of ours
    slow_calls: int = 0  # calls of our scripts in SLOWLOG
    slowest: float = 0.0  # milliseconds, of them
    unreadable: tuple[str, ...] = ()  # commands that are forbidden


class Advice(NamedTuple):
    """One finding about a set-up, with its level and what to change."""

    level: str  # one of LEVELS
    about: str  # a word or two
    says: str  # what is so, and what it means for tasks
    change: str = ""  # what to do


class QueueFacts(NamedTuple):
    """Facts about a queue: what waits, what is stuck, and which processes serve it."""

    queue: str
    waiting: int
    workers: int  # in the register; those of the older packages do not register
    sweepers: int
    stuck: int  # tasks under leases that stayed dead for `stuck_for` seconds
    stuck_for: float
    faults: int  # what else `fsck` finds
    scheduled: int = 0  # tasks that wait for their time
    overdue: int = 0  # of them, when it has come
    groups: int = 0  # groups with waiting tasks
    oldest: float | None = None  # seconds that one of all these has waited, as far as that is known
    old_workers: int = 0  # workers of the older packages that hold a task now
    headers: bool = False  # some of its tasks have headers, which those do not know
    paused: bool = False


def diagnose(facts: ServerFacts) -> list[Advice]:
    """The advice about a server with these `facts`, the worst first."""
    judges = (_version, _place, _persistence, _eviction, _memory, _replicas, _connections, _latency, _clock, _unread)
    found = [advice for each in judges for advice in each(facts)]
    return sorted(found, key=lambda advice: LEVELS.index(advice.level))


def diagnose_queue(served: QueueFacts) -> list[Advice]:
    """The advice about a queue, the worst first."""
    return sorted(_queue(served), key=lambda advice: LEVELS.index(advice.level))


def _version(facts: ServerFacts) -> Iterator[Advice]:
    if facts.version is None:
        return
    name = f"{facts.product} {facts.version}"
    version = tuple(int(part) if part.isdigit() else 0 for part in facts.version.split(".")[:2])
    if version < OLDEST:
        yield Advice("problem", "version", f"{name} lacks commands that the scripts need", "use 6.2 or later, or Valkey")
    elif version < _WAITAOF:
        yield Advice("note", "version", f"{name} works; it has no WAITAOF, which says when a write is on disk (7.2)")
    else:
        yield Advice("ok", "version", name)


def _place(facts: ServerFacts) -> Iterator[Advice]:
    if facts.mode == "sentinel":
        yield Advice("problem", "server", "this is a Sentinel, which holds no data", "use redis+sentinel://host/service")
    elif facts.role == "slave":
        yield Advice(
            "problem", "server", "this is a replica: it takes no writes", "use the master's address, or redis+sentinel://"
        )
    if facts.mode == "cluster":
        if not facts.through_cluster:
            yield Advice(
                "problem", "cluster", "this is one node of a cluster, and most keys lie elsewhere", "use redis+cluster://"
            )
        yield Advice(
            "note", "cluster", "a queue's name needs a {tag}; workers of the older packages cannot be used; this is a node"
        )


def _persistence(facts: ServerFacts) -> Iterator[Advice]:
    on = "set appendonly yes (CONFIG SET, and in the configuration file)"
    if facts.aof:
        yield from _append_only(facts)
        if facts.aof_failed:
            yield Advice(
                "problem", "persistence", "the last write to the append-only file failed", "see Redis's log; is the disk full?"
            )
    elif facts.save == "":
        yield Advice("problem", "persistence", "nothing is saved to disk: when Redis stops, every task is lost", on)
    elif facts.aof is False and facts.save is None:
        yield Advice(
            "problem", "persistence", "there is no append-only file: when Redis dies, at least the latest tasks are lost", on
        )
    elif facts.aof is False:
        says = f"only snapshots (save {facts.save}): when Redis dies, what was enqueued since the last one is lost"
        yield Advice("problem", "persistence", says, on)
    if facts.snapshot_failed:
        yield Advice(
            "warning", "snapshots", "the last one failed; Redis may refuse all writes until one works", "see Redis's log"
        )


def _append_only(facts: ServerFacts) -> Iterator[Advice]:
    if facts.fsync == "always":
        yield Advice("ok", "persistence", "each write is on disk before it is answered")
    elif facts.fsync == "no":
        says = "the kernel writes the append-only file when it likes: if the host dies, half a minute of tasks is lost"
        yield Advice("warning", "persistence", says, "set appendfsync everysec, or always")
    elif facts.fsync == "everysec":
        says = "if the host dies (not just Redis), up to about a second of tasks that were enqueued is lost"
        yield Advice(
            "note", "persistence", says, "set appendfsync always if that is too much; each enqueue then waits for the disk"
        )
    else:
        yield Advice("note", "persistence", "there is an append-only file; how often it reaches the disk could not be read")


def _eviction(facts: ServerFacts) -> Iterator[Advice]:
    change = "set maxmemory-policy noeviction: enqueues then fail with an error when memory is full, and workers go on"
    if facts.policy is None:
        return
    if facts.policy == "noeviction":
        yield Advice("ok", "eviction", "noeviction: when memory is full, enqueues fail with an error, and workers go on")
    elif not facts.memory_limit:
        says = f"maxmemory-policy {facts.policy} does nothing while there is no maxmemory, and evicts once there is one"
        yield Advice("warning", "eviction", says, change)
    elif facts.policy.startswith("allkeys"):
        says = f"maxmemory-policy {facts.policy}: when memory is full, whole queues are evicted with all their tasks"
        yield Advice("problem", "eviction", says, change)
    else:
        says = (
            f"maxmemory-policy {facts.policy}: when memory is full, leases are evicted, so that tasks run twice at the same "
            f"time, and are buried as lost when that has happened three times"
        )
        yield Advice("problem", "eviction", says, change)


def _memory(facts: ServerFacts) -> Iterator[Advice]:
    limit, used = facts.memory_limit, facts.memory_used
    if limit is None or used is None:
        return
    text = f"{used / 2**20:.0f} MB are used"
    if not limit:
        says = f"{text}, and there is no limit: if the host's memory is full, its kernel may kill Redis"
        yield Advice("note", "memory", says, "set maxmemory below what the host has")
    elif used >= _FULL * limit:
        says = f"{text} of {limit / 2**20:.0f}: at the limit each enqueue fails with an error"
        yield Advice("warning", "memory", says, "raise maxmemory, add workers, or look at the dead letters")
    else:
        yield Advice("ok", "memory", f"{text} of {limit / 2**20:.0f}")


def _replicas(facts: ServerFacts) -> Iterator[Advice]:
    if facts.replicas is None:
        return
    if facts.replicas == 0:
        yield Advice(
            "note", "replicas", "none: while this server is down nothing is enqueued or run; nothing is lost by a fail-over"
        )
    elif facts.replicas_needed:
        says = (
            f"{facts.replicas}, and writes need {facts.replicas_needed}: a fail-over still loses what the replica had not "
            f"received (at most min-replicas-max-lag), and may bring back tasks that had been finished"
        )
        yield Advice("note", "replicas", says)
    else:
        says = (
            f"{facts.replicas}: a fail-over loses tasks that were enqueued and that the replica had not received, however many"
        )
        yield Advice(
            "warning", "replicas", says, "set min-replicas-to-write 1, so that a master without replica takes no writes"
        )


def _connections(facts: ServerFacts) -> Iterator[Advice]:
    if facts.timeout:
        says = f"timeout {facts.timeout}: Redis closes the connection of a worker whose task takes longer"
        yield Advice("warning", "connections", says, "set timeout 0, which is the default; tcp-keepalive finds dead clients")
    if facts.buffer_limit and facts.buffer_limit < _SMALL_BUFFER:
        says = (
            f"client-output-buffer-limit normal {facts.buffer_limit}: a reply with large tasks closes the worker's connection"
        )
        yield Advice("warning", "connections", says, "set it to 0 0 0, which is the default, or to 16 MB and more")


def _latency(facts: ServerFacts) -> Iterator[Advice]:
    if facts.round_trip is None or facts.longest is None:
        return
    text = f"a round trip takes {facts.round_trip:.2f} ms, the longest of some took {facts.longest:.2f} ms"
    if facts.longest >= _VERY_SLOW:
        says = f"{text}: workers drop a connection that does not answer for 4 s"
        yield Advice(
            "warning", "latency", says, "see LATENCY DOCTOR; do large keys, other commands or the network hold it up?"
        )
    elif facts.round_trip >= _SLOW:
        yield Advice(
            "warning", "latency", f"{text}: each enqueue waits for one", "bring programs and Redis nearer; use enqueue_many"
        )
    else:
        yield Advice("ok", "latency", text)
    if facts.slow_calls:
        says = f"{counted(facts.slow_calls, 'call')} of our scripts in SLOWLOG; the longest took {facts.slowest:.1f} ms"
        yield Advice("note", "slow log", says, "large tasks and a busy host do that; keep data elsewhere and send where it is")


def _clock(facts: ServerFacts) -> Iterator[Advice]:
    if facts.clock_ahead is not None:
        apart = abs(facts.clock_ahead)
        text = f"the server's is {apart:.3f} s {'ahead of' if facts.clock_ahead > 0 else 'behind'} ours"
        if apart > _APART:
            says = f"{text}: leases are not affected; the times of dead letters are the server's"
            yield Advice("warning", "clock", says, "let NTP set both")
        else:
            yield Advice("ok", "clock", text)


def _unread(facts: ServerFacts) -> Iterator[Advice]:
    if facts.unreadable:
        says = f"{', '.join(facts.unreadable)} may not be used here, so not everything could be read"
        change = (
            "ask the provider about appendonly, appendfsync, maxmemory-policy noeviction, timeout and min-replicas-to-write"
        )
        yield Advice("note", "permissions", says, change)


def _queue(served: QueueFacts) -> Iterator[Advice]:
    name = served.queue
    if served.overdue and (served.oldest or 0) > _OVERDUE:
        overdue = counted(served.overdue, "scheduled task is", "scheduled tasks are")
        says = f"{overdue} overdue; the oldest task has waited for {served.oldest:.0f} s"
        yield Advice("warning", name, says, f"they are moved by sweepers and by idle workers; run one: delayed sweeper {name}")
    if served.stuck:
        says = f"{counted(served.stuck, 'task is', 'tasks are')} held by dead workers, for {served.stuck_for:.0f} s or longer"
        yield Advice("problem", name, says, f"run a sweeper: delayed sweeper {name}; or once: delayed fsck --repair {name}")
    if served.old_workers and served.headers:
        says = (
            f"{counted(served.old_workers, 'worker')} of the older packages serve it, and some of its tasks have ids or other "
            f"options, which those do not know: they lose such tasks"
        )
        yield Advice("problem", name, says, "stop them, or enqueue with App(…, wire='upstream')")
    if served.paused:
        level = "warning" if _anything_waits(served) else "note"
        says = f"it is paused: none of its tasks begins, and {_what_waits(served)}"
        yield Advice(level, name, says, f"let it go on: delayed queue resume {name}")
    if not served.sweepers:
        says = (
            "no sweeper is running (sweepers of the older packages cannot be detected), "
            "so nobody recovers the tasks of killed workers"
        )
        yield Advice("warning", name, says, f"run one: delayed sweeper {name}")
    if not served.workers:
        says = f"no worker is running (workers of the older packages cannot be detected), and {_what_waits(served)}"
        yield Advice(
            "warning" if _anything_waits(served) else "note",
            name,
            says,
            f"run one: delayed worker {name}",
        )
    if served.faults:
        yield Advice(
            "warning",
            name,
            f"fsck finds {counted(served.faults, 'thing that is', 'things that are')} wrong",
            f"see: delayed fsck {name}",
        )
    if served.workers and served.sweepers and not (served.stuck or served.faults or served.paused):
        yield Advice(
            "ok",
            name,
            f"{counted(served.workers, 'worker')} and {counted(served.sweepers, 'sweeper')} are seen; {_what_waits(served)}",
        )


def _anything_waits(served: QueueFacts) -> bool:
    return bool(served.waiting or served.groups or served.overdue)


def _what_waits(served: QueueFacts) -> str:
    parts = [counted(served.waiting, "task waits", "tasks wait")]
    if served.groups:
        parts.append(f"those of {counted(served.groups, 'group')}")
    if served.scheduled:
        parts.append(f"{served.scheduled} scheduled ({served.overdue} overdue)")
    if served.oldest is not None:
        parts.append(f"the oldest for {served.oldest:.0f} s or longer")
    return ", ".join(parts)


def lines(advice: list[Advice]) -> Iterator[str]:
    """The advice, in lines of text."""
    for each in advice:
        yield f"{each.level:8} {each.about}: {each.says}"
        if each.change:
            yield f"         → {each.change}"
