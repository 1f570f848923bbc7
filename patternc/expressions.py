"""Elaboration of operators, choices, lists and comprehensions: expressions that call nothing of the program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from patternc import ast, fold, ir
from patternc.budget import Budget
from patternc.builtin_calls import GATHER
from patternc.errors import Code
from patternc.printer import text
from patternc.source import Span
from patternc.values import (
    Alternatives,
    Place,
    TensorRef,
    UnknownList,
    Value,
    either,
    gap_in,
    known,
    picked,
    set_operation,
    symbol,
)


class Expressions(ABC):
    """The part of `Elaborator` that is the same wherever names come from."""

    heads: int | None
    budget: Budget
    tensors: dict[str, ir.Tensor]
    fresh: int
    """How many variables of comprehensions have been named."""

    @abstractmethod
    def expr(self, node: ast.Expr, place: Place) -> Value:
        """The value of an expression."""

    @abstractmethod
    def lookup(self, node: ast.Name | ast.Attribute, place: Place) -> Value:
        """What a name stands for."""

    # ------------------------------------------------------------------ operators

    def unary(self, node: ast.Unary, place: Place) -> Value:
        operand = self.expr(node.operand, place)
        if node.op == "~":
            return fold.complement(operand, node.span)
        return fold.unary(node.op, operand, node.span)

    def binary(self, node: ast.Binary, place: Place) -> Value:
        span, left = node.span, self.expr(node.left, place)
        if node.op in ("and", "or"):
            gather = fold.conjunction if node.op == "and" else fold.disjunction
            if isinstance(left, ir.Const) and left.value == (node.op == "or"):
                return fold.const(left.value, span)
            return gather((left, self.expr(node.right, place)), span)
        right = self.expr(node.right, place)
        if isinstance(left, ir.Pattern):
            return set_operation(node.op, left, right, span)
        return fold.binary(node.op, left, right, span)

    def compare(self, node: ast.Compare, place: Place) -> ir.Scalar:
        left, links = self.expr(node.first, place), []
        for op, operand in node.rest:
            if op in ("in", "not in"):
                links.append(self._membership(left, operand, place, node.span))
                if op == "not in":
                    links[-1] = fold.unary("not", links[-1], node.span)
                continue
            right = self.expr(operand, place)
            links.append(self._relation(op, left, right, node.span))
            left = right
        return fold.conjunction(links, node.span)

    def _relation(self, op: str, a: ir.Scalar, b: ir.Scalar, span: Span) -> ir.Scalar:
        if not (self._is_condition(a) and self._is_condition(b)):
            return fold.compare(op, a, b, span)
        c = b if op == "==" else fold.unary("not", b, span)
        return fold.choice(a, c, fold.unary("not", c, span), span)

    def _is_condition(self, node: ir.Scalar) -> bool:
        match node:
            case ir.Const(value):
                return isinstance(value, bool)
            case ir.Compare() | ir.And() | ir.Or() | ir.Quantified() | ir.Unary("not"):
                return True
            case ir.Param(_, kind) | ir.Unknown(_, kind):
                return kind == "bool"
            case ir.If(_, then, _):
                return self._is_condition(then)
            case ir.Pick(_, items):
                return self._is_condition(items[0])
            case ir.Read(tensor):
                return self.tensors[tensor].element == "bool"
        return False

    def _membership(self, left: ir.Scalar, operand: ast.Expr | ast.Range, place: Place, span: Span) -> ir.Scalar:
        if isinstance(operand, ast.Range):
            lo, hi = self.expr(operand.lo, place), self.expr(operand.hi, place)
            return fold.conjunction((fold.compare(">=", left, lo, span), fold.compare("<", left, hi, span)), span)
        match self.expr(operand, place):
            case Alternatives(index, lists):
                return fold.pick(index, tuple(self._one_of(left, items, span) for items in lists), span)
            case tuple() as items:
                return self._one_of(left, items, span)
        return self._unknown("bool", operand.span, place)

    def _one_of(self, left: ir.Scalar, items: tuple[ir.Scalar, ...], span: Span) -> ir.Scalar:
        return fold.disjunction([self._relation("==", left, item, span) for item in items], span)

    def _unknown(self, kind: str, span: Span, place: Place) -> ir.Unknown:
        return ir.Unknown(f"{span.source.name}:{span.start}:{place.depth}", kind, span=span)

    # ------------------------------------------------------------------ choices

    def if_(self, node: ast.IfElse, place: Place) -> Value:
        condition = self.expr(node.condition, place)
        if isinstance(condition, ir.Const):
            return self.expr(node.then if condition.value else node.orelse, place)
        return either(condition, self.expr(node.then, place), self.expr(node.orelse, place), node.span)

    def match_(self, node: ast.Match, place: Place) -> Value:
        subject = self.expr(node.subject, place)
        tests = [self._label(subject, arm, place) for arm in node.arms]
        self._covered(subject, tests, node)
        live = [(test, arm) for test, arm in zip(tests, node.arms, strict=True) if not known(test, False)]
        certain = next((i for i, (test, _) in enumerate(live) if known(test, True)), len(live))
        result: Any = None
        for test, arm in reversed(live[: certain + 1]):
            body = self.expr(arm.body, place)
            result = body if result is None else either(test, body, result, arm.span)
        return result

    def _label(self, subject: ir.Scalar, arm: ast.Arm, place: Place) -> ir.Scalar:
        if arm.label is None:
            return fold.const(True, arm.span)
        if isinstance(arm.label, ast.Range):
            return self._membership(subject, arm.label, place, arm.span)
        return self._relation("==", subject, self.expr(arm.label, place), arm.span)

    def _covered(self, subject: ir.Scalar, tests: list[ir.Scalar], node: ast.Match) -> None:
        """A `match` has an arm for every h (below `heads`, if known) and every layer ≥ 0."""
        gap = gap_in(subject, tests, self.heads)
        if gap is not None:
            raise fold.fail(
                Code.MATCH_GAP, f"no arm of this `match` takes {gap}", node.subject.span, "can have this value",
                "add an arm `else => empty`, or one for the missing values",
            )  # fmt: skip

    # ------------------------------------------------------------------ lists

    def index(self, node: ast.Index, place: Place) -> Value:
        base = self.lookup(node.base, place) if isinstance(node.base, ast.Name) else self.expr(node.base, place)
        indices = tuple([self.expr(index, place) for index in node.indices])
        match base:
            case TensorRef(name):
                return ir.Read(name, indices, span=node.span)
            case UnknownList(name, item):
                fixed = isinstance(indices[0], ir.Const)
                return symbol(f"{name}[{text(indices[0])}]", item, ir.Param if fixed else ir.Unknown)
            case Alternatives(index, lists):
                return picked(index, tuple(picked(indices[0], items, node.span) for items in lists), node.span)
        return picked(indices[0], base, node.span)

    def comprehension(self, node: ast.Comprehension, place: Place) -> Value:
        kind, span = node.function.id, node.span
        if isinstance(node.iterable, ast.Range):
            lo, hi = self.expr(node.iterable.lo, place), self.expr(node.iterable.hi, place)
            if not (isinstance(lo, ir.Const) and isinstance(hi, ir.Const)):
                return self._open_range(node, lo, hi, place)
            numbers = [fold.const(i, node.iterable.span) for i in fold.items(lo, hi, node.iterable.span)]
            return self._gather(node, numbers, place)
        match self.expr(node.iterable, place):
            case Alternatives(index, lists):
                results = tuple([self._gather(node, items, place) for items in lists])
                return picked(index, results, span)
            case tuple() as items:
                return self._gather(node, items, place)
        unknown = self._unknown("bool", span, place)
        return unknown if kind in ("any", "all") else fold.where(unknown, span)

    def _gather(self, node: ast.Comprehension, items: Iterable[Value], place: Place) -> Value:
        items = tuple(items)
        if len(items) > fold.MAX_ITEMS:
            message = f"{len(items):,} items are more than the {fold.MAX_ITEMS:,} allowed"
            raise fold.fail(Code.TOO_MANY_ITEMS, message, node.iterable.span, "too many")
        results: list[Value] = []
        stop = {"any": True, "all": False}.get(node.function.id)
        for item in items:
            names = [target.id for target in node.targets]
            bound = dict(zip(names, item if len(names) > 1 else (item,), strict=True))
            results.append(self.budget.measure(self.expr(node.element, place.binding(bound))))
            if stop is not None and known(results[-1], stop):
                break
        return GATHER[node.function.id](results, node.span)

    def _open_range(self, node: ast.Comprehension, lo: ir.Scalar, hi: ir.Scalar, place: Place) -> Value:
        """A comprehension over a range whose bounds hang on n or h."""
        self.fresh += 1
        variable = f"{node.targets[0].id}#{self.fresh}"
        bound = {node.targets[0].id: ir.Var(variable, span=node.targets[0].span)}
        body = self.expr(node.element, place.binding(bound))
        family = ir.Quantified if node.function.id in ("any", "all") else ir.Family
        return family(node.function.id, variable, lo, hi, body, span=node.span)
