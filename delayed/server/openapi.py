"""The description of the interface, from the table by which the server works: OpenAPI 3.1, and a page for people."""

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .calls import Route
from .events import EVENTS
from .http import JSON, NDJSON, PROBLEM, TITLES
from .option_schemas import ref
from .schemas import SCHEMAS

_NAME = re.compile(r"{(\w+)}")
_ALL = (400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 500, 503)  # problems that any operation may have
_TITLE = "delayed"
_ABOUT = (
    "Produce, consume and operate the queues of `delayed` over HTTP. A task that was taken is held under a lease: whoever has "
    "its token ends it, and who is late (409) has changed nothing."
)


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The interface in OpenAPI."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": _TITLE, "version": version, "description": _ABOUT, "license": {"name": "MIT", "identifier": "MIT"}},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "responses": {str(status): _problem(status) for status in sorted({*_ALL, 409})},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _problem(status: int) -> dict[str, Any]:
    return {"description": TITLES[status], "content": {PROBLEM: {"schema": ref("Problem")}}}


def _operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.right or "anybody"],
        "responses": {str(status): _gives(name) for status, name in route.gives.items()},
    }
    for status in (*_ALL, *route.problems):
        found["responses"].setdefault(str(status), {"$ref": f"#/components/responses/{status}"})
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _NAME.findall(route.path)
    ]
    parameters += [{"name": name, "in": "query", "schema": dict(schema)} for name, schema in route.query.items()]
    parameters += [{"name": name, "in": "header", "schema": dict(schema)} for name, schema in route.headers.items()]
    if route.right is None:
        found["security"] = []
    if parameters:
        found["parameters"] = parameters
    if route.takes is not None:
        content: dict[str, Any] = {JSON: {"schema": ref(route.takes)}}
        if route.lines:
            content[NDJSON] = {"schema": {"type": "string", "description": "A task on each line."}}
            found["responses"]["201"]["content"][JSON]["schema"] = {"anyOf": [ref("Enqueued"), ref("EnqueuedMany")]}
        found["requestBody"] = {"required": route.required, "content": content}
    return found


def _gives(name: str) -> dict[str, Any]:
    if not name:
        return {"description": "A page for people"}
    if name == EVENTS:
        about = "Server-sent events; their data are texts of JSON, in the form of `Event`."
        return {"description": "Events", "content": {name: {"schema": {"type": "string", "description": about}}}}
    if "/" in name:
        return {"description": "Text", "content": {name: {"schema": {"type": "string"}}}}
    return {"description": name or "Nothing", "content": {JSON: {"schema": ref(name)}}}


# For people

_STYLE = """
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}body{max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font:0.9em ui-monospace,monospace}h2{margin-top:2.5rem}section{border-top:1px solid #8884;padding:.5rem 0}
h3{margin:.5rem 0;font-weight:600}h3 code:first-child{display:inline-block;min-width:4rem}table{border-collapse:collapse}
td,th{padding:.1rem 1rem .1rem 0;text-align:left;vertical-align:top}small{color:#888}a{color:inherit}
"""


def page(routes: Iterable[Route], version: str) -> bytes:
    """A page that shows the same."""
    by_right: dict[str, list[Route]] = {}
    for route in routes:
        by_right.setdefault(route.right or "anybody", []).append(route)
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{_TITLE}: the interface</title><style>{_STYLE}</style>",
        f"<h1>{_TITLE} {html.escape(version)}</h1><p>{_code(_ABOUT)}</p>",
        '<p>The same in <a href="/v1/openapi.json">OpenAPI</a>.</p>',
    ]
    for right, some in by_right.items():
        parts.append(f"<h2>{html.escape(right)}</h2>")
        parts += [_section(route) for route in some]
    parts.append("<h2>Shapes</h2>")
    parts += [f'<section id="{name}"><h3>{name}</h3>{_fields(schema)}</section>' for name, schema in SCHEMAS.items()]
    return "".join(parts).encode()


def _code(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _section(route: Route) -> str:
    lines = [
        f"<section><h3><code>{route.method}</code> <code>{html.escape(route.path)}</code></h3><p>{_code(route.summary)}</p>"
    ]
    if route.query:
        lines.append(_table({name: dict(schema) for name, schema in route.query.items()}, ()))
    if route.takes is not None:
        lines.append(f"<p>takes {_link(route.takes)}{'' if route.required else ', or nothing'}</p>")
    gives = ", ".join(f"{status} {_link(name) if name else 'a page'}" for status, name in route.gives.items())
    problems = ", ".join(f"{status} {TITLES[status]}" for status in route.problems)
    lines.append(f"<p>gives {gives}{f'; also {problems}' if problems else ''}</p></section>")
    return "".join(lines)


def _link(name: str) -> str:
    if name == EVENTS:
        return f"{name} of {_link('Event')}"
    return name if "/" in name else f'<a href="#{name}">{name}</a>'


def _fields(schema: Mapping[str, Any]) -> str:
    about = f"<p>{_code(schema['description'])}</p>" if "description" in schema else ""
    return about + (_table(schema["properties"], schema.get("required", ())) if schema.get("properties") else "")


def _table(properties: Mapping[str, Mapping[str, Any]], required: Iterable[str]) -> str:
    must = set(required)
    rows = [
        f"<tr><td><code>{html.escape(name)}</code>{' <small>required</small>' if name in must else ''}"
        f"<td>{_kind(schema)}<td>{_code(schema.get('description', ''))}"
        for name, schema in properties.items()
    ]
    return f"<table>{''.join(rows)}</table>"


def _kind(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return _link(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return html.escape(" | ".join(map(str, schema["enum"])))
    kinds = schema.get("type", "any")
    words = kinds if isinstance(kinds, str) else " or ".join(kinds)
    if "items" in schema:
        words += f" of {_kind(schema['items'])}"
        return words
    low, high = schema.get("minimum"), schema.get("maximum")
    between = f" {low:g} to {high:g}" if low is not None and high is not None else ""
    return html.escape(words + between)
