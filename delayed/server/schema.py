"""Checks what clients send against the schemas that the description of the interface shows them."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
}
PREFIX = "#/components/schemas/"


class Validator:
    """Checks values; of JSON Schema it knows what the schemas of the server use.

    Args:
        schemas: those that others refer to, by name.
    """

    def __init__(self, schemas: Mapping[str, Schema]) -> None:
        self._schemas = schemas
        self._quick: dict[str, Callable[[Any], bool]] = {}

    def resolved(self, schema: Schema) -> Schema:
        """The schema that a reference leads to."""
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].removeprefix(PREFIX)]
        return schema

    def first(self, value: Any, name: str) -> str | None:
        """What is wrong with a value that a schema of this name describes; None if it is as it should be."""
        if name not in self._quick:
            self._quick[name] = self._fits(self._schemas[name])
        if self._quick[name](value):
            return None
        return next(self.wrong(value, self._schemas[name]), None)

    def _fits(self, schema: Schema) -> Callable[[Any], bool]:
        """Says fast that a value fits. That it does not may be wrong."""
        schema = self.resolved(schema)
        kind, rest = schema.get("type"), schema.keys() - {"type", "description", "default", "properties", "required"}
        if not schema.keys() - {"description"}:
            return lambda _: True
        if kind == "object" and rest <= {"additionalProperties"} and not isinstance(schema.get("additionalProperties"), dict):
            inner = {name: self._fits(each) for name, each in schema.get("properties", {}).items()}
            required = set(schema.get("required", ()))
            is_open = schema.get("additionalProperties", True)
            return lambda value: (
                type(value) is dict
                and required <= value.keys()
                and all(inner[name](each) if name in inner else is_open for name, each in value.items())
            )
        if kind == "array" and rest <= {"items", "minItems", "maxItems"}:
            each = self._fits(schema.get("items", {}))
            least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
            return lambda value: type(value) is list and least <= len(value) <= most and all(map(each, value))
        if kind == "string" and rest <= {"minLength", "maxLength"}:
            least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
            return lambda value: type(value) is str and least <= len(value) <= most
        if kind == "string" and rest == {"enum"}:
            words = set(schema["enum"])
            return lambda value: type(value) is str and value in words
        return lambda value: not any(self.wrong(value, schema, "it"))

    def wrong(self, value: Any, schema: Schema, place: str = "") -> Iterator[str]:
        """What is wrong with a value."""
        schema = self.resolved(schema)
        if "oneOf" in schema:
            if all(any(self.wrong(value, each, place)) for each in schema["oneOf"]):
                yield f"{place or 'the body'} is none of: {', '.join(each.get('title', '?') for each in schema['oneOf'])}"
            return
        kinds = schema.get("type", ())
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if kinds and not any(_is(value, kind) for kind in kinds):
            yield f"{place or 'the body'} must be {' or '.join(kinds)}, not {_shown(value)}"
        elif "enum" in schema and value not in schema["enum"]:
            yield f"{place} must be one of {', '.join(map(str, schema['enum']))}, not {_shown(value)}"
        elif isinstance(value, dict):
            yield from self._object(value, schema, place)
        elif isinstance(value, list):
            yield from self._array(value, schema, place)
        elif isinstance(value, str):
            yield from _string(value, schema, place)
        elif isinstance(value, int | float):
            yield from _number(value, schema, place)

    def _object(self, value: dict[Any, Any], schema: Schema, place: str) -> Iterator[str]:
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{f'{place}.' if place else ''}{name} is missing"
        for name, each in value.items():
            inner = f"{place}.{name}" if place else str(name)
            if name in properties:
                yield from self.wrong(each, properties[name], inner)
            elif isinstance(others, dict):
                yield from self.wrong(each, others, inner)
            elif not others:
                yield f"{inner[:100]} is not known here: there are {', '.join(properties)}"

    def _array(self, value: list[Any], schema: Schema, place: str) -> Iterator[str]:
        if len(value) > schema.get("maxItems", math.inf) or len(value) < schema.get("minItems", 0):
            yield f"{place} must have {schema.get('minItems', 0)} to {schema.get('maxItems', 'any number of')} elements"
        elif "items" in schema:
            for index, each in enumerate(value):
                yield from self.wrong(each, schema["items"], f"{place}[{index}]")


def _is(value: Any, kind: str) -> bool:
    if kind == "integer":
        return type(value) is int or (type(value) is float and value.is_integer())
    if kind == "number":
        return type(value) in (int, float)
    return type(value) in _KINDS[kind]


def _string(value: str, schema: Schema, place: str) -> Iterator[str]:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf):
        yield f"{place} must have {schema.get('minLength', 0)} to {schema.get('maxLength', 'any number of')} characters"
    elif "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{place} must match {schema['pattern']}, not {_shown(value)}"
    elif schema.get("format") == "date-time" and not _STAMP.fullmatch(value):
        yield f"{place} must be a time with a zone, as in 2026-01-31T12:00:00Z, not {_shown(value)}"


_STAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _number(value: float, schema: Schema, place: str) -> Iterator[str]:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    if not low <= value <= high:
        yield f"{place} must be from {low} to {high}, not {_shown(value)}"
    elif "exclusiveMinimum" in schema and not value > schema["exclusiveMinimum"]:
        yield f"{place} must be above {schema['exclusiveMinimum']}, not {_shown(value)}"


def _shown(value: Any) -> str:
    return f"{value!r:.100}" if type(value) in (str, int, float, bool) else f"a value of type {type(value).__name__}"
