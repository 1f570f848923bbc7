"""Numbers of integer formulas: linear forms, and fresh variables where those end.

A fresh variable stands for a term that is not affine: it may have any value, alike wherever the same term stands,
within a few facts that are true of every value (`0 <= x % p < p`; equal arguments give equal values). Variables have
levels: 0 what the whole program shares (n, h, parameters), 1 what a row fixes, 2 what a cell fixes, 3 … the variables
of quantifiers around the term. A caller that needs "whatever the value is" binds the variables of a level together
with its facts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from patternc.analysis.formula import (
    FALSE,
    TRUE,
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
    exact,
    neg,
    number,
    relation,
    value,
    variable,
)

CONSTANT, ROW, CELL = 0, 1, 2
MAX_PAIRS = 4
"""Pairs of like terms for which "equal arguments, equal values" is stated; each multiplies the cases."""
MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
MAX_FRESH = 24
"""Fresh variables of one question: isl's steps get slower with each dimension."""
MAX_ATOM = 4000
"""Characters of one spelled-out floor, minimum or maximum."""


@dataclass(frozen=True, slots=True)
class _Term:
    """A fresh variable that stands for `function(arguments)`."""

    name: str
    function: object
    arguments: tuple[Linear, ...]


class Terms:
    """The variables of one question and the arithmetic on them."""

    def __init__(self, *, pair_facts: bool = True) -> None:
        self.scopes = [Scope(), Scope(), Scope()]
        self._levels = {"q": ROW, "k": CELL}
        self._terms: list[_Term] = []
        self._pairs = MAX_PAIRS if pair_facts else 0

    def level(self, *xs: Number) -> int:
        levels = [CONSTANT]
        for x in xs:
            if isinstance(x, Linear):
                levels += [self._levels.get(name, CONSTANT) for name, _ in x.terms]
            elif isinstance(x, Real):
                levels.append(x.level)
        return max(levels)

    def _spelled(self, text: str, *of: Linear) -> Linear:
        """A variable that is spelled out: a floor, a minimum, a maximum."""
        self._levels[text] = self.level(*of)
        if len(text) > MAX_ATOM:
            raise TooComplexError
        return variable(text)

    def new(self, prefix: str, level: int) -> str:
        name = f"{prefix}{len(self._levels)}"
        self._levels[name] = level
        return name

    def fresh(self, key: object, level: int) -> tuple[str, bool]:
        """The variable for a term and whether it is new."""
        names = self.scopes[level].names
        is_new = key not in names
        if is_new:
            names[key] = self.new("v", level)
            self.scopes[level].fresh.append(names[key])
            if sum(len(scope.fresh) for scope in self.scopes) > MAX_FRESH:
                raise TooComplexError
        return names[key], is_new

    def fact(self, text: str, level: int) -> None:
        if text != TRUE:
            self.scopes[level].facts.append(text)

    def opaque(self, function: object, *arguments: Linear) -> tuple[Linear, bool]:
        """The value of a function about which nothing is known but that equal arguments give equal values."""
        key = (function, *(a.text for a in arguments))
        name, is_new = self.fresh(key, self.level(*arguments))
        if is_new:
            term = _Term(name, function, arguments)
            for other in self._terms:
                if other.function == function:
                    self._pair(term, other)
            self._terms.append(term)
        return variable(name), is_new

    def _pair(self, a: _Term, b: _Term) -> None:
        if self._pairs == 0:
            return
        same = conj(*(relation("==", x, y) for x, y in zip(a.arguments, b.arguments, strict=True)))
        if same == FALSE:
            return
        self._pairs -= 1
        x, y = variable(a.name), variable(b.name)
        level = max(self._levels[a.name], self._levels[b.name])
        if a.function == "//" and a.arguments[1] == b.arguments[1]:  # by the same divisor: monotone
            for op in ("<=", ">="):
                less = relation(op, a.arguments[0], b.arguments[0])
                self.fact(disj(neg(less), relation(op, x, y)), level)
        else:
            self.fact(disj(neg(same), relation("==", x, y)), level)

    def truth(self, key: object, level: int) -> Condition:
        name, _ = self.fresh(key, level)
        return exact(relation(">=", variable(name), number(1)))

    # ------------------------------------------------------------------ arithmetic

    def unary(self, op: str, x: Number) -> Value:
        match op, x:
            case "-", Linear():
                return value(-x)
            case "abs", Linear(terms=()):
                return value(number(abs(x.constant)))
            case "abs", Linear():
                return value(self._spelled(f"max({x.text}, {(-x).text})", x))
            case "log2", Linear():
                return self._log2(x)
            case "-", Infinite(sign):
                return value(Infinite(-sign))
            case "abs", Infinite():
                return value(Infinite(1))
        return value(Real(f"{op} ({x.text})", self.level(x)))

    def _log2(self, x: Linear) -> Value:
        if x.known is not None:
            return value(number((x.known - 1).bit_length())) if x.known > 0 else value(x, FALSE)
        result, is_new = self.opaque("log2", x)
        if is_new:  # log2(1) = 0, log2(2) = 1; nothing is said of x < 1
            inside = conj(relation(">=", result, number(0)), relation("<", result, x))
            self.fact(disj(relation("<", x, number(1)), inside), self.level(x))
        return value(result, relation(">=", x, number(1)))

    def binary(self, op: str, x: Number, y: Number) -> Value:
        if isinstance(x, Infinite) or isinstance(y, Infinite):
            return value(self._infinite(op, x, y))
        if not (isinstance(x, Linear) and isinstance(y, Linear)):
            defined = relation("!=", y, number(0)) if op in ("//", "%") and isinstance(y, Linear) else TRUE
            return value(Real(f"({x.text}) {op} ({y.text})", self.level(x, y)), defined)
        match op:
            case "+":
                return value(x + y)
            case "-":
                return value(x - y)
            case "*":
                return value(self.times(x, y))
            case "//":
                return value(self.divide(x, y), relation("!=", y, number(0)))
            case "%":
                return value(self._modulo(x, y), relation("!=", y, number(0)))
            case "min" | "max":
                return value(self._extreme(op, x, y))
            case "**":
                return self._power(x, y)
            case "^":
                return value(self._xor(x, y))
        raise AssertionError(f"not an operator: {op}")

    def _infinite(self, op: str, x: Number, y: Number) -> Number:
        if op in ("min", "max"):
            infinity, other = (x, y) if isinstance(x, Infinite) else (y, x)
            assert isinstance(infinity, Infinite)
            return infinity if (infinity.sign > 0) == (op == "max") else other
        if op in ("+", "*", "//") and isinstance(x, Infinite):
            return x
        if isinstance(y, Infinite) and op in ("+", "-", "*"):
            return y if op != "-" else Infinite(-y.sign)
        raise TooComplexError

    def times(self, x: Linear, y: Linear) -> Linear:
        if x.known is not None or y.known is not None:
            return y.scaled(x.known) if x.known is not None else x.scaled(y.known or 0)
        x, y = sorted((x, y), key=lambda a: a.text)
        result, is_new = self.opaque("*", x, y)
        if is_new:
            zero = number(0)
            signs = [relation("<", x, zero), relation("<", y, zero)]
            self.fact(disj(*signs, relation(">=", result, zero)), self.level(x, y))
            for a, b in ((x, y), (y, x)):
                self.fact(disj(*signs, relation("==", a, zero), relation(">=", result, b)), self.level(x, y))
        return result

    def divide(self, x: Linear, y: Linear) -> Linear:
        """⌊x / y⌋; some value where y = 0."""
        if y.known is not None and y.known != 0:
            if y.known < 0:
                x, y = -x, -y
            whole, rest = x.parted(y.constant)
            if rest.known is not None:
                return whole + number(rest.known // y.constant)
            return whole + self._spelled(f"floor({rest.text}/{y.constant})", rest)
        if x == y:
            return number(1)
        result, is_new = self.opaque("//", x, y)
        if is_new:
            inside = conj(relation(">=", result, number(0)), relation("<=", result, x))
            outside = relation("<", x, number(0)), relation("<", y, number(1))
            self.fact(disj(*outside, inside), self.level(x, y))
        return result

    def _modulo(self, x: Linear, y: Linear) -> Linear:
        if y.known is not None and y.known != 0:
            return x - self.divide(x, y).scaled(y.known)
        result, is_new = self.opaque("%", x, y)
        if is_new:
            zero, level = number(0), self.level(x, y)
            inside = conj(relation(">=", result, zero), relation("<", result, y))
            self.fact(disj(relation("<", y, number(1)), inside), level)
            self.fact(disj(relation("<", y, number(1)), relation("<", x, zero), relation("<=", result, x)), level)
        return result

    def _extreme(self, op: str, x: Linear, y: Linear) -> Linear:
        difference = (x - y).known
        if difference is not None:
            return x if (difference < 0) == (op == "min") else y
        return self._spelled(f"{op}({x.text}, {y.text})", x, y)

    def _power(self, x: Linear, y: Linear) -> Value:
        if x.known is not None and y.known is not None:
            if y.known < 0 or (y.known >= 64 and abs(x.known) > 1):
                return value(x, FALSE)
            return value(number(x.known**y.known))
        result, is_new = self.opaque("**", x, y)
        if is_new and x.known is not None and x.known >= 1:
            self.fact(disj(relation("<", y, number(0)), relation(">=", result, number(1))), self.level(x, y))
        return value(result, relation(">=", y, number(0)))

    def _xor(self, x: Linear, y: Linear) -> Linear:
        if x.known is not None and y.known is not None:
            return number(x.known ^ y.known)
        x, y = sorted((x, y), key=lambda a: a.text)
        result, is_new = self.opaque("^", x, y)
        if is_new:
            zero, level = number(0), self.level(x, y)
            signs = relation("<", x, zero), relation("<", y, zero)
            self.fact(disj(*signs, relation(">=", result, zero)), level)
            self.fact(disj(relation("!=", x, y), relation("==", result, zero)), level)
            self.fact(disj(relation("!=", result, zero), relation("==", x, y)), level)
        return result

    # ------------------------------------------------------------------ comparisons

    def compare(self, op: str, x: Number, y: Number) -> Condition:
        match x, y:
            case Linear(), Linear():
                return exact(relation(op, x, y))
            case Linear(), Real(value=float() as c):
                return exact(_beside(op, x, c))
            case Real(value=float() as c), Linear():
                return exact(_beside(MIRRORED[op], y, c))
        if isinstance(x, Infinite) or isinstance(y, Infinite):
            if isinstance(x, Real) or isinstance(y, Real):
                raise TooComplexError
            a, b = (z.sign if isinstance(z, Infinite) else 0 for z in (x, y))
            return exact(relation(op, number(a), number(b)))
        left, right = x.text, y.text
        if op in (">", ">=") or (op in ("==", "!=") and left > right):
            left, op, right = right, MIRRORED[op], left
        same = self.truth(("==" if op == "!=" else op, left, right), self.level(x, y))
        return ~same if op == "!=" else same


def _beside(op: str, x: Linear, c: float) -> str:
    """`x op c` for a c between two integers."""
    if op in ("==", "!="):
        return FALSE if op == "==" else TRUE
    below = number(math.floor(c))
    return relation("<=", x, below) if op in ("<", "<=") else relation(">", x, below)
