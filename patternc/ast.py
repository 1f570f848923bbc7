"""The syntax tree: what a program says, before names and types have a meaning.

Equality ignores spans, so that `parse(format(x)) == parse(x)` can be asked. Parentheses leave no node: a
parenthesised expression has its inner node, whose span includes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from patternc.source import NOWHERE, Span


@dataclass(frozen=True, slots=True)
class Node:
    span: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


# ------------------------------------------------------------------ expressions


@dataclass(frozen=True, slots=True)
class Name(Node):
    id: str


@dataclass(frozen=True, slots=True)
class Number(Node):
    value: int | float
    text: str = field(default="", compare=False)
    """As written (`1_000`)."""


@dataclass(frozen=True, slots=True)
class Inf(Node):
    pass


@dataclass(frozen=True, slots=True)
class Bool(Node):
    value: bool


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`-`, `~` or `not`."""

    op: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """`+ - * // % ** ^ & | and or`; chains lean to the left, `**` to the right."""

    op: str
    left: Expr
    right: Expr
    op_span: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """A chain `first op operand …`; op is `< <= > >= == != in` or `not in`, of which the last two may take a Range."""

    first: Expr
    rest: tuple[tuple[str, Expr | Range], ...]


@dataclass(frozen=True, slots=True)
class Range(Node):
    """Half-open `lo..hi`; stands after `in` and in match arms only."""

    lo: Expr
    hi: Expr


@dataclass(frozen=True, slots=True)
class IfElse(Node):
    """`then if condition else orelse`"""

    then: Expr
    condition: Expr
    orelse: Expr


@dataclass(frozen=True, slots=True)
class Arm(Node):
    """One arm of a match; `label` is None for `else`."""

    label: Expr | Range | None
    body: Expr


@dataclass(frozen=True, slots=True)
class Match(Node):
    subject: Expr
    arms: tuple[Arm, ...]


@dataclass(frozen=True, slots=True)
class Keyword(Node):
    """`name = value` in a call or after `at`."""

    name: Name
    value: Expr


@dataclass(frozen=True, slots=True)
class Call(Node):
    function: Name | Attribute
    args: tuple[Expr, ...] = ()
    keywords: tuple[Keyword, ...] = ()


@dataclass(frozen=True, slots=True)
class Comprehension(Node):
    """`function(element for targets in iterable)`; function is any, all, union or sum."""

    function: Name
    element: Expr
    targets: tuple[Name, ...]
    iterable: Expr | Range


@dataclass(frozen=True, slots=True)
class Index(Node):
    base: Expr
    indices: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Attribute(Node):
    """`q.y` (a grid coordinate) or `lf.longformer` (a name of an import)."""

    base: Expr
    name: Name


@dataclass(frozen=True, slots=True)
class Tuple(Node):
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class List(Node):
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class SetBuilder(Node):
    """`{ query -> key : condition }`"""

    query: Name
    key: Name
    condition: Expr


@dataclass(frozen=True, slots=True)
class Blocks(Node):
    size: Expr
    body: Expr


@dataclass(frozen=True, slots=True)
class Cover(Node):
    size: Expr
    body: Expr


Expr = (
    Name | Number | Inf | Bool | Unary | Binary | Compare | IfElse | Match | Call | Comprehension | Index | Attribute
    | Tuple | List | SetBuilder | Blocks | Cover
)  # fmt: skip

# ------------------------------------------------------------------ types


@dataclass(frozen=True, slots=True)
class TypeName(Node):
    """`int float bool tokens blocks`"""

    name: str


@dataclass(frozen=True, slots=True)
class ListType(Node):
    item: Type


@dataclass(frozen=True, slots=True)
class TupleType(Node):
    items: tuple[Type, ...]


@dataclass(frozen=True, slots=True)
class TensorType(Node):
    element: TypeName
    dims: tuple[Expr, ...]


Type = TypeName | ListType | TupleType | TensorType

# ------------------------------------------------------------------ declarations


@dataclass(frozen=True, slots=True)
class Parameter(Node):
    name: Name
    type: Type
    default: Expr | None = None


@dataclass(frozen=True, slots=True)
class Axis(Node):
    """One axis of `over (y: H, x: W)`."""

    name: Name
    extent: Expr


@dataclass(frozen=True, slots=True)
class Binding(Node):
    """`name = value` after where."""

    name: Name
    value: Expr


@dataclass(frozen=True, slots=True)
class Pattern(Node):
    name: Name
    parameters: tuple[Parameter, ...]
    axes: tuple[Axis, ...]
    body: Expr
    where: tuple[Binding, ...] = ()


@dataclass(frozen=True, slots=True)
class Function(Node):
    """`fn f(…) = e`"""

    name: Name
    parameters: tuple[Parameter, ...]
    body: Expr
    where: tuple[Binding, ...] = ()


@dataclass(frozen=True, slots=True)
class Import(Node):
    path: str
    alias: Name | None = None
    path_span: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Property(Node):
    """`causal`, `row <= 4`, `density < 0.5` or `equals(Q)`; op and value are None where there is none,
    and `value` of `equals` is the pattern Q, with op None."""

    name: Name
    op: str | None = None
    value: Expr | None = None


@dataclass(frozen=True, slots=True)
class Check(Node):
    target: Expr
    at: tuple[Keyword, ...]
    properties: tuple[Property, ...]


Item = Import | Pattern | Function | Check


@dataclass(frozen=True, slots=True)
class File(Node):
    items: tuple[Item, ...]
