"""The meaning of a pattern, one cell at a time, in plain Python.

This serves questions about few cells: a candidate for a warning is refuted, a counterexample is confirmed. It starts
without NumPy, takes parameters and run-time tensors as functions, and gives up instead of working for long.
A cell whose condition has no value (an index out of range, a division by zero) counts as False.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from patternc import ir
from patternc.analysis.hashing import hash_cell

Value = int | float | bool
MAX_STEPS = 400_000
"""Conditions evaluated in one world before it is given up."""
MAX_ITEMS = 10_000
"""Most values of a quantified variable."""


class NoValueError(Exception):
    """A scalar has no value in this cell."""


class GiveUpError(Exception):
    """The world takes more than MAX_STEPS."""


@dataclass(slots=True)
class World:
    """Everything that a program leaves open, given a value."""

    n: int
    heads: int = 1
    h: int = 0
    layer: int = 0
    parameters: Mapping[str, Value] = field(default_factory=dict)
    read: Callable[[str, tuple[int, ...]], Value] = lambda tensor, index: 0
    """The element of a run-time tensor, of one batch row, at an index that is in range."""
    unknown: Callable[[str, str, int, int], Value] = lambda key, type, q, k: 0
    """The value of an `ir.Unknown` in a cell, by its key and type."""
    steps: int = MAX_STEPS
    rows: dict[tuple[object, ...], Any] = field(default_factory=dict)
    """Rows of selections and cells of covers that were computed before."""

    def step(self, count: int = 1) -> None:
        self.steps -= count
        if self.steps < 0:
            raise GiveUpError


@dataclass(frozen=True, slots=True)
class Cell:
    """Query, key and number of keys in each space, the outermost first, and the quantified variables."""

    q: tuple[int, ...]
    k: tuple[int, ...]
    n: tuple[int, ...]
    bound: Mapping[str, int] = field(default_factory=dict)

    def at(self, q: int, k: int) -> Cell:
        """Another cell of the innermost space; its place in outer spaces means nothing."""
        return Cell((*self.q[:-1], q), (*self.k[:-1], k), self.n, self.bound)


Scalar = Callable[[World, Cell], Value]
Pattern = Callable[[World, Cell], int]


class Evaluator:
    """A program, compiled to closures."""

    def __init__(self, program: ir.Program) -> None:
        self._tensors = {t.name: tuple(_scalar(d, {}) for d in t.dims) for t in program.tensors}
        self._pattern = _pattern(program.pattern, self._tensors)

    def multiplicity(self, world: World, q: int, k: int) -> int:
        """M(q, k) of head `world.h`; NoValueError if a number outside all set builders has no value."""
        return self._pattern(world, Cell((q,), (k,), (world.n,)))

    def row(self, world: World, q: int) -> list[int]:
        return [self.multiplicity(world, q, k) for k in range(world.n)]

    @staticmethod
    def number(scalar: ir.Scalar, world: World) -> Value:
        """The value of a number that hangs on no cell and no tensor."""
        return _scalar(scalar, {})(world, Cell((0,), (0,), (world.n,)))

    def matrix(self, world: World) -> list[list[int]]:
        return [self.row(world, q) for q in range(world.n)]


# ------------------------------------------------------------------ scalars

_Tensors = Mapping[str, tuple[Scalar, ...]]
_COMPARE: dict[str, Callable[[Value, Value], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def _divide(a: Value, b: Value) -> Value:
    if b == 0:
        raise NoValueError
    return a if math.isinf(a) and b > 0 else a // b


def _modulo(a: Value, b: Value) -> Value:
    if b == 0 or math.isinf(a) or math.isinf(b):
        raise NoValueError
    return a % b


def _power(a: Value, b: Value) -> Value:
    if b < 0 or (b >= 64 and abs(a) > 1):
        raise NoValueError
    return a**b


def _log2(a: Value) -> Value:
    if a <= 0 or math.isinf(a):
        raise NoValueError
    return (math.ceil(a) - 1).bit_length()


def _xor(a: Value, b: Value) -> Value:
    if not (isinstance(a, int) and isinstance(b, int)):
        raise NoValueError
    return a ^ b


_UNARY: dict[str, Callable[[Value], Value]] = {"-": operator.neg, "abs": abs, "log2": _log2, "not": operator.not_}
_BINARY: dict[str, Callable[[Value, Value], Value]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "//": _divide, "%": _modulo, "**": _power, "^": _xor,
    "min": min, "max": max,
}  # fmt: skip


def _scalar(node: ir.Scalar, tensors: _Tensors) -> Scalar:
    def of(child: ir.Scalar) -> Scalar:
        return _scalar(child, tensors)

    match node:
        case ir.Const(value):
            return lambda w, c: value
        case ir.Var():
            return _variable(node)
        case ir.Param(name):
            return lambda w, c: w.parameters[name]
        case ir.Unknown(key, type):
            return lambda w, c: w.unknown(key, type, c.q[-1], c.k[-1])
        case ir.Unary(op, a):
            f, x = _UNARY[op], of(a)
            return lambda w, c: f(x(w, c))
        case ir.Binary(op, a, b):
            g, x, y = _BINARY[op], of(a), of(b)
            return lambda w, c: g(x(w, c), y(w, c))
        case ir.Compare(op, a, b):
            holds, x, y = _COMPARE[op], of(a), of(b)
            return lambda w, c: holds(x(w, c), y(w, c))
        case ir.And(args):
            parts = tuple(of(a) for a in args)
            return lambda w, c: all(part(w, c) for part in parts)
        case ir.Or(args):
            parts = tuple(of(a) for a in args)
            return lambda w, c: any(part(w, c) for part in parts)
        case ir.If(condition, then, orelse):
            p, x, y = of(condition), of(then), of(orelse)
            return lambda w, c: x(w, c) if p(w, c) else y(w, c)
        case ir.Pick(index, items):
            return _pick(of(index), tuple(of(item) for item in items))
        case ir.Read(tensor, indices):
            return _read(tensor, tensors[tensor], tuple(of(i) for i in indices))
        case ir.Quantified():
            return _quantified(node, tensors)
    raise AssertionError(f"not a scalar: {node!r}")


def _variable(node: ir.Var) -> Scalar:
    depth = node.depth
    match node.name:
        case "q":
            return lambda w, c: c.q[depth]
        case "k":
            return lambda w, c: c.k[depth]
        case "n":
            return lambda w, c: c.n[depth]
        case "h":
            return lambda w, c: w.h
        case "heads":
            return lambda w, c: w.heads
        case "layer":
            return lambda w, c: w.layer
        case name:
            return lambda w, c: c.bound[name]


def _pick(index: Scalar, items: tuple[Scalar, ...]) -> Scalar:
    def pick(w: World, c: Cell) -> Value:
        i = index(w, c)
        if not 0 <= i < len(items):
            raise NoValueError
        return items[int(i)](w, c)

    return pick


def _read(tensor: str, dims: tuple[Scalar, ...], indices: tuple[Scalar, ...]) -> Scalar:
    def read(w: World, c: Cell) -> Value:
        at = tuple(int(i(w, c)) for i in indices)
        if not all(0 <= i < d(w, c) for i, d in zip(at, dims, strict=True)):
            raise NoValueError
        return w.read(tensor, at)

    return read


def _quantified(node: ir.Quantified, tensors: _Tensors) -> Scalar:
    lo, hi, body = (_scalar(x, tensors) for x in (node.lo, node.hi, node.body))
    name, decides = node.variable, node.kind == "any"

    def quantified(w: World, c: Cell) -> Value:
        first, end = int(lo(w, c)), int(hi(w, c))
        if end - first > MAX_ITEMS:
            raise GiveUpError
        w.step(max(0, end - first))
        for i in range(first, end):
            if body(w, Cell(c.q, c.k, c.n, {**c.bound, name: i})) == decides:
                return decides
        return not decides

    return quantified


# ------------------------------------------------------------------ patterns


def _pattern(node: ir.Pattern, tensors: _Tensors) -> Pattern:
    def of(child: ir.Pattern) -> Pattern:
        return _pattern(child, tensors)

    match node:
        case ir.Where(condition):
            return _where(_scalar(condition, tensors))
        case ir.Union(args):
            arms = tuple(of(a) for a in args)
            return lambda w, c: int(any(arm(w, c) for arm in arms))
        case ir.Sum(args):
            arms = tuple(of(a) for a in args)
            return lambda w, c: sum(arm(w, c) for arm in arms)
        case ir.Product(args):
            arms = tuple(of(a) for a in args)
            return _product(arms)
        case ir.Complement(a):
            body = of(a)
            return lambda w, c: 1 - body(w, c)
        case ir.Support(a):
            body = of(a)
            return lambda w, c: min(body(w, c), 1)
        case ir.Choose(condition, then, orelse):
            p, x, y = _scalar(condition, tensors), of(then), of(orelse)
            return lambda w, c: x(w, c) if p(w, c) else y(w, c)
        case ir.Family():
            return _family(node, tensors)
        case ir.Blocks(size, body):
            return _blocks(_scalar(size, tensors), of(body))
        case ir.Cover(size, body):
            return _cover(_scalar(size, tensors), of(body), node)
        case ir.Top(count, by, of=source):
            return _top(_scalar(count, tensors), _scalar(by, tensors), of(source), node)
        case ir.Sample(count, of=source, seed=seed):
            return _sample(_scalar(count, tensors), _scalar(seed, tensors), of(source), node)
    raise AssertionError(f"not a pattern: {node!r}")


def _product(arms: tuple[Pattern, ...]) -> Pattern:
    def product(w: World, c: Cell) -> int:
        result = 1
        for arm in arms:
            if result == 0:
                return 0
            result *= arm(w, c)
        return result

    return product


def _where(condition: Scalar) -> Pattern:
    def where(w: World, c: Cell) -> int:
        w.step()
        try:
            return 1 if condition(w, c) else 0
        except NoValueError:
            return 0

    return where


def _family(node: ir.Family, tensors: _Tensors) -> Pattern:
    lo, hi, body = _scalar(node.lo, tensors), _scalar(node.hi, tensors), _pattern(node.body, tensors)
    name = node.variable

    def family(w: World, c: Cell) -> int:
        items = range(int(lo(w, c)), int(hi(w, c)))
        if len(items) > MAX_ITEMS:
            raise GiveUpError
        arms = (body(w, Cell(c.q, c.k, c.n, {**c.bound, name: i})) for i in items)
        return int(any(arms)) if node.kind == "union" else sum(arms)

    return family


def _positive(size: Scalar, w: World, c: Cell) -> int:
    value = size(w, c)
    if math.isinf(value) or value < 1:
        raise NoValueError
    return int(value)


def _blocks(size: Scalar, body: Pattern) -> Pattern:
    def blocks(w: World, c: Cell) -> int:
        w.step()
        s = _positive(size, w, c)
        return body(w, Cell((*c.q, c.q[-1] // s), (*c.k, c.k[-1] // s), (*c.n, -(-c.n[-1] // s)), c.bound))

    return blocks


def _cover(size: Scalar, body: Pattern, node: ir.Cover) -> Pattern:
    def cover(w: World, c: Cell) -> int:
        s, n = _positive(size, w, c), c.n[-1]
        q, k = c.q[-1] // s * s, c.k[-1] // s * s
        w.step()
        at = (id(node), w.h, *c.bound.values(), q, k)
        if at not in w.rows:
            cells = (c.at(i, j) for i in range(q, min(q + s, n)) for j in range(k, min(k + s, n)))
            w.rows[at] = int(any(body(w, cell) for cell in cells))
        return w.rows[at]

    return cover


def _selection(node: ir.Pattern, choose: Callable[[World, Cell], frozenset[int]]) -> Pattern:
    def selection(w: World, c: Cell) -> int:
        w.step()
        at = (id(node), w.h, *c.bound.values(), c.q[-1])
        if at not in w.rows:
            w.rows[at] = choose(w, c)
        return int(c.k[-1] in w.rows[at])

    return selection


def _candidates(w: World, c: Cell, of: Pattern) -> list[Cell]:
    w.step(c.n[-1])
    row = (c.at(c.q[-1], k) for k in range(c.n[-1]))
    return [cell for cell in row if of(w, cell)]


def _top(count: Scalar, by: Scalar, of: Pattern, node: ir.Top) -> Pattern:
    def choose(w: World, c: Cell) -> frozenset[int]:
        scored = [(by(w, cell), cell.k[-1]) for cell in _candidates(w, c, of)]
        ranked = sorted((s for s in scored if s[0] == s[0]), key=lambda s: (-s[0], s[1]))
        m = count(w, c)
        return frozenset(k for _, k in (_share(ranked, m) if isinstance(m, float) else ranked[: max(0, m)]))

    return _selection(node, choose)


def _share(ranked: list[tuple[Value, int]], share: float) -> list[tuple[Value, int]]:
    """The shortest prefix that has the share of the softmax mass."""
    weights = [1.0 if s == ranked[0][0] else math.exp(s - ranked[0][0]) for s, _ in ranked]
    total, mass = sum(weights), 0.0
    for i, weight in enumerate(weights):
        mass += weight
        if mass >= share * total:
            return ranked[: i + 1]
    return ranked


def _sample(count: Scalar, seed: Scalar, of: Pattern, node: ir.Sample) -> Pattern:
    def choose(w: World, c: Cell) -> frozenset[int]:
        s = int(seed(w, c))
        keys = [cell.k[-1] for cell in _candidates(w, c, of)]
        keys.sort(key=lambda k: (-hash_cell(s, w.h, c.q[-1], k), k))
        return frozenset(keys[: max(0, int(count(w, c)))])

    return _selection(node, choose)
