"""Patterns split into arms that may want different layouts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from patternc import fold, ir
from patternc.arrangement import Arrangement, HeadClass, Term
from patternc.passes.nature import MOST_NODES, Dims, is_set, is_total, sides, size
from patternc.passes.radices import TOKENS, Radix, Spaces, inside, radices
from patternc.rewrite import walk
from patternc.source import Span

MOST_ARMS = 8
"""What has more arms is gathered to so many: their assignment to layouts is enumerated."""
MOST_ALTERNATIVES = 64
"""Products are not distributed beyond so many."""


@dataclass(frozen=True, slots=True)
class Listable:
    """A condition on one side that is known at run time only, for each position."""

    tensors: frozenset[str]
    side: str


Signature = frozenset[Radix | Listable]
"""What may ask for a layout of its own. Parts of equal signature stay together."""


def terms(arrangement: Arrangement) -> Arrangement:
    """Splits the pattern of each head class into arms, at most MOST_ARMS, one term each.

    Precondition: every class has one term, its pattern, in consecutive tokens. The arms of a bag add up to it. The arms
    of a set are alternatives: their union is the pattern, and `layout` makes those disjoint that it keeps apart.
    """
    tensors = {tensor.name: tensor for tensor in arrangement.program.tensors}
    classes = tuple(replace(c, terms=_split(c, tensors)) for c in arrangement.classes)
    same = all(new.terms is old.terms for new, old in zip(classes, arrangement.classes, strict=True))
    return arrangement if same else replace(arrangement, classes=classes)


def _split(c: HeadClass, tensors: Dims) -> tuple[Term, ...]:
    found = arms(c.pattern, tensors)
    return c.terms if len(found) == 1 else tuple(map(Term, found))


def arms(pattern: ir.Pattern, tensors: Dims) -> tuple[ir.Pattern, ...]:
    """The arms of a pattern; itself, if there is one."""
    if size(pattern) > MOST_NODES:
        return (pattern,)
    found: Any = _Splitter(tensors, bag=not is_set(pattern)).parts(pattern)
    return tuple(found.values())


def signature(node: ir.Node, spaces: Spaces = TOKENS) -> Signature:
    """The radices of a node in an index space, and its run-time conditions on one side."""
    listable = (_listable(x) for x in walk(node) if isinstance(x, ir.Read))
    return frozenset({*radices(node, spaces), *(x for x in listable if x)})


def _listable(node: ir.Read) -> Listable | None:
    found = sides(node)
    return Listable(frozenset([node.tensor]), *found) if len(found) == 1 else None


Parts = dict[Signature, ir.Node]
"""Parts of a node by their signatures, in order of appearance; their union (or sum, or disjunction) is the node."""

Join = Callable[[Iterable[Any], Span], Any]


class _Splitter:
    """Finds the parts of patterns and conditions: of a bag summands, else alternatives."""

    def __init__(self, tensors: Dims, *, bag: bool) -> None:
        self.tensors, self.bag = tensors, bag

    def parts(self, node: ir.Node, spaces: Spaces = TOKENS) -> Parts:
        own = signature(node, spaces)
        if not own:
            return {own: node}
        match node:
            case ir.Sum(args) if self.bag:
                return self._gathered(args, spaces, fold.total, node.span)
            case ir.Union(args) if not self.bag:
                return self._gathered(args, spaces, fold.union, node.span)
            case ir.Product(args):
                return self._distributed(args, spaces, fold.product, fold.total if self.bag else fold.union, node)
            case ir.Blocks(_, body):
                return self._inside(node, self.parts(body, inside(node, spaces)), spaces)
            case ir.Cover(_, body) | ir.Where(body) if not self.bag:
                return self._inside(node, self.parts(body, spaces), spaces)
            case ir.Or(args) if is_total(node, self.tensors):
                return self._gathered(args, spaces, fold.disjunction, node.span)
            case ir.And(args) if is_total(node, self.tensors):
                return self._distributed(args, spaces, fold.conjunction, fold.disjunction, node)
        return {own: node}

    def _gathered(self, args: Sequence[ir.Node], spaces: Spaces, join: Join, span: Span) -> Parts:
        """The parts of all arguments, those of one signature joined."""
        return joined((part for arg in args for part in self.parts(arg, spaces).items()), join, span)

    def _distributed(self, args: Sequence[ir.Node], spaces: Spaces, meet: Join, join: Join, node: ir.Node) -> Parts:
        """Every choice of one part from each argument."""
        options = [self.parts(arg, spaces) for arg in args]
        for i in sorted(range(len(args)), key=lambda i: len(options[i]), reverse=True):
            if math.prod(map(len, options)) > MOST_ALTERNATIVES:
                options[i] = {signature(args[i], spaces): args[i]}
        if all(len(parts) == 1 for parts in options):
            return {signature(node, spaces): node}
        choices = (meet(choice, node.span) for choice in product(*(parts.values() for parts in options)))
        return joined(((signature(choice, spaces), choice) for choice in choices), join, node.span)

    def _inside(self, node: ir.Node, parts: Parts, spaces: Spaces) -> Parts:
        """The node around each part of its body."""
        around = [_around(node, part) for part in parts.values()]
        join = fold.total if self.bag else fold.union
        return joined(((signature(part, spaces), part) for part in around), join, node.span)


def _around(node: Any, body: Any) -> ir.Node:
    return replace(node, condition=body) if isinstance(node, ir.Where) else replace(node, body=body)


def joined(parts: Iterable[tuple[Signature, ir.Node]], join: Join, span: Span) -> Parts:
    """Parts of one signature, and all from the last that is allowed on, joined."""
    found: dict[Signature, list[ir.Node]] = {}
    for key, part in parts:
        last = list(found)[-1] if len(found) == MOST_ARMS and key not in found else key
        found.setdefault(last, []).append(part)
    return {key: join(group, span) if len(group) > 1 else group[0] for key, group in found.items()}
