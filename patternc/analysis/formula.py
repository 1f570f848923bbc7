"""Integer formulas as text for isl, made of names and numbers of our own alone.

Numbers are linear forms over variables; where those end (a product of two variables, an element of a run-time tensor)
a *fresh* variable takes over. Conditions are known from both sides: where they may hold and where they surely do.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import reduce
from math import gcd

TRUE, FALSE = "true", "false"
MAX_TEXT = 40_000
"""Characters of one formula; more is refused before isl sees it."""


class TooComplexError(Exception):
    """The formula grows beyond the budget: its question has no answer."""


def _joined(parts: Iterable[str], word: str, unit: str, zero: str) -> str:
    kept = dict.fromkeys(p for p in parts if p != unit)
    if zero in kept:
        return zero
    if not kept:
        return unit
    text = f"({f' {word} '.join(kept)})" if len(kept) > 1 else next(iter(kept))
    if len(text) > MAX_TEXT:
        raise TooComplexError
    return text


def conj(*parts: str) -> str:
    return _joined(parts, "and", TRUE, FALSE)


def disj(*parts: str) -> str:
    return _joined(parts, "or", FALSE, TRUE)


def neg(part: str) -> str:
    return {TRUE: FALSE, FALSE: TRUE}.get(part) or f"(not {part})"


def exists(names: Iterable[str], body: str) -> str:
    names = tuple(names)
    return body if body in (TRUE, FALSE) or not names else f"(exists ({', '.join(names)} : {body}))"


# ------------------------------------------------------------------ numbers


@dataclass(frozen=True, slots=True)
class Linear:
    """Σ coefficient · variable + constant. A variable is a name or the text of a floor, minimum or maximum."""

    terms: tuple[tuple[str, int], ...] = ()
    constant: int = 0

    @property
    def known(self) -> int | None:
        return None if self.terms else self.constant

    @property
    def text(self) -> str:
        if not self.terms:
            return str(self.constant)
        parts = [f"{c}*{name}" for name, c in self.terms] + ([str(self.constant)] if self.constant else [])
        text = " + ".join(parts).replace("+ -", "- ")
        if len(text) > MAX_TEXT:
            raise TooComplexError
        return f"({text})"

    def __add__(self, other: Linear) -> Linear:
        total = dict(self.terms)
        for name, c in other.terms:
            total[name] = total.get(name, 0) + c
        return linear(total, self.constant + other.constant)

    def __neg__(self) -> Linear:
        return self.scaled(-1)

    def __sub__(self, other: Linear) -> Linear:
        return self + -other

    def scaled(self, factor: int) -> Linear:
        return linear({name: c * factor for name, c in self.terms}, self.constant * factor)

    def parted(self, divisor: int) -> tuple[Linear, Linear]:
        """(a, b) with self = a · divisor + b, as much of it in a as divides."""
        whole = {name: c // divisor for name, c in self.terms if c % divisor == 0}
        rest = {name: c for name, c in self.terms if c % divisor}
        return linear(whole, self.constant // divisor), linear(rest, self.constant % divisor)


def linear(terms: dict[str, int], constant: int) -> Linear:
    return Linear(tuple(sorted((name, c) for name, c in terms.items() if c)), constant)


def number(value: int) -> Linear:
    return Linear((), value)


def variable(name: str) -> Linear:
    return Linear(((name, 1),))


@dataclass(frozen=True, slots=True)
class Infinite:
    """`inf`, or its negative."""

    sign: int

    @property
    def text(self) -> str:
        return "inf" if self.sign > 0 else "-inf"


@dataclass(frozen=True, slots=True)
class Real:
    """A floating-point number of which only its name is known, or, if constant, its value."""

    text: str
    level: int
    value: float | None = None


Number = Linear | Infinite | Real

# ------------------------------------------------------------------ conditions


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that holds within `over`, surely holds in `under`, and surely has a value in `defined`."""

    over: str
    under: str
    defined: str = TRUE

    def __and__(self, other: Condition) -> Condition:
        return Condition(
            conj(self.over, other.over),
            conj(self.under, other.under),
            conj(self.defined, disj(neg(self.over), other.defined)),
        )

    def __or__(self, other: Condition) -> Condition:
        return Condition(
            disj(self.over, other.over),
            disj(self.under, conj(self.defined, other.under)),
            conj(self.defined, disj(self.under, other.defined)),
        )

    def __invert__(self) -> Condition:
        return Condition(neg(self.under), conj(self.defined, neg(self.over)), self.defined)

    def where_defined(self, defined: str) -> Condition:
        """The same condition behind another that may lack a value."""
        return Condition(self.over, conj(defined, self.under), conj(defined, self.defined))


def exact(text: str) -> Condition:
    return Condition(text, text)


ALWAYS, NEVER = exact(TRUE), exact(FALSE)
UNCLEAR = Condition(TRUE, FALSE)


def every(conditions: Iterable[Condition]) -> Condition:
    found = list(conditions)
    if all(c.defined == TRUE for c in found):
        return Condition(conj(*(c.over for c in found)), conj(*(c.under for c in found)))
    return reduce(operator.and_, found, ALWAYS)


def some(conditions: Iterable[Condition]) -> Condition:
    found = list(conditions)
    if all(c.defined == TRUE for c in found):
        return Condition(disj(*(c.over for c in found)), disj(*(c.under for c in found)))
    return reduce(operator.or_, found, NEVER)


_FOLD: dict[str, Callable[[int, int], bool]] = {
    "<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__, "==": int.__eq__, "!=": int.__ne__,
}  # fmt: skip


def relation(op: str, a: Linear, b: Linear) -> str:
    """The text of `a op b`."""
    difference = a - b
    if difference.known is not None:
        return TRUE if _FOLD[op](difference.known, 0) else FALSE
    divisor = gcd(*(c for _, c in difference.terms))
    if op in ("==", "!=") and difference.constant % divisor:
        return FALSE if op == "==" else TRUE
    return f"{Linear(difference.terms).text} {'=' if op == '==' else op} {-difference.constant}"


# ------------------------------------------------------------------ values with cases

MAX_CASES = 24


@dataclass(frozen=True, slots=True)
class Value:
    """A number by cases: wherever it is defined, exactly one guard holds."""

    cases: tuple[tuple[Condition, Number], ...]
    defined: str = TRUE

    def then(self, rule: Callable[[Number], Value]) -> Value:
        """The rule's value, case by case."""
        cases, defined = [], [self.defined]
        for guard, x in self.cases:
            result = rule(x)
            cases += [(guard & inner, y) for inner, y in result.cases if (guard & inner).over != FALSE]
            defined.append(disj(neg(guard.over), result.defined))
        if len(cases) > MAX_CASES:
            raise TooComplexError
        return Value(tuple(cases), conj(*defined))

    def test(self, rule: Callable[[Number], Condition]) -> Condition:
        """The rule's condition, case by case."""
        results = [(guard, rule(x)) for guard, x in self.cases]
        defined = conj(self.defined, *(disj(neg(g.over), r.defined) for g, r in results))
        return Condition(
            disj(*(conj(g.over, r.over) for g, r in results)),
            conj(self.defined, disj(*(conj(g.under, r.under) for g, r in results))),
            defined,
        )


def value(x: Number, defined: str = TRUE) -> Value:
    return Value(((ALWAYS, x),), defined)


# ------------------------------------------------------------------ fresh variables


@dataclass(slots=True)
class Scope:
    """Variables of one level, and what is known of them: constants, what a row fixes, what a cell fixes, and then
    the levels of quantifiers."""

    fresh: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    names: dict[object, str] = field(default_factory=dict)
