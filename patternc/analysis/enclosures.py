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

from patternc.analysis.elementwise import Plain, either, opposite
from patternc.analysis.numbers import Cells, Number

Operation = Callable[..., Any]
INT64 = (-(1 << 63), (1 << 63) - 1)
"""The bounds of what is known only to be an integer of 64 bits."""


OPERATIONS: dict[str, Operation] = {}
"""What the operators do to enclosures, by name; boxes.py fills it."""


class Enclosure(Number):
    """A value known to lie in some set in each of many boxes; `bad` says where it may be invalid."""

    __slots__ = ("bad", "xp")
    rank = 1
    bad: Any
    xp: Any

    @classmethod
    def compute(cls, op: str, *args: Any) -> Any:
        xp, open_, simple = None, False, []
        for a in args:
            if isinstance(a, Enclosure):
                xp, a = a.xp, a.simplified()
                open_ = open_ or isinstance(a, Enclosure)
            simple.append(a)
        if not open_:
            return Cells.compute(op, *simple)
        return OPERATIONS[op](xp, *(of_array(xp, a) for a in simple))

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
    it over all boxes, and `breadth` bounds hi - lo, as Python integers of any size, so that overflow is foreseen
    without looking into arrays."""

    __slots__ = ("breadth", "hi", "least", "lo", "modulus", "most", "residue")

    def __init__(
        self,
        lo: Any,
        hi: Any,
        least: int,
        most: int,
        modulus: int = 1,
        residue: int = 0,
        breadth: int | None = None,
    ) -> None:
        self.lo, self.hi, self.least, self.most = lo, hi, least, most
        self.modulus, self.residue = modulus, residue
        self.breadth = most - least if breadth is None else min(breadth, most - least)


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
                if c != 1:
                    low, high = c * low, c * high
                nothing = lo is hi and isinstance(lo, int) and lo == 0
                lo, hi = (low, high) if nothing else (lo + low, hi + high)
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
    def breadth(self) -> int:
        """A bound on the difference of the greatest and the least value in any box."""
        return sum(abs(c) * symbol.breadth for symbol, c in self.terms.items())

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
    xp: Any,
    lo: Any,
    hi: Any,
    least: int,
    most: int,
    bad: Any = False,
    modulus: int = 1,
    rest: int = 0,
    breadth: int | None = None,
) -> Boxes:
    """Integers from `lo` to `hi`, all of them between `least` and `most`; unknown if those leave the 64 bits. The
    difference of `lo` and `hi` is at most `breadth`."""
    if least < INT64[0] or most > INT64[1]:
        return unknown(xp, bad)
    return Boxes(xp, {Symbol(lo, hi, least, most, modulus, rest, breadth): 1}, 0, (0, 0), bad)


def of_array(xp: Any, a: Any) -> Any:
    """An element of a tensor that nothing may wait for, which is an array, as an enclosure; all else as it is."""
    if not isinstance(a, Cells) or isinstance(a.value, Plain):
        return a
    bad = opposite(a.ok)
    if xp.is_truth(a.value):
        return Truths(xp, a.value, ~a.value, bad)
    if xp.is_real(a.value):
        return Reals(xp, a.value, a.value, bad)
    least, most = xp.bounds(a.value, a.value)
    return interval(xp, a.value, a.value, least, most, bad)


def unknown(xp: Any, bad: Any = False) -> Boxes:
    return Boxes(xp, {Symbol(*INT64, *INT64): 1}, 0, (0, 0), bad)


def anything(xp: Any, element: str) -> Enclosure:
    """A value of which only the type is known; it may be invalid."""
    if element == "bool":
        return Truths(xp, True, True, True)
    return unknown(xp, True) if element == "int" else Reals(xp, math.nan, math.nan, True)


def linear(xp: Any, terms: dict[Symbol, int], base: Any, span: tuple[int, int], bad: Any) -> Boxes:
    """The form, or an unknown if a value, or a step on the way to its bounds, may leave the 64 bits."""
    reach = max(-span[0], span[1]) + sum(abs(c) * max(-s.least, s.most) for s, c in terms.items())
    return unknown(xp, bad) if reach > INT64[1] else Boxes(xp, terms, base, span, bad)


def integers(xp: Any, a: Any) -> Boxes:
    if isinstance(a, Boxes):
        return a
    value, bad = (a.value, a.ok is not True) if isinstance(a, Cells) else (a, False)
    return Boxes(xp, {}, int(value), (int(value), int(value)), bad)


def reals(xp: Any, a: Any) -> Reals:
    if isinstance(a, Reals):
        return a
    if isinstance(a, Boxes):
        lo, hi = (float(end) if isinstance(end, int) else xp.real(end) for end in a.bounds)
        return Reals(xp, lo, hi, a.bad)
    value, bad = (a.value, a.ok is not True) if isinstance(a, Cells) else (a, False)
    return Reals(xp, float(value), float(value), bad)


def truths(xp: Any, a: Any) -> Truths:
    if isinstance(a, Truths):
        return a
    value, bad = (a.value, a.ok is not True) if isinstance(a, Cells) else (a, False)
    return Truths(xp, bool(value), not value, bad)


def is_real_operand(a: Any) -> bool:
    return isinstance(a, (Reals, float)) or (isinstance(a, Cells) and isinstance(a.value, float))


def never_valid(a: Any) -> bool:
    return isinstance(a, Cells) and a.ok is False


def is_truth_operand(a: Any) -> bool:
    return isinstance(a, Truths | bool) or (isinstance(a, Cells) and isinstance(a.value, bool))


def any_bad(*args: Enclosure) -> Any:
    bad: Any = False
    for a in args:
        bad = either(bad, a.bad)
    return bad


def of_numbers(on_integers: Operation, on_reals: Operation) -> Operation:
    """An operation on numbers: on integers, or on reals if one operand is real."""

    def run(xp: Any, *args: Any) -> Any:
        if any(is_real_operand(a) for a in args):
            return on_reals(xp, *(reals(xp, a) for a in args))
        return on_integers(xp, *(integers(xp, a) for a in args))

    return run
