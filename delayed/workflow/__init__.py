"""Workflows: groups, chains and graphs of tasks, in any language and queue, with joins that no fault can lose or repeat."""

from typing import TYPE_CHECKING

from ..base.later import names_later

if TYPE_CHECKING:  # workers carry workflows on, and put none together
    from .compose import Chain, Flow, Group, Linked, chain, group, linked, on
    from .graph import Ref, quorum
    from .run import FlowStatus, NodeStatus, Run, runs

__all__ = [
    "Chain",
    "Flow",
    "FlowStatus",
    "Group",
    "Linked",
    "NodeStatus",
    "Ref",
    "Run",
    "chain",
    "group",
    "linked",
    "on",
    "quorum",
    "runs",
]
__getattr__ = names_later(
    __name__,
    dict.fromkeys(("Chain", "Flow", "Group", "Linked", "chain", "group", "linked", "on"), "compose")
    | dict.fromkeys(("FlowStatus", "NodeStatus", "Run", "runs"), "run")
    | dict.fromkeys(("Ref", "quorum"), "graph"),
)
