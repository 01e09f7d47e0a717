"""Draws a workflow: as a tree for a terminal, and for Mermaid."""

import re
from collections import Counter
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import groupby
from typing import NamedTuple

from ..base.checks import as_time
from ..base.escape import escaped
from ..base.ids import FLOW, node_id
from ..base.text import clipped, counted
from ..workflow.run import FlowStatus
from .flows import Edge, FlowView, SetView, edge_words

_LONGEST = 60  # characters of a label
_WIDEST = 100  # of what stands before the state
_COLOURS = {  # of a set in Mermaid, by the first of these states that one of its nodes is in
    "failed": "#f8b4b4",
    "expired": "#f8b4b4",
    "cancelled": "#d9d9d9",
    "skipped": "#d9d9d9",
    "released": "#a8d1ff",
    "succeeded": "#b7e4b0",
    "waiting": "#ffffff",
}
_ROOT = -1
_FOLDED = 5  # single nodes that are alike, from which on they are one line


def summary(status: FlowStatus) -> str:
    """How a workflow stands, in a line."""
    parts = [f"{status.total - status.left} of {counted(status.total, 'node')} ended"]
    names = ("failed", "expired", "cancelled", "skipped")
    parts += [f"{count} {name}" for name in names if (count := getattr(status, name))]
    return f"{status.state}, {', '.join(parts)}"


def lines(flow: FlowView, states: dict[int, str], most: int) -> Iterator[str]:
    """A workflow in lines of text.

    Args:
        flow: the workflow.
        states: what is known besides of single nodes, by the number of their set.
        most: how many sets are drawn.
    """
    status = flow.status
    yield f"{flow.id}  {status.name or '(no name)'}: {summary(status)}"
    ended = "" if status.ended is None else f", ended {as_time(status.ended)} after {status.ended - status.created:.1f} s"
    yield f"home: {flow.queue}, created {as_time(status.created)}{ended}, on_failure: {flow.policy}"
    rows = list(_rows(flow.sets, most))
    heads = [f"{row.stem}[{row.numbers}] {_name(row.set)}" for row in rows]
    width = min(max(map(len, heads), default=0), _WIDEST)
    for row, head in zip(rows, heads, strict=True):
        identity = node_id(flow.id[:FLOW], row.set.first) if row.set.size == 1 else ""
        note = f"  ({row.note})" if row.note else ""
        yield f"{head:{width}}  {identity:16}  {_state(row.set, states)}{note}"
    if more := len(flow.sets) - sum(row.stands_for for row in rows):
        yield f"… and {counted(more, 'more set')} of nodes: --count"


def _name(found: SetView) -> str:
    size = f" ({found.size})" if found.size != 1 else ""
    kind = f" ({found.kind})" if found.kind in ("map", "callback") else ""
    return f"{clipped(escaped(found.label), _LONGEST)}{size}{kind}"


def _state(found: SetView, states: dict[int, str]) -> str:
    if found.size == 1:
        return states.get(found.number) or next(iter(found.counts), "waiting")
    return ", ".join(f"{count} {state}" for state, count in found.counts.items()) or "empty"


class _Row(NamedTuple):
    stem: str
    set: SetView
    note: str
    stands_for: int  # so many sets

    @property
    def numbers(self) -> str:
        """Of these."""
        first, last = self.set.number, self.set.number + self.stands_for - 1
        return f"{first}" if first == last else f"{first}-{last}"


def _rows(sets: list[SetView], most: int) -> Iterator[_Row]:
    """Each set beneath the last one through which every way to it leads; what comes alone after one, straight below it."""
    known = {each.number: each for each in sets}
    children = _children(known)
    folded = _fold(known, children)
    waiting = [(number, prefix, stem) for number, prefix, stem in reversed(list(_placed(children.get(_ROOT, []), "")))]
    count = 0
    while waiting and count < most:
        number, prefix, stem = waiting.pop()
        count += 1
        found = folded.get(number, known[number])
        note, size = _note(found, known), found.size if number in folded else 1
        yield _Row(stem, found, note, size)
        waiting += reversed(list(_placed(children.get(number, []), prefix)))


def _fold(known: dict[int, SetView], children: dict[int, list[int]]) -> dict[int, SetView]:
    """Single nodes beside each other that are alike, with nothing beneath, are drawn as one: number of the first → these."""
    folded: dict[int, SetView] = {}

    def alike(number: int) -> object:
        found = known[number]
        is_one = found.size == 1 and number not in children and found.kind == "task"
        return (found.label, found.queue, found.edges) if is_one else number

    for beneath in children.values():
        kept = []
        for _, some in groupby(beneath, alike):
            numbers = list(some)
            if len(numbers) < _FOLDED or numbers[-1] - numbers[0] != len(numbers) - 1:
                kept += numbers
                continue
            counts = Counter[str]()
            for number in numbers:
                counts.update(known[number].counts)
            folded[numbers[0]] = known[numbers[0]]._replace(size=len(numbers), counts=dict(counts))
            kept.append(numbers[0])
        beneath[:] = kept
    return folded


