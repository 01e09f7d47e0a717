"""What holds of a queue's keys: one list, for `delayed fsck`, for the tests after every test, and for docs/protocol.md.

A new kind of key has a field in `keys.Keys`, a type in `keys.TYPES`, and what must hold of it in `INVARIANTS`.
"""

import re
from collections.abc import Iterator
from hashlib import sha1

import msgpack

from ..base.ids import token
from ..cron.definition import definition_of
from ..queue.queue import Queue
from ..redis.keys import TYPES, owner
from ..redis.store import scheduled
from ..task.decode import is_task
from .checks import LARGE, PAGE, Invariant, View, When, pages

MOST_LOSSES = 10_000  # as in lua/sweep.lua,


KEEP_LOSSES = 86_400  # seconds, likewise


CONTROL = ("paused", "concurrency", "rate", "burst")


STATS = (b"recovered", b"buried")


ENDED = (b"succeeded", b"failed", b"expired", b"cancelled")  # states


LETTER = (b"task", b"reason", b"detail", b"worker")


_LETTERS = 1000  # the newest so many dead letters are looked at


_BOUND = 60.0  # seconds that a lease gets that had no TTL; longer than any sensible worker lets pass between two beats


_NEVER = 1_000_000_000  # losses: what is put back here is counted, but to bury is for a sweeper, which knows its limit


def _types(view: View) -> Iterator[tuple[str, str]]:
    for part, key in view.keys.all().items():
        if view.types[part] not in ("none", TYPES[part]):
            yield key, f"a {view.types[part]}, and not a {TYPES[part]}; RENAME it, and find out who wrote it"


def _strangers(view: View) -> Iterator[tuple[str, str]]:
    known = set(view.keys.all().values())
    for key in view.suffixed:
        if (
            key in known
            or owner(key) not in (None, view.keys.queue)
            or view.keys.owns_lease(key)
            or view.keys.owns_for_a_task(key)
            or view.keys.owns_group(key)
            or view.keys.owns_waits(key)
        ):
            continue  # ours, or by its form another queue's
        kind = view.queue.call("TYPE", key).decode()
        if owner(key) is not None or kind not in ("list", "none"):  # a list may be another queue
            yield key, f"a {kind} that is no key of the protocol; whose is it?"


def _notifications(view: View) -> Iterator[tuple[str, str]]:
    waiting, notifications = view.queue.lengths()
    between = view.alive(view.keys.workers)  # each of them may have popped a notification, and not yet taken its task
    if abs(waiting - notifications) > between:
        yield view.keys.noti, f"{notifications} notifications for {waiting} waiting tasks"


def _held(view: View) -> Iterator[tuple[str, str]]:
    for lease in view.dead(view.keys.processing):
        yield lease, "a dead lease that holds a task, and no sweeper has taken it"


def _elsewhere(view: View) -> Iterator[tuple[str, str]]:
    for names in view.names(view.keys.processing):
        for lease in names:
            if not view.in_slot(lease):
                yield lease, "a lease in another slot, so no sweeper can ask for it; upstream's workers cannot be used here"


def _tasks(view: View) -> Iterator[tuple[str, str]]:
    for lease, data in view.fields(view.keys.processing):
        if not is_task(data):
            digest = sha1(data, usedforsecurity=False).hexdigest()  # the lease may hold another such thing at the next look
            yield f"{lease} {digest}", f"{len(data)} bytes that are no task; its worker should have buried them"


def _unbounded(view: View) -> Iterator[tuple[str, str]]:
    for some in pages(view.leases, PAGE):
        for lease in view.queue.bound(some):
            yield lease, "a lease without a TTL: what it holds never comes back"


def _kept_for_ever(view: View) -> Iterator[tuple[str, str]]:
    for some in pages([key for key in view.suffixed if view.keys.owns_for_a_task(key)], PAGE):
        for key in view.queue.bound(some):
            yield key, "what is kept of a task, without a TTL"


def _owners(view: View) -> Iterator[tuple[str, str]]:
    call, keys = view.queue.call, view.keys
    for key in [key for key in view.suffixed if keys.owns_unique(key)]:
        owner_id = call("GET", key) if call("TYPE", key) == b"string" else None
        state = keys.task((owner_id or b"").decode(errors="replace"))
        if owner_id is not None and keys.owns_for_a_task(state) and call("TYPE", state) == b"hash":
            word = call("HGET", state, "state") or b""
            if word in ENDED:
                yield (
                    key,
                    f"taken by task {owner_id.decode()}, which is {word.decode()}: DEL it, or it is taken until it runs out",
                )


def _schedule(view: View) -> Iterator[tuple[str, str]]:
    yield from _members(view, view.keys.scheduled)


