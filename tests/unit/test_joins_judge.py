"""The model of the storm over workflows finds joins that are lost, early, or end as they should not."""

import pytest

from chaos.joins.graphs import ADD, FAIL, OK, Gate, Plan, Set, Spec
from chaos.joins.model import Life, Model


def spec(mode: str = "a", need: int = 0, acts: tuple[str, ...] = (OK, OK)) -> Spec:
    """A group, and one node after it."""
    size = len(acts)
    sets = [Set("t", 0, list(acts)), Set("t", size, [OK], [Gate(mode, need, (0,))])]
    return Spec(7, 1, "stop", sets, size + 1)


def lives(*begins: int) -> dict[int, Life]:
    """Nodes that have taken a second each; one that never began has -1."""
    return {node: Life([begin], [begin + 1]) for node, begin in enumerate(begins) if begin >= 0}


def test_nothing_is_wrong_if_all_ran_in_their_turn() -> None:
    model = Model(spec(), lives(10, 20, 21))
    assert (model.found.lost, model.found.early, model.found.checked) == ([], [], 3)
    assert (model.marks, model.state()) == ([["s", "s"], ["s"]], "succeeded")


def test_a_node_that_never_ran_is_lost() -> None:
    assert len(Model(spec(), lives(10, 20, -1)).found.lost) == 1


@pytest.mark.parametrize(("mode", "need", "begin"), [("a", 0, 20), ("e", 0, 20), ("q", 2, 20), ("q", 1, 10)])
def test_a_node_that_began_before_its_gate_allowed_it_is_early(mode: str, need: int, begin: int) -> None:
    assert len(Model(spec(mode, need), lives(10, 20, begin)).found.early) == 1
    assert not Model(spec(mode, need), lives(10, 20, begin + 1)).found.early


@pytest.mark.parametrize(
    ("mode", "need", "mark"), [("a", 0, "k"), ("e", 0, "s"), ("q", 1, "s"), ("q", 2, "k"), ("n", 1, "s"), ("n", 2, "k")]
)
def test_a_failure_lets_go_on_or_skips(mode: str, need: int, mark: str) -> None:
    model = Model(spec(mode, need, (OK, FAIL)), lives(10, 20, 30 if mark == "s" else -1))
    assert (model.marks[1], model.found.lost, model.found.early) == ([mark], [], [])
    handled = mode in "qn" and not (mode == "q" and mark == "k")
    assert model.state() == ("succeeded" if handled else "failed")


@pytest.mark.parametrize(("mode", "need", "first"), [("a", 0, 41), ("e", 0, 41), ("q", 2, 41), ("q", 1, 11)])
def test_what_a_node_adds_counts_beside_it(mode: str, need: int, first: int) -> None:
    one = spec(mode, need, (ADD,))
    one.sets[0].added = 2
    for begin in (first - 1, first):
        some = lives(10, begin, 20, 21, 40)  # the last of the added ones ends at 41
        assert len(Model(one, some).found.early) == (begin < first)
        assert Model(one, some).marks == [["s"], ["s"]]


@pytest.mark.parametrize("begin", [11, 21, 31])
def test_a_quorum_may_have_been_given_up_before_some_were_added(begin: int) -> None:
    """With the first failure; what runs nevertheless may have begun then, or at any time after it."""
    sets = [Set("t", 0, [FAIL, FAIL]), Set("t", 2, [ADD], added=3), Set("t", 6, [OK], [Gate("q", 3, (0, 1))])]
    sets.append(Set("t", 7, [OK], [Gate("e", 1, (2,))]))
    model = Model(Spec(0, 0, "continue", sets, 8), lives(10, 20, 12, 13, 14, 15, -1, begin))
    assert (model.marks[2], model.found.early, model.found.lost) == (["k"], [], [])


def test_a_callback_for_the_other_end_is_wrong() -> None:
    one = spec()
    one.callbacks = {"failure": 3}
    model = Model(one, lives(10, 20, 21, 30))
    model.call_backs()
    assert len(model.found.wrong) == 1


def test_a_quorum_that_cannot_be_reached_is_a_failure_at_once() -> None:
    one = spec("q", 2, (OK, FAIL))
    one.callbacks = {"failure": 3}
    for begin in (20, 21):  # the node that fails ends at 21, and a failure that nothing provides for comes later
        model = Model(one, lives(10, 20, -1, begin))
        model.unhandled.append(30)
        model.call_backs()
        assert len(model.found.early) == (begin < 21)


def test_the_same_workflow_comes_of_the_same_numbers() -> None:
    plan = Plan(4, [50], 3, go=True, most=60)
    assert [plan.build(number).spec for number in range(5)] == [plan.build(number).spec for number in range(5)]
    assert [number for number in range(5) if plan.is_large(number)] == [2]
