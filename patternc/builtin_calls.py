"""What calls of the language's own functions mean in the IR."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from patternc import ast, fold, ir
from patternc.source import Span
from patternc.values import Alternatives, Place, UnknownList, Value, picked

if TYPE_CHECKING:
    from patternc.elaborate import Elaborator

GATHER: dict[str, Callable[..., Value]] = {
    "any": fold.disjunction,
    "all": fold.conjunction,
    "union": fold.union,
    "sum": fold.total,
}
"""What a comprehension does with its items."""


def _arguments(worker: Elaborator, node: ast.Call, place: Place, *names: str) -> dict[str, Value]:
    """The values of the arguments under the parameters' names."""
    given = dict(zip(names, node.args, strict=False)) | {k.name.id: k.value for k in node.keywords}
    return {name: worker.expr(value, place) for name, value in given.items()}


def _scalar(op: str) -> Callable[[Elaborator, ast.Call, Place], Value]:
    def call(worker: Elaborator, node: ast.Call, place: Place) -> Value:
        return fold.unary(op, worker.expr(node.args[0], place), node.span)

    return call


def _extreme(op: str) -> Callable[[Elaborator, ast.Call, Place], Value]:
    def call(worker: Elaborator, node: ast.Call, place: Place) -> Value:
        result = worker.expr(node.args[0], place)
        for arg in node.args[1:]:
            result = fold.binary(op, result, worker.expr(arg, place), node.span)
        return result

    return call


def _clamp(worker: Elaborator, node: ast.Call, place: Place) -> Value:
    given = _arguments(worker, node, place, "x", "lo", "hi")
    return fold.binary("min", fold.binary("max", given["x"], given["lo"], node.span), given["hi"], node.span)


def _cdiv(worker: Elaborator, node: ast.Call, place: Place) -> Value:
    given = _arguments(worker, node, place, "a", "b")
    return ceil_div(given["a"], given["b"], node.span)


def ceil_div(a: ir.Scalar, b: ir.Scalar, span: Span) -> ir.Scalar:
    """⌈a / b⌉ as −(−a // b)."""
    return fold.unary("-", fold.binary("//", fold.unary("-", a, span), b, span), span)


def _len(worker: Elaborator, node: ast.Call, place: Place) -> Value:
    match worker.expr(node.args[0], place):
        case UnknownList(name, _):
            return ir.Unknown(f"len({name})", "int", span=node.span)
        case Alternatives(index, lists):
            return picked(index, tuple(fold.const(len(items), node.span) for items in lists), node.span)
        case tuple() as items:
            return fold.const(len(items), node.span)
    raise AssertionError("the checker lets len() see lists only")


def _support(worker: Elaborator, node: ast.Call, place: Place) -> Value:
    return ir.Support(worker.expr(node.args[0], place), span=node.span)


def _gather(worker: Elaborator, node: ast.Call, place: Place) -> Value:
    """`union(A, B)` and its like, without a comprehension."""
    return GATHER[node.function.id]([worker.expr(arg, place) for arg in node.args], node.span)


def _everything(span: Span) -> ir.Pattern:
    return fold.where(fold.const(True, span), span)


def _top(worker: Elaborator, node: ast.Call, place: Place) -> Value:
    given = _arguments(worker, node, place, "m", "by", "of")
    of = given.get("of") or _everything(node.span)
    return ir.Top(fold.selection_count(given["m"]), given["by"], of, span=node.span)


def _sample(worker: Elaborator, node: ast.Call, place: Place) -> Value:
    given = _arguments(worker, node, place, "m", "of", "seed")
    of = given.get("of") or _everything(node.span)
    seed = given.get("seed") or fold.const(0, node.span)
    return ir.Sample(fold.selection_count(given["m"]), of, seed, span=node.span)


BUILT_IN: dict[str, Callable[[Elaborator, ast.Call, Place], Value]] = {
    "abs": _scalar("abs"),
    "log2": _scalar("log2"),
    "min": _extreme("min"),
    "max": _extreme("max"),
    "clamp": _clamp,
    "cdiv": _cdiv,
    "len": _len,
    "support": _support,
    "top": _top,
    "sample": _sample,
    **dict.fromkeys(GATHER, _gather),
}
