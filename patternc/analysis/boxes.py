"""Enclosures: what an expression can be anywhere in a box of cells, for many boxes at once.

A box is a range of queries times a range of keys. Every class here is *sound*: it holds all values that `Cells` would
find in the box. It may hold more, so a decision taken from it is "surely" or "perhaps".

`Boxes` are integers: a linear form of symbols, each known to lie in an interval and in a residue class, so that
`q - k` has exact bounds, `q - (q - w)` is w, and `(16 * i + r) % 16` is r. What is not linear becomes a new symbol.
`Reals` are intervals whose ends may be NaN, which stands for "anything". `Truths` are conditions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from patternc.analysis.numbers import (
    INVALID,
    Array,
    Cells,
    Number,
    Table,
    alike,
    both,
    ceil_log2,
    choose,
    clip,
    either,
    floor_divide,
    larger,
    opposite,
    remainder,
    smaller,
)

INT64 = (-(1 << 63), (1 << 63) - 1)
"""The bounds of what is known only to be an integer of 64 bits."""


class Enclosure(Number):
    """A value known to lie in some set in each of many boxes; `bad` says where it may be invalid."""

    __slots__ = ("bad", "xp")
    rank = 1
    bad: Any
    xp: Any

    @classmethod
    def compute(cls, op: str, *args: Any) -> Any:
        xp = next(a.xp for a in args if isinstance(a, Enclosure))
        simple = [a.simplified() if isinstance(a, Enclosure) else a for a in args]
        if not any(isinstance(a, Enclosure) for a in simple):
            return Cells.compute(op, *simple)
        return _BOX_OPERATIONS[op](xp, *simple)

    def simplified(self) -> Any:
        """A plain value if this is one in every box, else itself."""
        return self


class Truths(Enclosure):
    """A condition: where it can be true, where it can be false (arrays of truth values over the boxes, or plain)."""

    __slots__ = ("false", "true")

    def __init__(self, xp: Any, true: Any, false: Any, bad: Any = False) -> None:
        self.xp, self.true, self.false, self.bad = xp, true, false, bad

    def simplified(self) -> Any:
        plain = self.bad is False and isinstance(self.true, bool) and self.false is (not self.true)
        return self.true if plain else self


class Reals(Enclosure):
    """A real number between `lo` and `hi`; anything, NaN included, where an end is NaN."""

    __slots__ = ("hi", "lo")

    def __init__(self, xp: Any, lo: Any, hi: Any, bad: Any = False) -> None:
        self.xp, self.lo, self.hi, self.bad = xp, lo, hi, bad


class Symbol:
    """An integer lo <= x <= hi (arrays over the boxes, or plain) with x % modulus == residue; `least` and `most` bound
    it over all boxes, as Python integers of any size, so that overflow is foreseen without looking into arrays."""

    __slots__ = ("hi", "least", "lo", "modulus", "most", "residue")

    def __init__(self, lo: Any, hi: Any, least: int, most: int, modulus: int = 1, residue: int = 0) -> None:
        self.lo, self.hi, self.least, self.most = lo, hi, least, most
        self.modulus, self.residue = modulus, residue


class Boxes(Enclosure):
    """The integer base + Σ coefficient · symbol. `base` is an integer or an array over the boxes, in `span`."""

    __slots__ = ("_bounds", "base", "span", "terms")

    def __init__(self, xp: Any, terms: dict[Symbol, int], base: Any, span: tuple[int, int], bad: Any = False) -> None:
        self.xp, self.terms, self.base, self.span, self.bad = xp, terms, base, span, bad
        self._bounds: tuple[Any, Any] | None = None

    def simplified(self) -> Any:
        return self.base if self.bad is False and not self.terms and isinstance(self.base, int) else self

    @property
    def plain(self) -> int | None:
        """The value, if it is one and the same in every box."""
        return self.base if not self.terms and isinstance(self.base, int) else None

    @property
    def bounds(self) -> tuple[Any, Any]:
        """The least and greatest value in each box."""
        if self._bounds is None:
            lo = hi = self.base
            for symbol, c in self.terms.items():
                low, high = (symbol.lo, symbol.hi) if c > 0 else (symbol.hi, symbol.lo)
                lo, hi = lo + c * low, hi + c * high
            self._bounds = lo, hi
        return self._bounds

    @property
    def extent(self) -> tuple[int, int]:
        """The least and greatest value over all boxes, as Python integers."""
        least, most = self.span
        for symbol, c in self.terms.items():
            low, high = (symbol.least, symbol.most) if c > 0 else (symbol.most, symbol.least)
            least, most = least + c * low, most + c * high
        return least, most

    @property
    def unbounded(self) -> bool:
        """Whether nothing is known, because an operation may leave the 64 bits."""
        return any((symbol.least, symbol.most) == INT64 for symbol in self.terms)

    @property
    def modulus(self) -> int:
        """The m for which all values of a box lie in one residue class; 0 for a single value."""
        return math.gcd(*(c * symbol.modulus for symbol, c in self.terms.items()))

    @property
    def residue(self) -> Any:
        """The values' remainder under `modulus`, up to multiples of it."""
        return self.base + sum(c * symbol.residue for symbol, c in self.terms.items())


