"""Takes the numbers that a kernel can be told at its launch out of a pattern: widths, offsets, positions.

What numbers are compared with or added to becomes a parameter, so that patterns of one structure have one kernel.
Divisors, factors and exponents stay, for dividing by a constant is several times cheaper; and so does 0, which is
structure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from patternc import ir
from patternc.backends.triton_mask_arguments import parameter
from patternc.rewrite import rebuild

MOST_NUMBERS = 64
"""Numbers that one function is given; a pattern with more keeps them all."""
_LIFTED = ("+", "-", "min", "max")


def lifted(pattern: ir.Pattern) -> tuple[ir.Pattern, tuple[int, ...]]:
    """The pattern with parameters number_0, number_1, … of type int, and their values.

    Equal subtrees must be one object (evaluate.shared); then each of them is given its numbers once.
    """
    lift = _Lift()
    result = lift.visit(pattern)
    return (result, tuple(lift.numbers)) if len(lift.numbers) <= MOST_NUMBERS else (pattern, ())


class _Lift:
    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._done: dict[int, ir.Node] = {}

    def visit(self, node: ir.Node) -> Any:
        if isinstance(node, ir.RELATIONS):  # found before the launch, with their numbers
            return node
        if id(node) not in self._done:
            self._done[id(node)] = self._lifted(node)
        return self._done[id(node)]

    def _lifted(self, node: ir.Node) -> ir.Node:
        if isinstance(node, ir.Blocks):  # sizes are divisors, and say where covers and selections lie
            body = self.visit(node.body)
            return node if body is node.body else replace(node, body=body)
        return rebuild(node, self.visit if not self._lifts(node) else self._operand)

    @staticmethod
    def _lifts(node: ir.Node) -> bool:
        return isinstance(node, ir.Compare) or (isinstance(node, ir.Binary) and node.op in _LIFTED)

    def _operand(self, node: ir.Node) -> Any:
        if isinstance(node, ir.Const) and type(node.value) is int and node.value != 0:
            self.numbers.append(node.value)
            return ir.Param(parameter(len(self.numbers) - 1), "int", span=node.span)
        return self.visit(node)
