"""Whether the integers of a program stay within 64 bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from patternc import ir
from patternc.analysis.arrays import NUMPY
from patternc.analysis.enclosures import INT64, Boxes, Reals, Truths, interval
from patternc.analysis.evaluate import Evaluation, Meaning, Sharing, Unread, shared
from patternc.analysis.numbers import select
from patternc.errors import Code, Diagnostic, SpatError

TENSOR_VALUES = (-(1 << 31), (1 << 31) - 1)
"""What elements of integer tensors are taken to be; their values are not known yet."""
MOST_BOXES = 256
"""Boxes that are looked at before the program is believed: a bound on time."""


def surely_fits(pattern: ir.Pattern, tensors: Sequence[ir.Tensor], n: int) -> bool:
    """Whether one look shows that nothing leaves 64 bits among n positions, nor, if no n is in the pattern, among
    fewer. The pattern is bound to a head, equal parts of it are the same object."""
    whole = Bare(_elements(tensors)).first(pattern, 0, n - 1, 0, n - 1)
    return whole is None and most(pattern, {}) <= INT64[1]


def check_overflow(pattern: ir.Pattern, tensors: Sequence[ir.Tensor], n: int, sharing: Sharing | None = None) -> None:
    """Raises SpatError for an operation whose result leaves 64 bits in some cell in which it counts (no guard hides
    it), and for sums and products of patterns whose multiplicities may. The pattern is bound to a length and a head;
    `sharing` is where its equal parts became the same object, if they did.
    """
    pattern = shared(pattern, sharing)
    if most(pattern, {}) > INT64[1]:
        message = "the multiplicities of this pattern do not fit into 64 bits"
        raise SpatError(Diagnostic(Code.INTEGER_OVERFLOW, message, pattern.span, "counts its keys too often"))
    found = overflowing(pattern, _elements(tensors), n)
    if found is not None:
        node, q, k = found
        note = f"at n = {n}, query {q} and key {k}"
        message = "the result of this operation does not fit into 64 bits"
        raise SpatError(Diagnostic(Code.INTEGER_OVERFLOW, message, node.span, "too large here", notes=(note,)))


def _elements(tensors: Sequence[ir.Tensor]) -> dict[str, str]:
    return {t.name: t.element for t in tensors}


def most(node: ir.Pattern, known: dict[int, int]) -> int:
    """A bound on the multiplicities of a pattern."""
    if id(node) not in known:
        known[id(node)] = _most(node, known)
    return known[id(node)]


def _most(node: ir.Pattern, known: dict[int, int]) -> int:
    match node:
        case ir.Sum(args):
            return sum(most(a, known) for a in args)
        case ir.Product(args):
            return math.prod(most(a, known) for a in args)
        case ir.Union(args):
            return max((most(a, known) for a in args), default=0)
        case ir.Blocks(_, body):
            return most(body, known)
    return 1


def overflowing(pattern: ir.Pattern, elements: dict[str, str], n: int) -> tuple[ir.Scalar, int, int] | None:
    """An operation that overflows, with the token positions of the query and the key."""
    meaning = Bare(elements)
    stack = [(0, n - 1, 0, n - 1)]
    for _ in range(MOST_BOXES):
        if not stack:
            return None
        q0, q1, k0, k1 = stack.pop()
        found = meaning.first(pattern, q0, q1, k0, k1)
        if found is not None and (q0, k0) == (q1, k1):
            return found, q0, k0
        if found is not None:
            q, k = (q0 + q1) // 2, (k0 + k1) // 2
            rows = [(q0, q), (q + 1, q1)] if q0 < q1 else [(q0, q1)]
            stack += [(*row, *column) for row in rows for column in ([(k0, k), (k + 1, k1)] if k0 < k1 else [(k0, k1)])]
    return None


class Bare(Meaning):
    """A pattern's scalars without tensors: their elements are anything that their type allows."""

    def __init__(self, elements: dict[str, str]) -> None:
        self.tables, self.xp = {name: Unread(element) for name, element in elements.items()}, NUMPY

    def first(self, pattern: ir.Pattern, q0: int, q1: int, k0: int, k1: int) -> ir.Scalar | None:
        """The first operation that may overflow in a box of cells."""
        q, k = (interval(NUMPY, NUMPY.full((1,), a), NUMPY.full((1,), b), a, b) for a, b in ((q0, q1), (k0, k1)))
        watch = Watch(self, (), q, k)
        watch.visit(pattern)
        return watch.overflow


class Watch(Evaluation):
    """Evaluates the scalars of a pattern over one box, skips what is guarded in all of it, and notes an overflow."""

    overflow: ir.Scalar | None = None

    def visit(self, node: ir.Pattern) -> None:
        if id(node) in self.known:
            return
        self.known[id(node)] = None
        match node:
            case ir.Where(condition):
                self.scalar(condition)
            case ir.Blocks(ir.Const(int() as size), body):
                deeper = Watch(self.meaning, (*self.space, size), self.q // size, self.k // size)
                deeper.visit(body)
                self.overflow = self.overflow or deeper.overflow
            case ir.Union(args) | ir.Sum(args) | ir.Product(args):
                for arg in args:
                    self.visit(arg)
            case ir.Complement(a) | ir.Support(a) | ir.Cover(_, a) | ir.Sample(_, a, _):
                self.visit(a)
            case ir.Top(_, by, of):
                self.visit(of)
                self.scalar(by)

    def _scalar(self, node: ir.Scalar) -> Any:
        match node:
            case ir.Read(tensor, indices):
                for index in indices:
                    self.scalar(index)
                table = self.meaning.tables[tensor]
                assert isinstance(table, Unread)
                return self._element(table.element)
            case ir.If(condition, then, orelse):
                return self._branch(self.scalar(condition), then, orelse)
        value = super()._scalar(node)
        if isinstance(node, ir.Binary | ir.Unary) and isinstance(value, Boxes) and value.unbounded:
            self.overflow = self.overflow or node
        return value

    def _element(self, element: str) -> Any:
        if element == "bool":
            return Truths(NUMPY, True, True, True)
        nan = float("nan")
        return Reals(NUMPY, nan, nan, True) if element == "float" else interval(NUMPY, *TENSOR_VALUES * 2, True)

    def _branch(self, condition: Any, then: ir.Scalar, orelse: ir.Scalar) -> Any:
        if settled(condition, True):
            return self.scalar(then)
        if settled(condition, False):
            return self.scalar(orelse)
        return select(condition, self.scalar(then), self.scalar(orelse))

    def _settled(self, result: Any, value: bool) -> bool:
        return settled(result, value)


def settled(condition: Any, value: bool) -> bool:
    """Whether a condition has the value in all of the box, wherever it is valid."""
    if isinstance(condition, Truths):
        return not bool(condition.false if value else condition.true)
    return (condition if isinstance(condition, bool) else condition.value) is value
