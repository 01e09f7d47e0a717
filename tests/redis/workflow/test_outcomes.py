"""Every way in which a member can end, under every policy: the table of docs/workflows.md is what these tests see."""

from collections.abc import Callable
from typing import Any

import pytest

from delayed.dead_letters.letter import dead_letters
from delayed.dead_letters.retry import purge as purge_letters
from delayed.dead_letters.search import Search
from delayed.errors import Reason
from delayed.ops.purge import purge
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.task.decode import headers_of
from delayed.task.edit import array_of, elements
from delayed.task.headers import holds_in
from delayed.task.task import GoTask, PyTask
from delayed.workflow import Flow, on, quorum
from delayed.workflow.carry import Carrier
from delayed.workflow.graph import Policy, Ref
from tests import ROOT
from tests.conftest import burst
from tests.support.waiting import LONG_AGO

from .hands import Hands, home, states

PAGE = (ROOT / "docs" / "workflows.md").read_text()
TABLE = PAGE.partition("<!-- outcomes -->\n")[2].partition("\n<!-- end of outcomes -->")[0].splitlines()
LETTERS = {"success": "S", "complete": "C", "failure": "F"}
Ending = tuple[Callable[[Flow], Ref], Callable[[Hands], None]]


def adds(task: Callable[[], Any]) -> Callable[[Flow], Ref]:
    """Adds a member that is a call."""
    return lambda flow: flow.add(task(), name="first")


noop = adds(lambda: PyTask("tasks:noop", ("member",)))


def with_a_taken_key(flow: Flow) -> Ref:
    task = PyTask("tasks:noop", ("member",), unique="one")
    flow.home.enqueue(task)
    return flow.add(task, name="first")


def over_no_list(flow: Flow) -> Ref:
    return flow.map(PyTask("tasks:noop"), over=flow.add(PyTask("tasks:noop", ("no list",))))


def in_vain(hands: Hands) -> None:
    """The time of the wait is over."""
    queue = hands.queues[0]
    (name,) = queue.store.call("ZRANGE", queue.keys.flow_due, 0, -1)
    queue.store.call("ZADD", queue.keys.flow_due, 0, name)


def work(hands: Hands) -> None:
    burst(hands.queues[0])


def fail_and_purge(hands: Hands) -> None:
    """Nobody can retry its dead letter any more."""
    work(hands)
    assert purge_letters(hands.queues[0], Search()) == 1


def lose(hands: Hands) -> None:
    held = hands.take()
    assert held is not None
    assert held.begin()
    hands.lose(held)


def cancel_before(hands: Hands) -> None:
    queue = hands.queues[0]
    (data,) = queue.store.call("LRANGE", queue.name, 0, -1)
    member = holds_in(headers_of(data)).member
    assert member is not None
    carrier = Carrier(queue.store)
    found = carrier._set(member.flow, member.set)
    assert found is not None
    carrier._stop_released(member.flow, queue.keys, found, member.set, [member.node])
    burst(queue)


def cancel_running(hands: Hands) -> None:
    held = hands.take()
    assert held is not None
    assert held.begin()
    Handle(held.queue, held.holds.id or "").cancel()
    assert held.cancel()


def garble(hands: Hands) -> None:
    queue = hands.queues[0]
    (data,) = queue.store.call("LRANGE", queue.name, 0, -1)
    raw, _ = elements(data)
    queue.store.call("LSET", queue.name, 0, array_of([raw[0], b"\x05", *raw[2:]]))
    burst(queue)
    assert [letter.reason for letter in dead_letters(queue)] in ([Reason.UNDECODABLE], [Reason.BAD_ARGUMENTS])