# ------------------------------------------------------------------ making them


def interval(
    xp: Any, lo: Any, hi: Any, least: int, most: int, bad: Any = False, modulus: int = 1, rest: int = 0
) -> Boxes:
    """Integers from `lo` to `hi`, all of them between `least` and `most`; unknown if those leave the 64 bits."""
    if least < INT64[0] or most > INT64[1]:
        return unknown(xp, bad)
    return Boxes(xp, {Symbol(lo, hi, least, most, modulus, rest): 1}, 0, (0, 0), bad)


def unknown(xp: Any, bad: Any = False) -> Boxes:
    return Boxes(xp, {Symbol(*INT64, *INT64): 1}, 0, (0, 0), bad)


def anything(xp: Any, element: str) -> Enclosure:
    """A value of which only the type is known; it may be invalid."""
    if element == "bool":
        return Truths(xp, True, True, True)
    return unknown(xp, True) if element == "int" else Reals(xp, math.nan, math.nan, True)


def _linear(xp: Any, terms: dict[Symbol, int], base: Any, span: tuple[int, int], bad: Any) -> Boxes:
    """The form, or an unknown if a value, or a step on the way to its bounds, may leave the 64 bits."""
    reach = max(-span[0], span[1]) + sum(abs(c) * max(-s.least, s.most) for s, c in terms.items())
    return unknown(xp, bad) if reach > INT64[1] else Boxes(xp, terms, base, span, bad)


def _integer(xp: Any, a: Any) -> Boxes:
    if isinstance(a, Boxes):
        return a
    value, bad = (a.value, a.ok is not True) if isinstance(a, Cells) else (a, False)
    return Boxes(xp, {}, int(value), (int(value), int(value)), bad)


def _real(xp: Any, a: Any) -> Reals:
    if isinstance(a, Reals):
        return a
    if isinstance(a, Boxes):
        lo, hi = (float(end) if isinstance(end, int) else xp.real(end) for end in a.bounds)
        return Reals(xp, lo, hi, a.bad)
    value, bad = (a.value, a.ok is not True) if isinstance(a, Cells) else (a, False)
    return Reals(xp, float(value), float(value), bad)


def _truth(xp: Any, a: Any) -> Truths:
    if isinstance(a, Truths):
        return a
    value, bad = (a.value, a.ok is not True) if isinstance(a, Cells) else (a, False)
    return Truths(xp, bool(value), not value, bad)


def _is_real_operand(a: Any) -> bool:
    return isinstance(a, Reals | float) or (isinstance(a, Cells) and isinstance(a.value, float))


def _never_valid(a: Any) -> bool:
    return isinstance(a, Cells) and a.ok is False


def _is_truth_operand(a: Any) -> bool:
    return isinstance(a, Truths | bool) or (isinstance(a, Cells) and isinstance(a.value, bool))


def bounds(a: Any) -> tuple[Any, Any]:
    """The least and greatest value of a number in each box: arrays, or plain if the number is the same everywhere."""
    if isinstance(a, Boxes):
        return a.bounds
    value = a.value if isinstance(a, Cells) else a
    return value, value


