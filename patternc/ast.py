"""The syntax tree: what a program says, before names and types have a meaning.

Equality ignores spans, so that `parse(format(x)) == parse(x)` can be asked. Parentheses leave no node: a
parenthesised expression has its inner node, whose span includes them.
"""

from __future__ import annotations

from dataclasses import field

from patternc.nodes import Spanned, node
from patternc.source import NOWHERE, Span


@node
class Node(Spanned):
    pass


# ------------------------------------------------------------------ expressions


@node
class Name(Node):
    id: str


@node
class Number(Node):
    value: int | float
    text: str = field(default="", compare=False)
    """As written (`1_000`)."""


@node
class Inf(Node):
    pass


@node
class Bool(Node):
    value: bool


@node
class Unary(Node):
    """`-`, `~` or `not`."""

    op: str
    operand: Expr


@node
class Binary(Node):
    """`+ - * // % ** ^ & | and or`; chains lean to the left, `**` to the right."""

    op: str
    left: Expr
    right: Expr
    op_span: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


@node
class Compare(Node):
    """A chain `first op operand …`; op is `< <= > >= == != in` or `not in`, of which the last two may take a Range."""

    first: Expr
    rest: tuple[tuple[str, Expr | Range], ...]


@node
class Range(Node):
    """Half-open `lo..hi`; stands after `in` and in match arms only."""

    lo: Expr
    hi: Expr


@node
class IfElse(Node):
    """`then if condition else orelse`"""

    then: Expr
    condition: Expr
    orelse: Expr


@node
class Arm(Node):
    """One arm of a match; `label` is None for `else`."""

    label: Expr | Range | None
    body: Expr


@node
class Match(Node):
    subject: Expr
    arms: tuple[Arm, ...]


@node
class Keyword(Node):
    """`name = value` in a call or after `at`."""

    name: Name
    value: Expr


@node
class Call(Node):
    function: Name | Attribute
    args: tuple[Expr, ...] = ()
    keywords: tuple[Keyword, ...] = ()


@node
class Comprehension(Node):
    """`function(element for targets in iterable)`; function is any, all, union or sum."""

    function: Name
    element: Expr
    targets: tuple[Name, ...]
    iterable: Expr | Range


@node
class Index(Node):
    base: Expr
    indices: tuple[Expr, ...]


@node
class Attribute(Node):
    """`q.y` (a grid coordinate) or `lf.longformer` (a name of an import)."""

    base: Expr
    name: Name


@node
class Tuple(Node):
    items: tuple[Expr, ...]


@node
class List(Node):
    items: tuple[Expr, ...]


@node
class SetBuilder(Node):
    """`{ query -> key : condition }`"""

    query: Name
    key: Name
    condition: Expr


@node
class Blocks(Node):
    size: Expr
    body: Expr


@node
class Cover(Node):
    size: Expr
    body: Expr


Expr = (
    Name | Number | Inf | Bool | Unary | Binary | Compare | IfElse | Match | Call | Comprehension | Index | Attribute
    | Tuple | List | SetBuilder | Blocks | Cover
)  # fmt: skip

# ------------------------------------------------------------------ types


@node
class TypeName(Node):
    """`int float bool tokens blocks`"""

    name: str


@node
class ListType(Node):
    item: Type


@node
class TupleType(Node):
    items: tuple[Type, ...]


@node
class TensorType(Node):
    element: TypeName
    dims: tuple[Expr, ...]


Type = TypeName | ListType | TupleType | TensorType

# ------------------------------------------------------------------ declarations


@node
class Parameter(Node):
    name: Name
    type: Type
    default: Expr | None = None


@node
class Axis(Node):
    """One axis of `over (y: H, x: W)`."""

    name: Name
    extent: Expr


@node
class Binding(Node):
    """`name = value` after where."""

    name: Name
    value: Expr


@node
class Pattern(Node):
    name: Name
    parameters: tuple[Parameter, ...]
    axes: tuple[Axis, ...]
    body: Expr
    where: tuple[Binding, ...] = ()


@node
class Function(Node):
    """`fn f(…) = e`"""

    name: Name
    parameters: tuple[Parameter, ...]
    body: Expr
    where: tuple[Binding, ...] = ()


@node
class Import(Node):
    path: str
    alias: Name | None = None
    path_span: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


@node
class Property(Node):
    """`causal`, `row <= 4`, `density < 0.5` or `equals(Q)`; op and value are None where there is none,
    and `value` of `equals` is the pattern Q, with op None."""

    name: Name
    op: str | None = None
    value: Expr | None = None


@node
class Check(Node):
    target: Expr
    at: tuple[Keyword, ...]
    properties: tuple[Property, ...]


Item = Import | Pattern | Function | Check


@node
class File(Node):
    items: tuple[Item, ...]
