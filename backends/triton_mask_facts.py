"""What is known of the numbers and conditions of a pattern before its mask is printed: their types and ranges, where
they surely have a value, and whether they differ from query to query and from key to key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from patternc import ir

INT32 = (-(1 << 31), (1 << 31) - 1)
_FAR = 1 << 100
"""Stands for "any number": beyond all types."""
_MOST_BITS = 64


class UnsupportedPatternError(ValueError):
    """A pattern for which no mask can be printed; the message is a reason for `Backend.supports`."""


@dataclass(frozen=True, slots=True)
class Fact:
    """`kind` is `int`, `real` or `truth`; integers lie in lo … hi where they have a value and their tensors hold 32
    bits; `sure`: there is a value in every cell; `axes` are the letters of "qk" along which it may differ."""

    kind: str
    lo: int = 0
    hi: int = 0
    sure: bool = True
    axes: frozenset[str] = frozenset()

    @property
    def narrow(self) -> bool:
        """Whether 32 bits hold it."""
        return self.kind != "int" or (INT32[0] <= self.lo and self.hi <= INT32[1])


@dataclass(frozen=True, slots=True)
class Space:
    """An index space: `sizes` are those of the blocks that lead into it, `lengths` its number of keys and those of
    all spaces around it, `most` bounds on these."""

    sizes: tuple[ir.Scalar, ...] = ()
    lengths: tuple[ir.Scalar, ...] = (ir.Var("n"),)
    most: tuple[int, ...] = (1,)

    def inside(self, size: ir.Scalar) -> Space:
        """The space of blocks of this one."""
        least = int(size.value) if isinstance(size, ir.Const) else 1
        length = ir.Unary("-", ir.Binary("//", ir.Unary("-", self.lengths[-1]), size))
        return Space((*self.sizes, size), (*self.lengths, length), (*self.most, -(-self.most[-1] // least)))


@dataclass(eq=False)
class Facts:
    """The facts of scalars in their spaces. `numbers` are the values of parameters, `tensors` the run-time tensors."""

    tensors: Mapping[str, ir.Tensor]
    numbers: Mapping[str, int]
    bound: dict[str, Fact] = field(default_factory=dict)
    """The ranges of quantified variables."""
    known: dict[tuple[int, Space], Fact] = field(default_factory=dict)
    narrow: bool = True
    """Whether 32 bits hold every integer found so far."""
    _alive: list[ir.Scalar] = field(default_factory=list)

    def of(self, node: ir.Scalar, space: Space) -> Fact:
        """Raises UnsupportedPatternError for what has no exact counterpart in a kernel."""
        key = (id(node), space)
        if key not in self.known:
            fact = self._of(node, space)
            self.known[key] = fact
            self.narrow = self.narrow and fact.narrow
            self._alive.append(node)
        return self.known[key]

    def _of(self, node: ir.Scalar, space: Space) -> Fact:
        match node:
            case ir.Const(bool()):
                return Fact("truth")
            case ir.Const(float()):
                return Fact("real")
            case ir.Const(value):
                return Fact("int", int(value), int(value))
            case ir.Param(name) if name in self.numbers:
                return Fact("int", self.numbers[name], self.numbers[name])
            case ir.Var():
                return self._variable(node, space)
            case ir.Unary(op, a):
                return _unary(op, self.of(a, space))
            case ir.Binary(op, a, b):
                return _binary(op, self.of(a, space), self.of(b, space))
            case ir.Compare(_, a, b):
                return self._together("truth", (a, b), space)
            case ir.And(args) | ir.Or(args):
                return self._together("truth", args, space)
            case ir.If(condition, then, orelse):
                return self._chosen((then, orelse), self.of(condition, space), space)
            case ir.Pick(index, items):
                at = self.of(index, space)
                inside = at.lo >= 0 and at.hi < len(items)
                return self._chosen(items, Fact("int", sure=at.sure and inside, axes=at.axes), space)
            case ir.Read(tensor, indices):
                return self._read(self.tensors[tensor], indices, space)
            case ir.Quantified(_, variable, lo, hi, body):
                self.bind(variable, lo, hi, space)
                return self._together("truth", (lo, hi, body), space)
        raise UnsupportedPatternError("a parameter has no value in a kernel: the pattern is not closed")

    def bind(self, variable: str, lo: ir.Scalar, hi: ir.Scalar, space: Space) -> None:
        """Notes the range of a quantified variable."""
        first, end = self.of(lo, space), self.of(hi, space)
        self.bound[variable] = Fact("int", first.lo, max(first.lo, end.hi - 1))

    def _variable(self, node: ir.Var, space: Space) -> Fact:
        if node.name in self.bound:
            return self.bound[node.name]
        match node.name:
            case "q" | "k" as name:
                return Fact("int", 0, space.most[-1] - 1, axes=frozenset(name))
            case "n":
                return Fact("int", 1, space.most[node.depth])
            case "h":
                return Fact("int", *INT32)
        raise UnsupportedPatternError(f"`{node.name}` has no value in a kernel: the pattern is not closed")

    def _together(self, kind: str, args: tuple[ir.Scalar, ...], space: Space) -> Fact:
        facts = [self.of(a, space) for a in args]
        return Fact(kind, sure=all(f.sure for f in facts), axes=_axes(*facts))

    def _chosen(self, items: tuple[ir.Scalar, ...], by: Fact, space: Space) -> Fact:
        facts = [self.of(item, space) for item in items]
        kinds = {f.kind for f in facts}
        kind = "real" if "real" in kinds else kinds.pop()
        lo, hi = min(f.lo for f in facts), max(f.hi for f in facts)
        return Fact(kind, lo, hi, by.sure and all(f.sure for f in facts), _axes(by, *facts))

    def _read(self, tensor: ir.Tensor, indices: tuple[ir.Scalar, ...], space: Space) -> Fact:
        facts = [self.of(index, space) for index in indices]
        inside = all(self.within(i, dim, space) for i, dim in zip(indices, tensor.dims, strict=True))
        sure = inside and all(f.sure for f in facts)
        kind = {"int": "int", "bool": "truth", "float": "real"}[tensor.element]
        return Fact(kind, *(INT32 if kind == "int" else (0, 0)), sure, _axes(*facts))

    def within(self, index: ir.Scalar, dim: ir.Scalar, space: Space) -> bool:
        """Whether an index surely lies in an axis of a tensor, at every length."""
        if isinstance(index, ir.Var) and index.name in ("q", "k"):
            return dim == space.lengths[-1]
        fact = self.of(index, space)
        return isinstance(dim, ir.Const) and fact.lo >= 0 and fact.hi < dim.value


def _axes(*facts: Fact) -> frozenset[str]:
    return frozenset().union(*(f.axes for f in facts))


def _unary(op: str, a: Fact) -> Fact:
    match op:
        case "-":
            return Fact(a.kind, -a.hi, -a.lo, a.sure, a.axes)
        case "abs":
            least = 0 if a.lo <= 0 <= a.hi else min(abs(a.lo), abs(a.hi))
            return Fact(a.kind, least, max(abs(a.lo), abs(a.hi)), a.sure, a.axes)
        case "not":
            return Fact("truth", sure=a.sure, axes=a.axes)
    if a.kind == "real":
        raise UnsupportedPatternError("log2 of a float is not computed in kernels")
    return Fact("int", 0, max(a.hi, 1).bit_length(), a.sure and a.lo > 0, a.axes)


def _binary(op: str, a: Fact, b: Fact) -> Fact:
    sure, axes = a.sure and b.sure, _axes(a, b)
    if "real" in (a.kind, b.kind):
        if op in ("//", "%", "**"):
            raise UnsupportedPatternError(f"`{op}` of floats is not computed in kernels")
        return Fact("real", sure=sure, axes=axes)
    lo, hi = _RANGES[op](a, b)
    if op in ("//", "%"):
        sure = sure and not b.lo <= 0 <= b.hi
    if op == "**":
        sure = sure and b.lo >= 0
    return Fact("int", max(lo, -_FAR), min(hi, _FAR), sure, axes)


def _corners(function: Callable[[int, int], int], a: Fact, b: Fact) -> tuple[int, int]:
    values = [function(x, y) for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    return min(values), max(values)


def _quotient(a: Fact, b: Fact) -> tuple[int, int]:
    if b.lo > 0 or b.hi < 0:
        return _corners(lambda x, y: x // y, a, b)
    most = max(abs(a.lo), abs(a.hi))
    return -most, most


def _remainder(a: Fact, b: Fact) -> tuple[int, int]:
    """The divisor 1 stands in for 0."""
    hi = max(b.hi - 1, 0)
    return min(b.lo + 1, 0), min(hi, a.hi) if a.lo >= 0 and b.lo > 0 else hi


def _power(a: Fact, b: Fact) -> tuple[int, int]:
    """The exponent 0 stands in for negative ones."""
    most = max(abs(a.lo), abs(a.hi), 1)
    if b.hi > _MOST_BITS and most > 1:
        return -_FAR, _FAR
    reach = most ** max(b.hi, 0) if most > 1 else 1
    return (0 if a.lo >= 0 else -reach), reach


def _xor(a: Fact, b: Fact) -> tuple[int, int]:
    bits = max(x.bit_length() for x in (a.lo, a.hi, b.lo, b.hi))
    return (0 if a.lo >= 0 and b.lo >= 0 else -(1 << bits)), (1 << bits) - 1


_RANGES: dict[str, Callable[[Fact, Fact], tuple[int, int]]] = {
    "+": lambda a, b: (a.lo + b.lo, a.hi + b.hi),
    "-": lambda a, b: (a.lo - b.hi, a.hi - b.lo),
    "*": lambda a, b: _corners(lambda x, y: x * y, a, b),
    "//": _quotient,
    "%": _remainder,
    "**": _power,
    "^": _xor,
    "min": lambda a, b: (min(a.lo, b.lo), min(a.hi, b.hi)),
    "max": lambda a, b: (max(a.lo, b.lo), max(a.hi, b.hi)),
}
