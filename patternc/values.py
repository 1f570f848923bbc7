"""What expressions are worth while a program is elaborated, beyond nodes of the IR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from patternc import ast, fold, ir
from patternc.loader import Module
from patternc.rewrite import walk
from patternc.source import Span
from patternc.specialise import specialise


@dataclass(frozen=True, slots=True)
class TensorRef:
    """The value of a tensor parameter: which run-time tensor it is."""

    name: str
    rank: int


@dataclass(frozen=True, slots=True)
class UnknownList:
    """The value of a list parameter that has none."""

    name: str
    item: ast.Type


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One of several lists, chosen by a scalar that is not known yet."""

    index: ir.Scalar
    lists: tuple[tuple[Value, ...], ...]


Value = ir.Node | TensorRef | UnknownList | Alternatives | tuple
"""A scalar or a pattern, or what only exists while elaborating; lists and tuples are Python tuples."""


@dataclass(eq=False)
class Frame:
    """One activation of a pattern or function."""

    module: Module
    values: dict[str, Value] = field(default_factory=dict)
    where: dict[str, ast.Expr] = field(default_factory=dict)
    axes: dict[str, tuple[ir.Scalar, ir.Scalar | None]] = field(default_factory=dict)
    """Of each grid axis its stride and, but for the slowest axis, its extent."""
    memo: dict[tuple[str, int], Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an expression stands: its frame, the depth of its index space, the names bound around it."""

    frame: Frame
    depth: int = 0
    local: Mapping[str, Value] = field(default_factory=dict)

    def binding(self, names: Mapping[str, Value]) -> Place:
        return replace(self, local={**self.local, **names})


def symbol(name: str, declared: ast.Type, kind: type[ir.Param] | type[ir.Unknown] = ir.Param) -> Value:
    """A value of this type about which nothing is known: the same in every cell (Param), or not (Unknown)."""
    match declared:
        case ast.TypeName(element):
            return kind(name, element)
        case ast.TupleType(items):
            return tuple(symbol(f"{name}.{i}", item, kind) for i, item in enumerate(items))
        case ast.ListType(item):
            return UnknownList(name, item)
    raise AssertionError("tensors are declared, not made up")


def known(value: Value, truth: bool) -> bool:
    return isinstance(value, ir.Const) and value.value is truth


def set_operation(op: str, left: ir.Pattern, right: ir.Pattern, span: Span) -> ir.Pattern:
    match op:
        case "|":
            return fold.union((left, right), span)
        case "&":
            return fold.product((left, right), span)
        case "+":
            return fold.total((left, right), span)
        case "-":
            return fold.product((left, fold.complement(right, right.span)), span)
    raise AssertionError(f"not an operator on patterns: {op}")


def either(condition: ir.Scalar, then: Value, orelse: Value, span: Span) -> Value:
    if isinstance(then, ir.Pattern):
        return fold.choose(condition, then, orelse, span)
    if isinstance(then, ir.Node):
        return fold.choice(condition, then, orelse, span)
    index = fold.choice(condition, fold.const(0, span), fold.const(1, span), span)
    return picked(index, (then, orelse), span)


def picked(index: ir.Scalar, items: tuple[Value, ...], span: Span) -> Value:
    """`items[index]` for items of any kind."""
    if isinstance(index, ir.Const):
        fold.pick(index, items, span)  # refuses what is out of range
        return items[int(index.value)]
    if all(isinstance(item, ir.Pattern) for item in items):
        result = items[-1]
        for i in reversed(range(len(items) - 1)):
            test = fold.compare("==", index, fold.const(i, span), span)
            result = fold.choose(test, items[i], result, span)
        return result
    if all(isinstance(item, tuple) for item in items):
        return Alternatives(index, items)
    return fold.pick(index, items, span)


def gap_in(subject: ir.Scalar, tests: Sequence[ir.Scalar], heads: int | None) -> str | None:
    """A value of h, layer or n for which none of the tests holds, in words; None if there is none.

    Without a number of heads, and for the layer, the first values are tried: subjects are periodic in practice.
    """
    if any(known(test, True) for test in tests):
        return None
    free = {x.name for x in walk(subject) if isinstance(x, ir.Var)}
    if any(isinstance(x, ir.Param | ir.Unknown) for x in walk(subject)):
        return None
    if "n" in free:
        return "every n"
    span = 24 if {"h", "layer"} <= free else 512
    ranges = {"h": range(heads or span), "layer": range(span), "heads": range(heads or 1, (heads or span) + 1)}
    names = sorted(free)
    for values in product(*(ranges[name] for name in names)):
        case = dict(zip(names, values, strict=True))
        if not any(known(specialise(test, case), True) for test in tests):
            return ", ".join(f"{name} = {value}" for name, value in case.items()) or f"`{fold.show(subject.value)}`"
    return None
