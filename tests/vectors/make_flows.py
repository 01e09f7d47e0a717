"""Writes tests/vectors/flows.json: what is stored of a workflow, by the calls of `flow_build`.

    .venv/bin/python -m tests.vectors.make_flows

The Python package says what is in it; tests/unit/workflow/test_flow_vectors.py checks that it still does, and the Go module
runs the same file.
"""

import hashlib
import json
from pathlib import Path
from typing import Any
from unittest import mock

from delayed.queue.queue import Queue
from delayed.redis.scripts import Argument
from delayed.redis.store import Store
from delayed.task.task import GoTask, PyTask
from delayed.workflow import Flow, Ref, chain, group, linked, on, quorum

PATH = Path(__file__).parent / "flows.json"
FLOW, HOME, NOW = "flowVECTOR", "home", 1_750_000_000.0
ABOUT = [
    f"How a workflow is stored (docs/protocol.md, 7e): its home is {HOME!r}, its id {FLOW} unless it has a unique key, and it "
    f"is submitted at {NOW:.0f}.",
    "steps, in their order: 'add' a part, 'map' a part over a step, 'wait' for a signal, with 'timeout' in seconds; 'after' "
    "names steps by their numbers, or [step, policy]; 'when' is a policy. A policy is a word, or a number for a quorum.",
    "A part is a call ('go' or 'py', its path; args, kwargs, options), {'chain': parts}, {'group': parts}, {'on': queue, "
    "'part': part}, {'linked': part, 'on_success': parts, 'on_error': parts}; of a group also {'times': n, 'part': part}.",
    "pages: the keys of each call of flow_build, and then its arguments; what is no ASCII is {'hex': …}, what is long "
    "{'sha256': …}. Of a page of more than 200 words the first and the last 60 stand here, and null between them.",
]


def one(number: int, **options: Any) -> dict[str, Any]:
    return {"go": "main.One", "args": [number], **({"options": options} if options else {})}


def step(**words: Any) -> dict[str, Any]:
    return words


DESCRIPTIONS: list[dict[str, Any]] = [
    {"name": "a chain", "steps": [step(add={"chain": [one(1), {"py": "m:two", "args": [2, "x"]}, {"go": "main.Three"}]})]},
    {
        "name": "a group in several queues",
        "steps": [
            step(
                add={"chain": [{"group": [one(1), one(2), {"on": "far", "part": one(3)}, {"py": "m:f"}]}, {"go": "main.Sum"}]}
            )
        ],
    },
    {
        "name": "options",
        "steps": [
            step(
                add={"py": "m:f", "kwargs": {"a": 1}, "options": {"retry": 3, "timeout": 2.5, "metadata": {"tenant": "acme"}}}
            ),
            step(add=one(1, retry=2, group="customer")),
            step(add=one(2, unique="key", unique_for=60, result_ttl=10)),
        ],
    },
    {
        "name": "policies",
        "policy": "continue",
        "steps": [
            step(add=one(1), name="first"),
            step(add={"group": [one(2), one(3), one(4)]}),
            step(add=one(5), after=[0, 1]),
            step(add=one(6), after=[1], when=2),
            step(add=one(7), after=[1], when="any"),
            step(add=one(8), after=[[0, "failure"], [1, "stop"], 2]),
            step(add=one(9), after=[1], when=2),
        ],
    },
    {
        "name": "maps and waits",
        "steps": [
            step(add={"go": "main.List"}),
            step(map={"go": "main.Scale", "args": [7, 8]}, over=0, name="rows"),
            step(map={"py": "m:f", "kwargs": {"by": 2}}, over=1, when="continue"),
            step(wait="approved", timeout=3600, after=[2]),
            step(wait="", timeout=1.5, after=[3]),
            step(wait="later", after=[]),
        ],
    },
    {
        "name": "callbacks",
        "policy": "stop_now",
        "keep": 60,
        "success": [one(1)],
        "complete": [one(2), {"py": "m:done"}],
        "failure": [{"on": "far", "part": one(3)}],
        "steps": [
            step(add=one(4), on_success=[one(5)], on_error=[one(6), {"group": [one(7), one(8)]}]),
            step(
                add={"on": "far", "part": {"chain": [one(1), {"linked": one(2), "on_success": [], "on_error": [one(3)]}]}},
                after=[0],
            ),
        ],
    },
    {
        "name": "any",
        "policy": "any",
        "steps": [
            step(add={"group": [one(1), one(2)]}),
            step(add=one(3), after=[0], on_error=[one(4)]),
            step(map={"go": "main.Scale", "args": [7, 8]}, over=0),
            step(add={"chain": [one(6), one(7)]}, after=[2, [0, "stop"]]),
            step(add=one(8), after=[0, 2], when=2),
        ],
    },
    {
        "name": "a last node that handles the failure of another, and waits for a third",
        "policy": "any",
        "steps": [step(add=one(1)), step(add=one(2)), step(add=one(3), after=[[0, "failure"], 1])],
    },
    {"name": "two of all", "policy": 2, "steps": [step(add={"group": [one(1), one(2), one(3)]}), step(add={"group": []})]},
    {"name": "created once", "unique": "report-2026", "steps": [step(add={"group": []}), step(add=one(1), after=[0])]},
    {
        "name": "pages",
        "steps": [
            step(add={"group": [{"times": 1500, "part": one(1)}]}),
            step(add={"group": [{"times": 999, "part": one(2)}]}),
            step(add={"group": [{"times": 1000, "part": one(3)}]}),
            step(add={"group": [{"times": 2, "part": {"go": "main.Long", "args": ["x" * 100_000]}}]}),
            step(add={"go": "main.Sum"}, after=[0, 1, 2, 3]),
        ],
    },
]