def _placed(numbers: list[int], prefix: str) -> Iterator[tuple[int, str, str]]:
    """Each of those beneath a set: what stands before the lines beneath it, and before its own."""
    if len(numbers) == 1:
        yield numbers[0], prefix, prefix
        return
    for number in numbers:
        is_last = number == numbers[-1]
        yield number, prefix + ("   " if is_last else "│  "), prefix + ("└─ " if is_last else "├─ ")


def _children(known: dict[int, SetView]) -> dict[int, list[int]]:
    """The tree: each set → the sets beneath it. (It is the tree of dominators, so a join stands beside what it joins.)"""
    parent, depth, children = {_ROOT: _ROOT}, {_ROOT: 0}, dict[int, list[int]]()
    for number in _in_order(known):
        found: int | None = None
        for each in known[number].before or [_ROOT]:
            one, other = each if each in parent else _ROOT, each if found is None else found
            other = other if other in parent else _ROOT
            while one != other:
                if depth[one] < depth[other]:
                    one, other = other, one
                one = parent[one]
            found = one
        above = _ROOT if found is None else found
        parent[number], depth[number] = above, depth[above] + 1
        children.setdefault(above, []).append(number)
    return children


def _in_order(known: dict[int, SetView]) -> list[int]:
    """The sets, each after those before it; else by their numbers."""
    after: dict[int, list[int]] = {}
    missing: dict[int, int] = {}
    for each in known.values():
        before = [number for number in each.before if number in known]
        missing[each.number] = len(before)
        for number in before:
            after.setdefault(number, []).append(each.number)
    ready = [number for number, count in missing.items() if not count]
    heapify(ready)
    order = []
    while ready:
        order.append(heappop(ready))
        for number in after.get(order[-1], []):
            missing[number] -= 1
            if not missing[number]:
                heappush(ready, number)
    return order


def _note(found: SetView, known: dict[int, SetView]) -> str:
    if found.calls_for:
        return f"after {found.calls_for}"
    if len(found.edges) == 1 and len(found.edges[0].sets) == 1 and found.edges[0].mode == "all":
        return ""
    return "; ".join(_edge(edge, known) for edge in found.edges)


def _edge(edge: Edge, known: dict[int, SetView]) -> str:
    shown = ", ".join(map(str, edge.sets[:5])) + (", …" if len(edge.sets) > 5 else "")
    return f"{edge_words(edge, known)} {shown}"


def mermaid(flow: FlowView, most: int) -> Iterator[str]:
    """A workflow as a flowchart of Mermaid: a box for each set of nodes."""
    yield "flowchart TD"
    shown = flow.sets[:most]
    known = {each.number: each for each in shown}
    for found in shown:
        counts = ", ".join(f"{count} {state}" for state, count in found.counts.items())
        text = f"{_name(found)}<br>{counts if found.size != 1 else next(iter(found.counts), 'waiting')}"
        state = next((state for state in _COLOURS if state in found.counts), "waiting")
        yield f'  s{found.number}["{_quoted(text)}"]:::{state}'
    junctions: dict[tuple[int, ...], str] = {}
    for found in shown:
        if found.calls_for:
            yield f'  c{found.number}(["{found.calls_for}"]) -.-> s{found.number}'
        for edge in found.edges:
            yield from _arrows(edge, found.number, known, junctions)
    if more := len(flow.sets) - len(shown):
        yield f'  more["… and {counted(more, "more set")} of nodes"]'
    for state, colour in _COLOURS.items():
        yield f"  classDef {state} fill:{colour},stroke:#555,color:#111"


def _arrows(edge: Edge, target: int, known: dict[int, SetView], junctions: dict[tuple[int, ...], str]) -> Iterator[str]:
    words = {"all": "", "ended": "at its end", "failed": "if it fails"}.get(edge.mode, f"{edge.need} of them")
    label = f"|{words}|" if words else ""
    sources = [number for number in edge.sets if number in known]
    if len(sources) < 3:
        yield from (f"  s{number} -->{label} s{target}" for number in sources)
        return
    key = tuple(sources)
    if key not in junctions:  # many before many would be as many arrows as their product
        junctions[key] = f"j{len(junctions)}"
        yield f"  {junctions[key]}(( ))"
        yield from (f"  s{number} --- {junctions[key]}" for number in sources)
    yield f"  {junctions[key]} -->{label} s{target}"


def _quoted(text: str) -> str:
    """Text in a box: what is markup in Mermaid or HTML is written as a code, but for our own line break."""
    parts = text.split("<br>")
    return "<br>".join(re.sub(r'["#<>&;`\\]', lambda found: f"#{ord(found[0])};", part) for part in parts)
