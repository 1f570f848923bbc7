"""The meaning of a pattern, as a function of numbers: of cells or of boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from patternc import ir
from patternc.analysis.boxes import bounds
from patternc.analysis.enclosures import anything, interval
from patternc.analysis.lazy import LazyCover, LazySample, LazyTop, Sight
from patternc.analysis.numbers import Cells, apply, indicator, member, minimum, pick, read, select
from patternc.analysis.relation import cover_relation, sample_relation, top_relation
from patternc.analysis.sides import by_side
from patternc.analysis.sieve import Apart
from patternc.analysis.tables import Table
from patternc.analysis.tiles import Counter, Multiplicity
from patternc.nodes import parts
from patternc.rewrite import rebuild, walk

Number = Any
Space = tuple[int, ...]
"""The sizes of the blocks that lead into an index space; () is the space of tokens."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A run-time tensor that is not there; `element` is `int`, `float` or `bool`."""

    element: str


class Meaning:
    """The multiplicity M(q, k) of a pattern that is bound to a length and a head (no variable but q and k is left).

    `tables` are the run-time tensors of one batch row by name; queries below n - n_q are not asked for. Making it
    computes the pattern's covers and selections; `xp` is the array namespace for them. If `lazy`, covers and samples
    are computed where cells are asked for, which suits few cells of long axes (NumPy only). Where a
    table is `Unread` only boxes may be asked for. `beside` is a meaning of the same head, length and batch row whose
    relations this one takes and adds to, where their subtrees are the same objects; `sharing` is where they became so.
    """

    def __init__(
        self,
        pattern: ir.Pattern,
        *,
        n: int,
        n_q: int,
        h: int,
        tables: Mapping[str, Table | Unread],
        xp: Any,
        counter: Counter | None = None,
        lazy: bool = False,
        beside: Meaning | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self.pattern = shared(pattern, sharing)
        self.exact = not any(isinstance(table, Unread) for table in tables.values())
        """Whether cells may be asked for."""
        self.lazy = lazy or not self.exact
        self.h, self.tables, self.xp, self.counter = h, tables, xp, counter or Counter()
        self.relations: dict[tuple[int, Space], Any] = beside.relations if beside else {}
        self._prepared: dict[tuple[int, Space], int] = beside._prepared if beside else {}
        self._prepare(self.pattern, (), n, n - n_q)

    def __call__(self, q: Number, k: Number) -> Number:
        return Evaluation(self, (), q, k).multiplicity(self.pattern)

    @property
    def identity(self) -> object:
        """Equal for meanings at one length that have the same pattern and tables, and the same relations but for those
        that hold no cell: these are one function."""
        held = ((key, id(relation)) for key, relation in self.relations.items() if not relation.empty)
        return id(self.pattern), frozenset(held), tuple(map(id, self.tables.values()))

    def _prepare(self, node: ir.Pattern, space: Space, n: int, first: int) -> None:
        """Makes the relations of a pattern in a space of n positions, innermost first, for queries from `first` on."""
        if self._prepared.get((id(node), space), n) <= first:
            return
        self._prepared[id(node), space] = first
        match node:
            case ir.Blocks(ir.Const(int() as size), body):
                self._prepare(body, (*space, size), -(-n // size), first // size)
            case ir.Cover(ir.Const(int() as size), body):
                self._prepare(body, space, n, first // size * size)
                self._relate(node, space, first, cover_relation, body, self._apart(body, space), size=size, n=n)
            case ir.Top(ir.Const(count), by, of):
                self._prepare(of, space, n, first)
                score = lambda q, k: Evaluation(self, space, q, k).scalar(by)
                self._relate(node, space, first, top_relation, of, score, count=count, n=n)
            case ir.Sample(ir.Const(count), of, ir.Const(seed)):
                self._prepare(of, space, n, first)
                self._relate(node, space, first, sample_relation, of, count=count, seed=seed, h=self.h, n=n)
            case ir.Union(args) | ir.Sum(args) | ir.Product(args):
                for arg in args:
                    self._prepare(arg, space, n, first)
            case ir.Complement(a) | ir.Support(a):
                self._prepare(a, space, n, first)

    def _relate(
        self, node: ir.Pattern, space: Space, first: int, make: Any, body: ir.Pattern, *more: Any, **options: Any
    ) -> None:
        """Makes the relation of a node, unless one that reaches as far down is there."""
        if self.lazy and not (self.exact and isinstance(node, ir.Top)):
            self.relations[id(node), space] = self._lazily(node, space, body, **options)
            return
        known = self.relations.get((id(node), space))
        if known is None or known.first * known.size > first:
            relation = make(self._inside(body, space), *more, first=first, xp=self.xp, counter=self.counter, **options)
            self.relations[id(node), space] = relation

    def _inside(self, pattern: ir.Pattern, space: Space) -> Multiplicity:
        """The multiplicity of a pattern in a space."""
        return lambda q, k: Evaluation(self, space, q, k).multiplicity(pattern)

    def _apart(self, body: ir.Pattern, space: Space) -> Apart | None:
        """A set as an intersection, if some of its conditions hang on one side."""
        found = by_side(body)
        return None if found is None else Apart(*(self._inside(part, space) for part in found))

    def _lazily(self, node: ir.Pattern, space: Space, body: ir.Pattern, n: int, **options: Any) -> Any:
        sight = Sight(self._inside(body, space), n, self.xp)
        match node:
            case ir.Cover():
                return LazyCover(sight, **options)
            case ir.Sample():
                return LazySample(sight, **options)
        return LazyTop(sight)


class Evaluation:
    """One walk over a pattern in one space; shared subtrees are evaluated once."""

    def __init__(self, meaning: Meaning, space: Space, q: Number, k: Number) -> None:
        self.meaning, self.space, self.q, self.k = meaning, space, q, k
        self.known: dict[int, Number] = {}

    def multiplicity(self, node: ir.Pattern) -> Number:
        if id(node) not in self.known:
            self.known[id(node)] = self._multiplicity(node)
        return self.known[id(node)]

    def _multiplicity(self, node: ir.Pattern) -> Number:
        match node:
            case ir.Where(condition):
                return indicator(self.scalar(condition))
            case ir.Union(args):
                return reduce(lambda a, b: apply("max", a, b), map(self.multiplicity, args), 0)
            case ir.Sum(args):
                return reduce(lambda a, b: apply("+", a, b), map(self.multiplicity, args), 0)
            case ir.Product(args):
                return reduce(lambda a, b: apply("*", a, b), map(self.multiplicity, args), 1)
            case ir.Complement(a):
                return apply("-", 1, self.multiplicity(a))
            case ir.Support(a):
                return minimum(self.multiplicity(a), 1)
            case ir.Blocks(ir.Const(int() as size), body):
                q, k = apply("//", self.q, size), apply("//", self.k, size)
                return Evaluation(self.meaning, (*self.space, size), q, k).multiplicity(body)
            case ir.Cover() | ir.Top() | ir.Sample():
                relation = self.meaning.relations[id(node), self.space]
                if relation.empty:
                    return 0
                found = indicator(member(relation, self.q, self.k))
                return found if isinstance(self.q, Cells) and isinstance(self.k, Cells) else self._narrowed(node, found)
        raise AssertionError(f"the pattern is not bound: {node}")

    def _narrowed(self, node: ir.Pattern, found: Number) -> Number:
        """What a relation says of boxes, which it knows as intervals only, with what its pattern says of them."""
        match node:
            case ir.Cover(ir.Const(int() as size), body) if not any(isinstance(x, ir.RELATIONS) for x in walk(body)):
                xp = self.meaning.xp
                first = [apply("*", apply("//", x, size), size) for x in (self.q, self.k)]
                block = [apply("+", x, interval(xp, 0, size - 1, 0, size - 1)) for x in first]
                inside = (Evaluation(self.meaning, self.space, *at) for at in (first, block))
                surely, perhaps = (there.multiplicity(body) for there in inside)
                least, most = apply("max", found, surely), apply("min", found, perhaps)
                return interval(xp, bounds(least)[0], bounds(most)[1], 0, 1)
            case ir.Top(of=of) | ir.Sample(of=of):
                return apply("*", found, self.multiplicity(of))
        return found

    def scalar(self, node: ir.Scalar) -> Number:
        if id(node) not in self.known:
            self.known[id(node)] = self._scalar(node)
        return self.known[id(node)]

    def _scalar(self, node: ir.Scalar) -> Number:
        match node:
            case ir.Const(value):
                return value
            case ir.Var("q"):
                return self.q
            case ir.Var("k"):
                return self.k
            case ir.Unary("-", a):
                return apply("neg", self.scalar(a))
            case ir.Unary(op, a):
                return apply(op, self.scalar(a))
            case ir.Binary(op, a, b) | ir.Compare(op, a, b):
                return apply(op, self.scalar(a), self.scalar(b))
            case ir.And(args):
                return self._guarded("and", args)
            case ir.Or(args):
                return self._guarded("or", args)
            case ir.If(condition, then, orelse):
                return select(self.scalar(condition), self.scalar(then), self.scalar(orelse))
            case ir.Pick(index, items):
                return pick(self.scalar(index), tuple(map(self.scalar, items)))
            case ir.Read(tensor, indices):
                table = self.meaning.tables[tensor]
                if isinstance(table, Unread):
                    return anything(self.meaning.xp, table.element)
                return read(table, *map(self.scalar, indices))
        raise AssertionError(f"the scalar is not bound: {node}")

    def _guarded(self, op: str, args: tuple[ir.Scalar, ...]) -> Number:
        """The arguments from left to right, up to one that settles it."""
        result: Any = op == "and"
        for arg in args:
            if self._settled(result, op == "or"):
                break
            result = apply(op, result, self.scalar(arg))
        return result

    def _settled(self, result: Number, value: bool) -> bool:
        """Whether a condition is known to have the value everywhere."""
        plain = result.value if isinstance(result, Cells) and result.ok is True else result
        return isinstance(plain, bool) and plain is value


def shared(node: ir.Node, sharing: Sharing | None = None) -> Any:
    """The same tree with every two equal subtrees made one object, whose values are then computed once and whose
    enclosures cancel. Trees that were given the same `sharing` are equal only if they are the same object."""
    return (sharing or Sharing()).visit(node)


class Sharing:
    """The objects that stand for all nodes equal to them."""

    def __init__(self) -> None:
        self._visited: dict[int, tuple[ir.Node, ir.Node]] = {}  # keeps the key's node alive
        self._known: dict[tuple[Any, ...], ir.Node] = {}

    def visit(self, node: ir.Node) -> ir.Node:
        if id(node) not in self._visited:
            same = rebuild(node, self.visit)
            self._visited[id(node)] = (node, self._known.setdefault(_key(same), same))
        return self._visited[id(node)][1]


def _key(node: ir.Node) -> tuple[Any, ...]:
    """Equal for nodes of one type with equal values and the same subtrees; Const(1) and Const(True) are not equal."""
    kind = type(node)
    return (kind, *(_part(getattr(node, name)) for name in parts(kind)))


def _part(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(id, value))
    return id(value) if isinstance(value, ir.Node) else (type(value), value)
