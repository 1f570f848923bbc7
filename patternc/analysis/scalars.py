"""Scalars of the IR as numbers and conditions of integer formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from patternc import ir
from patternc.analysis.formula import (
    ALWAYS,
    FALSE,
    NEVER,
    TRUE,
    UNCLEAR,
    Condition,
    Infinite,
    Linear,
    Number,
    Real,
    Scope,
    TooComplexError,
    Value,
    conj,
    disj,
    every,
    exact,
    exists,
    neg,
    number,
    relation,
    some,
    value,
    variable,
)
from patternc.analysis.terms import CELL, CONSTANT, Terms

MAX_VISITS = 6_000
"""Nodes translated for one question."""
MAX_PICKED = 64
"""Items of a list that is indexed by something unknown."""
MAX_UNROLLED = 16
"""Values of a quantified variable that are written out."""


@dataclass(frozen=True, slots=True)
class Env:
    """What q, k and n are in each space, the outermost first, and the quantified variables."""

    q: tuple[Linear, ...]
    k: tuple[Linear, ...]
    n: tuple[Linear, ...]
    bound: Mapping[str, Linear] = field(default_factory=dict)

    def place(self, q: Linear, k: Linear) -> Env:
        """Another cell of the innermost space."""
        return Env((*self.q[:-1], q), (*self.k[:-1], k), self.n, self.bound)

    def swapped(self) -> Env:
        return Env(self.k, self.q, self.n, self.bound)

    @property
    def key(self) -> str:
        return f"{self.q[-1].text} {self.k[-1].text} {[x.text for x in self.bound.values()]}"


@dataclass(frozen=True, slots=True)
class Element:
    """A fresh variable that stands for an element of a run-time tensor."""

    name: str
    tensor: str
    index: tuple[Linear, ...]


class ScalarTranslator(Terms):
    """Translates the scalars of one question; `given` fixes some of n, heads, h, layer."""

    def __init__(self, given: Mapping[str, int], tensors: Iterable[ir.Tensor] = (), *, pair_facts: bool = True) -> None:
        super().__init__(pair_facts=pair_facts)
        self.elements: list[Element] = []
        self.parameters: dict[str, str] = {}
        """Of each parameter its variable."""
        self.given = dict(given)
        self.root = Env((variable("q"),), (variable("k"),), (self.shared("n"),))
        self._visits = 0
        self._tensors = {t.name: t for t in tensors}

    def shared(self, name: str) -> Linear:
        return number(self.given[name]) if name in self.given else variable(name)

    def _visit(self) -> None:
        self._visits += 1
        if self._visits > MAX_VISITS:
            raise TooComplexError

    def _here(self, env: Env) -> int:
        """The level of what may differ from cell to cell of `env`."""
        inner = len(self.scopes) - 1
        return inner if inner > CELL else self.level(env.q[-1], env.k[-1], *env.bound.values())

    @contextmanager
    def quantifier(self, *names: str) -> Iterator[tuple[list[Linear], Callable[[Condition, str], Condition]]]:
        """Variables of a new level, and what closes it: "for some of them within `range`, the condition holds"."""
        self.scopes.append(Scope())
        level, terms = len(self.scopes) - 1, len(self._terms)
        mine = [self.new(name, level) for name in names]

        def close(condition: Condition, within: str) -> Condition:
            scope = self.scopes[level]
            facts = conj(*scope.facts)

            def surely(text: str) -> str:  # whatever the fresh variables are
                return neg(exists(scope.fresh, conj(facts, neg(text))))

            defined = neg(exists(mine, conj(within, neg(surely(condition.defined)))))
            return Condition(
                exists([*mine, *scope.fresh], conj(within, facts, condition.over)),
                conj(defined, exists(mine, conj(within, surely(condition.under)))),
                defined,
            )

        yield [variable(name) for name in mine], close
        self.scopes.pop()
        del self._terms[terms:]

    # ------------------------------------------------------------------ numbers

    def number(self, node: ir.Scalar, env: Env) -> Value:
        self._visit()
        match node:
            case ir.Const(x):
                return value(_constant(x))
            case ir.Var(name, depth):
                return value(self._variable(name, depth, env))
            case ir.Param(name, kind):
                return value(self._parameter(name, kind, env))
            case ir.Unknown(key, kind):
                return value(self._unknown(key, kind, env))
            case ir.Unary(op, a):
                return self.number(a, env).then(lambda x: self.unary(op, x))
            case ir.Binary(op, a, b):
                y = self.number(b, env)
                return self.number(a, env).then(lambda p: y.then(lambda q: self.binary(op, p, q)))
            case ir.If(condition, then, orelse):
                return self._choice(self.condition(condition, env), then, orelse, env)
            case ir.Pick(index, items):
                chosen, defined = self._picked(index, items, env)
                result = self.number(chosen, env)
                return Value(result.cases, conj(defined, result.defined))
            case ir.Read(tensor, indices):
                return self._read(tensor, indices, env)
        raise AssertionError(f"not a number: {node!r}")

    def _variable(self, name: str, depth: int, env: Env) -> Linear:
        match name:
            case "q":
                return env.q[depth]
            case "k":
                return env.k[depth]
            case "n":
                return env.n[depth]
            case "h" | "heads" | "layer":
                return self.shared(name)
        return env.bound[name]

    def _parameter(self, name: str, kind: str, env: Env) -> Number:
        if "[" in name:  # an element of a list: which one may differ from cell to cell
            return self._unknown(name, kind, env)
        if kind == "float":
            return Real(f"param {name}", CONSTANT)
        if name not in self.parameters:
            self.parameters[name] = self.new("p", CONSTANT)
            if kind == "tokens":
                self.fact(f"{self.parameters[name]} >= 0", CONSTANT)
        return variable(self.parameters[name])

    def _unknown(self, key: str, kind: str, env: Env) -> Number:
        level = self._here(env)
        if kind == "float":
            return Real(f"unknown {key} {env.key}", level)
        name, is_new = self.fresh(("unknown", key, env.key), level)
        if is_new and kind == "tokens":
            self.fact(f"{name} >= 0", level)
        return variable(name)

    def _choice(self, condition: Condition, then: ir.Scalar, orelse: ir.Scalar, env: Env) -> Value:
        if condition.under == TRUE:
            return self.number(then, env)
        if condition.over == FALSE:
            return self.number(orelse, env)
        x, y = self.number(then, env), self.number(orelse, env)
        cases = [(condition & guard, a) for guard, a in x.cases]
        cases += [(~condition & guard, b) for guard, b in y.cases]
        branches = disj(neg(condition.over), x.defined), disj(condition.under, y.defined)
        return Value(tuple(cases), conj(condition.defined, *branches))

    def _picked(self, index: ir.Scalar, items: tuple[ir.Scalar, ...], env: Env) -> tuple[ir.Scalar, str]:
        """`items[index]` as a chain of choices, one for each different item, and where the index is in range."""
        if len(items) > MAX_PICKED:
            raise TooComplexError
        at = self.number(index, env)
        groups: dict[ir.Scalar, list[int]] = {}
        for i, item in enumerate(items):
            groups.setdefault(item, []).append(i)
        (chosen, _), *others = reversed(groups.items())
        for item, where in others:
            tests = tuple(ir.Compare("==", index, ir.Const(i)) for i in where)
            chosen = ir.If(ir.Or(tests), item, chosen)
        return chosen, at.test(lambda x: self._within(x, number(len(items)))).under

    def _within(self, x: Number, end: Linear) -> Condition:
        if not isinstance(x, Linear):
            return UNCLEAR
        return exact(conj(relation(">=", x, number(0)), relation("<", x, end)))

    def _read(self, tensor: str, indices: tuple[ir.Scalar, ...], env: Env) -> Value:
        whole = Env(self.root.q, self.root.k, self.root.n)
        declared = self._tensors[tensor]

        def build(left: tuple[tuple[ir.Scalar, ir.Scalar], ...], at: tuple[Linear, ...]) -> Value:
            if not left:
                return value(self._element(declared, at))
            (index, dim), *rest = left
            end = self.number(dim, whole)

            def checked(x: Number, d: Number) -> Value:
                if not (isinstance(x, Linear) and isinstance(d, Linear)):
                    raise TooComplexError
                result = build(tuple(rest), (*at, x))
                return Value(result.cases, conj(self._within(x, d).under, result.defined))

            return self.number(index, env).then(lambda x: end.then(lambda d: checked(x, d)))

        return build(tuple(zip(indices, declared.dims, strict=True)), ())

    def _element(self, tensor: ir.Tensor, at: tuple[Linear, ...]) -> Number:
        if tensor.element == "float":
            return Real(f"read {tensor.name} {[x.text for x in at]}", self.level(*at))
        result, is_new = self.opaque(("read", tensor.name), *at)
        name = result.terms[0][0]
        if is_new and self._levels[name] <= CELL:
            self.elements.append(Element(name, tensor.name, at))
        return result

    # ------------------------------------------------------------------ conditions

    def condition(self, node: ir.Scalar, env: Env) -> Condition:
        self._visit()
        match node:
            case ir.Const(x):
                return ALWAYS if x else NEVER
            case ir.Param(name, _) if "[" not in name:
                return self.truth(("param", name), CONSTANT)
            case ir.Param(key, _) | ir.Unknown(key, _):
                return self.truth(("unknown", key, env.key), self._here(env))
            case ir.Unary("not", a):
                return ~self.condition(a, env)
            case ir.And(args):
                return every(self.condition(a, env) for a in args)
            case ir.Or(args):
                return some(self.condition(a, env) for a in args)
            case ir.Compare():
                return self._comparison(node, env)
            case ir.If(condition, then, orelse):
                return self._branch(self.condition(condition, env), then, orelse, env)
            case ir.Pick(index, items):
                chosen, defined = self._picked(index, items, env)
                return self.condition(chosen, env).where_defined(defined)
            case ir.Read(tensor, indices):
                return self._read(tensor, indices, env).test(lambda x: self.compare(">=", x, number(1)))
            case ir.Quantified():
                return self._quantified(node, env)
        raise AssertionError(f"not a condition: {node!r}")

    def _comparison(self, node: ir.Compare, env: Env) -> Condition:
        if not self._is_condition(node.a):
            right = self.number(node.b, env)
            return self.number(node.a, env).test(lambda x: right.test(lambda y: self.compare(node.op, x, y)))
        p, q = self.condition(node.a, env), self.condition(node.b, env)
        return (p & q) | (~p & ~q) if node.op == "==" else (p & ~q) | (~p & q)

    def _is_condition(self, node: ir.Scalar) -> bool:
        match node:
            case ir.Const(x):
                return isinstance(x, bool)
            case ir.Param(_, kind) | ir.Unknown(_, kind):
                return kind == "bool"
            case ir.Read(tensor):
                return self._tensors[tensor].element == "bool"
            case ir.If(_, then, _):
                return self._is_condition(then)
            case ir.Pick(_, items):
                return self._is_condition(items[0])
            case ir.Unary(op):
                return op == "not"
        return isinstance(node, ir.Compare | ir.And | ir.Or | ir.Quantified)

    def _branch(self, condition: Condition, then: ir.Scalar, orelse: ir.Scalar, env: Env) -> Condition:
        if condition.under == TRUE:
            return self.condition(then, env)
        if condition.over == FALSE:
            return self.condition(orelse, env)
        return (condition & self.condition(then, env)) | (~condition & self.condition(orelse, env))

    def _quantified(self, node: ir.Quantified, env: Env) -> Condition:
        lo, hi = self.bound(node.lo, env), self.bound(node.hi, env)
        bind = self._binder(node.variable, env)
        if lo.known is not None and hi.known is not None and hi.known - lo.known <= MAX_UNROLLED:
            gather = some if node.kind == "any" else every
            return gather(self.condition(node.body, bind(number(i))) for i in range(lo.known, hi.known))
        with self.quantifier("i") as ((i,), close):
            body = self.condition(node.body, bind(i))
            within = conj(relation(">=", i, lo), relation("<", i, hi))
            return close(body, within) if node.kind == "any" else ~close(~body, within)

    def _binder(self, name: str, env: Env) -> Callable[[Linear], Env]:
        return lambda x: Env(env.q, env.k, env.n, {**env.bound, name: x})

    def bound(self, node: ir.Scalar, env: Env) -> Linear:
        """A number that must be affine, without cases and errors."""
        match self.number(node, env):
            case Value(((guard, Linear() as x),)) if guard.under == TRUE:
                return x
        raise TooComplexError


def _constant(x: int | float | bool) -> Number:
    if isinstance(x, float) and math.isinf(x):
        return Infinite(1 if x > 0 else -1)
    if isinstance(x, float) and not x.is_integer():
        return Real(repr(x), CONSTANT, x)
    return number(int(x))
