"""Substitution of what becomes known after a program is written: its heads, its layer, its length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from patternc import fold, ir
from patternc.errors import Code
from patternc.rewrite import rebuild
from patternc.source import Span


def specialise(node: ir.Node, values: Mapping[str, int]) -> Any:
    """The node with variables replaced by values and everything folded; names are `h`, `heads`, `layer`, `n`.

    With `n`, the lengths of the deeper spaces follow from it, and so do all block sizes, counts and ranges.
    """
    return _Specialiser(values).visit(node)


class _Specialiser:
    def __init__(self, values: Mapping[str, int]) -> None:
        self.values = dict(values)
        self.size = 0
        self.depth = 0
        self.lengths = {0: values["n"]} if "n" in values else {}  # of each space that is entered, where known
        self.done: dict[int, tuple[ir.Node, ir.Node]] = {}  # keeps the key's node alive

    def visit(self, node: ir.Node) -> Any:
        if id(node) not in self.done:
            self.size += 1
            if self.size > fold.MAX_NODES:
                raise fold.too_large(node.span)
            self.done[id(node)] = (node, self._rule(node))
        return self.done[id(node)][1]

    def _rule(self, node: ir.Node) -> Any:
        visit, span = self.visit, node.span
        match node:
            case ir.Var("n", depth):
                return fold.const(self.lengths[depth], span) if depth in self.lengths else node
            case ir.Var(name):
                return fold.const(self.values[name], span) if name in self.values else node
            case ir.Const() | ir.Param() | ir.Unknown():
                return node
            case ir.Unary(op, a):
                return fold.unary(op, visit(a), span)
            case ir.Binary(op, a, b):
                return fold.binary(op, visit(a), visit(b), span)
            case ir.Compare(op, a, b):
                return fold.compare(op, visit(a), visit(b), span)
            case ir.And(args):
                return fold.conjunction(map(visit, args), span)
            case ir.Or(args):
                return fold.disjunction(map(visit, args), span)
            case ir.If(condition, then, orelse):
                condition = visit(condition)
                if isinstance(condition, ir.Const):
                    return visit(then if condition.value else orelse)
                return ir.If(condition, visit(then), visit(orelse), span=span)
            case ir.Pick(index, items):
                index = visit(index)
                if isinstance(index, ir.Const):
                    return visit(fold.pick(index, items, span))
                return ir.Pick(index, tuple(map(visit, items)), span=span)
            case ir.Quantified(kind, variable, lo, hi, body):
                return self._quantified(kind, variable, visit(lo), visit(hi), body, span)
            case ir.Family(kind, variable, lo, hi, body):
                return self._family(kind, variable, visit(lo), visit(hi), body, span)
            case ir.Where(condition):
                return fold.where(visit(condition), span)
            case ir.Union(args):
                return fold.union(map(visit, args), span)
            case ir.Sum(args):
                return fold.total(map(visit, args), span)
            case ir.Product(args):
                return fold.product(map(visit, args), span)
            case ir.Complement(a):
                return fold.complement(visit(a), span)
            case ir.Choose(condition, then, orelse):
                condition = visit(condition)
                if isinstance(condition, ir.Const):
                    return visit(then if condition.value else orelse)
                return ir.Choose(condition, visit(then), visit(orelse), span=span)
            case ir.Blocks(size, body):
                return self._blocks(fold.block_size(visit(size), "blocks"), body, span)
            case ir.Cover(size, body):
                return ir.Cover(fold.block_size(visit(size), "cover"), visit(body), span=span)
            case ir.Top(count, by, of):
                return ir.Top(fold.selection_count(visit(count)), visit(by), visit(of), span=span)
            case ir.Sample(count, of, seed):
                return ir.Sample(fold.selection_count(visit(count)), visit(of), visit(seed), span=span)
        return rebuild(node, visit)

    def _quantified(
        self, kind: str, variable: str, lo: ir.Scalar, hi: ir.Scalar, body: ir.Scalar, span: Span
    ) -> ir.Scalar:
        if not (isinstance(lo, ir.Const) and isinstance(hi, ir.Const)):
            return ir.Quantified(kind, variable, lo, hi, self.visit(body), span=span)
        gather = fold.disjunction if kind == "any" else fold.conjunction
        return gather(self._unrolled(variable, fold.items(lo, hi, span), body), span)

    def _family(
        self, kind: str, variable: str, lo: ir.Scalar, hi: ir.Scalar, body: ir.Pattern, span: Span
    ) -> ir.Pattern:
        if not (isinstance(lo, ir.Const) and isinstance(hi, ir.Const)):
            return ir.Family(kind, variable, lo, hi, self.visit(body), span=span)
        gather = fold.union if kind == "union" else fold.total
        return gather(self._unrolled(variable, fold.items(lo, hi, span), body), span)

    def _unrolled(self, variable: str, items: range, body: ir.Node) -> Iterator[ir.Node]:
        """The body for each value of the variable; the memo is set aside, for it holds nodes of one value only."""
        for item in items:
            outer, self.done = self.done, {}
            self.values[variable] = item
            result = self.visit(body)
            del self.values[variable]
            self.done = outer
            yield result

    def _blocks(self, size: ir.Scalar, body: ir.Pattern, span: Span) -> ir.Blocks:
        outer, self.done = self.done, {}  # in another space the same node may have another value
        if isinstance(size, ir.Const) and self.depth in self.lengths:
            self.lengths[self.depth + 1] = -(-self.lengths[self.depth] // int(size.value))
        self.depth += 1
        body = self.visit(body)
        self.lengths.pop(self.depth, None)
        self.depth -= 1
        self.done = outer
        return ir.Blocks(size, body, span=span)


def bind(program: ir.Program, n: int) -> ir.Program:
    """The program at the length n (keys): every size, count and range in it is a number.

    SpatError if n is not the size of the grid the program is written for, or gives something no value.
    """
    bound: ir.Program = specialise(program, {"n": n})
    for grid in bound.grids:
        extents = [extent.value for extent in grid.extents]
        if math.prod(extents) != n:
            shape = " * ".join(map(str, extents))
            message = f"n = {n} tokens do not fill the grid of {shape} = {math.prod(extents)}"
            raise fold.fail(Code.GRID_LENGTH, message, grid.span, f"needs n = {math.prod(extents)}")
    return bound


def of_head(program: ir.Program, h: int) -> ir.Program:
    """The program of one head. `sample` still draws by h, which it does not name."""
    return specialise(program, {"h": h})
