"""The typed intermediate representation, on one page.

A program is a pattern in positions of tokens; its parameters are values, its calls are inlined, its names resolved.
Scalars are computed per cell (query, key). Every `Blocks` opens a deeper index space: at depth d the names q, k and n
mean the query, the key and the number of keys *of that space*, and a scalar may also name the n of an outer space.
Depth 0 counts tokens. What the nodes mean is written beside them; `M` is the multiplicity of a cell.

Numbers are 64-bit integers, float64 or truth values; `inf` (a float) stands only in constants. `//` and `%` floor.
"""

from __future__ import annotations

from patternc.nodes import Spanned, node


@node
class Node(Spanned):
    pass


# ------------------------------------------------------------------ scalars: numbers and conditions


@node
class Const(Node):
    value: int | float | bool


@node
class Var(Node):
    """`q`, `k`, `n` of the space at `depth`; `h`, `heads`, `layer` (depth 0); or the variable of a Quantified, whose
    name is unique in the program and holds a `#`."""

    name: str
    depth: int = 0


@node
class Param(Node):
    """A parameter whose value is not known: programs are checked with these before they have arguments.
    `type` is `int`, `tokens`, `blocks`, `float` or `bool`; a `tokens` value is 0 or more."""

    name: str
    type: str


@node
class Unknown(Node):
    """A number or condition about which nothing is known (it hangs on a list parameter without a value).
    Equal keys mean equal values in one cell."""

    key: str
    type: str


@node
class Unary(Node):
    """`-`, `abs`, `log2` (the ceiling; an error for a ≤ 0) or `not`."""

    op: str
    a: Scalar


@node
class Binary(Node):
    """`+ - * // % ** ^ min max` (`cdiv` and `clamp` are expressed by them); `^` is xor of integers."""

    op: str
    a: Scalar
    b: Scalar


@node
class Compare(Node):
    """`< <= > >= == !=`"""

    op: str
    a: Scalar
    b: Scalar


@node
class And(Node):
    """Left to right; an argument guards those after it."""

    args: tuple[Scalar, ...]


@node
class Or(Node):
    """Left to right; an argument that holds guards those after it."""

    args: tuple[Scalar, ...]


@node
class If(Node):
    condition: Scalar
    then: Scalar
    orelse: Scalar


@node
class Pick(Node):
    """`items[index]`; an index out of range is an error."""

    index: Scalar
    items: tuple[Scalar, ...]


@node
class Read(Node):
    """One element of a run-time tensor; the batch axis is not among the indices."""

    tensor: str
    indices: tuple[Scalar, ...]


@node
class Quantified(Node):
    """`any` or `all` of `body` for lo ≤ variable < hi; the bounds depend on h, heads, layer and n alone."""

    kind: str
    variable: str
    lo: Scalar
    hi: Scalar
    body: Scalar


Scalar = (
    Const | Var | Param | Unknown | Unary | Binary | Compare | And | Or | If | Pick | Read | Quantified
)  # fmt: skip

# ------------------------------------------------------------------ patterns


@node
class Where(Node):
    """M = 1 where the condition holds, else 0. `full` and `empty` are constants here."""

    condition: Scalar


@node
class Union(Node):
    """M = max; of sets."""

    args: tuple[Pattern, ...]


@node
class Sum(Node):
    """M = sum."""

    args: tuple[Pattern, ...]


@node
class Product(Node):
    """M = product: the intersection of sets."""

    args: tuple[Pattern, ...]


@node
class Complement(Node):
    """M = 1 - M; of a set. `A - B` is `A & ~B`."""

    a: Pattern


@node
class Support(Node):
    """M = min(M, 1)."""

    a: Pattern


@node
class Choose(Node):
    """One pattern or the other; the condition depends on h, heads, layer and n alone."""

    condition: Scalar
    then: Pattern
    orelse: Pattern


@node
class Family(Node):
    """`union` or `sum` of `body` for lo ≤ variable < hi, where the bounds depend on n or h; with those known it is a
    Union or a Sum."""

    kind: str
    variable: str
    lo: Scalar
    hi: Scalar
    body: Pattern


@node
class Blocks(Node):
    """M(q, k) = M'(q // size, k // size), where M' is the body's, one space deeper, with n' = ⌈n / size⌉."""

    size: Scalar
    body: Pattern


@node
class Cover(Node):
    """1 where the body, a set, has any cell within the size×size block of (q, k), clipped to the n×n cells."""

    size: Scalar
    body: Pattern


@node
class Top(Node):
    """Of each row of `of`, a set, the `count` keys with the largest `by`, or, if `count` is a float, the shortest
    prefix (by descending score) with that share of the row's softmax mass. Ties go to the smaller key."""

    count: Scalar
    by: Scalar
    of: Pattern


@node
class Sample(Node):
    """Of each row of `of`, a set, the `count` keys with the largest hash of (seed, h, q, k)."""

    count: Scalar
    of: Pattern
    seed: Scalar


RELATIONS = (Cover, Top, Sample)
"""What these keep of a pair hangs on other pairs, so that they are found ahead of what asks for single ones."""

Pattern = (
    Where | Union | Sum | Product | Complement | Support | Choose | Family | Blocks | Cover | Top | Sample
)  # fmt: skip

# ------------------------------------------------------------------ programs


@node
class Tensor(Node):
    """A run-time tensor: element type `int`, `float` or `bool`; dims without the batch axis, of tokens' n (depth 0)."""

    name: str
    element: str
    dims: tuple[Scalar, ...]
    batched: bool


@node
class Grid(Node):
    """A demand that n be the product of the extents."""

    extents: tuple[Scalar, ...]


@node
class Program(Node):
    """One pattern, ready to be compiled; `h`, `heads`, `layer` may still be free in it."""

    name: str
    pattern: Pattern
    tensors: tuple[Tensor, ...] = ()
    grids: tuple[Grid, ...] = ()
