"""Evaluates the patterns of the IR on typed torch expressions of one cell.

Program text never gets in: names are made here, numbers are printed by `repr`, and the names of run-time tensors, which
are identifiers, stand behind a prefix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

from patternc import ir
from patternc.backends import flex_arithmetic as arithmetic
from patternc.backends import flex_values as values
from patternc.backends.export_cells import table_name
from patternc.backends.flex_values import FALSE, TRUE, Value, number
from patternc.rewrite import walk

Space = tuple[int, ...]
"""The sizes of the blocks that lead into an index space; () is the space of tokens."""
_LONG = 60
"""Characters from which an expression gets a name and a line of its own."""
_CHAIN = 4
"""Lists of up to so many numbers are chosen from by comparisons, longer ones are captured as tensors."""


@dataclass(frozen=True)
class Source:
    """A run-time tensor: its element type, its extents without the batch axis, the bits of its integers."""

    element: str
    dims: tuple[int, ...]
    batched: bool
    bits: int


@dataclass(frozen=True, eq=False)
class Relation:
    """A rounded or selected set of cells, which a mask_mod reads from a table of bools: (B, H, rows, columns), without
    the axes on which it does not depend. A row stands for `size` queries of its space, from position first · size on,
    and a column for `size` keys."""

    node: ir.Pattern
    n: int
    """Positions of its space."""
    n_q: int
    """Queries of its space."""
    size: int
    by_batch: bool
    heads: tuple[int, ...] | None
    """The heads along the axis H; None: there is no such axis."""
    head: int
    """If there is none, any head that uses it."""

    @property
    def first(self) -> int:
        return (self.n - self.n_q) // self.size

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        columns = -(-self.n // self.size)
        return columns - self.first, columns


@dataclass(eq=False)
class Function:
    """One function of a cell (b, h, q_idx, kv_idx), as it grows."""

    n: int
    n_q: int
    sources: Mapping[str, Source]
    lines: list[str] = field(default_factory=list)
    lists: dict[str, tuple[int | float, ...]] = field(default_factory=dict)
    relations: dict[str, Relation] = field(default_factory=dict)
    tensors: set[str] = field(default_factory=set)
    names: int = 0

    def named(self, value: Value) -> Value:
        """The value under a name of its own."""
        if value.literal or value.text.isidentifier():
            return value
        name = f"x_{self.names}"
        self.names += 1
        self.lines.append(f"{name} = {value.text}")
        return replace(value, text=name, binds=values.ATOM)

    def short(self, value: Value) -> Value:
        """The value, under a name if it is long; its condition of validity too."""
        if value.ok is not None and len(value.ok.text) > _LONG:
            value = replace(value, ok=self.named(value.ok))
        return self.named(value) if len(value.text) > _LONG else value

    def chosen(self, index: Value, items: tuple[int | float, ...]) -> Value:
        """One of several numbers or truth values of one type; the index is in range."""
        if index.literal:
            return number(items[index.lo])
        if len(items) <= _CHAIN:
            parts = [number(item) for item in items]
            result = parts[-1]
            for i in reversed(range(len(items) - 1)):
                result = arithmetic.choice(values.comparison("==", index, number(i)), parts[i], result)
            return result
        name = next((key for key, known in self.lists.items() if _same(known, items)), f"list_{len(self.lists)}")
        self.lists[name] = items
        text = f"{name}[{index.text}]"
        if isinstance(items[0], int) and not isinstance(items[0], bool):
            lo, hi = int(min(items)), int(max(items))
            return values.integer(text, lo, hi, bits=32 if values.fits32(lo, hi) else 64)
        return Value(text, type(items[0]).__name__)


def _same(a: tuple[int | float, ...], b: tuple[float, ...]) -> bool:
    return a == b and [type(x) for x in a] == [type(x) for x in b]


def either_pattern(c: Value, a: Value, b: Value) -> Value:
    """`a` where the condition holds, else `b`, of multiplicities."""
    if "int" in (a.kind, b.kind):
        a, b = _counted(a), _counted(b)
    return arithmetic.choice(c, a, b)


def _counted(m: Value) -> Value:
    """A multiplicity as an integer."""
    if m.kind == "int":
        return m
    return number(int(m.lo)) if m.literal else values.integer(f"{m.within(values.ATOM)}.to(torch.int32)", 0, 1)


@dataclass(frozen=True, eq=False)
class Cell:
    """One index space of a function."""

    at: Function
    heads: tuple[int, ...]
    h: Value
    uses: Counter[int]
    space: Space
    n: int
    n_q: int
    q: Value
    k: Value
    known: dict[tuple[int, Space], Value] = field(default_factory=dict)
    inner: dict[Space, Cell] = field(default_factory=dict)

    def pattern(self, node: ir.Pattern) -> Value:
        """M: a bool of a set, an integer of a bag."""
        key = (id(node), self.space)
        if key not in self.known:
            value = self.at.short(self._pattern(node))
            self.known[key] = self.at.named(value) if self.uses[id(node)] > 1 else value
        return self.known[key]

    def scalar(self, node: ir.Scalar) -> Value:
        key = (id(node), self.space)
        if key not in self.known:
            value = self.at.short(self._scalar(node))
            self.known[key] = self.at.named(value) if self.uses[id(node)] > 1 else value
        return self.known[key]

    # -------------------------------------------------------------- patterns

    def _pattern(self, node: ir.Pattern) -> Value:
        match node:
            case ir.Where(condition):
                return values.holds(self.scalar(condition))
            case ir.Union(args):
                return self._folded(values.either, FALSE, [self.pattern(a) for a in args])
            case ir.Sum(args):
                return self._folded(_added, number(0), [_counted(self.pattern(a)) for a in args])
            case ir.Product(args):
                return self._product([self.pattern(a) for a in args])
            case ir.Complement(a):
                return values.opposite(self.pattern(a))
            case ir.Support(a):
                m = self.pattern(a)
                return m if m.kind == "bool" else values.comparison(">", m, number(0))
            case ir.Choose(condition, then, orelse):
                return either_pattern(values.holds(self.scalar(condition)), self.pattern(then), self.pattern(orelse))
            case ir.Blocks(ir.Const(int() as size), body):
                return self._inside(size).pattern(body)
            case ir.Cover() | ir.Top() | ir.Sample():
                return self._member(node)
        raise AssertionError(f"the pattern is not bound: {type(node).__name__}")

    def _folded(self, join: values.Join, nothing: Value, args: Sequence[Value]) -> Value:
        return reduce(lambda a, b: self.at.short(join(a, b)), args, nothing)

    def _product(self, args: Sequence[Value]) -> Value:
        sets = self._folded(values.both, TRUE, [a for a in args if a.kind == "bool"])
        bags = [a for a in args if a.kind == "int"]
        if not bags:
            return sets
        return either_pattern(sets, self._folded(_multiplied, number(1), bags), number(0))

    def _inside(self, size: int) -> Cell:
        space = (*self.space, size)
        if space not in self.inner:
            q, k = (self.at.named(arithmetic.binary("//", x, number(size))) for x in (self.q, self.k))
            n, first = -(-self.n // size), (self.n - self.n_q) // size
            self.inner[space] = replace(self, space=space, n=n, n_q=n - first, q=q, k=k)
        return self.inner[space]

    def _member(self, node: ir.Pattern) -> Value:
        nodes = list(walk(node))
        reads = {inner.tensor for inner in nodes if isinstance(inner, ir.Read)}
        by_head = ir.Var("h") in nodes or any(isinstance(inner, ir.Sample) for inner in nodes)
        heads = self.heads if by_head and len(self.heads) > 1 else None
        by_batch = any(self.at.sources[name].batched for name in reads)
        size = int(node.size.value) if isinstance(node, ir.Cover) and isinstance(node.size, ir.Const) else 1
        relation = Relation(node, self.n, self.n_q, min(size, self.n), by_batch, heads, self.heads[0])
        name = f"set_{len(self.at.relations)}"
        self.at.relations[name] = relation
        row = arithmetic.binary("//", self.q, number(relation.size))
        row = arithmetic.binary("-", row, number(relation.first))
        column = arithmetic.binary("//", self.k, number(relation.size))
        places = [*(["b"] if by_batch else []), *(["h"] if heads else []), row.text, column.text]
        return Value(f"{name}[{', '.join(places)}]", "bool")

    # -------------------------------------------------------------- scalars

    def _scalar(self, node: ir.Scalar) -> Value:
        match node:
            case ir.Const(value):
                return number(value)
            case ir.Var(name):
                return self._variable(name)
            case ir.Unary(op, a):
                return _UNARY[op](self.scalar(a))
            case ir.Binary("min" | "max" as op, a, b):
                return arithmetic.extreme(op, self.scalar(a), self.scalar(b))
            case ir.Binary("**", a, b):
                return arithmetic.power(self.scalar(a), self.scalar(b))
            case ir.Binary("//" | "%" as op, a, b):
                return arithmetic.division(op, self.scalar(a), self.scalar(b))
            case ir.Binary(op, a, b):
                return arithmetic.binary(op, self.scalar(a), self.scalar(b))
            case ir.Compare(op, a, b):
                return values.comparison(op, self.scalar(a), self.scalar(b))
            case ir.And(args):
                return self._folded(values.conjunction, TRUE, [self.scalar(a) for a in args])
            case ir.Or(args):
                return self._folded(values.disjunction, FALSE, [self.scalar(a) for a in args])
            case ir.If(condition, then, orelse):
                return arithmetic.choice(self.scalar(condition), self.scalar(then), self.scalar(orelse))
            case ir.Pick(index, items):
                return self._pick(self.scalar(index), [self.scalar(item) for item in items])
            case ir.Read(tensor, indices):
                return self._read(tensor, [self.scalar(index) for index in indices])
        raise AssertionError(f"the scalar is not bound: {type(node).__name__}")

    def _variable(self, name: str) -> Value:
        assert name in ("q", "k", "h"), f"{name} has no value in a bound program"
        return {"q": self.q, "k": self.k, "h": self.h}[name]

    def _pick(self, index: Value, items: list[Value]) -> Value:
        place, inside = arithmetic.inside(index, len(items))
        ok = values.both(values.valid(index), inside)
        if all(item.literal and item.ok is None for item in items) and len({item.kind for item in items}) == 1:
            return values.under(self.at.chosen(place, tuple(values.literal(item) for item in items)), ok)
        result = items[-1]
        place = self.at.named(place)
        for i in reversed(range(len(items) - 1)):
            here = values.comparison("==", place, number(i))
            result = self.at.short(arithmetic.choice(here, items[i], result))
        return values.under(result, values.both(ok, values.valid(result)))

    def _read(self, tensor: str, indices: list[Value]) -> Value:
        source = self.at.sources[tensor]
        if 0 in source.dims:
            return replace(number({"int": 0, "float": 0.0, "bool": False}[source.element]), ok=FALSE)
        self.at.tensors.add(tensor)
        ok, places = TRUE, ["b"] if source.batched else []
        for index, extent in zip(indices, source.dims, strict=True):
            place, inside = arithmetic.inside(index, extent)
            ok = values.both(ok, values.both(values.valid(index), inside))
            places.append(place.text)
        text = f"{table_name(tensor)}[{', '.join(places)}]" if places else table_name(tensor)
        if source.element != "int":
            return values.under(Value(text, source.element), ok)
        lo, hi = values.INT32 if source.bits == 32 else values.INT64
        return values.under(values.integer(text, lo, hi, bits=source.bits), ok)


_UNARY = {"-": arithmetic.negative, "abs": arithmetic.absolute, "log2": arithmetic.ceil_log2, "not": values.negation}


def _added(a: Value, b: Value) -> Value:
    return arithmetic.binary("+", a, b)


def _multiplied(a: Value, b: Value) -> Value:
    return arithmetic.binary("*", a, b)
