"""The options of tasks as keyword arguments, for type checkers: what `Unpack[…]` in a signature allows.

What they mean and what may stand in them is told and checked in `delayed.options.Options`; a type checker reads no dataclass
as keywords, so the names stand here again, and tests/unit/task/test_options.py compares. `retry` is a parameter of its own
everywhere, as PyTask takes it by position, too.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, Self, TypedDict, cast, get_args

from ..backoff import Backoff
from ..base.checks import is_number
from ..base.clock import now
from ..base.text import module_of, name_of
from ..errors import InvalidTask, NotEncodable
from .codec import dumps
from .headers import TRACE

UniqueMode = Literal["while_queued", "while_running", "until_done"]  # for how long a task has its unique key
ErrorType = type[BaseException] | str


class CommonOptions(TypedDict, total=False):
    """The options of any task, also of a schedule."""

    backoff: Backoff | None
    retry_on: ErrorType | Iterable[ErrorType]
    give_up_on: ErrorType | Iterable[ErrorType]
    timeout: float | timedelta | None
    hard_timeout: float | timedelta | None
    expires: datetime | float | timedelta | None
    group: str | None
    concurrency_key: str | None
    concurrency: int | None
    metadata: Mapping[str, str] | None


class TaskOptions(CommonOptions, total=False):
    """The options of one task."""

    result_ttl: float | timedelta | None
    track: bool
    at: datetime | float | None
    after: float | timedelta | None
    unique: str | None
    unique_mode: UniqueMode
    unique_for: float | timedelta | None
    join: bool
    rate_key: str | None
    rate: float | None


UNIQUE_MODES: tuple[UniqueMode, ...] = get_args(UniqueMode)
UNIQUE_FOR = 86400.0  # seconds: the longest that a unique key stays taken if nothing else is said
_LEAST = 0.001  # seconds: what is less would be 0 milliseconds, which stands for nothing at all
_MOST = 1e11  # seconds: 3,000 years; whoever gives more has taken milliseconds for seconds, or knows no end
TRACKED_FOR = 7 * 86400.0  # seconds that the state of a task is kept if nothing happens to it
ENDED_FOR = 3600.0  # seconds that the end of a task is kept which keeps no result
_MOST_RETRIES = 2**63  # other languages count with 64 bits
_SPANS = ("timeout", "hard_timeout", "result_ttl", "unique_for", "after", "expires")
_NEEDS = {  # what an option is for, and how that is asked for
    "backoff": ("retry", "retry=3"),
    "retry_on": ("retry", "retry=3"),
    "give_up_on": ("retry", "retry=3"),
    "unique_mode": ("unique", "unique='a key'"),
    "unique_for": ("unique", "unique='a key'"),
    "join": ("unique", "unique='a key'"),
    "concurrency": ("concurrency_key", "concurrency_key='a key'"),
    "rate": ("rate_key", "rate_key='a key'"),
    "rate_key": ("rate", "rate=5"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a task, checked. Wherever seconds are, a `timedelta` will do.

    Args:
        backoff: how long a failed attempt is followed by a pause. Without one the next attempt comes at once.
        retry_on: exception types, or their names as `module.Name`: only these are retried.
        give_up_on: likewise: these are never retried.
        timeout: seconds after which `TimedOut` is raised inside of the task.
        hard_timeout: seconds after which its process is killed.
        result_ttl: seconds that its result is kept, and its state with it.
        track: keep its state (`handle.status()`), without a result.
        at: when it shall begin, at the earliest: an aware `datetime`, or seconds since 1970.
        after: in how many seconds it shall begin, at the earliest.
        expires: when it is too late to begin: an aware `datetime`, or seconds from now.
        unique: a key. While another task with this key is there, a second one is refused (`Duplicate`).
        unique_mode: for how long a task counts as there: `while_queued` (until it begins), `while_running` (from its beginning
            to its end), `until_done` (from its enqueue to its end).
        unique_for: seconds after which the key is free in any case.
        join: a second one is not refused; its enqueue returns the handle of the first.
        group: whose task it is. Groups take turns, so that one with many tasks does not delay the others.
        concurrency_key: a key. Of the tasks with this key, on all workers together, no more run at once than
        concurrency: so many, by default one. The others wait until one of those has ended.
        rate_key: a key. Of the tasks with this key no more begin in a second than
        rate: so many, one after the other in the order of their enqueues: each waits in the schedule for an instant of its
            own, which stays reserved if it is cancelled. Retries have none.
        metadata: texts by name, such as a request id: the task has them, and so have its events.
        identified: it has an id, also if it is not tracked. What an `App` asks for.
        flow: of a node of a workflow: its home, and its set of nodes. What a workflow asks for.
        trace: the W3C trace context of whoever enqueues it: `traceparent` and `tracestate`, empty where there is none. What
            tracing asks for.

    Raises:
        InvalidTask: values that cannot work, alone or together. (That one does nothing without another, which may still come,
            is `check`'s to say.)
    """

    backoff: Backoff | None = None
    retry_on: tuple[type[BaseException] | str, ...] = ()
    give_up_on: tuple[type[BaseException] | str, ...] = ()
    timeout: float | None = None
    hard_timeout: float | None = None
    result_ttl: float | None = None
    track: bool = False
    at: datetime | float | None = None
    after: float | None = None
    expires: datetime | float | None = None
    unique: str | None = None
    unique_mode: UniqueMode = "until_done"
    unique_for: float | None = UNIQUE_FOR
    join: bool = False
    group: str | None = None
    concurrency_key: str | None = None
    concurrency: int | None = None
    rate_key: str | None = None
    rate: float | None = None
    metadata: Mapping[str, str] | None = None
    identified: bool = False
    flow: tuple[str, int] | None = None
    trace: tuple[str, str] | None = None
    # Found out once, as many tasks have the same options:
    _fits: tuple[bool, ...] = field(
        default=(), init=False, repr=False, compare=False
    )  # the `retries` that `check` has let pass
    _packed: tuple[int, bytes, bool] | None = field(default=None, init=False, repr=False, compare=False)  # see `packed`
    _traced: Self | None = field(
        default=None, init=False, repr=False, compare=False
    )  # what `traced` made last, for many tasks

    @classmethod
    def of(cls, given: Mapping[str, object], beside: Collection[str] = ()) -> Self:
        """The options in `given`; an unknown name is an error that says which was meant.

        Args:
            given: them, by name.
            beside: names of what else could have been given there.
        """
        for name in given:
            if name not in _DEFAULTS or name in _OURS:
                raise InvalidTask(_unknown(name, [each for each in ("retry", *_DEFAULTS, *beside) if each not in _OURS]))
        return cls(**cast(dict[str, Any], given))

    def but(self, given: Mapping[str, object]) -> Self:
        """These options, with others in place of some."""
        self.of(given)
        return replace(self, **cast(dict[str, Any], given))

    def with_id(self) -> Self:
        """These options, of a task that has an id though it is not tracked."""
        return replace(self, identified=True)

    def as_node(self, home: str, number: int) -> Self:
        """These options, of a node in a set of a workflow: it is tracked."""
        return replace(self, track=True, flow=(home, number))

    def traced(self, parent: str, state: str = "") -> Self:
        """These options, of a task that is enqueued in this W3C trace context; empty texts for none."""
        last = self._traced
        if last is not None and last.trace == (parent, state):
            return last
        if self._packed is None and not self.expires_from_now:
            self.packed(None, 0)  # the other headers, which many tasks share
        found = object.__new__(type(self))
        for name in _FIELDS:
            object.__setattr__(found, name, getattr(self, name))
        object.__setattr__(found, "trace", (parent, state))
        object.__setattr__(found, "_traced", None)
        object.__setattr__(self, "_traced", found)
        return found

    def check(self, retries: bool) -> None:
        """See that each option has what it is for, now that no other one can come.

        Args:
            retries: whether somebody has said how often the task is retried, be it 0.

        Raises:
            InvalidTask: one would do nothing.
        """
        if retries in self._fits:
            return
        for name, (other, example) in _NEEDS.items():
            there = retries if other == "retry" else getattr(self, other) is not None
            if not there and getattr(self, name) != _DEFAULTS[name]:
                raise InvalidTask(
                    f"{name} does nothing without {other}: give that, too, such as {example}, or leave {name} out"
                )
        object.__setattr__(self, "_fits", (*self._fits, retries))

    def __post_init__(self) -> None:
        for name in _SPANS:
            if isinstance(value := getattr(self, name), timedelta):
                object.__setattr__(self, name, value.total_seconds())
        self._check_types()
        self._check_errors()
        self._check_times()
        if self.timeout is not None and self.hard_timeout is not None and self.timeout >= self.hard_timeout:
            raise InvalidTask(
                "hard_timeout is above timeout: it is for tasks that do not end when `TimedOut` is raised in them"
            )
        if self.unique_mode not in UNIQUE_MODES:
            raise InvalidTask(f"unique_mode must be one of {', '.join(UNIQUE_MODES)}, not {self.unique_mode!r}")
        if self.unique is not None and self.unique_for is None:
            raise InvalidTask("a unique key needs a bound in time: set unique_for to some seconds, or it might never be free")
        if self.rate is not None and not (is_number(self.rate) and 1e-4 <= self.rate <= 1e6):
            raise InvalidTask(f"rate must be a number of tasks a second, from 0.0001 to 1000000, not {self.rate!r}")
        if self.concurrency is not None and (type(self.concurrency) is not int or self.concurrency < 1):
            raise InvalidTask(f"concurrency must be a number of tasks above 0, not {self.concurrency!r}")

    def _check_types(self) -> None:
        for name in ("timeout", "hard_timeout", "result_ttl", "unique_for"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and _LEAST <= value <= _MOST):
                raise InvalidTask(
                    f"{name} must be a number of seconds above 0 (a millisecond at least, and below {_MOST:g}), not {value!r}"
                )
        for name in ("unique", "group", "concurrency_key", "rate_key"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise InvalidTask(
                    f"{name} must be a string that is not empty, not {value!r}: write for example {name}=f'invoice:{{number}}'"
                )
            if value is not None and not _has_utf8(value):
                raise NotEncodable(f"{name} has characters that have no UTF-8 form: {value!r:.200}")
        texts = self.metadata if isinstance(self.metadata, Mapping) else {None: None}
        if self.metadata is not None and not all(isinstance(each, str) for pair in texts.items() for each in pair):
            raise InvalidTask(f"metadata is a dict of texts by name, not {self.metadata!r:.200}")
        for name in ("track", "join", "identified"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidTask(f"{name} must be True or False, not {getattr(self, name)!r}")
        if self.backoff is not None and not isinstance(self.backoff, Backoff):
            raise InvalidTask(
                f"backoff is a Constant, a Linear or an Exponential of delayed.backoff, such as Exponential(1, cap=600), and "
                f"not {self.backoff!r}"
            )

    def _check_errors(self) -> None:
        for name in ("retry_on", "give_up_on"):
            value = getattr(self, name)
            kinds = value if isinstance(value, tuple) else tuple(value) if _many(value) else (value,)
            for kind in kinds:
                if not isinstance(kind, str) and not (isinstance(kind, type) and issubclass(kind, BaseException)):
                    raise InvalidTask(
                        f"{name} must be one or more exception types, or their names as 'module.Name', not {kind!r}"
                    )
            object.__setattr__(self, name, kinds)

    def _check_times(self) -> None:
        if self.at is not None and self.after is not None:
            raise InvalidTask("a task begins at a time or after some seconds: give either at or after")
        if self.after is not None and not (is_number(self.after) and 0 <= self.after <= _MOST):
            raise InvalidTask(f"after must be a number of seconds, not below 0 (nor above {_MOST:g}): {self.after!r}")
        for name in ("at", "expires"):
            value = getattr(self, name)
            if isinstance(value, datetime) and value.tzinfo is None:
                raise InvalidTask(f"{name} has no time zone; give it one, as in datetime.now(UTC)")
            if value is not None and not (isinstance(value, datetime) or (is_number(value) and abs(value) <= _MOST)):
                raise InvalidTask(f"{name} must be a time, or a number of seconds (up to {_MOST:g}), not {value!r}")
        if isinstance(self.expires, int | float) and not self.expires > 0:
            raise InvalidTask(f"expires must be a number of seconds above 0, or a time, not {self.expires!r}")

    @property
    def tracked(self) -> bool:
        """Whether the task has an id, and Redis keeps its state."""
        return self.track or self.result_ttl is not None or self.unique is not None

    @property
    def due(self) -> int | None:
        """When it shall begin: milliseconds since 1970; None for at once, or for `after`, which is the server's to add."""
        return None if self.at is None else round(_seconds(self.at) * 1000)

    @property
    def delay(self) -> int | None:
        """In how many milliseconds it shall begin; None for at once, or for `at`."""
        return round(self.after * 1000) if self.after else None

    @property
    def scheduled(self) -> bool:
        """Whether it may have to wait for its time."""
        return self.at is not None or bool(self.after) or self.rate_key is not None

    @property
    def needs_time(self) -> bool:
        """Whether the server's time has to be known before it can be enqueued."""
        return self.expires_from_now or (self.rate_key is not None and bool(self.after))

    @property
    def dated(self) -> bool:
        """Whether a header says when it was enqueued, or follows from that."""
        return self.tracked or self.expires_from_now

    @property
    def expires_from_now(self) -> bool:
        """Whether the time by which it has to begin counts from its enqueue."""
        return isinstance(self.expires, int | float)

    def packed(self, identity: str | None, call_retry: int, at: float | None = None) -> bytes:
        """What stands in the task, in MessagePack: a map of only what it needs; empty if that is nothing.

        Args:
            identity: its id, 16 characters, if it has one.
            call_retry: the count of retries of a Go task, which has no other place; 0 for a Python task.
            at: the time of its enqueue, by Redis's clock; None for this machine's.
        """
        found = self._packed
        if found is None:
            rest = self._of_all(at)
            found = len(rest), b"".join(dumps(part) for pair in rest.items() for part in pair), self.tracked
            if not self.expires_from_now:
                object.__setattr__(self, "_packed", found)
        count, common, tracked = found
        own = b""
        if identity is not None and tracked:
            own = b"\xa2id\xb0" + identity.encode() + _ENQUEUED + round((now() if at is None else at) * 1000).to_bytes(8)
            count += 2
        elif identity is not None:
            own = b"\xa3uid\xb0" + identity.encode()
            count += 1
        if call_retry:
            own += dumps("retry") + dumps(call_retry)
            count += 1
        if self.trace:
            for name, text in zip(TRACE, self.trace, strict=False):
                if text:
                    own += dumps(name) + dumps(text)
                    count += 1
        return _MAPS[count] + own + common if count else b""

    def _of_all(self, at: float | None) -> dict[str, Any]:
        """The headers that all tasks with these options share, but for a time by which one expires that counts from now."""
        found: dict[str, Any] = {}
        if self.backoff is not None:
            found["backoff"] = self.backoff.header()
        for name in ("retry_on", "give_up_on"):
            if kinds := getattr(self, name):
                found[name] = [kind if isinstance(kind, str) else type_name(kind) for kind in kinds]
        for name in ("timeout", "hard_timeout", "result_ttl"):
            if (value := getattr(self, name)) is not None:
                found[name] = round(value * 1000)
        if self.expires is not None:
            begun = (now() if at is None else at) if self.expires_from_now else 0.0
            found["expires"] = round((begun + _seconds(self.expires)) * 1000)
        return found | self._keys()

    def _keys(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.unique is not None:
            found["unique"] = [self.unique, self.unique_mode, round((self.unique_for or 0) * 1000)]
        if self.group is not None:
            found["group"] = self.group
        if self.concurrency_key is not None:
            found["concurrency"] = [self.concurrency_key, self.concurrency or 1]
        if self.metadata:
            found["metadata"] = dict(self.metadata)
        if self.flow is not None:
            found["flow"] = list(self.flow)
        return found


_DEFAULTS: dict[str, Any] = {each.name: each.default for each in fields(Options) if each.init}
_FIELDS = tuple(each.name for each in fields(Options))
_MAPS = [bytes([0x80 | count]) for count in range(16)]  # MessagePack's beginning of a map with so many pairs
_MAPS += [b"\xde\x00" + bytes([count]) for count in (16, 17)]  # no task has more
_ENQUEUED = dumps("enqueued") + b"\xcf"  # and of this header, whose milliseconds have more than 32 bits
_OURS = {"identified", "flow", "trace"}  # which nobody else gives
OPTIONS = frozenset(["retry", *_DEFAULTS]) - _OURS
NOTHING = Options()


@lru_cache(maxsize=256, typed=True)  # true is no number, though it equals one
def _asked(retries: bool, **given: Any) -> Options:
    options = Options.of(given)
    options.check(retries)
    return options


def asked_for(given: Mapping[str, Any], retries: bool) -> Options:
    """The options in `given`, checked as a whole; the same object for the same ones, where that can be told."""
    try:
        return _asked(retries, **given)
    except TypeError:  # something in it cannot be hashed
        options = Options.of(given)
        options.check(retries)
        return options


def count_of(retry: object) -> int:
    """A count of retries. The older packages take None for 0.

    Raises:
        InvalidTask: it is none.
    """
    if retry is None:
        return 0
    if type(retry) is int and -_MOST_RETRIES <= retry < _MOST_RETRIES:
        return retry
    wrong = "a larger one" if type(retry) is int else repr(retry)
    raise InvalidTask(f"retry must be a whole number below 2**63 (negative: until it succeeds), not {wrong}")


def _unknown(name: str, names: Collection[str]) -> str:
    close = difflib.get_close_matches(name, names, 1) or [each for each in names if name in each.split("_")]
    meant = f"; did you mean {close[0]!r}?" if close else f": there are {', '.join(names)}"
    return f"a task has no option {name!r}{meant}"


def type_name(kind: type[BaseException]) -> str:
    """The name by which a task knows an exception type."""
    return f"{module_of(kind)}.{name_of(kind)}"


def _many(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | type)


def _has_utf8(text: str) -> bool:
    """Whether it can be sent (bytes of other programs can, which Python has as surrogates)."""
    try:
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _seconds(moment: datetime | float) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment
