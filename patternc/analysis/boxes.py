"""Enclosures at work: conditions of boxes, tensors read over boxes, and what each operator does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from patternc.analysis.box_arithmetic import ARITHMETIC, subtract
from patternc.analysis.elementwise import alike, both, ceil_log2, choose, clip, either, larger, opposite, smaller
from patternc.analysis.enclosures import (
    OPERATIONS,
    Boxes,
    Enclosure,
    Operation,
    Reals,
    Truths,
    any_bad,
    integers,
    interval,
    is_real_operand,
    is_truth_operand,
    never_valid,
    of_numbers,
    reals,
    truths,
)
from patternc.analysis.numbers import INVALID, Cells, Number
from patternc.analysis.tables import Table

OnBounds = Callable[[tuple[Any, Any], tuple[Any, Any]], tuple[Any, Any]]


def bounds(a: Any) -> tuple[Any, Any]:
    """The least and greatest value of a number in each box: arrays, or plain if the number is the same everywhere."""
    if isinstance(a, Boxes):
        return a.bounds
    value = a.value if isinstance(a, Cells) else a
    return value, value


# ------------------------------------------------------------------ conditions


def _compare(on_bounds: OnBounds) -> Operation:
    """A comparison; of integers that share symbols, of their difference with zero."""

    def on_integers(xp: Any, a: Boxes, b: Boxes) -> Truths:
        bad = any_bad(a, b)
        if a.terms.keys() & b.terms.keys():
            d = subtract(xp, a, b)
            if not d.unbounded:
                a, b = d, Boxes(xp, {}, 0, (0, 0))
        return Truths(xp, *on_bounds(a.bounds, b.bounds), bad)

    return of_numbers(on_integers, lambda xp, a, b: Truths(xp, *on_bounds((a.lo, a.hi), (b.lo, b.hi)), any_bad(a, b)))


# Written with `opposite`, so that an end that is NaN makes both answers possible.
def _less(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    return opposite(a[0] >= b[1]), opposite(a[1] < b[0])


def _less_equal(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    return opposite(a[0] > b[1]), opposite(a[1] <= b[0])


def _equal_bounds(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    can = opposite(either(a[0] > b[1], a[1] < b[0]))
    return can, opposite(both(a[0] == b[1], a[1] == b[0]))


def _equal(xp: Any, a: Any, b: Any) -> Truths:
    if isinstance(a, Truths) or isinstance(b, Truths):
        return _same_truth(xp, truths(xp, a), truths(xp, b))
    return _equal_numbers(xp, a, b)


def _equal_integers(xp: Any, a: Boxes, b: Boxes) -> Truths:
    d = subtract(xp, a, b)
    if d.unbounded:
        return Truths(xp, *_equal_bounds(a.bounds, b.bounds), any_bad(a, b))
    related = a.terms.keys() & b.terms.keys()
    can, cannot = _equal_bounds(d.bounds, (0, 0)) if related else _equal_bounds(a.bounds, b.bounds)
    if d.modulus > 1:
        can = both(can, d.residue % d.modulus == 0)
    return Truths(xp, can, cannot, any_bad(a, b))


_equal_numbers = of_numbers(
    _equal_integers, lambda xp, a, b: Truths(xp, *_equal_bounds((a.lo, a.hi), (b.lo, b.hi)), any_bad(a, b))
)


def _same_truth(xp: Any, a: Truths, b: Truths) -> Truths:
    true = either(both(a.true, b.true), both(a.false, b.false))
    return Truths(xp, true, either(both(a.true, b.false), both(a.false, b.true)), any_bad(a, b))


def _not(xp: Any, a: Any) -> Truths:
    a = truths(xp, a)
    return Truths(xp, a.false, a.true, a.bad)


def _box_and(xp: Any, a: Any, b: Any) -> Truths:
    a, b = truths(xp, a), truths(xp, b)
    false = either(a.false, both(a.true, b.false))
    return Truths(xp, both(a.true, b.true), false, either(a.bad, both(a.true, b.bad)))


def _box_or(xp: Any, a: Any, b: Any) -> Truths:
    a, b = truths(xp, a), truths(xp, b)
    true = either(a.true, both(a.false, b.true))
    return Truths(xp, true, both(a.false, b.false), either(a.bad, both(a.false, b.bad)))


def _box_if(xp: Any, c: Any, a: Any, b: Any) -> Any:
    c = truths(xp, c)
    if never_valid(a) and never_valid(b):
        return INVALID
    if is_truth_operand(a) and is_truth_operand(b):
        return _if_truth(xp, c, truths(xp, a), truths(xp, b))
    if isinstance(a, Truths) or isinstance(b, Truths):
        return _if_truth(xp, c, truths(xp, a), truths(xp, b))
    if is_real_operand(a) or is_real_operand(b):
        a, b = reals(xp, a), reals(xp, b)
        lo, hi = _hull(xp, c, (a.lo, a.hi), (b.lo, b.hi))
        return Reals(xp, lo, hi, _if_bad(c, a, b))
    a, b = integers(xp, a), integers(xp, b)
    bad = _if_bad(c, a, b)
    for possible, branch in ((c.false, a), (c.true, b)):
        if possible is False:
            return Boxes(xp, branch.terms, branch.base, branch.span, bad)
    least, most = min(a.extent[0], b.extent[0]), max(a.extent[1], b.extent[1])
    return interval(xp, *_hull(xp, c, a.bounds, b.bounds), least, most, bad)


def _if_bad(c: Truths, a: Enclosure, b: Enclosure) -> Any:
    return either(c.bad, either(both(c.true, a.bad), both(c.false, b.bad)))


def _if_truth(xp: Any, c: Truths, a: Truths, b: Truths) -> Truths:
    true = either(both(c.true, a.true), both(c.false, b.true))
    return Truths(xp, true, either(both(c.true, a.false), both(c.false, b.false)), _if_bad(c, a, b))


def _hull(xp: Any, c: Truths, a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    """The bounds of the branches that are possible."""
    lo = smaller(xp, *alike(xp, choose(xp, c.true, a[0], b[0]), choose(xp, c.false, b[0], a[0])))
    return lo, larger(xp, *alike(xp, choose(xp, c.true, a[1], b[1]), choose(xp, c.false, b[1], a[1])))


def _indicator_box(xp: Any, c: Any) -> Boxes:
    c = truths(xp, c)
    sure = opposite(either(c.false, c.bad))
    lo, hi = (int(end) if isinstance(end, bool) else xp.integer(end) for end in (sure, c.true))
    return interval(xp, lo, hi, 0, 1)


# ------------------------------------------------------------------ run-time tensors


def _read_box(xp: Any, table: Table, *indices: Any) -> Number:
    """Bounds of the elements in the aligned groups, at most two along each axis, that hold the box of indices."""
    if 0 in table.array.shape:
        return INVALID
    forms = [integers(xp, index) for index in indices]
    bad = any_bad(*forms)
    ranges = []
    for form, extent in zip(forms, table.array.shape, strict=True):
        lo, hi = form.bounds
        bad = either(bad, either(lo < 0, hi >= extent))
        ranges.append((clip(xp, lo, 0, extent - 1), clip(xp, hi, 0, extent - 1), min(form.breadth, extent - 1)))
    fixed = tuple(lo if isinstance(lo, int) and isinstance(hi, int) and lo == hi else None for lo, hi, _ in ranges)
    return _elements(xp, table.part(fixed), [r for r, index in zip(ranges, fixed, strict=True) if index is None], bad)


def _elements(xp: Any, table: Table, ranges: list[tuple[Any, Any, int]], bad: Any) -> Enclosure:
    """`ranges` are the first and the last index along each axis, with a bound on their difference."""
    number = max((ceil_log2(None, xp.largest(hi - lo, most) + 1) for lo, hi, most in ranges), default=0)
    low, high = table.level(number)
    corners: list[tuple[Any, ...]] = [()]
    for lo, hi, _ in ranges:
        corners = [(*corner, end >> number) for corner in corners for end in (lo, hi)]
    lo, hi = table.at(low, corners[0]), table.at(high, corners[0])
    for corner in corners[1:]:
        lo, hi = smaller(xp, lo, table.at(low, corner)), larger(xp, hi, table.at(high, corner))
    if xp.is_truth(table.array):
        return Truths(xp, hi, opposite(lo), bad)
    return Reals(xp, lo, hi, bad) if xp.is_real(table.array) else interval(xp, lo, hi, *table.extent(), bad)


def _member(xp: Any, relation: Any, q: Any, k: Any) -> Truths:
    q, k = integers(xp, q), integers(xp, k)
    some, missing = relation.overlaps(q.bounds, k.bounds)
    return Truths(xp, some, missing, any_bad(q, k))


OPERATIONS |= ARITHMETIC
OPERATIONS |= {
    "<": _compare(_less),
    "<=": _compare(_less_equal),
    ">": lambda xp, a, b: OPERATIONS["<"](xp, b, a),
    ">=": lambda xp, a, b: OPERATIONS["<="](xp, b, a),
    "==": _equal,
    "!=": lambda xp, a, b: _not(xp, _equal(xp, a, b)),
    "not": _not,
    "and": _box_and,
    "or": _box_or,
    "if": _box_if,
    "indicator": _indicator_box,
    "read": _read_box,
    "member": _member,
}
