"""Stores a workflow in Redis: whole, or in pages of which the last one starts it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..base.ids import digest, token
from ..errors import DelayedError, Duplicate, InvalidTask, UnknownTask
from ..redis.keys import Keys
from ..redis.scripts import Argument
from ..redis.store import Store
from .graph import Block
from .layout import LISTED, Layout, packed_queues

PATIENCE = 3600.0  # seconds for which a builder may think about the next page: its tasks may come from anywhere
_NODES = 1000  # of a page, at most,
_BYTES = 1 << 20  # and bytes of their tasks,
_PARTS = 16  # and names and values for each: one with a set, a gate and an edge of its own has fourteen
NO_BLOCK = -1
_DONE = 1  # what flow_build returns


class Page(NamedTuple):
    """A part of a workflow."""

    fields: list[Argument]  # names and values
    tasks: list[bytes]  # of one large set,
    set: int  # which is this


def store_workflow(store: Store, flow: str, layout: Layout, about: dict[str, str | bytes], patience: float = PATIENCE) -> None:
    """Store a workflow, and start it.

    Args:
        store: of its home.
        flow: its id.
        layout: what it is.
        about: further fields.
        patience: seconds after which it is removed if no further page has come.

    Raises:
        Duplicate: another one has its unique key.
        UnknownTask: it was removed before it was whole: it was too slow.
        NotEncodable: a task cannot be sent; nothing is left of the workflow.
        redis.exceptions.RedisError: as `Queue.enqueue`.
    """
    keys, blocks = store.keys, layout.graph.blocks
    nodes = sum(each.size for each in blocks if each.kind != "c")
    ready = [f"i{each.number}" for each in blocks if not each.gates and each.kind != "c"]
    every = sum(each.size for each in blocks)
    counts = {"total": nodes, "left": nodes, "next": every, "sets": len(blocks), "gates": len(layout.graph.gates)}
    fields = {**about, **{name: str(count) for name, count in counts.items()}, "queues": packed_queues(layout.queues)}
    unique = str(about["unique"]) if "unique" in about else None
    builder, begun = token(), False
    try:
        for page, first, last in _marked(_pages(layout, fields)):
            step = "whole" if first and last else "first" if first else "last" if last else "more"
            listed = keys.flow(flow) if page.set == NO_BLOCK else keys.bodies(flow, page.set)
            words = (flow, builder, step, round(patience * 1000), every, len(page.fields), len(page.tasks))
            names = (*_common(keys, flow), keys.task(run_id(flow)), listed, *_owned(keys, unique if first else None))
            said = store.add("flow_build", names, (*words, *page.fields, *page.tasks, *(ready if last else ())))
            if said != _DONE:
                raise _refused(store, flow, patience, said)
            begun = True
    except InvalidTask:  # one of a later page cannot be sent
        if begun:
            lists = [keys.bodies(flow, each.number) for each in blocks if each.size > LISTED]
            discard(store, flow, lists, unique, timer=f"{flow} B", builder=builder)
        raise


def discard(
    store: Store, flow: str, lists: Sequence[str], unique: str | None, *, timer: str, builder: str = "", unwanted: bool = False
) -> bool:
    """Remove what is stored of a workflow; False if it goes on, or somebody else builds it.

    Args:
        store: of its home.
        flow: its id.
        lists: the lists of its large sets.
        unique: what names its unique key, if it has one.
        timer, builder, unwanted: see `flow_remove`.
    """
    owned = _owned(store.keys, unique)
    keys = (*_common(store.keys, flow), *lists, *owned)
    return bool(store.run("flow_remove", keys, flow, timer, builder, len(owned), int(unwanted)))


def _common(keys: Keys, flow: str) -> tuple[str, ...]:
    return keys.flow(flow), keys.marks(flow), keys.joins(flow), keys.flow_outbox, keys.flow_ids, keys.flow_due


def _owned(keys: Keys, unique: str | None) -> tuple[str, ...]:
    return () if unique is None else (keys.unique_by(unique),)


def digest_of(unique: str) -> str:
    """What names the unique key of a workflow: tasks may have the same one."""
    return digest(f"workflow:{unique}")


def _refused(store: Store, flow: str, patience: float, said: object) -> DelayedError:
    if isinstance(said, bytes):
        return Duplicate(f"a workflow of this key is known in {store.name!r}; nothing was created", said.decode())
    return UnknownTask(
        f"workflow {run_id(flow)} in {store.name!r} was removed before it was whole, as no page of it came for "
        f"{patience / 60:g} minutes; submit it again"
    )


def _marked(pages: Iterator[Page]) -> Iterator[tuple[Page, bool, bool]]:
    """Each page, and whether it is the first, and the last."""
    first, page = True, next(pages)
    for following in pages:
        yield page, first, False
        first, page = False, following
    yield page, first, True


def run_id(flow: str) -> str:
    """The id of a workflow, as people see it: it is that of a tracked task."""
    return flow + "AAAAAA"


def _pages(layout: Layout, about: dict[str, str | bytes]) -> Iterator[Page]:
    fields: list[Argument] = [part for pair in (*about.items(), *layout.sets()) for part in pair]
    nodes = size = 0
    for block in layout.graph.blocks:
        if block.size > LISTED:
            if fields:
                yield from _split(fields)
                fields, nodes, size = [], 0, 0
            yield from _listed(layout, block)
            continue
        for index, data in enumerate(layout.tasks(block), block.first):
            if nodes == _NODES or size > _BYTES:
                yield from _split(fields)
                fields, nodes, size = [], 0, 0
            fields += (f"t{index}", data)
            nodes, size = nodes + 1, size + len(data)
    yield from _split(fields or ["listed", "1"])


def _split(fields: list[Argument]) -> Iterator[Page]:
    for at in range(0, len(fields), _PARTS * _NODES):
        yield Page(fields[at : at + _PARTS * _NODES], [], NO_BLOCK)


def _listed(layout: Layout, block: Block) -> Iterator[Page]:
    some: list[bytes] = []
    size = 0
    for data in layout.tasks(block):
        some.append(data)
        size += len(data)
        if len(some) == _NODES or size > _BYTES:
            yield Page([], some, block.number)
            some, size = [], 0
    if some:
        yield Page([], some, block.number)
