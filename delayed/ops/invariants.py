"""The invariants of a queue's keys: one list, for `delayed fsck`, for the tests after every test, and for docs/protocol.md.

A new kind of key has a field in `keys.Keys`, a type in `keys.TYPES`, and what must hold of it in `INVARIANTS`.
"""

import re
from collections.abc import Iterator
from hashlib import sha1

import msgpack

from ..base.ids import FLOW, token
from ..cron.definition import definition_of
from ..interests.table import Table
from ..queue.history import unpacked
from ..queue.queue import Queue
from ..redis.command import ResponseError
from ..redis.keys import CONTROL, HISTORY, LETTER, STATS, TYPES, owner
from ..redis.places import scheduled
from ..redis.statistics import FUNCTIONS, numbers
from ..task.decode import is_task
from .checks import LARGE, PAGE, Invariant, Snapshot, When, pages
from .flow_invariants import FLOW_INVARIANTS, lives
from .job_records import JOB_INVARIANTS

MOST_LOSSES = 10_000  # as in lua/sweep.lua,
KEEP_LOSSES = 86_400  # seconds, likewise
ENDED = (b"succeeded", b"failed", b"expired", b"cancelled")  # states
_LETTERS = 1000  # the newest so many dead letters are looked at
_BOUND = 60.0  # seconds that a lease gets that had no TTL; longer than any sensible worker lets pass between two beats
_NEVER = 1_000_000_000  # losses: what is put back here is counted, but to bury is for a sweeper, which knows its limit