# ------------------------------------------------------------------ arithmetic


Operation = Callable[..., Any]
OnBounds = Callable[[tuple[Any, Any], tuple[Any, Any]], tuple[Any, Any]]


def _number(on_integers: Operation, on_reals: Operation) -> Operation:
    """An operation on numbers: on integers, or on reals if one operand is real."""

    def run(xp: Any, *args: Any) -> Any:
        if any(_is_real_operand(a) for a in args):
            return on_reals(xp, *(_real(xp, a) for a in args))
        return on_integers(xp, *(_integer(xp, a) for a in args))

    return run


def _anything(xp: Any, *args: Reals) -> Reals:
    """Operations on reals that nothing needs to be known of."""
    return Reals(xp, math.nan, math.nan, any_bad(*args))


def any_bad(*args: Enclosure) -> Any:
    bad: Any = False
    for a in args:
        bad = either(bad, a.bad)
    return bad


def _add(xp: Any, a: Boxes, b: Boxes, sign: int = 1) -> Boxes:
    terms = dict(a.terms)
    for symbol, c in b.terms.items():
        terms[symbol] = terms.get(symbol, 0) + sign * c
    low, high = (b.span[0], b.span[1]) if sign > 0 else (-b.span[1], -b.span[0])
    span = (a.span[0] + low, a.span[1] + high)
    if max(-span[0], span[1]) > INT64[1]:
        return unknown(xp, any_bad(a, b))
    base = a.base + b.base if sign > 0 else a.base - b.base
    return _linear(xp, {s: c for s, c in terms.items() if c}, base, span, any_bad(a, b))


def _subtract(xp: Any, a: Boxes, b: Boxes) -> Boxes:
    return _add(xp, a, b, -1)


def _scaled(xp: Any, a: Boxes, c: int, bad: Any) -> Boxes:
    if c == 0:
        return Boxes(xp, {}, 0, (0, 0), bad)
    least, most = sorted((a.span[0] * c, a.span[1] * c))
    if max(-least, most) > INT64[1]:
        return unknown(xp, bad)
    return _linear(xp, {s: c * d for s, d in a.terms.items()}, a.base * c, (least, most), bad)