def _members(view: View, key: str) -> Iterator[tuple[str, str]]:
    cursor = b""
    while cursor != b"0":
        cursor, found = view.queue.call("ZSCAN", key, cursor or b"0", "COUNT", LARGE)
        for member in found[::2]:
            if not is_task(scheduled(member)[1]):
                yield f"{key} {member[:16]!r}", f"{len(member)} bytes that are no id and task"


def _waiting(view: View) -> Iterator[tuple[str, str]]:
    call, keys = view.queue.call, view.keys
    for key in [key for key in view.suffixed if keys.owns_waits(key)]:
        kind = call("TYPE", key).decode()
        if kind not in ("zset", "none"):
            yield key, f"a {kind}, and not a zset"
        elif kind == "zset":
            yield from _members(view, key)
            if not call("HEXISTS", keys.waited, key[-40:]) and call("EXISTS", key):
                yield key, f"tasks that wait, and {keys.waited} does not say what for, so nobody may wake them"
    for name, what in view.fields(keys.waited):
        if keys.sought(name, what) is None:
            yield f"{keys.waited} {name}", f"{what[:60]!r} is nothing that tasks wait for, or this no SHA-1"


def _unwoken(view: View) -> Iterator[tuple[str, str]]:
    call, keys = view.queue.call, view.keys
    for name, what in view.fields(keys.waited):
        line, key, _ = keys.sought(name, what) or ("", "", 0)
        if call("EXISTS", keys.queue, keys.processing):
            return  # one that has been woken may be there
        if line and not call("EXISTS", key) and call("TYPE", line) == b"zset" and not call("EXISTS", key):
            yield line, f"tasks that wait for {key}, which nobody has"


def _deferred(view: View) -> Iterator[tuple[str, str]]:
    for digest, note in view.fields(view.keys.deferred):
        if not re.fullmatch(r"[0-9a-f]{40}", digest) or not re.fullmatch(rb"\d+:\d+:\d+", note):
            yield (
                f"{view.keys.deferred} {digest}",
                f"{note[:40]!r} is no note of a task that could not run yet, or this no SHA-1",
            )


def _lasting_notes(view: View) -> Iterator[tuple[str, str]]:
    if view.queue.bound([view.keys.deferred]):
        yield view.keys.deferred, "it has no TTL, so that its notes stay for ever"


def _schedules(view: View) -> Iterator[tuple[str, str]]:
    for name, definition in view.fields(view.keys.cron):
        if definition_of(definition) is None:
            yield f"{view.keys.cron} {name}", "no definition of a schedule; remove it with `delayed cron remove`"


def _unscheduled(view: View) -> Iterator[tuple[str, str]]:
    cursor = b""
    while cursor != b"0":
        cursor, found = view.queue.call("ZSCAN", view.keys.cron_due, cursor or b"0", "COUNT", PAGE)
        for name in found[::2]:
            if not view.queue.call("HEXISTS", view.keys.cron, name) and view.queue.call("ZSCORE", view.keys.cron_due, name):
                yield f"{view.keys.cron_due} {name.decode(errors='surrogateescape')}", "no schedule has this name"


def _defined(view: View) -> Iterator[tuple[str, str]]:
    for name, digest in view.fields(view.keys.cron_defined):
        if not re.fullmatch(rb"[0-9a-f]{40}", digest):
            yield f"{view.keys.cron_defined} {name}", f"{digest[:40]!r} is no SHA-1 of a definition"


def _control(view: View) -> Iterator[tuple[str, str]]:
    for name, value in view.fields(view.keys.control):
        if name not in CONTROL:
            yield f"{view.keys.control} {name}", "nothing that workers heed"
        elif name != "paused" and value and not re.fullmatch(rb"[0-9.e+-]{1,30}", value):
            yield f"{view.keys.control} {name}", f"{value[:40]!r} is no number, and no limit"


def _groups(view: View) -> Iterator[tuple[str, str]]:
    call, keys = view.queue.call, view.keys
    lists = [key for key in view.suffixed if keys.owns_group(key)]
    seen = set[str]()
    while page := view.queue.grouped(PAGE, len(seen)):
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


def _losses(view: View) -> Iterator[tuple[str, str]]:
    for digest, count in view.fields(view.keys.lost):
        if not re.fullmatch(r"[0-9a-f]{40}", digest) or not re.fullmatch(rb"\d+:.*", count, re.DOTALL):
            yield f"{view.keys.lost} {digest}", f"{count[:40]!r} is no count of losses, or this no SHA-1"


def _few_losses(view: View) -> Iterator[tuple[str, str]]:
    count = int(view.queue.call("HLEN", view.keys.lost))
    if count > MOST_LOSSES:
        yield view.keys.lost, f"{count} lost counts; the next loss forgets them all"


def _lasting_losses(view: View) -> Iterator[tuple[str, str]]:
    if view.queue.bound([view.keys.lost]):
        yield view.keys.lost, "it has no TTL, so losses are remembered for ever"


