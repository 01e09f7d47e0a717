"""Draws a workflow as SVG: sets of nodes in layers, each below what it waits for."""

from collections.abc import Iterable, Iterator
from html import escape
from typing import NamedTuple

from ..base.ids import FLOW, node_id
from ..base.text import clipped
from ..ops.flows import FlowView, SetView

MOST = 300  # sets that are drawn
_WIDTH, _HEIGHT, _GAP, _FALL, _EDGE = 190, 46, 18, 40, 12
_CHARACTERS = 26
_ALARMING = ("failed", "expired", "released", "waiting")  # what a set is shown as, if one of its nodes is so
_ORDER = ("succeeded", "failed", "expired", "cancelled", "skipped", "released", "waiting")


class _Box(NamedTuple):
    set: SetView
    x: int
    y: int


def drawn(flow: FlowView, link: str) -> str:
    """The workflow as an SVG element.

    Args:
        flow: the workflow.
        link: the address before the id of a task.
    """
    sets = flow.sets[:MOST]
    boxes = {box.set.number: box for box in _placed(sets)}
    width = max((box.x for box in boxes.values()), default=0) + _WIDTH + _EDGE
    height = max((box.y for box in boxes.values()), default=0) + _HEIGHT + _EDGE
    parts = [*_edges(boxes), *(part for box in boxes.values() for part in _box(flow, box, link))]
    head = f'<svg class="graph" role="group" aria-label="The graph of the workflow" width="{width}" height="{height}"'
    return f'{head} viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'


def _placed(sets: list[SetView]) -> Iterator[_Box]:
    """Each in the layer below the last one that it waits for; in a layer beside what they come from."""
    known, layers = {each.number: each for each in sets}, dict[int, int]()
    for each in sorted(sets, key=lambda one: one.number):  # what comes before has a smaller number, unless it was added later
        layers[each.number] = 1 + max((layers[one] for one in each.before if one in layers), default=-1)
    rows: dict[int, list[int]] = {}
    for name, layer in layers.items():
        rows.setdefault(layer, []).append(name)
    centres: dict[int, float] = {}
    for layer in sorted(rows):
        row = sorted(rows[layer], key=lambda name: (_centre(known[name].before, centres), name))
        for column, name in enumerate(row):
            centres[name] = column - len(row) / 2
            yield _Box(known[name], _EDGE + column * (_WIDTH + _GAP), _EDGE + layer * (_HEIGHT + _FALL))


def _centre(before: Iterable[int], centres: dict[int, float]) -> float:
    some = [centres[each] for each in before if each in centres]
    return sum(some) / len(some) if some else 0.0


def _edges(boxes: dict[int, _Box]) -> Iterator[str]:
    for box in boxes.values():
        for edge in box.set.edges:
            for number in edge.sets:
                if (above := boxes.get(number)) is not None:
                    x, y = above.x + _WIDTH // 2, above.y + _HEIGHT
                    to, bottom = box.x + _WIDTH // 2, box.y
                    middle = (y + bottom) // 2
                    kind = edge.mode if edge.mode in ("all", "ended", "some", "failed") else "all"
                    yield f'<path class="edge {kind}" d="M{x} {y} C{x} {middle} {to} {middle} {to} {bottom}"/>'


def _box(flow: FlowView, box: _Box, link: str) -> Iterator[str]:
    found, x, y = box.set, box.x, box.y
    state = next((name for name in (*_ALARMING, *_ORDER) if name in found.counts), "waiting")
    said = ", ".join(f"{count:,} {name}" for name, count in found.counts.items()) or "empty"
    size = f" ({found.size:,})" if found.size != 1 else ""
    label = escape(clipped(found.label, _CHARACTERS - len(size)))
    title = f"<title>{escape(found.label)}: {escape(said)}; queue {escape(found.queue)}</title>"
    box_text = (
        f'<rect class="node {state}" x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>'
        f'<text x="{x + 8}" y="{y + 18}">{label}{size}</text>'
        f'<text class="quiet" x="{x + 8}" y="{y + 34}">{escape(clipped(said, 30))}</text>{"".join(_bar(found, x, y))}'
    )
    if found.size == 1 and found.kind in ("task", "callback"):
        identity = node_id(flow.id[:FLOW], found.first)
        yield f'<a href="{escape(link)}{identity}">{title}{box_text}</a>'
    else:
        yield f"<g>{title}{box_text}</g>"


def _bar(found: SetView, x: int, y: int) -> Iterator[str]:
    """How much of a group is in which state."""
    if found.size > 1:
        at = 0.0
        for name in _ORDER:
            share = found.counts.get(name, 0) / found.size * (_WIDTH - 16)
            if share:
                yield f'<rect class="bar {name}" x="{x + 8 + at:.1f}" y="{y + 38}" width="{share:.1f}" height="4"/>'
                at += share