def _corners(xp: Any, f: Operation, a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    """Bounds of a function that is monotone in each argument."""
    first, *rest = (f(x, y) for x in a for y in b)
    lo = hi = first
    for value in rest:
        lo, hi = smaller(xp, lo, value), larger(xp, hi, value)
    return lo, hi


def _multiply(xp: Any, a: Boxes, b: Boxes) -> Boxes:
    bad = any_bad(a, b)
    if b.plain is not None:
        return _scaled(xp, a, b.plain, bad)
    if a.plain is not None:
        return _scaled(xp, b, a.plain, bad)
    least, most = _corners(xp, lambda x, y: x * y, a.extent, b.extent)
    if least < INT64[0] or most > INT64[1]:
        return unknown(xp, bad)
    if a.extent[0] >= 0 and b.extent[0] >= 0:
        lo, hi = a.bounds[0] * b.bounds[0], a.bounds[1] * b.bounds[1]
    else:
        lo, hi = _corners(xp, lambda x, y: x * y, a.bounds, b.bounds)
    return interval(xp, lo, hi, least, most, bad)


def _real_add(xp: Any, a: Reals, b: Reals) -> Reals:
    clash = either(both(a.hi == math.inf, b.lo == -math.inf), both(a.lo == -math.inf, b.hi == math.inf))
    return _unless_nan(xp, clash, a.lo + b.lo, a.hi + b.hi, any_bad(a, b))


def _real_negate(xp: Any, a: Reals) -> Reals:
    return Reals(xp, -a.hi, -a.lo, a.bad)


def _real_multiply(xp: Any, a: Reals, b: Reals) -> Reals:
    lo, hi = _corners(xp, lambda x, y: x * y, (a.lo, a.hi), (b.lo, b.hi))
    clash = either(both(_may_be_zero(a.lo, a.hi), _infinite(b)), both(_infinite(a), _may_be_zero(b.lo, b.hi)))
    return _unless_nan(xp, clash, lo, hi, any_bad(a, b))


def _infinite(a: Reals) -> Any:
    return either(a.lo == -math.inf, a.hi == math.inf)


def _unless_nan(xp: Any, clash: Any, lo: Any, hi: Any, bad: Any) -> Reals:
    """The interval, or anything where infinities inside it may clash."""
    return Reals(xp, choose(xp, clash, math.nan, lo), choose(xp, clash, math.nan, hi), bad)


def _without(xp: Any, a: Boxes, m: int) -> Boxes:
    """The part of the form whose terms are not multiples of m."""
    return _linear(xp, {s: c for s, c in a.terms.items() if c % m}, a.base, a.span, a.bad)


def _floor_divide(xp: Any, a: Boxes, b: Boxes) -> Boxes:
    m = b.plain
    if m is None or m == 0:
        return _general_quotient(xp, a, b)
    if m < 0:
        a, m = _scaled(xp, a, -1, a.bad), -m
    whole = Boxes(xp, {s: c // m for s, c in a.terms.items() if c % m == 0}, 0, (0, 0), b.bad)
    rest = _without(xp, a, m)
    least, most = (end // m for end in rest.extent)
    if not rest.terms:
        return _add(xp, whole, Boxes(xp, {}, floor_divide(xp, rest.base, m), (least, most), a.bad))
    lo, hi = (floor_divide(xp, end, m) for end in rest.bounds)
    return _add(xp, whole, interval(xp, lo, hi, least, most, a.bad))


def _reach(xp: Any, ends: tuple[Any, Any]) -> Any:
    """The largest absolute value."""
    return larger(xp, -ends[0], ends[1])


def _may_be_zero(lo: Any, hi: Any) -> Any:
    return both(lo <= 0, hi >= 0)


def _general_quotient(xp: Any, a: Boxes, b: Boxes) -> Boxes:
    bad = either(any_bad(a, b), _may_be_zero(*b.bounds))
    if b.extent[0] > 0:
        least, most = _corners(xp, lambda x, y: x // y, a.extent, b.extent)
        lo, hi = _corners(xp, lambda x, y: floor_divide(xp, x, y), a.bounds, b.bounds)
        return interval(xp, lo, hi, least, most, bad)
    most = _reach(xp, a.extent)
    if most > INT64[1]:
        return unknown(xp, bad)
    reach = _reach(xp, a.bounds)
    return interval(xp, -reach, reach, -most, most, bad)


def _remainder(xp: Any, a: Boxes, b: Boxes) -> Boxes:
    m = b.plain
    if m is None or m == 0:
        return _general_remainder(xp, a, b)
    if m < 0:
        flipped = _remainder(xp, _scaled(xp, a, -1, a.bad), _scaled(xp, b, -1, b.bad))
        return _scaled(xp, flipped, -1, flipped.bad)
    bad = any_bad(a, b)
    a = _reduced(xp, a, m)
    least, most = a.extent
    if least // m == most // m:
        return _add(xp, a, Boxes(xp, {}, -(least // m * m), (-(least // m * m),) * 2, b.bad))
    if not a.terms:
        return Boxes(xp, {}, remainder(xp, a.base, m), (0, m - 1), bad)
    lo, hi = a.bounds
    start = floor_divide(xp, lo, m)
    same = start == floor_divide(xp, hi, m)
    g = math.gcd(a.modulus, m)
    known = isinstance(a.residue, int) and g > 1
    low, high = choose(xp, same, lo - start * m, 0), choose(xp, same, hi - start * m, m - 1)
    return interval(xp, low, high, 0, m - 1, bad, g if known else 1, a.residue % g if known else 0)


def _reduced(xp: Any, a: Boxes, m: int) -> Boxes:
    """A form with the same remainders under m, without the terms whose values in a box all leave the same one."""
    constant = {s: c for s, c in a.terms.items() if c * s.modulus % m == 0}
    shift = sum(c * s.residue for s, c in constant.items()) % m
    terms = {s: c for s, c in a.terms.items() if s not in constant}
    return _linear(xp, terms, a.base + shift, (a.span[0] + shift, a.span[1] + shift), a.bad)


def _general_remainder(xp: Any, a: Boxes, b: Boxes) -> Boxes:
    bad = either(any_bad(a, b), _may_be_zero(*b.bounds))
    least, most = min(0, b.extent[0] + 1), max(0, b.extent[1] - 1)
    (a_lo, a_hi), (b_lo, b_hi) = a.bounds, b.bounds
    unchanged = both(both(a_lo >= 0, b_lo > 0), a_hi < b_lo)
    lo = choose(xp, unchanged, a_lo, smaller(xp, 0, b_lo + 1))
    hi = choose(xp, unchanged, a_hi, larger(xp, 0, b_hi - 1))
    return interval(xp, lo, hi, least, max(most, 0), bad)


def _box_power(xp: Any, a: Boxes, b: Boxes) -> Boxes:
    a_lo, (b_lo, b_hi) = a.bounds[0], b.bounds
    bad = either(any_bad(a, b), b_lo < 0)
    highest = max(b.extent[1], 0)
    reach = max(_reach(xp, a.extent), 1)
    if reach > 1 and highest * (reach.bit_length() - 1) > 64:
        return unknown(xp, bad)
    most = reach**highest if reach > 1 else 1
    if most > INT64[1]:
        return unknown(xp, bad)
    top = _raised(xp, larger(xp, _reach(xp, a.bounds), 1), larger(xp, b_hi, 0))
    if a.extent[0] >= 1:
        return interval(xp, _raised(xp, a_lo, larger(xp, b_lo, 0)), top, 1, most, bad)
    return interval(xp, choose(xp, a_lo >= 0, 0, -top), top, -most, most, bad)


def _raised(xp: Any, x: Any, e: Any) -> Any:
    """x ** e of values whose result fits 64 bits; only 0 and ±1 are raised to more than 63."""
    return x ** smaller(xp, e, 63)


def _xor(xp: Any, a: Boxes, b: Boxes) -> Boxes:
    """Above the highest bit in which a range's ends differ, all its numbers agree; below it they are free."""
    (a_lo, a_hi), (b_lo, b_hi) = a.bounds, b.bounds
    free = (a_lo ^ a_hi) | (b_lo ^ b_hi)
    for shift in (1, 2, 4, 8, 16, 32):
        free = free | (free >> shift)
    lo = (a_lo ^ b_lo) & ~free
    hi = lo | free
    any_sign = free < 0
    ends = (*a.extent, *b.extent)
    bits = max((end if end >= 0 else ~end).bit_length() for end in ends)
    least, most = (0 if min(ends) >= 0 else -(1 << bits)), (1 << bits) - 1
    return interval(xp, choose(xp, any_sign, least, lo), choose(xp, any_sign, most, hi), least, most, any_bad(a, b))


def _extremum(of: Operation, pick_left: Callable[[int, int], bool]) -> Operation:
    """Minimum or maximum of integers; one of the operands itself where the bounds over all boxes tell which."""

    def run(xp: Any, a: Boxes, b: Boxes) -> Boxes:
        bad = any_bad(a, b)
        least, most = _subtract(xp, a, b).extent
        if pick_left(least, most):
            return Boxes(xp, a.terms, a.base, a.span, bad)
        if pick_left(-most, -least):
            return Boxes(xp, b.terms, b.base, b.span, bad)
        (a_lo, a_hi), (b_lo, b_hi) = a.bounds, b.bounds
        (a_least, a_most), (b_least, b_most) = a.extent, b.extent
        ends = of(xp, a_least, b_least), of(xp, a_most, b_most)
        return interval(xp, of(xp, a_lo, b_lo), of(xp, a_hi, b_hi), *ends, bad)

    return run


def _real_extremum(of: Operation) -> Operation:
    return lambda xp, a, b: Reals(xp, of(xp, a.lo, b.lo), of(xp, a.hi, b.hi), any_bad(a, b))


def _absolute(xp: Any, a: Boxes) -> Boxes:
    least, most = a.extent
    if least >= 0 or most <= 0:
        return _scaled(xp, a, 1 if least >= 0 else -1, a.bad)
    if -least > INT64[1]:
        return unknown(xp, a.bad)
    lo, hi = a.bounds
    return interval(xp, larger(xp, larger(xp, lo, -hi), 0), larger(xp, -lo, hi), 0, max(-least, most), a.bad)


def _real_absolute(xp: Any, a: Reals) -> Reals:
    return Reals(xp, larger(xp, larger(xp, a.lo, -a.hi), 0.0), larger(xp, -a.lo, a.hi), a.bad)


def _ceil_log2(xp: Any, a: Boxes) -> Boxes:
    lo, hi = a.bounds
    most = max(a.extent[1], 1)
    return interval(xp, ceil_log2(xp, lo), ceil_log2(xp, hi), 0, (most - 1).bit_length(), either(a.bad, lo <= 0))


# ------------------------------------------------------------------ conditions


def _compare(on_bounds: OnBounds) -> Operation:
    """A comparison; of integers that share symbols, of their difference with zero."""

    def on_integers(xp: Any, a: Boxes, b: Boxes) -> Truths:
        bad = any_bad(a, b)
        if a.terms.keys() & b.terms.keys():
            d = _subtract(xp, a, b)
            if not d.unbounded:
                a, b = d, Boxes(xp, {}, 0, (0, 0))
        return Truths(xp, *on_bounds(a.bounds, b.bounds), bad)

    return _number(on_integers, lambda xp, a, b: Truths(xp, *on_bounds((a.lo, a.hi), (b.lo, b.hi)), any_bad(a, b)))


# Written with `opposite`, so that an end that is NaN makes both answers possible.
def _less(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    return opposite(a[0] >= b[1]), opposite(a[1] < b[0])


def _less_equal(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    return opposite(a[0] > b[1]), opposite(a[1] <= b[0])


def _equal_bounds(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    can = opposite(either(a[0] > b[1], a[1] < b[0]))
    return can, opposite(both(a[0] == b[1], a[1] == b[0]))


_compare_equal = _compare(_equal_bounds)


def _equal(xp: Any, a: Any, b: Any) -> Truths:
    if isinstance(a, Truths) or isinstance(b, Truths):
        return _same_truth(xp, _truth(xp, a), _truth(xp, b))
    result = _compare_equal(xp, a, b)
    if _is_real_operand(a) or _is_real_operand(b):
        return result
    d = _subtract(xp, _integer(xp, a), _integer(xp, b))
    if d.modulus > 1 and not d.unbounded:
        result.true = both(result.true, d.residue % d.modulus == 0)
    return result


def _same_truth(xp: Any, a: Truths, b: Truths) -> Truths:
    true = either(both(a.true, b.true), both(a.false, b.false))
    return Truths(xp, true, either(both(a.true, b.false), both(a.false, b.true)), any_bad(a, b))


def _not(xp: Any, a: Any) -> Truths:
    a = _truth(xp, a)
    return Truths(xp, a.false, a.true, a.bad)


def _box_and(xp: Any, a: Any, b: Any) -> Truths:
    a, b = _truth(xp, a), _truth(xp, b)
    false = either(a.false, both(a.true, b.false))
    return Truths(xp, both(a.true, b.true), false, either(a.bad, both(a.true, b.bad)))


def _box_or(xp: Any, a: Any, b: Any) -> Truths:
    a, b = _truth(xp, a), _truth(xp, b)
    true = either(a.true, both(a.false, b.true))
    return Truths(xp, true, both(a.false, b.false), either(a.bad, both(a.false, b.bad)))


def _box_if(xp: Any, c: Any, a: Any, b: Any) -> Any:
    c = _truth(xp, c)
    if _never_valid(a) and _never_valid(b):
        return INVALID
    if _is_truth_operand(a) and _is_truth_operand(b):
        return _if_truth(xp, c, _truth(xp, a), _truth(xp, b))
    if isinstance(a, Truths) or isinstance(b, Truths):
        return _if_truth(xp, c, _truth(xp, a), _truth(xp, b))
    if _is_real_operand(a) or _is_real_operand(b):
        a, b = _real(xp, a), _real(xp, b)
        lo, hi = _hull(xp, c, (a.lo, a.hi), (b.lo, b.hi))
        return Reals(xp, lo, hi, _if_bad(c, a, b))
    a, b = _integer(xp, a), _integer(xp, b)
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
    c = _truth(xp, c)
    sure = opposite(either(c.false, c.bad))
    lo, hi = (int(end) if isinstance(end, bool) else xp.integer(end) for end in (sure, c.true))
    return interval(xp, lo, hi, 0, 1)


# ------------------------------------------------------------------ run-time tensors


def _read_box(xp: Any, table: Table, *indices: Any) -> Number:
    """Bounds of the elements in the aligned groups, at most two along each axis, that hold the box of indices."""
    if 0 in table.array.shape:
        return INVALID
    forms = [_integer(xp, index) for index in indices]
    bad = any_bad(*forms)
    ranges = []
    for form, extent in zip(forms, table.array.shape, strict=True):
        lo, hi = form.bounds
        bad = either(bad, either(lo < 0, hi >= extent))
        ranges.append((clip(xp, lo, 0, extent - 1), clip(xp, hi, 0, extent - 1)))
    fixed = tuple(lo if isinstance(lo, int) and isinstance(hi, int) and lo == hi else None for lo, hi in ranges)
    return _elements(xp, table.part(fixed), [r for r, index in zip(ranges, fixed, strict=True) if index is None], bad)


def _elements(xp: Any, table: Table, ranges: list[tuple[Any, Any]], bad: Any) -> Enclosure:
    number = max((ceil_log2(None, _largest(xp, hi - lo) + 1) for lo, hi in ranges), default=0)
    low, high = table.level(number)
    corners: list[tuple[Any, ...]] = [()]
    for ends in ranges:
        corners = [(*corner, end >> number) for corner in corners for end in ends]
    lo, hi = table.at(low, corners[0]), table.at(high, corners[0])
    for corner in corners[1:]:
        lo, hi = smaller(xp, lo, table.at(low, corner)), larger(xp, hi, table.at(high, corner))
    if xp.is_truth(table.array):
        return Truths(xp, hi, opposite(lo), bad)
    return Reals(xp, lo, hi, bad) if xp.is_real(table.array) else interval(xp, lo, hi, *table.extent(), bad)


def _member(xp: Any, relation: Any, q: Any, k: Any) -> Truths:
    q, k = _integer(xp, q), _integer(xp, k)
    some, missing = relation.overlaps(q.bounds, k.bounds)
    return Truths(xp, some, missing, any_bad(q, k))


def _largest(xp: Any, a: Array) -> int:
    return a if isinstance(a, int) else xp.max(a, (0,)).item()


_BOX_OPERATIONS: dict[str, Operation] = {
    "+": _number(_add, _real_add),
    "-": _number(_subtract, lambda xp, a, b: _real_add(xp, a, _real_negate(xp, b))),
    "*": _number(_multiply, _real_multiply),
    "//": _number(_floor_divide, _anything),
    "%": _number(_remainder, _anything),
    "**": _number(_box_power, _anything),
    "^": _number(_xor, _anything),
    "min": _number(_extremum(smaller, lambda least, most: most <= 0), _real_extremum(smaller)),
    "max": _number(_extremum(larger, lambda least, most: least >= 0), _real_extremum(larger)),
    "<": _compare(_less),
    "<=": _compare(_less_equal),
    ">": lambda xp, a, b: _BOX_OPERATIONS["<"](xp, b, a),
    ">=": lambda xp, a, b: _BOX_OPERATIONS["<="](xp, b, a),
    "==": _equal,
    "!=": lambda xp, a, b: _not(xp, _equal(xp, a, b)),
    "neg": _number(lambda xp, a: _scaled(xp, a, -1, a.bad), _real_negate),
    "abs": _number(_absolute, _real_absolute),
    "log2": _number(_ceil_log2, _anything),
    "not": _not,
    "and": _box_and,
    "or": _box_or,
    "if": _box_if,
    "indicator": _indicator_box,
    "read": _read_box,
    "member": _member,
}
