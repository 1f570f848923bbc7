"""Patterns in a plainer form, with the same multiplicity in every cell.

Complements move inward, what adds nothing is dropped, conditions of one set are gathered in one place. Only parts that
have a value in every cell are touched: another part may be there to guard, or to be guarded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from patternc import fold, ir
from patternc.analysis.evaluate import Sharing
from patternc.arrangement import Arrangement, HeadClass, Term
from patternc.passes.logic import Logic
from patternc.passes.nature import MOST_NODES, Dims, is_integral, is_set, is_total, size
from patternc.passes.remainders import plainer
from patternc.rewrite import rebuild
from patternc.source import Span

ROUNDS = 4
"""How often a conjunction is gone through for what its parts tell about each other."""
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def simplify(arrangement: Arrangement) -> Arrangement:
    """Simplifies the pattern of every class of heads, and the patterns of its terms.

    Precondition: none; terms stay what they are to each other, for each keeps its multiplicity in every cell.
    """
    simplifier = Simplifier({tensor.name: tensor for tensor in arrangement.program.tensors})
    classes = tuple(_class(c, simplifier) for c in arrangement.classes)
    same = all(new is old for new, old in zip(classes, arrangement.classes, strict=True))
    return arrangement if same else replace(arrangement, classes=classes)


def _class(c: HeadClass, simplifier: Simplifier) -> HeadClass:
    pattern = simplifier(c.pattern)
    terms = tuple(_term(term, simplifier) for term in c.terms)
    same = pattern is c.pattern and all(new is old for new, old in zip(terms, c.terms, strict=True))
    return c if same else replace(c, pattern=pattern, terms=terms)


def _term(term: Term, simplifier: Simplifier) -> Term:
    pattern = simplifier(term.pattern)
    return term if pattern is term.pattern else replace(term, pattern=pattern)


class Simplifier:
    """Simplifies patterns of one program, whose run-time tensors are given by name."""

    def __init__(self, tensors: Dims) -> None:
        self._tensors, self._sharing, self._logic = tensors, Sharing(), Logic()
        self._done: dict[int, tuple[ir.Node, ir.Node]] = {}  # keeps the key's node alive
        self._total: dict[int, bool] = {}

    def __call__(self, pattern: ir.Pattern) -> Any:
        """The simplified pattern; the very same if nothing changes. Those with too many nodes are left alone."""
        if size(pattern) > MOST_NODES:
            return pattern
        own = self._sharing.visit(pattern)
        result = self._visit(own)
        return pattern if result is own else result

    def _visit(self, node: ir.Node) -> Any:
        """The simplified node, of nodes that come from the sharing."""
        if id(node) not in self._done:
            self._done[id(node)] = node, self._sharing.visit(self._rule(node))
        return self._done[id(node)][1]

    def _is_total(self, node: ir.Node) -> bool:
        if id(node) not in self._total:
            self._total[id(node)] = is_total(node, self._tensors)
        return self._total[id(node)]

    def _rule(self, node: ir.Node) -> ir.Node:
        node = self._sharing.visit(rebuild(node, self._visit))
        match node:
            case ir.Unary("not", a) if self._is_total(a):
                return self._opposite(a)
            case ir.Complement(a):
                return self._complement(a)
            case ir.Support(a):
                return self._support(a, node)
            case ir.And() | ir.Or() if self._is_total(node):
                return self._condition(node)
            case ir.Product(args):
                return self._product(args, node.span)
            case ir.Union(args):
                return self._union(args, node.span)
            case ir.Sum(args):
                return fold.total(args, node.span)
            case ir.Compare() | ir.Binary() if self._is_total(node):
                return plainer(node)
        return node

    def _condition(self, node: ir.And | ir.Or) -> ir.Scalar:
        if isinstance(node, ir.And):
            flat = fold.conjunction(node.args, node.span)
            parts = self._met(flat.args, ir.Const(False)) if isinstance(flat, ir.And) else [flat]
            return fold.conjunction(parts, node.span)
        flat = fold.disjunction(node.args, node.span)
        return fold.disjunction(self._joined(flat.args) if isinstance(flat, ir.Or) else [flat], node.span)

    # ------------------------------------------------------------------ complements

    def _opposite(self, a: ir.Scalar) -> ir.Scalar:
        """`not a`."""
        match a:
            case ir.And(args):
                return self._visited(fold.disjunction(map(self._opposite, args), a.span))
            case ir.Or(args):
                return self._visited(fold.conjunction(map(self._opposite, args), a.span))
            case ir.Compare("==" | "!=" as op, x, y):
                return replace(a, op=_OPPOSITE[op])
            case ir.Compare(op, x, y) if is_integral(x, self._tensors) and is_integral(y, self._tensors):
                return replace(a, op=_OPPOSITE[op])
        return fold.unary("not", a, a.span)

    def _complement(self, a: ir.Pattern) -> ir.Pattern:
        """~a, of a set."""
        match a:
            case ir.Where(condition) if self._is_total(condition):
                return fold.where(self._opposite(condition), a.span)
            case ir.Union(args):
                return self._visited(fold.product(map(self._complement, args), a.span))
            case ir.Product(args) if all(map(is_set, args)):
                return self._visited(fold.union(map(self._complement, args), a.span))
            case ir.Blocks(n, body):
                return self._visited(ir.Blocks(n, self._complement(body), span=a.span))
            case ir.Choose(condition, then, orelse):
                return ir.Choose(condition, self._complement(then), self._complement(orelse), span=a.span)
        return fold.complement(a, a.span)

    def _support(self, a: ir.Pattern, node: ir.Support) -> ir.Pattern:
        if is_set(a):
            return a
        match a:
            case ir.Sum(args):
                return self._visited(fold.union([ir.Support(x, span=x.span) for x in args], node.span))
            case ir.Product(args):
                return self._visited(fold.product([ir.Support(x, span=x.span) for x in args], node.span))
            case ir.Blocks(n, body):
                return self._visited(ir.Blocks(n, ir.Support(body, span=body.span), span=a.span))
        return node

    def _visited(self, node: ir.Node) -> Any:
        return self._visit(self._sharing.visit(node))

    # ------------------------------------------------------------------ conjunctions and disjunctions

    def _product(self, args: Sequence[ir.Pattern], span: Span) -> ir.Pattern:
        sets = [arg for arg in args if is_set(arg)]
        for _ in range(ROUNDS):
            before = sets
            sets = self._met(self._gathered(sets, ir.Product), fold.complement(EVERYTHING, span))
            if len(sets) == len(before) and all(new is old for new, old in zip(sets, before, strict=True)):
                break
        return fold.product([*sets, *(arg for arg in args if not is_set(arg))], span)

    def _union(self, args: Sequence[ir.Pattern], span: Span) -> ir.Pattern:
        return fold.union(self._joined(self._gathered(args, ir.Union)), span)

    def _gathered(self, args: Iterable[ir.Pattern], kind: Any) -> list[ir.Pattern]:
        """The conditions of all set builders in the first of them, and the bodies of blocks of one size in the first of
        those, for unions or for products of sets."""
        flat = [x for arg in args for x in (arg.args if isinstance(arg, kind) else (arg,))]
        found: dict[object, list[ir.Pattern]] = {}
        for x in {id(x): x for x in flat}.values():
            found.setdefault(self._place(x), []).append(x)
        return [group[0] if len(group) == 1 else self._visited(_merged(group, kind)) for group in found.values()]

    def _place(self, node: ir.Pattern) -> object:
        match node:
            case ir.Where(condition) if self._is_total(condition):
                return "where"
            case ir.Blocks(n, _):
                return id(n)
        return "other", id(node)

    def _met(self, args: Sequence[Any], nothing: Any) -> list[Any]:
        """Arguments that hold together: without what follows from the rest, and with what the rest tells about
        alternatives; `nothing` alone if they hold nowhere."""
        kept = list({id(arg): arg for arg in args}.values())
        for _ in range(ROUNDS):
            known = [arg for arg in kept if self._is_total(arg)]
            needed = self._logic.needed(known)
            if needed is None:
                return [nothing] if len(known) == len(kept) else kept
            narrowed = [self._narrowed(arg, [x for x in needed if x is not arg]) for arg in needed]
            again = [*narrowed, *(arg for arg in kept if not self._is_total(arg))]
            if len(again) == len(kept) and all(new is old for new, old in zip(narrowed, known, strict=True)):
                break
            kept = [part for arg in again for part in _flat(arg)]
        return kept

    def _joined(self, args: Sequence[Any]) -> list[Any]:
        """Arguments of which one holds, without those that imply another."""
        kept = list({id(arg): arg for arg in args}.values())
        return [
            *self._logic.widest([arg for arg in kept if self._is_total(arg)]),
            *(arg for arg in kept if not self._is_total(arg)),
        ]

    def _narrowed(self, node: Any, others: Sequence[ir.Node]) -> Any:
        """The node, where all the others hold."""
        if any(self._logic.implies(other, node) for other in others):
            return self._everywhere(node)
        match node:
            case ir.Where(condition):
                new: Any = fold.where(self._narrowed(condition, others), node.span)
            case ir.Or(args):
                new = fold.disjunction([self._narrowed(a, others) for a in self._possible(args, others)], node.span)
            case ir.Union(args):
                new = fold.union([self._narrowed(a, others) for a in self._possible(args, others)], node.span)
            case ir.And(args):
                new = fold.conjunction([self._narrowed(a, others) for a in args], node.span)
            case ir.Product(args):
                new = fold.product([self._narrowed(a, others) for a in args], node.span)
            case ir.Blocks(n, body):
                inside = [x.body for x in others if isinstance(x, ir.Blocks) and x.size is n]
                new = ir.Blocks(n, self._narrowed(body, inside), span=node.span)
            case _:
                return node
        return self._sharing.visit(new)

    def _possible(self, args: Sequence[ir.Node], others: Sequence[ir.Node]) -> list[Any]:
        return [a for a in args if not any(self._logic.excludes(other, a) for other in others)]

    def _everywhere(self, node: ir.Node) -> Any:
        true = fold.const(True, node.span)
        return self._sharing.visit(true if isinstance(node, ir.Scalar) else fold.where(true, node.span))


EVERYTHING = ir.Where(ir.Const(True))


def _merged(group: Sequence[Any], kind: Any) -> ir.Pattern:
    """The union or product of set builders, or of blocks of one size."""
    first, union = group[0], kind is ir.Union
    if isinstance(first, ir.Blocks):
        join = fold.union if union else fold.product
        return ir.Blocks(first.size, join([x.body for x in group], first.span), span=first.span)
    gather = fold.disjunction if union else fold.conjunction
    return fold.where(gather([x.condition for x in group], first.span), first.span)


def _flat(node: Any) -> Sequence[Any]:
    """The parts of a conjunction, none of what always holds."""
    match node:
        case ir.And(args) | ir.Product(args):
            return args
        case ir.Const(True) | ir.Where(ir.Const(True)):
            return ()
    return (node,)
