"""What names mean at a place of a program, and in which order definitions can be judged."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from patternc import ast
from patternc.loader import Module
from patternc.nodes import parts
from patternc.source import Span
from patternc.types import TOKENS, WRONG, Type

T = TypeVar("T", bound=Hashable)

MAX_CYCLES = 100
"""Cycles reported of one file, at most."""


@dataclass(frozen=True, slots=True)
class Read:
    """That a value depends on something which only some places may depend on."""

    role: str
    """`query`, `key`, `tensor`, or the built-in name `h`, `heads`, `layer`, `n`."""
    name: str
    span: Span
    origin: Span | None = None
    """Where the reading itself is written, if `span` only names a binding or calls a function."""

    def through(self, span: Span) -> Read:
        """The same, seen from a name or call that leads there."""
        return Read(self.role, self.name, span, self.origin or self.span)


@dataclass(frozen=True, slots=True)
class Typed:
    """The type of an expression and what its value depends on, each role once."""

    type: Type
    reads: tuple[Read, ...] = ()

    def reading(self, *roles: str) -> Read | None:
        """The first of these roles that the value depends on."""
        return next((read for read in self.reads if read.role in roles), None)

    def through(self, span: Span) -> Typed:
        return Typed(self.type, tuple([read.through(span) for read in self.reads])) if self.reads else self


NOTHING = Typed(WRONG)


def together(*parts: Typed) -> tuple[Read, ...]:
    """What values depend on, taken together."""
    if not any(part.reads for part in parts):
        return ()
    return tuple({read.role: read for part in reversed(parts) for read in reversed(part.reads)}.values())


@dataclass(frozen=True, slots=True)
class Formal:
    """A parameter of a pattern or function."""

    name: str
    type: Type
    required: bool
    node: ast.Parameter

    @property
    def text(self) -> str:
        """Name and type, as declared."""
        return f"{self.name}: {self.node.type.span.text}"


@dataclass(eq=False)
class Callee:
    """A pattern or function as its callers see it. `result` and `grid` are known once its body was judged."""

    node: ast.Pattern | ast.Function
    formals: tuple[Formal, ...]
    result: Typed = NOTHING
    grid: Span | None = None
    """The `over (…)` that the pattern, or one that it calls, stands on."""

    @property
    def name(self) -> ast.Name:
        return self.node.name

    @property
    def is_pattern(self) -> bool:
        return isinstance(self.node, ast.Pattern)


@dataclass(frozen=True, slots=True)
class Entry:
    """A local name: a `parameter`, a `where` name (`binding`), a `variable` of a comprehension, a set builder's
    `query` or `key`."""

    kind: str
    name: ast.Name
    value: Typed = NOTHING


@dataclass(eq=False)
class Owner:
    """The pattern, function or check that an expression belongs to."""

    module: Module
    kind: str
    name: str
    parameters: Mapping[str, ast.Parameter] = field(default_factory=dict)
    axes: Mapping[str, ast.Axis] = field(default_factory=dict)
    bindings: dict[tuple[str, str], Typed] = field(default_factory=dict)
    """The values of `where` names, for each unit of the index space they are read in."""
    used: set[int] = field(default_factory=set)
    """Where the names begin whose declaration was put to use."""
    unknown: set[str] = field(default_factory=set)
    """Names reported as unknown: once is enough."""
    grid: Span | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an expression stands."""

    owner: Owner
    names: Mapping[str, Entry]
    parent: Scope | None = None
    unit: str = TOKENS
    """What positions count here."""
    builder: ast.SetBuilder | None = None
    """The set builder around, which names the query and the key."""
    size: ast.Expr | None = None
    """The block size of the `blocks` around."""

    def find(self, name: str) -> Entry | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        return None

    def within(self, entries: Iterable[Entry], builder: ast.SetBuilder | None = None) -> Scope:
        names = {entry.name.id: entry for entry in entries}
        return Scope(self.owner, names, self, self.unit, builder or self.builder, self.size)

    def counting(self, unit: str, size: ast.Expr | None = None) -> Scope:
        return Scope(self.owner, {}, self, unit, self.builder, size)

    def all_names(self) -> list[str]:
        """The local names, inner ones first."""
        found: dict[str, None] = {}
        scope: Scope | None = self
        while scope is not None:
            found |= dict.fromkeys(scope.names)
            scope = scope.parent
        return list(found)


# ------------------------------------------------------------------ dependencies


def children(node: ast.Node) -> Iterator[ast.Node]:
    """The direct subtrees, in the order of the text."""
    for name in parts(type(node)):
        value = getattr(node, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, ast.Node):
                yield item
            elif isinstance(item, tuple):  # a link of a comparison: operator and operand
                yield item[1]


def references(node: ast.Node) -> Iterator[tuple[ast.Name, bool]]:
    """The free names of an expression, each with whether it is read inside `blocks`."""
    stack: list[tuple[ast.Node, frozenset[str], bool]] = [(node, frozenset(), False)]
    while stack:
        node, bound, deeper = stack.pop()
        match node:
            case ast.Name(name):
                if name not in bound:
                    yield node, deeper
            case ast.SetBuilder(query, key, condition):
                stack.append((condition, bound | {query.id, key.id}, deeper))
            case ast.Comprehension(_, element, targets, iterable):
                stack.append((element, bound | {target.id for target in targets}, deeper))
                stack.append((iterable, bound, deeper))
            case ast.Blocks(size, body):
                stack += [(body, bound, True), (size, bound, deeper)]
            case ast.Keyword(_, value):
                stack.append((value, bound, deeper))
            case ast.Attribute(base, _):
                stack.append((base, bound, deeper))
            case _:
                stack += [(child, bound, deeper) for child in reversed(list(children(node)))]


def in_order(roots: Iterable[T], below: Callable[[T], Iterable[T]]) -> tuple[list[T], list[list[T]]]:
    """All that the roots lead to, what they need first; and the cycles found, one for each place they close at."""
    order: list[T] = []
    done: set[T] = set()
    cycles: dict[T, list[T]] = {}
    for root in roots:
        path: dict[T, Iterator[T]] = {} if root in done else {root: iter(below(root))}
        while path:
            node, rest = next(reversed(path.items()))
            step = next((x for x in rest if x not in done), None)
            if step is None:
                del path[node]
                done.add(node)
                order.append(node)
            elif step not in path:
                path[step] = iter(below(step))
            elif step not in cycles and len(cycles) < MAX_CYCLES:
                nodes = list(path)
                cycles[step] = nodes[nodes.index(step) :]
    return order, list(cycles.values())