OUTCOMES: dict[str, Ending] = {
    "succeeds": (noop, work),
    "raises, and no retry is left": (adds(lambda: PyTask("tasks:fail", ("no",))), work),
    "fails, and its dead letter is purged": (adds(lambda: PyTask("tasks:fail", ("no",))), fail_and_purge),
    "is lost too often": (noop, lose),
    "expires": (adds(lambda: PyTask("tasks:noop", expires=LONG_AGO)), work),
    "runs for longer than its timeout": (
        adds(lambda: PyTask("tests.redis.workflow.functions:sleep", (60,), timeout=0.02)),
        work,
    ),
    "is cancelled before it begins": (noop, cancel_before),
    "is cancelled while it runs": (noop, cancel_running),
    "is removed by a purge of its queue": (noop, lambda hands: asserted(purge(hands.queues[0]) == 1)),
    "has a function that nobody knows": (adds(lambda: PyTask("tasks:nope")), work),
    "has the language of another worker": (adds(lambda: GoTask("tasks.Noop")), work),
    "cannot be decoded": (noop, garble),
    "has a unique key that another task has": (with_a_taken_key, work),
    "is a map over what is no list": (over_no_list, work),
    "is a wait whose time is over without its signal": (lambda flow: flow.wait("approved", timeout=3600), in_vain),
}
POLICIES: dict[str, tuple[Policy, Any]] = {  # the workflow's policy, and that of the edges
    "stop": ("stop", None),
    "stop_now": ("stop_now", None),
    "continue": ("continue", None),
    "any": ("stop", "any"),
    "quorum(3)": ("stop", quorum(3)),
    "failure": ("stop", "failure"),
}


WHOLE: dict[str, tuple[Policy, Any]] = {"any": ("any", None), "quorum(3)": (quorum(3), None)}  # the same of a workflow


def asserted(true: bool) -> None:
    assert true


@pytest.fixture
def other(queue: Queue) -> Queue:
    """Where all is but the member whose end matters."""
    return home(queue, f"{queue.name}b")


def trial(queue: Queue, other: Queue, outcome: str, policy: tuple[Policy, Any]) -> tuple[str, str]:
    """How that member has ended; and the others, what comes after all three, the workflow, and which callbacks ran."""
    make, end = OUTCOMES[outcome]
    whole, edges = policy
    callbacks: Any = {f"then_{name}": [on(other.name, PyTask("tasks:noop", (f"on {name}",)))] for name in LETTERS}
    flow = Flow(queue, on_failure=whole, **callbacks)
    first = make(flow)
    others = [flow.add(on(other.name, PyTask("tasks:noop", ("other",))), name=f"other {number}") for number in range(2)]
    flow.add(on(other.name, PyTask("tasks:noop", ("other",))), name="after", after=[first, *others], when=edges)
    run = flow.submit()
    end(Hands(queue))
    hands = Hands(queue, other)
    hands.carry()
    ran = hands.finish()
    found, status = states(run), run.status()
    called = "".join(letter for name, letter in LETTERS.items() if f"on {name}" in ran)
    assert all(ran.count(f"on {name}") <= 1 for name in LETTERS), ran
    assert found["other 0"] == found["other 1"]
    assert not {"waiting", "released"} & set(found.values()), found
    assert (status.left, status.ended is not None) == (0, True)
    assert run.wait(0) == status.state
    return run.node(first).state, f"{found['other 0']}, {found['after']} → **{status.state}** {called}"


def clear(*queues: Queue) -> None:
    for each in queues:
        each.store.call("DEL", each.keys.dead)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_each_outcome_under_each_policy_is_as_the_document_says(queue: Queue, other: Queue, outcome: str) -> None:
    cells = []
    member = ""
    for name, policy in POLICIES.items():
        member, cell = trial(queue, other, outcome, policy)
        cells.append(cell)
        clear(queue, other)
        if name in WHOLE:
            assert trial(queue, other, outcome, WHOLE[name]) == (member, cell)
            clear(queue, other)
    line = f"| {outcome} | {member} | {' | '.join(cells)} |"
    assert line in TABLE, line


def test_the_document_has_these_lines_and_no_others() -> None:
    head = f"| a member | is then | {' | '.join(f'`{policy}`' for policy in POLICIES)} |"
    assert TABLE[:2] == [head, "| --- " * (2 + len(POLICIES)) + "|"]
    assert [line.split(" | ")[0].removeprefix("| ") for line in TABLE[2:]] == list(OUTCOMES)
