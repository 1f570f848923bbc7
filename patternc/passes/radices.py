"""The radices of a pattern: the strides in which its congruences become constants.

`E % m` asks only for the residue class of the positions in E, modulo m times what they were divided by. Sizes of blocks
divide too. Grid coordinates are remainders by the widths of the grid, so its rows are found the same way. A cover
looks at whole blocks: what has a period in it has the common multiple of that and the block. A selection chooses from a
set, whose radices are its own; by what it chooses is not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from patternc import ir
from patternc.rewrite import children

MOST_RADIX = 1 << 40


@dataclass(frozen=True, order=True, slots=True)
class Radix:
    """`stride` tokens is a period of a remainder of the query, the key, or of both (`sides` is "q", "k" or "kq")."""

    stride: int
    sides: str


Spaces = tuple[int, ...]
"""Tokens in one position of each index space that leads to a node, 0 where it is not known."""
TOKENS: Spaces = (1,)


def radices(node: ir.Node, spaces: Spaces = TOKENS) -> frozenset[Radix]:
    """All radices over 1 of a node in an index space; those that hang on n are not seen."""
    return frozenset(_of(node, spaces))


def inside(blocks: ir.Blocks, spaces: Spaces) -> Spaces:
    """The spaces of the body."""
    size = blocks.size
    return *spaces, spaces[-1] * int(size.value) if isinstance(size, ir.Const) else 0


def block_sizes(pattern: ir.Pattern) -> frozenset[int]:
    """Tokens in one position of each index space, and in a block of each cover, where they are known and over 1."""
    return frozenset(size for size in _sizes(pattern, 1) if size > 1)


def _sizes(node: ir.Node, tokens: int) -> Iterator[int]:
    match node:
        case ir.Blocks(ir.Const(int() as size), body):
            yield tokens * size
            yield from _sizes(body, tokens * size)
        case ir.Cover(ir.Const(int() as size), body):
            yield tokens * size
            yield from _sizes(body, tokens)
        case ir.Blocks():
            return
        case _:
            for child in children(node):
                yield from _sizes(child, tokens)


def _of(node: ir.Node, spaces: Spaces) -> Iterator[Radix]:
    match node:
        case ir.Blocks(_, body):
            yield from _of(body, inside(node, spaces))
            return
        case ir.Cover(ir.Const(int() as size), body):
            block = spaces[-1] * size
            yield from (Radix(s, r.sides) for r in _of(body, spaces) if block < (s := math.lcm(block, r.stride)))
            return
        case ir.Top() | ir.Sample():
            yield from _of(node.of, spaces)
            return
        case ir.Cover():
            return
        case ir.Binary("%", a, ir.Const(int() as m)) if m > 1:
            stride, sides = _period(a, m, spaces)
            if sides and 1 < stride <= MOST_RADIX:
                yield Radix(stride, "".join(sorted(sides)))
    for child in children(node):
        yield from _of(child, spaces)


def _period(node: ir.Node, m: int, spaces: Spaces) -> tuple[int, frozenset[str]]:
    """A number of tokens by which positions can move without a change of the node modulo m, and the sides that it
    speaks of."""
    match node:
        case ir.Var("q" | "k" as name, depth):
            return m * spaces[depth], frozenset(name)
        case ir.Binary("*", a, ir.Const(int() as c)) | ir.Binary("*", ir.Const(int() as c), a) if c:
            return _period(a, m // math.gcd(m, c), spaces)
        case ir.Binary("//", a, ir.Const(int() as c)) if c > 0:
            return _period(a, m * c, spaces)
        case ir.Binary("%", a, ir.Const(int() as w)) if w > 0:
            return _period(a, m if w % m == 0 else w, spaces)
    stride, sides = 1, frozenset[str]()
    for child in children(node):
        inner, its = _period(child, m, spaces)
        if its:
            stride, sides = min(math.lcm(stride, inner), MOST_RADIX + 1), sides | its
    return stride, sides
