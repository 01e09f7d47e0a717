"""docs/benchmarks.md and its chart, as `scripts/bench --write` makes them."""

from bench.chart import chart
from bench.contenders import keeping_results, of_kind
from bench.kind_run import Found, Row
from bench.kind_targets import Seen, want_of_kinds
from bench.kinds import GO_KINDS, KINDS, RESULT
from bench.measure_drain import TITLE as NO_OPS
from bench.measure_kinds import TITLE
from bench.report import page, sections
from bench.result import Result
from tests import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = ("kind: system", "enqueue/s", "many/s", "drain/s")


def kinds(rate: str) -> Result:
    rows: list[tuple[str, ...]] = [
        (f"{row}: {system}", "1", "2", rate) for row, system in (("plain", "ours, Python"), ("result", "huey, 4 threads"))
    ]
    return Result("kinds", TITLE, HEAD, rows)


def test_the_chart_shows_what_the_page_says() -> None:
    assert PAGE.with_suffix(".svg").read_text() == chart(sections(PAGE.read_text()))


def test_kinds_of_tasks_come_before_no_ops() -> None:
    text = page(
        [Result("drain", NO_OPS, ("system", "tasks/s"), [("bare loop", "9,000")]), kinds("8,000 (7,000 to 9,000)")], ["Here."]
    )
    assert list(sections(text)) == [TITLE, NO_OPS]
    drawn = chart(sections(text))
    assert drawn.index("huey") < drawn.index("8,000") < drawn.index("plain") < drawn.index("bare loop")


def test_what_is_measured_alone_replaces_its_own_section() -> None:
    drain = Result("drain", NO_OPS, ("system", "tasks/s"), [("bare loop", "9,000")])
    before = page([kinds("8,000"), drain], ["Here."])
    after = page([kinds("7,000")], ["There."], before)
    assert sections(after)[NO_OPS] == sections(before)[NO_OPS]
    assert "- Here." in after
    assert "There." in sections(after)[TITLE]
    assert "7,000" in after
    assert "8,000" not in after


def test_what_we_want_of_each_kind_is_said() -> None:
    """From the figures of one run, in which Go is three times as quick as Python, and Python five times as the peers."""
    drains = {Row(kind, of_kind(kind, go=False)): 50_000.0 for kind in KINDS}
    drains |= {Row(kind, of_kind(kind, go=True)): 150_000.0 for kind in GO_KINDS}
    drains |= {Row(RESULT, peer): 10_000.0 for peer in keeping_results()}
    found = {row: Found(120_000, rate, redis=1, worker=1, memory=300, commands=2) for row, rate in drains.items()}
    result = Result("kinds", TITLE)
    want_of_kinds(result, {row.label: Seen(row, [one], [one]) for row, one in found.items()})
    lines = [target.line() for target in result.targets]
    assert len(set(lines)) == len(lines)
    assert {
        "reached: timeout: drain at least 75% of plain: 100 %",
        "reached: async: drain at least 25,000 tasks/s: 50,000 tasks/s",
        "MISSED: plain, supervised: drain at least 250,000 tasks/s: 50,000 tasks/s",
        "MISSED: result: at most 200 bytes while it waits: 300 bytes",
        "MISSED: result: at least 10 times the fastest Python peer: 5 times",
        "MISSED: async+result: at least 10 times taskiq: 5 times",
        "reached: result: Go at least 10 times asynq: 15 times",
        "reached: key: Go at least 2 times Python: 3 times",
    } <= set(lines)
