"""Arithmetic of enclosures: of integers as linear forms, of reals as intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from patternc.analysis.elementwise import both, ceil_log2, choose, either, floor_divide, larger, remainder, smaller
from patternc.analysis.enclosures import (
    INT64,
    Boxes,
    Operation,
    Reals,
    any_bad,
    interval,
    linear,
    of_numbers,
    unknown,
)


def _anything(xp: Any, *args: Reals) -> Reals:
    """Operations on reals that nothing needs to be known of."""
    return Reals(xp, math.nan, math.nan, any_bad(*args))


def _add(xp: Any, a: Boxes, b: Boxes, sign: int = 1) -> Boxes:
    terms = dict(a.terms)
    for symbol, c in b.terms.items():
        terms[symbol] = terms.get(symbol, 0) + sign * c
    low, high = (b.span[0], b.span[1]) if sign > 0 else (-b.span[1], -b.span[0])
    span = (a.span[0] + low, a.span[1] + high)
    if max(-span[0], span[1]) > INT64[1]:
        return unknown(xp, any_bad(a, b))
    base = a.base + b.base if sign > 0 else a.base - b.base
    return linear(xp, {s: c for s, c in terms.items() if c}, base, span, any_bad(a, b))


def subtract(xp: Any, a: Boxes, b: Boxes) -> Boxes:
    return _add(xp, a, b, -1)


def _scaled(xp: Any, a: Boxes, c: int, bad: Any) -> Boxes:
    if c == 0:
        return Boxes(xp, {}, 0, (0, 0), bad)
    least, most = sorted((a.span[0] * c, a.span[1] * c))
    if max(-least, most) > INT64[1]:
        return unknown(xp, bad)
    return linear(xp, {s: c * d for s, d in a.terms.items()}, a.base * c, (least, most), bad)


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
    return linear(xp, {s: c for s, c in a.terms.items() if c % m}, a.base, a.span, a.bad)


def _floor_divide(xp: Any, a: Boxes, b: Boxes) -> Boxes:
    m = b.plain
    if m is None or m == 0:
        return _general_quotient(xp, a, b)
    if m < 0:
        a, m = _scaled(xp, a, -1, a.bad), -m
    whole = Boxes(xp, {s: c // m for s, c in a.terms.items() if c % m == 0}, 0, (0, 0), b.bad)
    rest = _without(xp, a, m)
    least, most = (end // m for end in rest.extent)
    if least == most and whole.terms:
        return _add(xp, whole, Boxes(xp, {}, least, (least, most), a.bad))
    if not rest.terms:
        return _add(xp, whole, Boxes(xp, {}, floor_divide(xp, rest.base, m), (least, most), a.bad))
    lo, hi = (floor_divide(xp, end, m) for end in rest.bounds)
    return _add(xp, whole, interval(xp, lo, hi, least, most, a.bad, breadth=-(-rest.breadth // m)))


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
    return linear(xp, terms, a.base + shift, (a.span[0] + shift, a.span[1] + shift), a.bad)


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
        least, most = subtract(xp, a, b).extent
        if pick_left(least, most):
            return Boxes(xp, a.terms, a.base, a.span, bad)
        if pick_left(-most, -least):
            return Boxes(xp, b.terms, b.base, b.span, bad)
        (a_lo, a_hi), (b_lo, b_hi) = a.bounds, b.bounds
        (a_least, a_most), (b_least, b_most) = a.extent, b.extent
        ends = of(xp, a_least, b_least), of(xp, a_most, b_most)
        breadth = max(a.breadth, b.breadth)
        return interval(xp, of(xp, a_lo, b_lo), of(xp, a_hi, b_hi), *ends, bad, breadth=breadth)

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


ARITHMETIC: dict[str, Operation] = {
    "+": of_numbers(_add, _real_add),
    "-": of_numbers(subtract, lambda xp, a, b: _real_add(xp, a, _real_negate(xp, b))),
    "*": of_numbers(_multiply, _real_multiply),
    "//": of_numbers(_floor_divide, _anything),
    "%": of_numbers(_remainder, _anything),
    "**": of_numbers(_box_power, _anything),
    "^": of_numbers(_xor, _anything),
    "min": of_numbers(_extremum(smaller, lambda least, most: most <= 0), _real_extremum(smaller)),
    "max": of_numbers(_extremum(larger, lambda least, most: least >= 0), _real_extremum(larger)),
    "neg": of_numbers(lambda xp, a: _scaled(xp, a, -1, a.bad), _real_negate),
    "abs": of_numbers(_absolute, _real_absolute),
    "log2": of_numbers(_ceil_log2, _anything),
}