def _types(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for part, key in snapshot.keys.all().items():
        if snapshot.types[part] not in ("none", TYPES[part]):
            yield key, f"a {snapshot.types[part]}, and not a {TYPES[part]}; RENAME it, and find out who wrote it"


def _strangers(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    known = set(snapshot.keys.all().values())
    for key in snapshot.suffixed:
        if (
            key in known
            or owner(key) not in (None, snapshot.keys.queue)
            or snapshot.keys.owns_lease(key)
            or snapshot.keys.owns_for_a_task(key)
            or snapshot.keys.owns_group(key)
            or snapshot.keys.owns_waits(key)
            or snapshot.keys.owns_stats(key)
            or snapshot.keys.owns_flow(key)
        ):
            continue  # ours, or by its form another queue's
        kind = snapshot.queue.store.call("TYPE", key).decode()
        if owner(key) is not None or kind not in ("list", "none"):  # a list may be another queue
            yield key, f"a {kind} that is no key of the protocol; whose is it?"


def _notifications(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    waiting, notifications = snapshot.queue.store.lengths()
    between = snapshot.alive(snapshot.keys.workers)  # each of them may have popped a notification, and not yet taken its task
    if abs(waiting - notifications) > between:
        yield snapshot.keys.noti, f"{notifications} notifications for {waiting} waiting tasks"


def _held(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for lease in snapshot.dead(snapshot.keys.processing):
        yield lease, "a dead lease that holds a task, and no sweeper has taken it"


def _elsewhere(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for names in snapshot.names(snapshot.keys.processing):
        for lease in names:
            if not snapshot.in_slot(lease):
                yield lease, "a lease in another slot, so no sweeper can ask for it; old workers cannot be used here"


def _tasks(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for lease, data in snapshot.fields(snapshot.keys.processing):
        if not is_task(data):
            digest = sha1(data, usedforsecurity=False).hexdigest()  # the lease may hold another such thing at the next look
            yield f"{lease} {digest}", f"{len(data)} bytes that are no task; its worker should have buried them"


def _unbounded(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for some in pages(snapshot.leases, PAGE):
        for lease in snapshot.queue.store.bound(some):
            yield lease, "a lease without a TTL: what it holds never comes back"


def _kept_for_ever(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for some in pages([key for key in snapshot.suffixed if snapshot.keys.owns_for_a_task(key)], PAGE):
        for key in snapshot.queue.store.bound(some):
            if not lives(snapshot.queue, key):
                yield key, "what is kept of a task, without a TTL"


def _owners(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    call, keys = snapshot.queue.store.call, snapshot.keys
    for key in [key for key in snapshot.suffixed if keys.owns_unique(key)]:
        owner_id = call("GET", key) if call("TYPE", key) == b"string" else None
        state = keys.task((owner_id or b"").decode(errors="replace"))
        if owner_id is not None and keys.owns_for_a_task(state) and call("TYPE", state) == b"hash":
            word = call("HGET", state, "state") or b""
            flow = keys.flow((owner_id or b"").decode(errors="replace")[:FLOW])
            if word in ENDED and not call("EXISTS", flow):  # a workflow has it until it is forgotten
                yield (
                    key,
                    f"taken by task {owner_id.decode()}, which is {word.decode()}: DEL it, or it is taken until it runs out",
                )


def _schedule(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    yield from _members(snapshot, snapshot.keys.scheduled)


def _members(snapshot: Snapshot, key: str) -> Iterator[tuple[str, str]]:
    cursor = b""
    while cursor != b"0":
        cursor, found = snapshot.queue.store.call("ZSCAN", key, cursor or b"0", "COUNT", LARGE)
        for member in found[::2]:
            if not is_task(scheduled(member)[1]):
                yield f"{key} {member[:16]!r}", f"{len(member)} bytes that are no id and task"


def _waiting(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    call, keys = snapshot.queue.store.call, snapshot.keys
    for key in [key for key in snapshot.suffixed if keys.owns_waits(key)]:
        kind = call("TYPE", key).decode()
        if kind not in ("zset", "none"):
            yield key, f"a {kind}, and not a zset"
        elif kind == "zset":
            yield from _members(snapshot, key)
            if not call("HEXISTS", keys.waited, key[-40:]) and call("EXISTS", key):
                yield key, f"tasks that wait, and {keys.waited} does not say what for, so nobody may wake them"
    for name, what in snapshot.fields(keys.waited):
        if keys.sought(name, what) is None:
            yield f"{keys.waited} {name}", f"{what[:60]!r} is nothing that tasks wait for, or this no SHA-1"


def _unwoken(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    call, keys = snapshot.queue.store.call, snapshot.keys
    for name, what in snapshot.fields(keys.waited):
        line, key, _ = keys.sought(name, what) or ("", "", 0)
        if call("EXISTS", keys.queue, keys.processing):
            return  # one that has been woken may be there
        if line and not call("EXISTS", key) and call("TYPE", line) == b"zset" and not call("EXISTS", key):
            yield line, f"tasks that wait for {key}, which nobody has"


def _deferred(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for digest, note in snapshot.fields(snapshot.keys.deferred):
        if not re.fullmatch(r"[0-9a-f]{40}", digest) or not re.fullmatch(rb"\d+:\d+:\d+", note):
            yield (
                f"{snapshot.keys.deferred} {digest}",
                f"{note[:40]!r} is no note of a task that could not run yet, or this no SHA-1",
            )


def _lasting_notes(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    if snapshot.queue.store.bound([snapshot.keys.deferred]):
        yield snapshot.keys.deferred, "it has no TTL, so that its notes stay for ever"


def _schedules(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for name, definition in snapshot.fields(snapshot.keys.cron):
        if definition_of(definition) is None:
            yield f"{snapshot.keys.cron} {name}", "no definition of a schedule; remove it with `delayed cron remove`"


def _unscheduled(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    cursor = b""
    while cursor != b"0":
        cursor, found = snapshot.queue.store.call("ZSCAN", snapshot.keys.cron_due, cursor or b"0", "COUNT", PAGE)
        for name in found[::2]:
            if not snapshot.queue.store.call("HEXISTS", snapshot.keys.cron, name) and snapshot.queue.store.call(
                "ZSCORE", snapshot.keys.cron_due, name
            ):
                yield f"{snapshot.keys.cron_due} {name.decode(errors='surrogateescape')}", "no schedule has this name"


def _defined(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for name, digest in snapshot.fields(snapshot.keys.cron_defined):
        if not re.fullmatch(rb"[0-9a-f]{40}", digest):
            yield f"{snapshot.keys.cron_defined} {name}", f"{digest[:40]!r} is no SHA-1 of a definition"


def _control(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for name, value in snapshot.fields(snapshot.keys.control):
        if name not in (*CONTROL, *HISTORY):
            yield f"{snapshot.keys.control} {name}", "nothing that workers know"
        elif name == "history" and value in (b"off", b"failures", b"all"):
            continue
        elif name != "paused" and value and not re.fullmatch(rb"[0-9.e+-]{1,30}", value):
            yield f"{snapshot.keys.control} {name}", f"{value[:40]!r} is no number, and no limit"


def _histories(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    key = snapshot.keys.history
    for entry, fields in snapshot.queue.store.call("XREVRANGE", key, "+", "-", "COUNT", LARGE):
        batch = dict(zip(fields[::2], fields[1::2], strict=True)).get(b"batch", b"")
        if next(unpacked(entry.decode(), batch), None) is None:
            yield f"{key} {entry.decode()}", "an entry that tells of nothing"


def _groups(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    call, keys = snapshot.queue.store.call, snapshot.keys
    lists = [key for key in snapshot.suffixed if keys.owns_group(key)]
    seen = set[str]()
    while page := snapshot.queue.store.grouped(PAGE, len(seen)):
        for digest in page:
            twice = digest in seen and call("LPOS", keys.groups, digest, "RANK", 2) is not None
            if twice or not call("EXISTS", keys.group(digest)):
                yield f"{keys.groups} {digest}", "a group that has no waiting tasks, or that stands in the rotation twice"
        if seen >= set(page):
            break  # it has turned meanwhile, or names a group twice
        seen.update(page)
    for key in lists:
        kind = call("TYPE", key).decode()
        first = call("LINDEX", key, 0) if kind == "list" else None
        if kind not in ("list", "none"):
            yield key, f"a {kind}, and not a list"
        elif first is not None and not is_task(first):
            yield key, f"{len(first)} bytes that are no task"
        elif first is not None and key.removeprefix(keys.group("")) not in seen and call("EXISTS", key):
            yield key, "a group with waiting tasks that is not in the rotation, so nobody takes them: RPUSH its digest to that"


def _losses(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for digest, count in snapshot.fields(snapshot.keys.lost):
        if not re.fullmatch(r"[0-9a-f]{40}", digest) or not re.fullmatch(rb"\d+:.*", count, re.DOTALL):
            yield f"{snapshot.keys.lost} {digest}", f"{count[:40]!r} is no count of losses, or this no SHA-1"


def _few_losses(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    count = int(snapshot.queue.store.call("HLEN", snapshot.keys.lost))
    if count > MOST_LOSSES:
        yield snapshot.keys.lost, f"{count} lost counts; the next loss forgets them all"


def _lasting_losses(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    if snapshot.queue.store.bound([snapshot.keys.lost]):
        yield snapshot.keys.lost, "it has no TTL, so losses are remembered for ever"


def _interest(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    store, name = snapshot.queue.store, snapshot.queue.name
    try:
        kind = store.call("TYPE", store.interests).decode()
    except ResponseError:  # there are rules (ACL) that forbid it: it is not of the queue's own keys
        return
    if kind not in ("none", "hash"):
        yield store.interests, f"a {kind}, and not a hash; RENAME it, and find out who wrote it"
    elif kind == "hash" and (value := store.call("HMGET", store.interests, name)[0]) is not None:
        for queue, why in Table((name.encode(errors="surrogateescape"), value)).faults.items():
            yield f"{store.interests} {queue}", why


def _letters(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    last, left = "+", _LETTERS
    while left > 0:
        page = snapshot.queue.store.call("XREVRANGE", snapshot.keys.dead, last, "-", "COUNT", LARGE)
        for entry_id, fields in page:
            lacking = [name for name in LETTER if name.encode() not in fields[::2]]
            if lacking:
                yield f"{snapshot.keys.dead} {entry_id.decode()}", f"a dead letter without {', '.join(lacking)}"
        if len(page) < LARGE:
            return
        last, left = f"({page[-1][0].decode()}", left - LARGE


def _described(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for lease, about in snapshot.fields(snapshot.keys.workers):
        try:
            said = msgpack.unpackb(about, unicode_errors="surrogateescape")
        except Exception:  # any program may have written anything
            said = None
        if not isinstance(said, dict):
            yield f"{snapshot.keys.workers} {lease}", "what this process says of itself is no MessagePack map"


def _registered(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for lease in snapshot.dead(snapshot.keys.workers):
        yield lease, "a dead process that is still in the register"


def _numbers(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for names in snapshot.names(snapshot.keys.stats):
        for name, value in zip(names, snapshot.queue.store.call("HMGET", snapshot.keys.stats, *names), strict=True):
            if name not in STATS:
                yield f"{snapshot.keys.stats} {name}", "no count of the protocol"
            elif value is not None and not re.fullmatch(rb"\d{1,18}", value):
                yield f"{snapshot.keys.stats} {name}", f"{value[:40]!r} is no number, so it counts nothing"


def _statistics(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for path, counts in snapshot.fields(snapshot.keys.stats_total):
        if len(numbers(counts)) < 2:
            yield f"{snapshot.keys.stats_total} {path}", f"{counts[:40]!r} is no entry of the statistics"
    count = int(snapshot.queue.store.call("HLEN", snapshot.keys.stats_total))
    if count > FUNCTIONS + 1:
        yield snapshot.keys.stats_total, f"{count} functions, of which workers write {FUNCTIONS} at most"


def _lasting_statistics(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for some in pages([key for key in snapshot.suffixed if snapshot.keys.owns_stats(key)], PAGE):
        for key in snapshot.queue.store.bound(some):
            yield key, "statistics without a TTL, which stay for ever"


def _at_rest(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for key, what in ((snapshot.keys.processing, "tasks are held"), (snapshot.keys.workers, "processes are in the register")):
        count = int(snapshot.queue.store.call("HLEN", key))
        if count:
            yield key, f"{count} {what}"
    if snapshot.leases:
        yield snapshot.leases[0], f"{len(snapshot.leases)} leases live"


def _sweep(queue: Queue, leases: list[str]) -> None:
    sweep_id = token()
    for some in pages(leases, PAGE):
        while queue.store.sweep(some, _NEVER, sweep_id, "fsck").more:
            pass


def _renotify(queue: Queue, _subjects: list[str]) -> None:
    while queue.store.repair()[2]:
        pass


def _bound(queue: Queue, leases: list[str]) -> None:
    for some in pages(leases, PAGE):
        queue.store.bound(some, _BOUND)


def _prune(queue: Queue, leases: list[str]) -> None:
    for some in pages(leases, PAGE):
        queue.store.prune(some)


def _forget_counts(queue: Queue, subjects: list[str]) -> None:
    """What is no number stays none: every HINCRBY on it fails, so nothing can have been counted since we looked."""
    for subject in subjects:
        name = subject.removeprefix(f"{queue.keys.stats} ")
        if name in STATS:
            queue.store.call("HDEL", queue.keys.stats, name)


A, S, R = When.ALWAYS, When.SOON, When.AT_REST
INVARIANTS = (
    Invariant("types", A, "Each key has the type of section 1.", (), _types),
    Invariant(
        "known-keys",
        A,
        "No other key begins with `Q_`, unless it is another queue's by its form.",
        (),
        _strangers,
        grave=False,
    ),
    Invariant(
        "notifications",
        S,
        "There are as many notifications as waiting tasks, give or take one for each living process.",
        ("queue", "noti", "workers"),
        _notifications,
        "`repair`",
        _renotify,
    ),
    Invariant(
        "stats",
        A,
        "`Q_stats` has the fields `recovered` and `buried` at most, and they are whole numbers.",
        ("stats",),
        _numbers,
        "`HDEL` of what is no number: the count begins anew",
        _forget_counts,
    ),
    Invariant(
        "statistics",
        A,
        "`Q_stats_total` has an entry for each of 200 functions at most, and one for all.",
        ("stats_total",),
        _statistics,
    ),
    Invariant(
        "statistics-ttl",
        A,
        "Each key `Q_stats_minutes_*`, `Q_stats_hours_*` and `Q_stats_days_*` has a TTL.",
        (),
        _lasting_statistics,
        "`bound`, with a day",
        lambda queue, keys: [queue.store.bound(some, KEEP_LOSSES) for some in pages(keys, PAGE)],
    ),
    Invariant(
        "held-live",
        S,
        "Each field of `Q_processing` is a living lease, or the next sweep ends it.",
        ("queue", "noti", "processing", "lost", "dead"),
        _held,
        "`sweep`, which puts the tasks back and counts the loss; it buries none",
        _sweep,
    ),
    Invariant("held-slot", A, "On a cluster, each lease lies in the slot of its queue.", ("processing",), _elsewhere),
    Invariant("held-tasks", S, "What is held is a task; a worker buries what is none.", ("processing",), _tasks),
    Invariant("lease-ttl", A, "Each key `Q_lease_*` has a TTL.", (), _unbounded, "`bound`, with a TTL of a minute", _bound),
    Invariant(
        "kept-ttl",
        A,
        "Each key `Q_task_*`, `Q_unique_*`, `Q_slots_*`, `Q_pace_*` and `Q_number_*` has a TTL, but for the state of a "
        "workflow that goes on, and the unique key of one that is known.",
        (),
        _kept_for_ever,
        "`bound`, with a day",
        lambda queue, keys: [queue.store.bound(some, KEEP_LOSSES) for some in pages(keys, PAGE)],
    ),
    Invariant(
        "unique-owners",
        A,
        "The task that has a unique key has not ended, as far as its state is known.",
        (),
        _owners,
    ),
    Invariant(
        "schedule",
        A,
        "A member of `Q_scheduled` is 16 characters, for a task with a group a colon and its digest, and a task.",
        ("scheduled",),
        _schedule,
    ),
    Invariant(
        "cron",
        A,
        "`Q_cron` maps names to MessagePack maps with `expression`, `tz`, `catch_up`, `task` and perhaps `expires`.",
        ("cron",),
        _schedules,
    ),
    Invariant(
        "cron-due",
        A,
        "Each member of `Q_cron_due` is a field of `Q_cron`; a sweeper removes others when they are due.",
        ("cron", "cron_due"),
        _unscheduled,
    ),
    Invariant(
        "cron-defined",
        A,
        "`Q_cron_defined` maps names to SHA-1 digests.",
        ("cron_defined",),
        _defined,
    ),
    Invariant(
        "control",
        A,
        "`Q_control` has the fields `paused`, `concurrency`, `rate`, `burst`, `history`, `history_days` and `history_bytes` "
        "at most, and all but the first are numbers or empty; `history` may be a word.",
        ("control",),
        _control,
    ),
    Invariant(
        "groups",
        A,
        "Each group in `Q_groups` stands there once and has a list `Q_group_<sha1>`; each such list is of tasks and stands "
        "there.",
        ("groups",),
        _groups,
    ),
    Invariant(
        "waits",
        A,
        "A member of `Q_waits_<hex>` has the form of one of `Q_scheduled`; `Q_waited` says of each such set what for.",
        ("waited",),
        _waiting,
    ),
    Invariant(
        "waits-woken",
        S,
        "While no task is in the queue or held, nobody waits for a key that nobody has, or the next sweep wakes one.",
        ("queue", "noti", "processing", "waited"),
        _unwoken,
        "`wake`",
        lambda queue, _: queue.store.wake_all(),
    ),
    Invariant("deferred", A, "`Q_deferred` maps SHA-1 digests to `<first>:<last>:<count>`.", ("deferred",), _deferred),
    Invariant(
        "deferred-ttl",
        A,
        "`Q_deferred` has a TTL.",
        ("deferred",),
        _lasting_notes,
        "`EXPIRE`, with a day, as at each note",
        lambda queue, _: queue.store.call("EXPIRE", queue.keys.deferred, KEEP_LOSSES),
    ),
    Invariant("interest", A, "What the table of interests has for a queue can be read.", (), _interest),
    Invariant("losses", A, "`Q_lost` maps SHA-1 digests to `<losses>:<sweep>`.", ("lost",), _losses),
    Invariant("losses-few", A, "`Q_lost` has 10,000 fields at most.", ("lost",), _few_losses),
    Invariant(
        "losses-ttl",
        A,
        "`Q_lost` has a TTL.",
        ("lost",),
        _lasting_losses,
        "`EXPIRE`, with a day, as at each loss",
        lambda queue, _: queue.store.call("EXPIRE", queue.keys.lost, KEEP_LOSSES),
    ),
    Invariant(
        "dead-letters",
        A,
        "Each dead letter has the fields `task`, `reason`, `detail` and `worker` (`fsck` reads the newest thousand).",
        ("dead",),
        _letters,
    ),
    Invariant(
        "history",
        A,
        "Each entry of `Q_history` tells of something (`fsck` reads the newest ones).",
        ("history",),
        _histories,
    ),
    Invariant("register", A, "What stands in `Q_workers` is a MessagePack map.", ("workers",), _described),
    Invariant(
        "register-live",
        S,
        "Each field of `Q_workers` is a living lease, or the next sweep strikes it off.",
        ("workers",),
        _registered,
        "`prune`",
        _prune,
    ),
    *FLOW_INVARIANTS,
    *JOB_INVARIANTS,
    Invariant(
        "rest",
        R,
        "Nothing is held, no lease lives and nobody is in the register.",
        ("processing", "workers"),
        _at_rest,
    ),
)
