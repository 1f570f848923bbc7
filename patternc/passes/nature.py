"""What can be told of a condition or pattern from its tree alone: on which sides it depends, whether it is a set,
whether it has a value in every cell."""

from __future__ import annotations

from collections.abc import Mapping

from patternc import ir
from patternc.rewrite import children, walk

Dims = Mapping[str, ir.Tensor]
"""The run-time tensors of a program by name."""

MOST_NODES = 1500
"""Larger patterns are left as they are: what is done to a tree here may take time quadratic in it."""

MOST_CONSTANT = 1 << 48
"""Arithmetic on larger constants and n may leave the 64 bits."""


def size(node: ir.Node, most: int = MOST_NODES) -> int:
    """The number of nodes, counted as often as they occur; `most` + 1 if there are more."""
    count, stack = 0, [node]
    while stack and count <= most:
        stack.extend(children(stack.pop()))
        count += 1
    return count


def sides(node: ir.Node) -> frozenset[str]:
    """`q`, `k`, both or neither: what it depends on. Selections and covers look at whole rows and blocks."""
    found: set[str] = set()
    for x in walk(node):
        match x:
            case ir.Var("q" | "k" as name):
                found.add(name)
            case ir.Top() | ir.Sample() | ir.Cover():
                return frozenset("qk")
    return frozenset(found)


def is_set(pattern: ir.Pattern) -> bool:
    """Whether M ≤ 1 by its form: nothing in it adds."""
    match pattern:
        case ir.Sum() | ir.Family("sum"):
            return False
        case ir.Product(args):
            return all(map(is_set, args))
        case ir.Choose(_, then, orelse):
            return is_set(then) and is_set(orelse)
        case ir.Blocks(_, body) | ir.Family(_, _, _, _, body):
            return is_set(body)
    return True


def is_total(node: ir.Node, tensors: Dims) -> bool:
    """Whether it has a value in every cell at every length, and nothing in it can fail when the length becomes known:
    then no neighbour needs to guard it, and it may be copied, moved and negated."""
    for x in walk(node):
        match x:
            case ir.Const(int() as value) if abs(value) > MOST_CONSTANT:
                return False
            case ir.Pick() | ir.Unary("log2") | ir.Binary("**") | ir.Param() | ir.Unknown() | ir.Quantified():
                return False
            case ir.Binary("//" | "%", _, divisor) if not (isinstance(divisor, ir.Const) and divisor.value):
                return False
            case ir.Binary("*", a, b) if _names_n(a) or _names_n(b):
                return False  # may leave the 64 bits
            case ir.Read(name, indices) if not _within(indices, tensors.get(name)):
                return False
    return True


def _names_n(node: ir.Node) -> bool:
    return any(isinstance(x, ir.Var) and x.name == "n" for x in walk(node))


def _within(indices: tuple[ir.Scalar, ...], tensor: ir.Tensor | None) -> bool:
    """Whether the indices are surely inside the tensor."""
    if tensor is None or len(indices) != len(tensor.dims):
        return False
    return all(_below(index, dim) for index, dim in zip(indices, tensor.dims, strict=True))


def _below(index: ir.Scalar, dim: ir.Scalar) -> bool:
    match index, dim:
        case ir.Var("q" | "k", 0), ir.Var("n", 0):
            return True
        case ir.Const(value), ir.Const(extent):
            return 0 <= value < extent
    return False


def is_integral(node: ir.Scalar, tensors: Dims) -> bool:
    """Whether its value is an integer, so that of `a < b` and `a >= b` exactly one holds."""
    for x in walk(node):
        match x:
            case ir.Const(float()) | ir.Param("float" | "tokens") | ir.Unknown():
                return False
            case ir.Read(name) if name not in tensors or tensors[name].element == "float":
                return False
    return True
