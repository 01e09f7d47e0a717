"""The picture of a workflow."""

from xml.etree import ElementTree

from delayed.ops.flows import Edge, FlowView, SetView
from delayed.web.graph import MOST, drawn
from delayed.workflow.run import FlowStatus

SVG = "{http://www.w3.org/2000/svg}"


def flow(*sets: SetView) -> FlowView:
    status = FlowStatus._make([0] * len(FlowStatus._fields))
    return FlowView("0123456789AAAAAA", "q", status, "stop", list(sets))


def one(number: int, *before: int, size: int = 1, label: str = "f", mode: str = "all", **counts: int) -> SetView:
    edges = [Edge(mode, 0, list(before), "")] if before else []
    return SetView(number, label, "task", "q", number * 10, size, counts or {"waiting": size}, edges, "")


def elements(view: FlowView) -> ElementTree.Element:
    return ElementTree.fromstring(drawn(view, "/task/").replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def test_each_stands_below_what_it_waits_for() -> None:
    found = elements(flow(one(0), one(1, 0), one(2, 0), one(3, 1, 2)))
    heights = [int(each.attrib["y"]) for each in found.iter(f"{SVG}rect")]
    assert heights[0] < heights[1] == heights[2] < heights[3]
    assert len(list(found.iter(f"{SVG}path"))) == 4
    assert len(list(found.iter(f"{SVG}a"))) == 4


def test_a_group_is_one_box_with_a_bar() -> None:
    found = elements(flow(one(0, size=1000, succeeded=500, failed=250, released=250)))
    bars = {
        each.attrib["class"]: float(each.attrib["width"]) for each in found.iter(f"{SVG}rect") if "bar" in each.attrib["class"]
    }
    assert bars["bar succeeded"] == 2 * bars["bar failed"] == 2 * bars["bar released"]
    assert "node failed" in [each.attrib["class"] for each in found.iter(f"{SVG}rect")]
    assert "(1,000)" in "".join(found.itertext())
    assert not list(found.iter(f"{SVG}a"))


def test_what_others_write_is_text() -> None:
    evil = '"><script>alert(1)</script>'
    view = flow(one(0, label=evil), one(1, 0, mode=evil))
    text = drawn(view, f"/{evil}/")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    elements(view)


def test_it_has_a_bound_and_may_be_empty() -> None:
    assert len(list(elements(flow(*(one(number) for number in range(MOST + 50)))).iter(f"{SVG}a"))) == MOST
    assert not list(elements(flow()).iter(f"{SVG}rect"))
    unknown = elements(flow(one(5, 3)))  # what is before it is not drawn
    assert len(list(unknown.iter(f"{SVG}a"))) == 1
