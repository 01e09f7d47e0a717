"""What upstream gets wrong in the matrix: which defect explains what was seen."""

from typing import NamedTuple

from .agents import Agent
from .cells import Cell, Outcome
from .pairs import Exchange
from .payloads import Value

LEGEND = {
    "U3": "upstream's Go worker never releases a finished task: it holds the last one (*held*), and after a graceful stop any "
    "sweeper, ours too, must take it for lost and run it again (*repeated*)",
    "U4": "upstream's Python `GoTask(path)` without arguments packs a bare string, which upstream's Go worker cannot read: "
    "the task is gone. Our Go worker reads it",
    "U7": "upstream's workers drop a task that they cannot read, without a trace",
    "U13": "upstream's Go producer packs a struct as keyword arguments as an array, which no Python worker can use",
    "U14": "upstream's Python worker cannot decode a map with integer keys; it drops the task (U7)",
    "U16": "upstream's Python producer refuses instants (`datetime`): nothing is enqueued",
    "U17": "upstream's Go worker keeps the arguments of the task before where a task has nil: the function sees a stale value",
    "U18": "upstream's Go worker may begin to listen to signals only at its second beat: until then it runs further tasks",
}
UNEXPLAINED = "UNEXPLAINED"


class Verdict(NamedTuple):
    """What a cell says, with the defects that explain it."""

    text: str
    defects: tuple[str, ...] = ()

    @property
    def explained(self) -> bool:
        return UNEXPLAINED not in self.text


def judge(cell: Cell, outcome: Outcome) -> Verdict:
    """A cell of one of the three scenarios."""
    theirs_go = cell.worker.name == "upstream Go"
    lost, repeated = dict(outcome.lost), dict(outcome.repeated)
    found: list[tuple[str, str]] = []
    if theirs_go and cell.producer.name == "upstream Python" and lost.pop("fail", 0):
        found.append(("U4", "lost 1"))
    late = [what for what in outcome.wrong if what.startswith("only ")] if theirs_go and cell.scenario == "graceful" else []
    if late:
        found.append(("U18", "stopped late"))
    held_task_ran_again = repeated.get("began") == repeated.get("ended") == 1 or (late and sum(repeated.values()) == 1)
    if theirs_go and cell.scenario == "graceful" and held_task_ran_again:
        found.append(("U3", "repeated 1"))
        repeated.clear()
    elif theirs_go and outcome.unreleased == 1:
        found.append(("U3", "held 1"))
    unreleased = outcome.unreleased - (1 if theirs_go else 0)
    rest = [
        f"lost {lost}" if lost else "",
        f"repeated {repeated}" if repeated else "",
        *(what for what in outcome.wrong if what not in late),
    ]
    rest += [f"held {unreleased}"] if unreleased > 0 else []
    text = ", ".join([f"{defect} {what}" for defect, what in found] + [f"{UNEXPLAINED}: {what}" for what in rest if what])
    return Verdict(text or "ok", tuple(defect for defect, _ in found))


def judge_payload(producer: Agent, worker: Agent, value: Value) -> str | None:
    """The defect that keeps `value` from arriving, if there is one."""
    if producer.name == "upstream Python" and _contains(value, "time"):
        return "U16"
    if worker.name == "upstream Python" and _has_integer_keys(value):
        return "U14"
    return "U17" if worker.name == "upstream Go" and "nil" in value else None


def judge_exchange(producer: Agent, worker: Agent, values: list[Value], found: Exchange) -> Verdict:
    """A cell of the table of payloads."""
    went_wrong = {*found.refused, *found.lost, *found.different, *found.repeated}
    counts: dict[str, int] = {}
    for number in sorted(went_wrong):
        label = judge_payload(producer, worker, values[number]) or f"{UNEXPLAINED} (number {number})"
        counts[label] = counts.get(label, 0) + 1
    if found.keywords is False:
        label = "U13" if producer.name == "upstream Go" else f"{UNEXPLAINED} keyword arguments"
        counts[label] = counts.get(label, 0) + 1
    for text in found.wrong:
        counts[f"{UNEXPLAINED} {text}"] = 1
    total = found.count + (found.keywords is not None)
    arrived = total - len(went_wrong) - (found.keywords is False)
    text = ", ".join([f"{arrived} of {total}", *(f"{label} {count}" for label, count in counts.items())])
    return Verdict(text, tuple(label for label in counts if label in LEGEND))


def _contains(value: Value, wanted: str) -> bool:
    ((kind, content),) = value.items()
    if kind == "map":
        return any(_contains(item, wanted) for pair in content for item in pair)
    return kind == wanted or (kind in ("list", "struct") and any(_contains(item, wanted) for item in content))


def _has_integer_keys(value: Value) -> bool:
    ((kind, content),) = value.items()
    if kind == "map":
        return any("int" in key or _has_integer_keys(item) for key, item in content)
    return kind in ("list", "struct") and any(_has_integer_keys(item) for item in content)
