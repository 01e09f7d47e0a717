"""Waiting for what another thread or process does. A wait that fails says what it saw last."""

import ast
import inspect
import linecache
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from types import FunctionType
from typing import Any

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)  # `expires` of a task that is too late for certain: clocks are known to a few ms
PATIENCE = 120.0  # seconds: what has to happen happens, also on a machine that does much else
_LONGEST = 400  # characters of a value that are shown
_SEEN = "__seen__"  # records a value, in what is evaluated to explain a failure


def eventually(check: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Try `check` until it is true or, if it is a function of asserts, which returns nothing, until it does not raise
    AssertionError. A failure names what `check` compares, with the values that it saw last."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if _is_so(check, check()):
                return
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    found, saw = explained(check)
    assert _is_so(check, found), f"not within {seconds:g} s\n{saw}"


def _is_so(check: Callable[[], object], found: object) -> bool:
    """A function of asserts returns nothing; a lambda that does has not found what it looks for."""
    return bool(found) or (found is None and getattr(check, "__name__", "") != "<lambda>")


def explained(check: Callable[[], object]) -> tuple[object, str]:
    """What `check` returns now, and, in lines, the values that this comes from."""
    saw: dict[str, object] = {}
    try:
        found = _watched(check, saw)()
    except (OSError, SyntaxError, _NoSource):  # no source, or it cannot stand alone: what it returns is all there is
        saw.clear()
        found = check()
        saw["the check"] = found
    return found, "\n".join(f"  {source} was {_short(value)}" for source, value in saw.items())


class _NoSource(Exception):
    """A function whose source cannot be found."""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def _watched(check: Callable[..., Any], saw: dict[str, object]) -> Callable[..., Any]:
    """A copy of a function of the tests that notes in `saw` the values which it compares or returns, those of functions of the
    tests that it calls too."""
    if isinstance(check, partial):
        return partial(_watched(check.func, saw), *check.args, **check.keywords)
    if not isinstance(check, FunctionType):
        raise _NoSource
    node = _node(check)

    def seen(source: str, value: object) -> object:
        saw.pop(source, None)  # the last one, in the order in which they were seen
        saw[source] = value
        return value

    names = {**check.__globals__, **inspect.getclosurevars(check).nonlocals, _SEEN: seen}
    for name, value in list(names.items()):
        if (
            isinstance(value, FunctionType)
            and value.__module__.startswith("tests.")
            and name in _called(node) - {check.__name__}
        ):
            names[name] = _if_possible(value, saw)
    module = ast.Module([_Watching().copy(node)], [])
    exec(compile(ast.fix_missing_locations(module), check.__code__.co_filename, "exec"), names)
    copy: FunctionType = names["_copy"]
    copy.__defaults__, copy.__kwdefaults__ = check.__defaults__, check.__kwdefaults__
    return copy


def _if_possible(function: FunctionType, saw: dict[str, object]) -> Callable[..., Any]:
    try:
        return _watched(function, saw)
    except (OSError, SyntaxError, _NoSource):
        return function


def _called(node: ast.AST) -> set[str]:
    """The names that are called in it."""
    calls = (each.func for each in ast.walk(node) if isinstance(each, ast.Call))
    return {name.id for name in calls if isinstance(name, ast.Name)}


def _node(function: FunctionType) -> ast.Lambda | ast.FunctionDef:
    """Its source. Of several on one line it is the one whose instructions come from there."""
    code = function.__code__
    tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    places = {place[0::2] for place in code.co_positions()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and node.lineno <= code.co_firstlineno <= (node.end_lineno or 0):
            if (node.body.lineno, node.body.col_offset) in places:
                return node
        elif isinstance(node, ast.FunctionDef) and (node.name, node.lineno) == (code.co_name, code.co_firstlineno):
            return node
    raise _NoSource


class _Watching(ast.NodeTransformer):
    """Has what is compared, negated, joined by `and` or `or`, or returned noted."""

    def copy(self, node: ast.Lambda | ast.FunctionDef) -> ast.FunctionDef:
        """The function `_copy`, which does the same."""
        body: list[ast.stmt] = [ast.Return(node.body)] if isinstance(node, ast.Lambda) else node.body
        plain = ast.FunctionDef("_copy", _without_types(node.args), [self.visit(each) for each in body], [])
        plain.type_params = []  # type: ignore[attr-defined]  # which Python 3.12 wants
        return plain

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        node.left, node.comparators = self._noted(node.left), [self._noted(each) for each in node.comparators]
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        node.values = [self._noted(each) for each in node.values]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        node.operand = self._noted(node.operand)
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        node.value = node.value and self._noted(node.value)
        return node

    def _noted(self, node: ast.expr) -> ast.expr:
        source = ast.unparse(node)
        inner = self.visit(node)
        if isinstance(node, ast.Constant | ast.Compare | ast.BoolOp | ast.UnaryOp):
            return inner  # type: ignore[no-any-return]  # what it consists of is noted
        return ast.Call(ast.Name(_SEEN, ast.Load()), [ast.Constant(source), inner], [])


def _without_types(arguments: ast.arguments) -> ast.arguments:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    for each in every:
        if each is not None:
            each.annotation = None
    arguments.defaults, arguments.kw_defaults = [], [None] * len(arguments.kwonlyargs)
    return arguments
