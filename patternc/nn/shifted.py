"""A pattern inside each of several sequences that lie one after the other: as one program for all of them.

The program reads where each token's sequence starts, `start: int[n]`. Positions count from there, and pairs of two
sequences are left out. What speaks of distances alone stays as it is, for the start of a sequence changes no distance;
so a window keeps its tiles, and a dilation the layout that it has in a single sequence.
"""

from __future__ import annotations

from typing import Any

from patternc import ir
from patternc.rewrite import children, rebuild, walk

START = "start"


def packed_program(program: ir.Program) -> tuple[ir.Program, str] | None:
    """The program over sequences in a row, and the name of its tensor of starts; None where a sequence's length has a
    say, which the program knows nowhere: in a program that speaks of n, selects or rounds, has a grid, or reads a
    tensor otherwise than at a query's or key's own position."""
    name = START
    while name in {tensor.name for tensor in program.tensors}:
        name += "_"
    if program.grids or not all(_own(node) for node in walk(program.pattern)):
        return None
    if not all(t.batched and t.dims == (ir.Var("n"),) for t in program.tensors):
        return None
    q, k = ir.Var("q"), ir.Var("k")
    starts = [ir.Read(name, (position,)) for position in (q, k)]
    inside: Any = _Shifted(ir.Binary("-", q, starts[0]), ir.Binary("-", k, starts[1])).visit(program.pattern)
    pattern = ir.Product((ir.Where(ir.Compare("==", *starts)), inside))
    tensors = (*program.tensors, ir.Tensor(name, "int", (ir.Var("n"),), batched=False))
    return ir.Program(program.name, pattern, tensors, span=program.span), name


def speaks_of_distances(program: ir.Program) -> bool:
    """Whether the pattern is the same wherever a sequence starts, so that the program over sequences in a row is laid
    out as it is itself."""
    nodes = list(walk(program.pattern))
    return not any(isinstance(node, ir.Blocks) for node in nodes) and all(
        _drift(node.condition) == 0 for node in nodes if isinstance(node, ir.Where)
    )


def _own(node: ir.Node) -> bool:
    """Whether the node knows nothing of the sequence's length, as far as it goes without its subtrees."""
    match node:
        case ir.Cover() | ir.Top() | ir.Sample() | ir.Var("n"):
            return False
        case ir.Read(_, indices):
            return len(indices) == 1 and indices[0] in (ir.Var("q"), ir.Var("k"))
    return True


def _drift(node: ir.Scalar) -> int | None:
    """By how much a number grows when query and key both move one token on; None if by no fixed amount."""
    match node:
        case ir.Var("q" | "k", 0):
            return 1
        case ir.Var("q" | "k"):
            return None
        case ir.Read():
            return 0  # a token takes its element along
        case ir.Unary("-", a):
            return None if (drift := _drift(a)) is None else -drift
        case ir.Binary("+" | "-" as op, a, b):
            x, y = _drift(a), _drift(b)
            return None if x is None or y is None else x + y if op == "+" else x - y
        case ir.Binary("min" | "max", a, b):
            x, y = _drift(a), _drift(b)
            return x if x == y else None
        case ir.Compare(_, a, b):
            x, y = _drift(a), _drift(b)
            return 0 if x is not None and x == y else None
    drifts = {_drift(child) for child in children(node) if isinstance(child, ir.Scalar)}
    return 0 if drifts <= {0} else None


class _Shifted:
    """A pattern whose query and key stand at other positions, which are those of a space of blocks inside Blocks."""

    def __init__(self, q: ir.Scalar, k: ir.Scalar) -> None:
        self._at = {"q": q, "k": k}

    def visit(self, node: ir.Node) -> ir.Node:
        match node:
            case ir.Blocks(size, body):
                return _Shifted(*(ir.Binary("//", at, size) for at in self._at.values())).visit(body)
            case ir.Var("q" | "k" as name):
                return self._at[name]
            case ir.Read():
                return node
        if isinstance(node, ir.Scalar) and _drift(node) == 0:
            return node
        return rebuild(node, self.visit)
