"""Values from Python for the parameters of a pattern."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

from patternc import ast, ir
from patternc.loader import Definition
from patternc.suggest import guess
from patternc.values import Value


def arguments(definition: Definition, given: Mapping[str, object]) -> dict[str, Value]:
    """The values by parameter; TypeError for a wrong name, a missing one or a wrong type, ValueError for a number of
    tokens below 0 or a number outside 64 bits."""
    parameters = {p.name.id: p for p in definition.node.parameters}
    name = definition.node.name.id
    for key in given:
        if key not in parameters:
            told = f"{key!r}{guess(key, parameters)} (its parameters: {', '.join(parameters) or 'none'})"
            raise TypeError(f"pattern {name!r} has no parameter {told}")
        if isinstance(parameters[key].type, ast.TensorType):
            raise TypeError(f"{key!r} of pattern {name!r} is a run-time tensor: pass it when attention is called")
    for key, parameter in parameters.items():
        if key not in given and parameter.default is None and not isinstance(parameter.type, ast.TensorType):
            raise TypeError(f"pattern {name!r} needs a value for {key!r} ({spelt(parameter.type)})")
    return {key: _value(value, parameters[key].type, key) for key, value in given.items()}


def spelt(declared: ast.Type) -> str:
    """A type as the language writes it."""
    match declared:
        case ast.TypeName(name):
            return name
        case ast.ListType(item):
            return f"[{spelt(item)}]"
        case ast.TupleType(items):
            return f"({', '.join(map(spelt, items))})"
        case ast.TensorType(element, dims):
            return f"{element.name}[{', '.join(dim.span.text for dim in dims)}]"


def _value(value: object, declared: ast.Type, place: str) -> Value:
    match declared:
        case ast.ListType(item):
            return tuple(_value(x, item, f"{place}[{i}]") for i, x in enumerate(_sequence(value, declared, place)))
        case ast.TupleType(items):
            parts = _sequence(value, declared, place)
            if len(parts) != len(items):
                raise TypeError(f"{place} must be {spelt(declared)}; found {len(parts)} values")
            return tuple(_value(x, item, f"{place}[{i}]") for i, (x, item) in enumerate(zip(parts, items, strict=True)))
        case ast.TypeName(kind):
            return ir.Const(_number(value, kind, place))
    raise AssertionError("tensors are not passed as parameters")


def _sequence(value: object, declared: ast.Type, place: str) -> list[object]:
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        raise TypeError(f"{place} must be {spelt(declared)}; found {value!r}")
    return list(value)


def _number(value: object, kind: str, place: str) -> int | float | bool:
    if kind == "bool":
        if value is True or value is False:
            return value
        raise TypeError(f"{place} must be a bool; found {value!r}")
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{place} must be {kind}; found {value!r}")
    if kind == "float":
        return _finite(float(value), place)
    if kind == "tokens" and isinstance(value, float) and value == math.inf:
        return math.inf
    return _integer(value, kind, place)


def _finite(value: float, place: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{place} must be a finite number; found {value}")
    return value


def _integer(value: Any, kind: str, place: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{place} must be {kind}, an integer; found {value!r}") from None
    if kind == "tokens" and number < 0:
        raise ValueError(f"{place} is a number of tokens, which is not negative; found {number} (no limit: math.inf)")
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{place} must fit in 64 bits; found a number of {number.bit_length()} bits")
    return number
