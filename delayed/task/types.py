"""The types of arguments: what the annotations of a function ask for, and types that an application teaches us."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ..errors import ResultError
from .conversions import Conversion, Unfit, conversion, converted, hints_of
from .extensions import encoder

__all__ = ["Unfit", "by_annotation", "converter", "encoder", "is_by_annotation"]

_MARK = "__delayed_convert__"
_F = TypeVar("_F", bound=Callable[..., Any])

Arguments = tuple[list[Any], dict[str, Any]]


def by_annotation(function: _F) -> _F:
    """Have workers convert the arguments of a function by their annotations; returns it."""
    setattr(function, _MARK, True)
    return function


def is_by_annotation(function: object) -> bool:
    """Whether workers shall convert its arguments."""
    return getattr(function, _MARK, None) is True


def converter(function: Callable[..., Any]) -> Callable[[Any, Mapping[str, Any]], Arguments] | None:
    """What makes of positional and keyword arguments, as they arrive, those that the function's annotations say: enums,
    dataclasses, tuples, models of pydantic and msgspec; and of texts, as JSON has them, `UUID`, `Decimal`, dates and paths.

    It is None if no annotation asks for anything; one that cannot be resolved, as it is for type checkers only, does not.

    Raises:
        Unfit: by what it returns, if an argument cannot be converted.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a C function without a signature
        return None
    hints = hints_of(inspect.unwrap(function))
    found = [(parameter, conversion(hints.get(parameter.name, Any))) for parameter in parameters]
    if all(each is None for _, each in found):
        return None
    return _Converter(found)


def returned(function: Callable[..., Any]) -> Callable[[Any], Any] | None:
    """What makes of a result, as it arrives, what the function's annotation says; None if that asks for nothing.

    Raises:
        ResultError: by what it returns, if it cannot be converted.
    """
    hint = hints_of(inspect.unwrap(function)).get("return", Any)
    convert = conversion(hint)
    if convert is None:
        return None

    def made(value: Any) -> Any:
        try:
            return converted(convert, value, "what it returned")
        except Unfit as unfit:
            name = f"{function.__qualname__}, which is annotated to return {hint}"
            raise ResultError(f"{name}: {unfit}; Handle(queue, id).result() has it as it came") from unfit

    return made


class _Converter:
    def __init__(self, found: list[tuple[inspect.Parameter, Conversion | None]]) -> None:
        kinds = inspect.Parameter
        positional = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        self._positional = [(p.name, each) for p, each in found if p.kind in positional]
        self._named = {p.name: each for p, each in found if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)}
        self._rest = next(((p.name, each) for p, each in found if p.kind is kinds.VAR_POSITIONAL), ("", None))
        self._others = next((each for p, each in found if p.kind is kinds.VAR_KEYWORD), None)

    def __call__(self, args: Any, kwargs: Mapping[str, Any]) -> Arguments:
        """The arguments, converted."""
        count = len(self._positional)
        slots = self._positional[: len(args)] + [self._rest] * (len(args) - count)
        made = [converted(each, value, name) for (name, each), value in zip(slots, args, strict=True)]
        return made, {name: converted(self._named.get(name, self._others), value, name) for name, value in kwargs.items()}
