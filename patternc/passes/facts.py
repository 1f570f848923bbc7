"""What a comparison says of one expression: that its value is, or is not, in an interval and a residue class.

Expressions are linear forms of positions and of what else is not linear. Two facts about one form decide whether one
follows from the other. Nothing is read into numbers that might leave the 64 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from patternc import ir

MOST_POSITION = 1 << 40
"""Positions and lengths are taken to be below this."""
MOST_VALUE = 1 << 62
ANY = (-math.inf, math.inf)
Range = tuple[float, float]

Form = tuple[tuple[int, int], ...]
"""(identity of a node, coefficient) in order of identity: Σ coefficient · node."""


@dataclass(frozen=True, slots=True)
class Fact:
    """The form's value is in lo … hi with remainder `rest` under `modulus`, or, if not `inside`, it is not there."""

    form: Form
    lo: float
    hi: float
    modulus: int = 1
    rest: int = 0
    inside: bool = True

    def implies(self, other: Fact) -> bool:
        if self.form != other.form:
            return False
        if self.inside and other.inside:
            return self._within(other)
        if self.inside:
            return self._apart(other)
        return not other.inside and other._within(self)

    def excludes(self, other: Fact) -> bool:
        return self.implies(other.negated())

    def negated(self) -> Fact:
        if self.modulus == 1 and self.inside:
            if self.lo == -math.inf:
                return replace(self, lo=self.hi + 1, hi=math.inf)
            if self.hi == math.inf:
                return replace(self, lo=-math.inf, hi=self.lo - 1)
        return replace(self, inside=not self.inside)

    def _within(self, other: Fact) -> bool:
        """Whether this set lies in the other's."""
        inside = self.lo >= other.lo and self.hi <= other.hi
        if self.lo == self.hi:
            return inside and (self.lo - other.rest) % other.modulus == 0
        return inside and self.modulus % other.modulus == 0 and (self.rest - other.rest) % other.modulus == 0

    def _apart(self, other: Fact) -> bool:
        """Whether the two sets share nothing, as far as can be seen from bounds and remainders alone."""
        common = math.gcd(self.modulus, other.modulus)
        if self.lo > other.hi or other.lo > self.hi or (self.rest - other.rest) % common:
            return True
        points = [(a, b) for a, b in ((self, other), (other, self)) if a.lo == a.hi]
        return any((a.lo - b.rest) % b.modulus for a, b in points)


