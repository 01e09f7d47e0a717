"""Writes down a workflow for a program in Go that submits it: interop/cmd/flow-creator."""

from collections.abc import Sequence
from typing import Any

from delayed.task.task import GoTask, PyTask
from delayed.workflow import Chain, Group, Linked
from delayed.workflow.graph import Policy


class Recorder:
    """In place of a `delayed.workflow.Flow`: keeps what is asked of it. What it returns are numbers of steps.

    Args:
        name, policy, unique, then_success, then_complete, then_failure: as of a `Flow`.
    """

    def __init__(self, name: str, policy: Policy, unique: str, **calls: Sequence[Any]) -> None:
        self._about: dict[str, Any] = {"name": name, "policy": str(policy), "unique": unique}
        self._about |= {event.removeprefix("then_"): list(map(_part, some)) for event, some in calls.items()}
        self._steps: list[dict[str, Any]] = []

    def _step(self, after: Sequence[int] | None, when: Any, **words: Any) -> int:
        policy = {} if when is None else {"when": when} if isinstance(when, str) else {"quorum": when.need}
        self._steps.append({**words, **policy, "after": list(after or ())})
        return len(self._steps) - 1

    def add(self, part: Any, *, after: Sequence[int] | None = None, when: Any = None) -> int:
        """As `Flow.add`."""
        return self._step(after, when, add=_part(part))

    def map(self, part: Any, *, over: int, when: Any = None) -> int:
        """As `Flow.map`."""
        return self._step(None, when, map=_part(part), over=over)

    def wait(self, signal: str, *, after: Sequence[int] | None = None, timeout: float | None = None) -> int:
        """As `Flow.wait`."""
        return self._step(after, None, wait=signal, timeout=timeout or 0)

    def recorded(self, queue: str, first: int, signals: Sequence[str], *, cancelled: bool) -> dict[str, Any]:
        """All of it, for JSON.

        Args:
            queue: its home, by its name.
            first: number of its first node.
            signals: that are to be sent,
            cancelled: or whether it is to be cancelled.
        """
        more = {"queue": queue, "first": first, "signals": list(signals), "cancelled": cancelled}
        return {**self._about, **more, "steps": self._steps}


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, Chain):
        return {"chain": list(map(_part, part.parts))}
    if isinstance(part, Group):
        return {"group": list(map(_part, part.parts))}
    if isinstance(part, Linked):
        others = {"onsuccess": list(map(_part, part.on_success)), "onerror": list(map(_part, part.on_error))}
        return {"linked": _part(part.part), **others}
    if isinstance(part, PyTask):
        return {"py": part.func_path, "args": list(part.args), "retry": part.retry}
    if isinstance(part, GoTask):
        return {"go": part.func_path, "args": list(part.args)}
    return {"on": part.queue, "part": _part(part.part)}
