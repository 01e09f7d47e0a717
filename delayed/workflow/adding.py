"""What a node that runs may do with its workflow: add nodes beside itself."""

from contextlib import nullcontext
from typing import Any

from ..errors import DelayedError, InvalidTask
from ..queue.queue import Queue
from ..redis.keys import Keys
from ..redis.scripts import Argument
from ..redis.store import Store
from ..task.headers import Member
from .carry import Carrier
from .compose import Flow
from .graph import Graph, Policy, policy_in
from .layout import Layout, NodeSet, packed_queues
from .pages import run_id
from .run import Run

_MOST = 1000  # nodes that are added at once


class Superseded(DelayedError):
    """The task has been taken from this worker, or its workflow is being stopped: what it wanted to change was not changed."""


class Membership:
    """The workflow of a node that runs.

    Args:
        queue: where the node was taken from.
        home: the name of the queue that has the workflow's keys.
        member: the node.
        lease: the name of that under which its worker holds it.
    """

    def __init__(self, queue: Queue, home: str, member: Member, lease: str) -> None:
        self._queue, self._member, self._lease = queue, member, lease
        self._home = queue if home == queue.name else Queue(home, queue.conn)
        self._added = 0
        self._policy: Policy = "stop"  # of the workflow, once that has been read

    @property
    def run(self) -> Run:
        """The workflow's handle."""
        return Run(self._home, run_id(self._member.flow))

    def add(self, part: Any, *, name: str | None = None) -> bool:
        """Add a call, a chain or a group beside this node: what waits for this node waits for these, too, and finds their
        results after its own. A task that is executed again, because its worker was lost, adds nothing twice.

        Args:
            part: what to run.
            name: by which it is known what this node has added; by default the number of the call.

        Returns:
            Whether it was added now; False if it had been before.

        Raises:
            Superseded: the lease of this task was lost, or its workflow is being stopped. Nothing was added.
            InvalidTask: it has more than 1,000 nodes, or no worker runs this, or, on a cluster, the queue of this task is in
                another slot than the home of the workflow.
        """
        self._added += 1
        member, store = self._member, self._home.store
        if not self._lease or not self._queue.store.reaches(self._home.name):
            raise InvalidTask(
                "nodes can be added while a worker runs the task, whose queue is in the slot of the workflow's home"
            )
        field = f"a{member.node}#{self._added}" if name is None else f"a{member.node}:{name}"
        key = store.keys.flow(member.flow)
        own, policy = store.call("HMGET", key, f"s{member.set}", "policy")
        if own is None:
            raise Superseded("the workflow is gone")
        self._policy = policy_in((policy or b"").decode())
        size = self._measure(part)
        counts = [int(store.call("HINCRBY", key, what, size[what])) - size[what] for what in ("sets", "gates", "next")]
        graph = self._graph(part, (counts[0], counts[1], counts[2]))
        tracing = self._queue.tracing
        with nullcontext() if tracing is None else tracing.sending(self._home.name, None) as sending:
            reply = self._store(store, field, graph, NodeSet.of(own), None if sending is None else sending.trace)
            if sending is not None:
                sending.all_done(size["next"] if reply[0] == 1 else 0, run_id(member.flow))
        if not reply[0]:
            raise Superseded("this task has been taken from its worker, or its workflow is being stopped: nothing was added")
        Carrier(store).carry(member.flow)
        return bool(reply[0] == 1)

    def _measure(self, part: Any) -> dict[str, int]:
        """How many sets, gates and nodes there will be."""
        graph = self._graph(part, (0, 0, 0))
        nodes = sum(each.size for each in graph.blocks)
        if not 0 < nodes <= _MOST:
            raise InvalidTask(
                f"a node may add 1 to {_MOST:,} nodes at once, not {nodes:,}: add a map, or groups one after another"
            )
        return {"sets": len(graph.blocks), "gates": len(graph.gates), "next": nodes}

    def _graph(self, part: Any, base: tuple[int, int, int]) -> Graph:
        flow = Flow(self._home, on_failure=self._policy, base=base)
        flow.add(part)
        flow.graph.number()
        return flow.graph

    def _store(self, store: Store, field: str, graph: Graph, own: NodeSet, trace: tuple[str, str] | None) -> list[Any]:
        keys: Keys = store.keys
        flow = self._member.flow
        queues = Carrier(store).queues(flow)
        layout = Layout(graph, keys.queue, flow, list(queues))
        layout.trace = trace
        if len(layout.queues) > len(queues):
            raise InvalidTask(f"a node can add tasks to the queues that its workflow has: {', '.join(queues)}")
        ends, nodes = graph.ends(), sum(each.size for each in graph.blocks)
        fields: list[Argument] = ["queues", packed_queues(queues), "+left", nodes, "+total", nodes]
        numbers = {each.number for each in ends}
        for name, text in layout.sets():
            if name[0] == "s" and int(name[1:]) in numbers:  # what waits for this node waits for these
                found = NodeSet.of(text.encode())
                flags = found.flags.replace("-", "") + ("h" if "h" in own.flags and "h" not in found.flags else "")
                fields += (name, found._replace(outs=(*found.outs, *own.outs), flags=flags or "-").packed())
                continue
            fields += (name, text)
        for gate in own.outs:
            fields += (f"+n{gate}", sum(each.size for each in ends))
        fields += (f">z{self._member.set}", " ".join(str(each.number) for each in ends))  # and finds their results
        for block in graph.blocks:
            for index, data in enumerate(layout.tasks(block), block.first):
                fields += (f"t{index}", data)
        ready = [f"i{each.number}" for each in graph.blocks if not each.gates]
        names = (self._queue.keys.processing, keys.flow(flow), keys.joins(flow), keys.flow_outbox)
        first = graph.blocks[0].first
        reply: list[Any] = store.add("flow_add", names, (flow, self._lease, field, first, len(fields), *fields, *ready))
        return reply
