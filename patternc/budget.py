"""How much a program may cost to expand: hostile ones end here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from patternc import fold, ir
from patternc.errors import Code
from patternc.rewrite import children
from patternc.source import Span

V = TypeVar("V")

MAX_DEPTH = 200
"""Deepest nesting of expressions and calls, and of the IR that comes out."""
MAX_SECONDS = 5.0
CALL_LEVELS = 3
"""A call of a pattern or function takes about the recursion of so many nested operators."""


class Budget:
    """Counts what has been expanded, and raises SpatError when it is too much."""

    def __init__(self) -> None:
        self.deadline = time.monotonic() + MAX_SECONDS
        self.nodes = self.nesting = 0
        self.sizes: dict[int, tuple[int, int, ir.Node]] = {}

    def enter(self, span: Span) -> None:
        """One more expression, one level deeper; who enters lowers `nesting` when it leaves."""
        self.nodes += 1
        self.nesting += 1
        if self.nodes > fold.MAX_NODES:
            raise fold.too_large(span)
        if self.nesting > MAX_DEPTH:
            raise fold.fail(Code.TOO_DEEP, f"expressions and calls nest deeper than {MAX_DEPTH} levels", span, "here")
        if self.nodes % 256 == 0 and time.monotonic() > self.deadline:
            raise fold.fail(Code.TOO_SLOW, f"expanding the program takes more than {MAX_SECONDS:g} s", span, "here")

    @contextmanager
    def call(self, span: Span) -> Iterator[None]:
        self.nesting += CALL_LEVELS
        yield
        self.nesting -= CALL_LEVELS

    def measure(self, value: V) -> V:
        """The value itself, if its IR, seen as a tree, is neither too large nor too deep.

        Shared subtrees count each time they occur: others walk the tree.
        """
        if isinstance(value, ir.Node):
            self._measure(value)
        return value

    def _measure(self, root: ir.Node) -> None:
        stack: list[ir.Node] = [root]
        while stack:
            node = stack[-1]
            below = [x for x in children(node) if id(x) not in self.sizes]
            if below:
                stack += below
                continue
            stack.pop()
            parts = [self.sizes[id(x)] for x in children(node)]
            size, depth = 1 + sum(p[0] for p in parts), 1 + max((p[1] for p in parts), default=0)
            if size > fold.MAX_NODES:
                raise fold.too_large(node.span)
            if depth > MAX_DEPTH:
                raise fold.fail(Code.TOO_DEEP, f"the program expands deeper than {MAX_DEPTH} levels", node.span, "here")
            self.sizes[id(node)] = size, depth, node  # the node is kept, so its id stays its own
