"""What follows from what, of conditions and of sets, as far as it is plain to see.

A product of sets is to this an `and`, a union an `or`, a complement a `not`; conditions and sets mix. All nodes come
from one `Sharing`, so that equal ones are the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from patternc import ir
from patternc.passes.facts import Fact, fact_of

MOST_PAIRS = 4096
"""Pairs of arguments that are compared in one conjunction."""


class Logic:
    """Answers about nodes that must have a value in every cell; "no" may mean "not seen"."""

    def __init__(self) -> None:
        self._facts: dict[int, Fact | None] = {}
        self._implied: dict[tuple[int, int], bool] = {}
        self._excluded: dict[tuple[int, int], bool] = {}

    def implies(self, a: ir.Node, b: ir.Node) -> bool:
        """Whether b holds wherever a does."""
        if a is b:
            return True
        key = id(a), id(b)
        if key not in self._implied:
            self._implied[key] = self._implies(a, b)
        return self._implied[key]

    def excludes(self, a: ir.Node, b: ir.Node) -> bool:
        """Whether a and b hold nowhere together."""
        key = id(a), id(b)
        if key not in self._excluded:
            self._excluded[key] = self._excludes(a, b)
        return self._excluded[key]

    def _implies(self, a: ir.Node, b: ir.Node) -> bool:
        match a, b:
            case ir.Where(c), _:
                return self.implies(c, b)
            case _, ir.Where(c):
                return self.implies(a, c)
            case (ir.Const(False), _) | (_, ir.Const(True)):
                return True
            case ((ir.Or(args) | ir.Union(args)), _):
                return all(self.implies(arg, b) for arg in args)
            case _, (ir.And(args) | ir.Product(args)):
                return all(self.implies(a, arg) for arg in args)
        if isinstance(a, ir.And | ir.Product) and any(self.implies(arg, b) for arg in a.args):
            return True
        if isinstance(b, ir.Or | ir.Union) and any(self.implies(a, arg) for arg in b.args):
            return True
        match a, b:
            case ir.Unary("not", x), ir.Unary("not", y):
                return self.implies(y, x)
            case ir.Complement(x), ir.Complement(y):
                return self.implies(y, x)
            case ir.Blocks(m, x), ir.Blocks(n, y) if m is n:
                return self.implies(x, y)
            case _, (ir.Unary("not", y) | ir.Complement(y)):
                return self.excludes(a, y)
        known, asked = self._fact(a), self._fact(b)
        return known is not None and asked is not None and known.implies(asked)

    def _excludes(self, a: ir.Node, b: ir.Node) -> bool:
        match a, b:
            case ir.Where(c), _:
                return self.excludes(c, b)
            case _, ir.Where(c):
                return self.excludes(a, c)
            case (ir.Const(False), _) | (_, ir.Const(False)):
                return True
            case ((ir.Or(args) | ir.Union(args)), _):
                return all(self.excludes(arg, b) for arg in args)
            case _, (ir.Or(args) | ir.Union(args)):
                return all(self.excludes(a, arg) for arg in args)
        if isinstance(a, ir.And | ir.Product) and any(self.excludes(arg, b) for arg in a.args):
            return True
        if isinstance(b, ir.And | ir.Product) and any(self.excludes(a, arg) for arg in b.args):
            return True
        match a, b:
            case _, (ir.Unary("not", y) | ir.Complement(y)):
                return self.implies(a, y)
            case ((ir.Unary("not", x) | ir.Complement(x)), _):
                return self.implies(b, x)
            case ir.Blocks(m, x), ir.Blocks(n, y) if m is n:
                return self.excludes(x, y)
        known, asked = self._fact(a), self._fact(b)
        return known is not None and asked is not None and known.excludes(asked)

    def _fact(self, node: ir.Node) -> Fact | None:
        if id(node) not in self._facts:
            self._facts[id(node)] = fact_of(node) if isinstance(node, ir.Compare) else None
        return self._facts[id(node)]

    # ------------------------------------------------------------------ conjunctions and disjunctions

    def needed(self, args: Sequence[ir.Node]) -> list[ir.Node] | None:
        """Of a conjunction the arguments that the others do not imply; None if it holds nowhere."""
        if len(args) ** 2 > MOST_PAIRS:
            return list(args)
        if any(self.excludes(a, b) for i, a in enumerate(args) for b in args[:i]):
            return None
        return _kept(args, self.implies)

    def widest(self, args: Sequence[ir.Node]) -> list[ir.Node]:
        """Of a disjunction the arguments that do not imply another."""
        if len(args) ** 2 > MOST_PAIRS:
            return list(args)
        return _kept(args, lambda other, arg: self.implies(arg, other))


def _kept(args: Sequence[ir.Node], covers: Callable[[ir.Node, ir.Node], bool]) -> list[ir.Node]:
    """Those that no other one covers, of two that cover each other the first."""
    kept = {id(arg): arg for arg in args}
    for arg in reversed(list(kept.values())):
        if any(other is not arg and covers(other, arg) for other in kept.values()):
            del kept[id(arg)]
    return list(kept.values())
