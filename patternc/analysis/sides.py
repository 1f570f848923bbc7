"""Which conditions of a set hang on the query alone, and which on the key alone."""

from __future__ import annotations

from collections.abc import Iterator

from patternc import ir
from patternc.rewrite import walk


def by_side(pattern: ir.Pattern) -> tuple[ir.Pattern, ir.Pattern, ir.Pattern] | None:
    """Three sets whose intersection is the pattern, which is a set: the first hangs on q alone, the second on k alone.
    None if all conditions hang on both."""
    parts: dict[frozenset[str], list[ir.Pattern]] = {}
    for part in _factors(pattern):
        parts.setdefault(_names(part), []).append(part)
    queries, keys = (parts.pop(frozenset(name), []) for name in "qk")
    if not queries and not keys:
        return None
    rest = [part for others in parts.values() for part in others]
    return ir.Product(tuple(queries)), ir.Product(tuple(keys)), ir.Product(tuple(rest))


def _factors(pattern: ir.Pattern) -> Iterator[ir.Pattern]:
    """Sets whose intersection is the pattern: a cell in which a guarded condition has no value is in none of them all,
    for the guard fails there, so conditions need not stay together."""
    match pattern:
        case ir.Product(args):
            for arg in args:
                yield from _factors(arg)
        case ir.Where(ir.And(args)):
            yield from (ir.Where(arg) for arg in args)
        case _:
            yield pattern


def _names(pattern: ir.Pattern) -> frozenset[str]:
    """The sides that a set hangs on."""
    if not isinstance(pattern, ir.Where):
        return frozenset("qk")
    return frozenset(node.name for node in walk(pattern) if isinstance(node, ir.Var)) & frozenset("qk")
