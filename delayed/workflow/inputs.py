"""What a node of a workflow finds of those before it: their results, by reference."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ..base.ids import node_id
from ..redis.store import Store
from ..task.headers import Member
from ..task.result import value_of
from .carry import sources
from .layout import MARKS

_PAGE = 1000  # results in one question


class Input(NamedTuple):
    """One node before this one, and how it has ended."""

    id: str
    state: str  # succeeded, failed, expired, cancelled, skipped; or, where not all are waited for, waiting or released
    value: Any  # what it has returned
    error: Exception | None  # what its result raises if it has not succeeded


class Results:
    """The results of the nodes before this one, in their order: read in pages, as often as it is iterated.

    Args:
        store: of the home of the workflow.
        flow: its id.
        indices: of the nodes.
        many: whether who comes after them finds a list; else it finds what the first one has returned, and the others are
            those that this one has added.
    """

    def __init__(self, store: Store, flow: str, indices: list[int], many: bool) -> None:
        self._store, self._flow, self._indices = store, flow, indices
        self.many = many

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[Any]:
        """The values; None for one that keeps none, or has not succeeded."""
        for each in self.inputs():
            yield each.value

    def inputs(self) -> Iterator[Input]:
        """Each with how it has ended."""
        for at in range(0, len(self._indices), _PAGE):
            yield from self._inputs(self._indices[at : at + _PAGE])

    def first(self) -> Input:
        """The first one."""
        return next(self._inputs(self._indices[:1]))

    def _inputs(self, some: list[int]) -> Iterator[Input]:
        keys = self._store.keys
        results = ("HMGET", keys.flow(self._flow), *(f"r{index}" for index in some))
        values, found = self._store.read(results, ("GETRANGE", keys.marks(self._flow), min(some), max(some)))
        for reply in (values, found):
            if isinstance(reply, Exception):
                raise reply
        marks = found.decode("latin-1")
        for index, result in zip(some, values, strict=True):
            offset = index - min(some)
            yield _input(node_id(self._flow, index), marks[offset : offset + 1], result)


def _input(identity: str, mark: str, result: bytes | None) -> Input:
    state, value, error = MARKS.get(mark, "waiting"), None, None
    if result is not None:
        try:
            value = value_of(result, f"node {identity}")
        except Exception as raised:  # of any kind: it is handed on
            error = raised
    return Input(identity, state, value, error)


def results_before(store: Store, member: Member) -> Results | None:
    """What a node finds; None if nothing is before it."""
    many, indices = sources(store, member.flow, member.set)
    return Results(store, member.flow, indices, many) if many or indices else None
