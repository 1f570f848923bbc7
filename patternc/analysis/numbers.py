"""Numbers on which one expression runs twice: cell by cell, and as an enclosure over whole boxes of cells.

An expression of q and k is written once, by the evaluator of the IR or as generated source, from these words:

    x + y   x - y   x * y   x // y   x % y   x ** y   x ^ y   -x   abs(x)          numbers
    x < y   x <= y   x > y   x >= y   x == y   x != y                              conditions of numbers
    c & d   c | d   negate(c)   select(c, x, y)                                    these guard: see below
    minimum(x, y)   maximum(x, y)   log2(x)   pick(index, (x, y, ...))
    read(table, i, j, ...)               one element of a run-time tensor, wrapped once as `Table(xp, array)`
    exists(lo, hi, body)   forall(lo, hi, body)      `body` is a function of one int; the bounds are constants
    member(relation, q, k)               whether a selected or rounded set of cells holds the cell
    indicator(c)                         1 where the condition holds, else 0: the multiplicity of a set builder

Operands are `Cells` (this file), `Boxes` (boxes.py), `constant(5)` and plain Python numbers. Constants fit both kinds;
plain numbers too, but two of them would meet with Python's own rules (`5 // 0` raises), so one is made a `constant`.

`&`, `|` and `select` guard their right sides as the language's `and`, `or` and `if` do: a division by zero, an index
out of range, a negative exponent or the logarithm of a number below 1 makes a value *invalid* and nothing else, no
memory outside a tensor is read, and an invalid right side that the left side hides does no harm. A condition that is
invalid in the end counts as False in `indicator`.

Integers are 64 bits wide and wrap; reals are float64.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, ClassVar

from patternc.analysis.elementwise import (
    Plain,
    alike,
    both,
    ceil_log2,
    choose,
    clip,
    either,
    floor_divide,
    is_real,
    larger,
    opposite,
    remainder,
    smaller,
    wrapped,
)
from patternc.analysis.tables import Table

MOST_ITEMS = 4096
"""The largest range of a quantifier and the longest list."""


def apply(op: str, *args: Any) -> Any:
    """The result of an operator or function by its name in the IR, for operands of any kind."""
    kind: type[Number] = Cells
    for a in args:
        if isinstance(a, Number) and a.rank > kind.rank:
            kind = type(a)
    return kind.compute(op, *args)


def _operators(op: str) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """The method for `self op other`, and the one for `other op self`."""
    return lambda self, other: apply(op, self, other), lambda self, other: apply(op, other, self)


class Number:
    """A number or condition of some kind. As == makes a condition, it has no hash."""

    __slots__ = ()
    rank = 0
    compute: ClassVar[Callable[..., Any]]
    """(operator, arguments) -> result: what the operators do, which each subclass says."""
    __add__, __radd__ = _operators("+")
    __sub__, __rsub__ = _operators("-")
    __mul__, __rmul__ = _operators("*")
    __floordiv__, __rfloordiv__ = _operators("//")
    __mod__, __rmod__ = _operators("%")
    __pow__, __rpow__ = _operators("**")
    __xor__, __rxor__ = _operators("^")
    __and__, __rand__ = _operators("and")
    __or__, __ror__ = _operators("or")
    __lt__, __gt__ = _operators("<")
    __le__, __ge__ = _operators("<=")
    __eq__, __ne__ = _operators("==")[0], _operators("!=")[0]

    def __neg__(self) -> Any:
        return apply("neg", self)

    def __abs__(self) -> Any:
        return apply("abs", self)

    def __bool__(self) -> bool:
        raise TypeError("a condition on many cells has no single truth value")


# ------------------------------------------------------------------ functions beside the operators


def negate(c: Any) -> Any:
    """`not c`."""
    return apply("not", c)


def select(c: Any, a: Any, b: Any) -> Any:
    """`a if c else b`, of numbers or of conditions."""
    return apply("if", c, a, b)


def minimum(a: Any, b: Any) -> Any:
    return apply("min", a, b)


def maximum(a: Any, b: Any) -> Any:
    return apply("max", a, b)


def log2(a: Any) -> Any:
    """The smallest e with 2^e >= a; invalid for a <= 0."""
    return apply("log2", a)


def indicator(c: Any) -> Any:
    """1 where the condition holds, 0 where it does not or is invalid."""
    return apply("indicator", c)


def member(relation: Any, q: Any, k: Any) -> Any:
    """Whether a relation (relation.py) holds of the query and the key of its space."""
    return apply("member", relation, q, k)


def read(table: Table, *indices: Any) -> Any:
    """One element; invalid where an index is out of range."""
    return apply("read", table, *indices)


def pick(index: Any, items: tuple[Any, ...]) -> Any:
    """`items[index]`; invalid where the index is out of range."""
    if isinstance(index, Plain):
        index = constant(index)
    if isinstance(index, Cells) and isinstance(index.value, int):
        inside = index.ok is True and 0 <= index.value < len(items)
        return items[index.value] if inside else INVALID
    if all(type(item) is type(items[0]) and isinstance(item, Plain) for item in items):
        return read(Table(index.xp, index.xp.asarray(items)), index)
    result: Any = INVALID
    for i, item in enumerate(items):
        result = select(index == i, item, result)
    return result


def exists(lo: Any, hi: Any, body: Callable[[int], Any]) -> Any:
    """Whether the condition holds for any lo <= i < hi; raises ValueError for more than 4096 of them."""
    result: Any = constant(False)
    for i in quantified_range(lo, hi):
        result = result | body(i)
    return result


def forall(lo: Any, hi: Any, body: Callable[[int], Any]) -> Any:
    """Whether the condition holds for every lo <= i < hi; raises ValueError for more than 4096 of them."""
    result: Any = constant(True)
    for i in quantified_range(lo, hi):
        result = result & body(i)
    return result


def quantified_range(lo: Any, hi: Any) -> range:
    items = range(as_int(lo), as_int(hi))
    if len(items) > MOST_ITEMS:
        raise ValueError(f"a range has at most {MOST_ITEMS} items, found {len(items)}")
    return items


# ------------------------------------------------------------------ cells


class Cells(Number):
    """The values of an expression in some cells: an array of any shape that broadcasts against the others', for example
    (rows, 1) for q and (1, columns) for k, with a mask `ok` of the cells in which it is valid.

    `value` may also be one Python number or truth value, `ok` may be True or False; with both plain it is a constant.
    """

    __slots__ = ("ok", "value", "xp")

    def __init__(self, value: Any, ok: Any = True, xp: Any = None) -> None:
        self.value, self.ok, self.xp = value, ok, xp

    @classmethod
    def compute(cls, op: str, *args: Any) -> Cells:
        cells = [Cells(a) if isinstance(a, Plain) else a for a in args]
        xp = next((c.xp for c in cells if c.xp is not None), None)
        return _CELL_OPERATIONS[op](xp, *cells)


def constant(value: float | bool, ok: bool = True) -> Cells:
    """A number or truth value that is the same everywhere; fits cells and boxes."""
    return Cells(value, ok)


def as_int(number: Any) -> int:
    """The value of a valid integer constant."""
    value = number.value if isinstance(number, Cells) and number.ok is True else number
    if not isinstance(value, int):
        raise ValueError(f"expected an integer that is the same in every cell, found {value!r}")
    return value


INVALID = constant(False, False)
"""A value of either type, number or condition, that is nowhere valid."""


Operation = Callable[..., Cells]


def _arithmetic(function: Callable[[Any, Any], Any]) -> Operation:
    """An operation on numbers that is valid where both operands are."""

    def run(xp: Any, a: Cells, b: Cells) -> Cells:
        return Cells(wrapped(function(*_numbers(xp, a, b))), both(a.ok, b.ok), xp)

    return run


def _comparison(function: Callable[[Any, Any], Any]) -> Operation:
    return lambda xp, a, b: Cells(function(*alike(xp, a.value, b.value)), both(a.ok, b.ok), xp)


def _numbers(xp: Any, *operands: Cells) -> tuple[Any, Any]:
    """The values of two numbers; that of `INVALID` as an integer, for tensors do not calculate with truth values."""
    x, y = (int(a.value) if isinstance(a.value, bool) else a.value for a in operands)
    return alike(xp, x, y)


def _extreme(function: Callable[[Any, Any, Any], Any]) -> Operation:
    return lambda xp, a, b: Cells(function(xp, *_numbers(xp, a, b)), both(a.ok, b.ok), xp)


def _divide(function: Callable[[Any, Any, Any], Any]) -> Operation:
    """Floor division or remainder; invalid where the divisor is zero."""

    def run(xp: Any, a: Cells, b: Cells) -> Cells:
        x, y = _numbers(xp, a, b)
        ok, zero = both(a.ok, b.ok), y == 0
        if isinstance(zero, bool):
            return INVALID if zero else Cells(wrapped(function(xp, x, y)), ok, xp)
        return Cells(function(xp, x, xp.where(zero, *alike(xp, 1, y))), both(ok, ~zero), xp)

    return run


def _power(xp: Any, a: Cells, b: Cells) -> Cells:
    """a ** b; of integers invalid where b < 0."""
    x, y = _numbers(xp, a, b)
    ok = both(a.ok, b.ok)
    if is_real(xp, x) or is_real(xp, y):
        return _real_power(xp, x, y, ok)
    negative = y < 0
    if isinstance(x, int) and isinstance(y, int):
        return INVALID if negative else Cells(wrapped(pow(x, y, 1 << 64)), ok, xp)
    if isinstance(y, int):
        return INVALID if negative else Cells(x**y, ok, xp)
    return Cells(x ** xp.maximum(y, 0), both(ok, ~negative), xp)


def _real_power(xp: Any, x: Any, y: Any, ok: Any) -> Cells:
    if not (isinstance(x, Plain) and isinstance(y, Plain)):
        return Cells(x**y, ok, xp)
    try:
        value = x**y
    except (OverflowError, ZeroDivisionError):
        return INVALID
    return Cells(value, ok, xp) if isinstance(value, float) else INVALID


def _log2(xp: Any, a: Cells) -> Cells:
    return Cells(ceil_log2(xp, a.value), both(a.ok, a.value > 0), xp)


def _and(xp: Any, a: Cells, b: Cells) -> Cells:
    return Cells(both(a.value, b.value), both(a.ok, either(b.ok, opposite(a.value))), xp)


def _or(xp: Any, a: Cells, b: Cells) -> Cells:
    return Cells(either(a.value, b.value), both(a.ok, either(b.ok, a.value)), xp)


def _if(xp: Any, c: Cells, a: Cells, b: Cells) -> Cells:
    if a.ok is False and b.ok is False:
        return INVALID
    if a.ok is True and b.ok is True:
        ok: Any = True
    else:
        ok = either(both(c.value, a.ok), both(opposite(c.value), b.ok))
    return Cells(choose(xp, c.value, a.value, b.value), both(c.ok, ok), xp)


def _indicator(xp: Any, c: Cells) -> Cells:
    holds = both(c.value, c.ok)
    return Cells(int(holds) if isinstance(holds, bool) else xp.integer(holds), True, xp)


def _read(xp: Any, table: Table, *indices: Cells) -> Cells:
    where: list[Any] = []
    ok: Any = True
    for index, extent in zip(indices, table.array.shape, strict=True):
        if extent == 0:
            return INVALID
        ok = both(ok, both(index.ok, both(index.value >= 0, index.value < extent)))
        at = clip(xp, index.value, 0, extent - 1)
        where.append(int(at) if isinstance(at, Plain) else at)  # True would be taken for a mask
    return Cells(table.at(table.array, tuple(where)), ok, xp)


_CELL_OPERATIONS: dict[str, Operation] = {
    "+": _arithmetic(operator.add),
    "-": _arithmetic(operator.sub),
    "*": _arithmetic(operator.mul),
    "//": _divide(floor_divide),
    "%": _divide(remainder),
    "**": _power,
    "^": _arithmetic(operator.xor),
    "min": _extreme(smaller),
    "max": _extreme(larger),
    "<": _comparison(operator.lt),
    "<=": _comparison(operator.le),
    ">": _comparison(operator.gt),
    ">=": _comparison(operator.ge),
    "==": _comparison(operator.eq),
    "!=": _comparison(operator.ne),
    "neg": lambda xp, a: Cells(wrapped(-a.value), a.ok, xp),
    "abs": lambda xp, a: Cells(wrapped(abs(a.value)), a.ok, xp),
    "log2": _log2,
    "not": lambda xp, a: Cells(opposite(a.value), a.ok, xp),
    "and": _and,
    "or": _or,
    "if": _if,
    "indicator": _indicator,
    "read": _read,
    "member": lambda xp, r, q, k: Cells(r.contains(q.value, k.value), both(q.ok, k.ok), xp),
}