def _letters(view: View) -> Iterator[tuple[str, str]]:
    last, left = "+", _LETTERS
    while left > 0:
        page = view.queue.call("XREVRANGE", view.keys.dead, last, "-", "COUNT", LARGE)
        for entry_id, fields in page:
            lacking = [name.decode() for name in LETTER if name not in fields[::2]]
            if lacking:
                yield f"{view.keys.dead} {entry_id.decode()}", f"a dead letter without {', '.join(lacking)}"
        if len(page) < LARGE:
            return
        last, left = f"({page[-1][0].decode()}", left - LARGE


def _described(view: View) -> Iterator[tuple[str, str]]:
    for lease, about in view.fields(view.keys.workers):
        try:
            said = msgpack.unpackb(about, unicode_errors="surrogateescape")
        except Exception:  # any program may have written anything
            said = None
        if not isinstance(said, dict):
            yield f"{view.keys.workers} {lease}", "what this process says of itself is no MessagePack map"


def _registered(view: View) -> Iterator[tuple[str, str]]:
    for lease in view.dead(view.keys.workers):
        yield lease, "a dead process that is still in the register"


def _numbers(view: View) -> Iterator[tuple[str, str]]:
    for names in view.names(view.keys.stats):
        for name, value in zip(names, view.queue.call("HMGET", view.keys.stats, *names), strict=True):
            if name.encode(errors="surrogateescape") not in STATS:
                yield f"{view.keys.stats} {name}", "no count of the protocol"
            elif value is not None and not re.fullmatch(rb"\d{1,18}", value):
                yield f"{view.keys.stats} {name}", f"{value[:40]!r} is no number, so it counts nothing"


def _at_rest(view: View) -> Iterator[tuple[str, str]]:
    for key, what in ((view.keys.processing, "tasks are held"), (view.keys.workers, "processes are in the register")):
        count = int(view.queue.call("HLEN", key))
        if count:
            yield key, f"{count} {what}"
    if view.leases:
        yield view.leases[0], f"{len(view.leases)} leases live"


def _sweep(queue: Queue, leases: list[str]) -> None:
    sweep_id = token()
    for some in pages(leases, PAGE):
        while queue.sweep(some, _NEVER, sweep_id, "fsck").more:
            pass


def _renotify(queue: Queue, _subjects: list[str]) -> None:
    while queue.repair()[2]:
        pass


def _bound(queue: Queue, leases: list[str]) -> None:
    for some in pages(leases, PAGE):
        queue.bound(some, _BOUND)


def _prune(queue: Queue, leases: list[str]) -> None:
    for some in pages(leases, PAGE):
        queue.prune(some)


def _forget_counts(queue: Queue, subjects: list[str]) -> None:
    """What is no number stays none: every HINCRBY on it fails, so nothing can have been counted since we looked."""
    for subject in subjects:
        name = subject.removeprefix(f"{queue.keys.stats} ").encode(errors="surrogateescape")
        if name in STATS:
            queue.call("HDEL", queue.keys.stats, name)


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
        "Each key `Q_task_*`, `Q_result_*`, `Q_unique_*` and `Q_slots_*` has a TTL.",
        (),
        _kept_for_ever,
        "`bound`, with a day",
        lambda queue, keys: [queue.bound(some, KEEP_LOSSES) for some in pages(keys, PAGE)],
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
        "`Q_control` has the fields `paused`, `concurrency`, `rate` and `burst` at most, and the last three are numbers or "
        "empty.",
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
        lambda queue, _: queue.wake_all(),
    ),
    Invariant("deferred", A, "`Q_deferred` maps SHA-1 digests to `<first>:<last>:<count>`.", ("deferred",), _deferred),
    Invariant(
        "deferred-ttl",
        A,
        "`Q_deferred` has a TTL.",
        ("deferred",),
        _lasting_notes,
        "`EXPIRE`, with a day, as at each note",
        lambda queue, _: queue.call("EXPIRE", queue.keys.deferred, KEEP_LOSSES),
    ),
    Invariant("losses", A, "`Q_lost` maps SHA-1 digests to `<losses>:<sweep>`.", ("lost",), _losses),
    Invariant("losses-few", A, "`Q_lost` has 10,000 fields at most.", ("lost",), _few_losses),
    Invariant(
        "losses-ttl",
        A,
        "`Q_lost` has a TTL.",
        ("lost",),
        _lasting_losses,
        "`EXPIRE`, with a day, as at each loss",
        lambda queue, _: queue.call("EXPIRE", queue.keys.lost, KEEP_LOSSES),
    ),
    Invariant(
        "dead-letters",
        A,
        "Each dead letter has the fields `task`, `reason`, `detail` and `worker` (`fsck` reads the newest thousand).",
        ("dead",),
        _letters,
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
    Invariant(
        "rest",
        R,
        "Nothing is held, no lease lives and nobody is in the register.",
        ("processing", "workers"),
        _at_rest,
    ),
)
