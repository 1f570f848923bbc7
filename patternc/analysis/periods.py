"""By how much a pattern may be moved along the diagonal: periods P with M(q + P, k + P) = M(q, k) for all q and k.

Under such a move conditions stay what they are, and numbers grow by what goes with the period, if they do so at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from patternc import ir


@dataclass(frozen=True, slots=True)
class Drift:
    """A scalar grows by i · growth under a move by i · period, for every integer i."""

    growth: int
    period: int

    def over(self, period: int) -> int:
        """The growth under a multiple of the period."""
        return self.growth * (period // self.period)


class NoPeriodError(Exception):
    """None was found."""


def diagonal_period(pattern: ir.Pattern) -> int | None:
    """A period of a pattern that is bound to a length and a head; None if none is found. Covers and selections, which
    know where the sequence ends, have none."""
    try:
        return _Periods().pattern(pattern)
    except NoPeriodError:
        return None


class _Periods:
    """Shared subtrees are looked at once."""

    def __init__(self) -> None:
        self._known: dict[int, Drift] = {}

    def pattern(self, node: ir.Pattern) -> int:
        match node:
            case ir.Where(condition):
                return self._unmoved([condition])
            case ir.Union(args) | ir.Sum(args) | ir.Product(args):
                return math.lcm(*map(self.pattern, args))
            case ir.Complement(a) | ir.Support(a):
                return self.pattern(a)
            case ir.Blocks(ir.Const(int() as size), body):
                return size * _Periods().pattern(body)
        raise NoPeriodError

    def drift(self, node: ir.Scalar) -> Drift:
        if id(node) not in self._known:
            self._known[id(node)] = self._drift(node)
        return self._known[id(node)]

    def _drift(self, node: ir.Scalar) -> Drift:
        match node:
            case ir.Const():
                return Drift(0, 1)
            case ir.Var("q" | "k"):
                return Drift(1, 1)
            case ir.Unary("-", a):
                return _scaled(self.drift(a), -1)
            case ir.Binary("+", a, b):
                return _added(self.drift(a), self.drift(b))
            case ir.Binary("-", a, b):
                return _added(self.drift(a), _scaled(self.drift(b), -1))
            case ir.Binary("*", a, ir.Const(int() as c)) | ir.Binary("*", ir.Const(int() as c), a):
                return _scaled(self.drift(a), c)
            case ir.Binary("//" | "%" as op, a, ir.Const(int() as m)) if m:
                return _divided(self.drift(a), m, op)
            case ir.Binary("min" | "max", a, b):
                return self._together([a, b])
            case ir.Compare(_, a, b):
                return Drift(0, self._together([a, b]).period)
            case ir.If(condition, then, orelse):
                return self._chosen(condition, [then, orelse])
            case ir.Pick(index, items):
                return self._chosen(index, items)
            case ir.Unary(_, a):
                return Drift(0, self._unmoved([a]))
            case ir.Binary(_, a, b):
                return Drift(0, self._unmoved([a, b]))
            case ir.And(args) | ir.Or(args) | ir.Read(_, args):
                return Drift(0, self._unmoved(args))
        raise NoPeriodError

    def _unmoved(self, nodes: Iterable[ir.Scalar]) -> int:
        """The period of scalars that stay what they are."""
        found = [self.drift(node) for node in nodes]
        if any(drift.growth for drift in found):
            raise NoPeriodError
        return math.lcm(*(drift.period for drift in found))

    def _together(self, nodes: Iterable[ir.Scalar]) -> Drift:
        """The drift of scalars that grow alike."""
        found = [self.drift(node) for node in nodes]
        period = math.lcm(*(drift.period for drift in found))
        if len({drift.over(period) for drift in found}) != 1:
            raise NoPeriodError
        return Drift(found[0].over(period), period)

    def _chosen(self, choice: ir.Scalar, items: Iterable[ir.Scalar]) -> Drift:
        drift = self._together(items)
        period = math.lcm(drift.period, self._unmoved([choice]))
        return Drift(drift.over(period), period)


def _added(a: Drift, b: Drift) -> Drift:
    period = math.lcm(a.period, b.period)
    return Drift(a.over(period) + b.over(period), period)


def _scaled(drift: Drift, c: int) -> Drift:
    return Drift(drift.growth * c, drift.period)


def _divided(drift: Drift, m: int, op: str) -> Drift:
    """Of a quotient or a remainder: moves must add a multiple of m to what is divided."""
    times = abs(m) // math.gcd(drift.growth, m)
    return Drift(drift.growth * times // m if op == "//" else 0, drift.period * times)
