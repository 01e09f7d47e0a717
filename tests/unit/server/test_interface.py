"""The description of the interface says what the code does."""

import re
from typing import Any

import pytest

from delayed.server.app import ALL_ROUTES, DOCUMENT
from delayed.server.calls import Route
from delayed.server.openapi import page
from delayed.server.option_schemas import ref
from delayed.server.schema import Validator
from delayed.server.schemas import SCHEMAS

_KNOWN = {
    "type", "properties", "additionalProperties", "required", "items", "enum", "description", "minimum", "maximum", "minItems",
    "maxItems", "minLength", "maxLength", "pattern", "format", "exclusiveMinimum", "default", "$ref",
}  # fmt: skip


@pytest.mark.parametrize("route", ALL_ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_each_route_is_described(route: Route) -> None:
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    assert operation["operationId"] == route.name
    assert operation["summary"] == route.summary
    named = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"]
    assert named == re.findall(r"{(\w+)}", route.path)
    assert (operation["security"] == []) if route.right is None else ("security" not in operation)
    for schema in (*route.gives.values(), route.takes):
        assert not schema or "/" in schema or schema in SCHEMAS


def test_nothing_else_is_described() -> None:
    described = {(method.upper(), path) for path, found in DOCUMENT["paths"].items() for method in found}
    assert described == {(route.method, route.path) for route in ALL_ROUTES}
    names = [route.name for route in ALL_ROUTES]
    assert len(set(names)) == len(names)


def test_references_lead_somewhere() -> None:
    references = re.findall(r"'\$ref': '#/components/(\w+)/(\w+)'", repr(DOCUMENT))
    assert references
    for kind, name in references:
        assert name in DOCUMENT["components"][kind]


def test_the_validator_knows_what_the_schemas_use() -> None:
    def words(schema: Any) -> None:
        assert set(schema) <= _KNOWN, schema
        for each in schema.get("properties", {}).values():
            words(each)
        if "items" in schema:
            words(schema["items"])

    for schema in SCHEMAS.values():
        words(schema)


@pytest.mark.parametrize(
    ("schema", "value", "wrong"),
    [
        ("Take", {"max": 5, "wait": 1.5}, ""),
        ("Take", {"max": 1.5}, "max must be integer"),
        ("Take", {"max": True}, "max must be integer"),
        ("Take", {"most": 5}, "most is not known here"),
        ("Take", [], "the body must be object"),
        ("NewTask", {"function": ""}, "function must have 1"),
        ("NewTask", {}, "function is missing"),
        ("NewTask", {"function": "a:b", "at": "tomorrow"}, "at must be a time"),
        ("NewTask", {"function": "a:b", "backoff": {"kind": "x", "base": 1}}, "backoff.kind must be one of"),
        ("NewTask", {"function": "a:b", "backoff": {"kind": "linear", "base": 0}}, "backoff.base must be above 0"),
        ("NewTask", {"function": "a:b", "metadata": {"a": 1}}, "metadata.a must be string"),
        ("EndMany", {"endings": []}, "endings must have 1"),
        ("EndMany", {"endings": [{"token": "x", "action": "eat"}]}, "endings[0].action must be one of"),
        ("Retry", {"kind": "a b"}, "kind must match"),
    ],
)
def test_what_is_wrong(schema: str, value: Any, wrong: str) -> None:
    found = next(Validator(SCHEMAS).wrong(value, ref(schema)), "")
    assert found.startswith(wrong)
    assert bool(found) == bool(wrong)


def test_the_page_shows_all() -> None:
    text = page(ALL_ROUTES, "2").decode()
    assert all(route.path in text for route in ALL_ROUTES)
    assert all(f'id="{name}"' in text for name in SCHEMAS)
    assert "<script" not in text