def bounds(node: ir.Scalar) -> Range:
    """The least and greatest value, of an integer; infinite where nothing is known."""
    match node:
        case ir.Const(value):
            return (value, value) if isinstance(value, int) else ANY
        case ir.Var("q" | "k"):
            return 0, MOST_POSITION - 1
        case ir.Var("n"):
            return 1, MOST_POSITION
        case ir.Var("h" | "layer"):
            return 0, 1 << 20
        case ir.Binary("%", _, ir.Const(int() as m)) if m > 0:
            return 0, m - 1
        case ir.Unary("-" | "abs" as op, a):
            return _of_one(op, bounds(a))
        case ir.Binary("//", a, ir.Const(int() as c)) if c > 0:
            lo, hi = bounds(a)
            return ANY if (lo, hi) == ANY else (lo // c, hi // c)
        case ir.Binary("+" | "-" | "*" | "min" | "max" as op, a, b):
            return _combined(op, bounds(a), bounds(b))
        case ir.If(_, a, b):
            (a_lo, a_hi), (b_lo, b_hi) = bounds(a), bounds(b)
            return min(a_lo, b_lo), max(a_hi, b_hi)
    return ANY


def _of_one(op: str, a: Range) -> Range:
    lo, hi = a
    if op == "-" or a == ANY:
        return -hi, -lo
    return max(lo, -hi, 0), max(-lo, hi)


def _combined(op: str, a: Range, b: Range) -> Range:
    if ANY in (a, b):
        return ANY
    compute: dict[str, Callable[[float, float], float]] = {
        "+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y, "min": min, "max": max,
    }  # fmt: skip
    ends = [compute[op](x, y) for x in a for y in b]
    lo, hi = min(ends), max(ends)
    return (lo, hi) if max(-lo, hi) < MOST_VALUE else ANY


def linear(node: ir.Scalar) -> tuple[dict[int, tuple[ir.Scalar, int]], int]:
    """A node as Σ coefficient · node + constant, by the nodes' identity; exact where `bounds` knows its value."""
    match node:
        case ir.Const(int() as value):
            return {}, value
        case ir.Binary("+" | "-" as op, a, b):
            (x, c), (y, d) = linear(a), linear(b)
            sign = 1 if op == "+" else -1
            return _added(x, y, sign), c + sign * d
        case ir.Unary("-", a):
            x, c = linear(a)
            return _added({}, x, -1), -c
        case ir.Binary("*", a, ir.Const(int() as f)) | ir.Binary("*", ir.Const(int() as f), a):
            x, c = linear(a)
            return _added({}, x, f), c * f
    return {id(node): (node, 1)}, 0


def _added(
    x: dict[int, tuple[ir.Scalar, int]], y: dict[int, tuple[ir.Scalar, int]], factor: int
) -> dict[int, tuple[ir.Scalar, int]]:
    out = dict(x)
    for key, (node, c) in y.items():
        out[key] = node, out.get(key, (node, 0))[1] + factor * c
    return {key: term for key, term in out.items() if term[1]}


def fact_of(node: ir.Scalar) -> Fact | None:
    """What an integer comparison says; None if nothing simple. Equal subtrees of the node must be the same object, and
    the nodes live on."""
    if not isinstance(node, ir.Compare):
        return None
    match node.a, node.b:
        case ir.Const(), _:
            return _compared(_FLIPPED[node.op], node.b, node.a)
        case _:
            return _compared(node.op, node.a, node.b)


_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def _compared(op: str, a: ir.Scalar, b: ir.Scalar) -> Fact | None:
    if ANY in (bounds(a), bounds(b)) or _combined("-", bounds(a), bounds(b)) == ANY:
        return None
    x, c = linear(a)
    y, d = linear(b)
    difference, target = _added(x, y, -1), d - c
    match list(difference.values()), op:
        case [(ir.Binary("%", inner, ir.Const(int() as m)), 1)], "==" | "!=" if m > 0 and bounds(inner) != ANY:
            return _congruence(inner, m, target, op == "==")
        case [(ir.Unary("abs", inner), 1)], _ if op in ("<", "<=", ">", ">="):
            return _distance(inner, op, target)
    return _bounded(difference, op, target)


def _form(terms: dict[int, tuple[ir.Scalar, int]]) -> tuple[Form, int]:
    """The form with a positive first coefficient, and the sign that made it so."""
    form = tuple(sorted((key, c) for key, (_, c) in terms.items()))
    sign = -1 if form and form[0][1] < 0 else 1
    return tuple((key, c * sign) for key, c in form), sign


def _bounded(terms: dict[int, tuple[ir.Scalar, int]], op: str, target: int) -> Fact:
    """Σ terms `op` target."""
    form, sign = _form(terms)
    if sign < 0:
        op, target = _FLIPPED[op], -target
    match op:
        case "<" | "<=":
            return Fact(form, -math.inf, target - (op == "<"))
        case ">" | ">=":
            return Fact(form, target + (op == ">"), math.inf)
    return Fact(form, target, target, inside=op == "==")


def _congruence(inner: ir.Scalar, m: int, rest: int, inside: bool) -> Fact | None:
    if not 0 <= rest < m:
        return None
    terms, c = linear(inner)
    form, sign = _form(terms)
    return Fact(form, -math.inf, math.inf, m, sign * (rest - c) % m, inside)


def _distance(inner: ir.Scalar, op: str, reach: int) -> Fact | None:
    """abs(inner) `op` reach."""
    terms, c = linear(inner)
    form, sign = _form(terms)
    if op in ("<", "<="):
        reach, inside = reach - (op == "<"), True
    else:
        reach, inside = reach - (op == ">="), False
    lo, hi = -reach - c, reach - c
    lo, hi = (lo, hi) if sign > 0 else (-hi, -lo)
    return Fact(form, lo, hi, inside=inside) if reach >= 0 else None
