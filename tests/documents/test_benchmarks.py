"""docs/benchmarks.md and its chart, as `scripts/bench --write` makes them."""

from bench.chart import chart
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
