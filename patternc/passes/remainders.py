"""Numbers and comparisons in a plainer form, by the bounds of what is in them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from patternc import fold, ir
from patternc.passes.facts import ANY, bounds, linear
from patternc.source import Span

_COMPARE: dict[str, tuple[Callable[[Any, Any], bool], Callable[[Any, Any], bool]]] = {
    "<": (lambda lo, hi: hi < 0, lambda lo, hi: lo >= 0),
    "<=": (lambda lo, hi: hi <= 0, lambda lo, hi: lo > 0),
    ">": (lambda lo, hi: lo > 0, lambda lo, hi: hi <= 0),
    ">=": (lambda lo, hi: lo >= 0, lambda lo, hi: hi < 0),
    "==": (lambda lo, hi: lo == hi == 0, lambda lo, hi: lo > 0 or hi < 0),
    "!=": (lambda lo, hi: lo > 0 or hi < 0, lambda lo, hi: lo == hi == 0),
}
"""Whether a difference between two bounds surely satisfies a comparison with 0, and whether it surely does not."""


def plainer(node: ir.Compare | ir.Binary) -> ir.Scalar:
    """A node with the same value in every cell, in which equal subtrees are the same object.

    Precondition: it has a value in every cell.
    """
    match node:
        case ir.Compare(op, a, b):
            return _settled(op, a, b, node)
        case ir.Binary("%", a, ir.Const(int() as m)) if m > 0 and bounds(a) != ANY:
            return _remainder(a, m, node)
    return node


def _settled(op: str, a: ir.Scalar, b: ir.Scalar, node: ir.Compare) -> ir.Scalar:
    """A comparison of which the bounds tell the outcome."""
    (a_lo, a_hi), (b_lo, b_hi) = bounds(a), bounds(b)
    if ANY in ((a_lo, a_hi), (b_lo, b_hi)):
        return node
    holds, fails = (test(a_lo - b_hi, a_hi - b_lo) for test in _COMPARE[op])
    return fold.const(holds, node.span) if holds or fails else node


def _remainder(a: ir.Scalar, m: int, node: ir.Binary) -> ir.Scalar:
    """a % m without what is a multiple of m in it, and without remainders by multiples of m."""
    lo, hi = bounds(a)
    if lo // m == hi // m == 0:
        return a
    terms, constant = linear(a)
    kept: dict[int, tuple[ir.Scalar, int]] = {}
    for term, factor in terms.values():
        inner = _inside(term, m // math.gcd(m, factor))
        if factor % m and not isinstance(inner, ir.Const):
            kept[id(inner)] = inner, kept.get(id(inner), (inner, 0))[1] + factor
    changed = constant not in range(m) or set(kept) != set(terms) or any(kept[i][1] != terms[i][1] for i in kept)
    if not changed:
        return node
    total = _sum([(term, factor) for term, factor in kept.values() if factor % m], constant % m, node.span)
    if bounds(total) == ANY:
        return node
    return fold.binary("%", total, node.b, node.span) if not isinstance(total, ir.Const) else total


def _inside(term: ir.Scalar, m: int) -> ir.Scalar:
    """What is under a remainder by a multiple of m; 0 of anything under the remainder by 1."""
    if m == 1:
        return ir.Const(0)
    match term:
        case ir.Binary("%", inner, ir.Const(int() as w)) if w > 0 and w % m == 0 and bounds(inner) != ANY:
            return _inside(inner, m)
    return term


def _sum(terms: list[tuple[ir.Scalar, int]], constant: int, span: Span) -> ir.Scalar:
    """Σ factor · term + constant, the positive terms first."""
    ordered = sorted(terms, key=lambda t: t[1] < 0)
    total: ir.Scalar | None = None
    for term, factor in ordered:
        size = fold.binary("*", term, fold.const(abs(factor), span), span)
        if total is None:
            total = size if factor > 0 else fold.unary("-", size, span)
        else:
            total = fold.binary("+" if factor > 0 else "-", total, size, span)
    if total is None:
        return fold.const(constant, span)
    return fold.binary("+", total, fold.const(constant, span), span)