def part_of(part: dict[str, Any]) -> Any:
    if "chain" in part:
        return chain(*map(part_of, part["chain"]))
    if "group" in part:
        return group(
            part_of(each["part"] if "times" in each else each) for each in part["group"] for _ in range(each.get("times", 1))
        )
    if "on" in part:
        return on(part["on"], part_of(part["part"]))
    if "linked" in part:
        parts = {name: [part_of(each) for each in part[name]] for name in ("on_success", "on_error")}
        return linked(part_of(part["linked"]), **parts)
    options, args = part.get("options", {}), part.get("args", [])
    if "py" in part:
        return PyTask(part["py"], args, part.get("kwargs", {}), **options)
    return GoTask(part["go"], args[0] if len(args) == 1 else tuple(args) or None, **options)


def policy_of(policy: Any) -> Any:
    return quorum(policy) if isinstance(policy, int) else policy


def flow_of(about: dict[str, Any], home: Queue) -> Flow:
    parts: dict[str, Any] = {
        f"then_{each}": [part_of(part) for part in about.get(each, [])] for each in ("success", "complete", "failure")
    }
    policy: Any = policy_of(about.get("policy", "stop"))
    flow = Flow(home, about["name"], on_failure=policy, unique=about.get("unique"), keep=about.get("keep", 86400), **parts)
    refs: list[Ref] = []
    for each in about["steps"]:
        after = [refs[ref] if isinstance(ref, int) else refs[ref[0]].when(policy_of(ref[1])) for ref in each.get("after", [])]
        named = {"name": each.get("name", ""), "when": policy_of(each.get("when"))}
        if "add" in each:
            more: dict[str, Any] = {
                name: [part_of(part) for part in each.get(name, [])] for name in ("on_success", "on_error")
            }
            refs.append(flow.add(part_of(each["add"]), after=after, **named, **more))
        elif "map" in each:
            refs.append(flow.map(part_of(each["map"]), over=refs[each["over"]], **named))
        else:
            refs.append(flow.wait(each["wait"], after=after, timeout=each.get("timeout")))
    return flow


def word(argument: Argument) -> Any:
    if not isinstance(argument, bytes):
        return str(argument)
    if len(argument) > 1000:
        return {"sha256": hashlib.sha256(argument).hexdigest()}
    try:
        return argument.decode("ascii")
    except UnicodeDecodeError:
        return {"hex": argument.hex()}


def shortened(words: list[Any]) -> list[Any]:
    """Without what is alike in the middle of many."""
    return words if len(words) <= 200 else [*words[:60], None, *words[-60:]]


def pages(about: dict[str, Any]) -> list[list[Any]]:
    """The calls of `flow_build` that store a workflow."""
    found: list[list[Any]] = []

    def add(_: Store, script: str, keys: tuple[str, ...], arguments: tuple[Argument, ...]) -> int:
        if script == "flow_build":
            found.append([*keys, *map(word, arguments)])
        return 1

    with (
        mock.patch("delayed.workflow.compose.token", return_value=FLOW + "xxxxxx"),
        mock.patch("delayed.workflow.pages.token", return_value="builder"),
        mock.patch("delayed.task.options.now", return_value=NOW),
        mock.patch.object(Store, "add", add),
        mock.patch("delayed.workflow.compose.Carrier"),
    ):
        flow_of(about, Queue(HOME, "redis://nowhere.invalid")).submit()
    return [shortened(page) for page in found]


def made() -> dict[str, Any]:
    return {"about": ABOUT, "vectors": [{**about, "pages": pages(about)} for about in DESCRIPTIONS]}


if __name__ == "__main__":
    PATH.write_text(json.dumps(made(), indent=1, ensure_ascii=False) + "\n")
