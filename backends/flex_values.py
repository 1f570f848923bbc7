"""Typed torch expressions of one cell: what they are made of, and conditions.

Every value knows its type, an interval that holds it if it is an integer, and the condition under which it is valid
(see analysis/numbers.py). The interval says where 32 bits are too few, where an index needs no clamp and a divisor no
guard, and which comparisons are settled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

OR, COMPARE, BIT_OR, XOR, AND, PLUS, TIMES, UNARY, ATOM = range(9)
Join = Callable[["Value", "Value"], "Value"]
INT32 = (-(1 << 31), (1 << 31) - 1)
INT64 = (-(1 << 63), (1 << 63) - 1)


@dataclass(frozen=True)
class Value:
    """The text of a Python expression: a tensor without axes, or a literal."""

    text: str
    kind: str
    """`int`, `float` (float64) or `bool`."""
    lo: int = 0
    hi: int = 1
    """The least and greatest value of an integer; of a bool 0 and 1, or twice the same where it is settled."""
    binds: int = ATOM
    bits: int = 32
    """Of an integer tensor, at least."""
    literal: bool = False
    ok: Value | None = None
    """Where it is valid; None: everywhere."""

    def within(self, level: int) -> str:
        """In parentheses where an operator of that level would tear it apart."""
        return self.text if self.binds >= level else f"({self.text})"

    @property
    def settled(self) -> bool | None:
        """The truth value of a condition that is the same in every cell."""
        return bool(self.lo) if self.kind == "bool" and self.lo == self.hi else None


def number(value: int | float | bool) -> Value:
    """A literal."""
    if isinstance(value, bool):
        return Value(repr(value), "bool", int(value), int(value), literal=True)
    binds = UNARY if value < 0 else ATOM
    if isinstance(value, float):
        sign = "-" if value < 0 else ""
        text = f'{sign}float("inf")' if math.isinf(value) else repr(value)
        return Value(text, "float", binds=binds, literal=True)
    return Value(repr(value), "int", value, value, binds, literal=True)


def literal(a: Value) -> int | float | bool:
    """The number or truth value of a literal."""
    if a.kind == "float":
        return math.copysign(math.inf, -1 if a.text[0] == "-" else 1) if "inf" in a.text else float(a.text)
    return bool(a.lo) if a.kind == "bool" else a.lo


TRUE, FALSE = number(True), number(False)


def integer(text: str, lo: int, hi: int, *, binds: int = ATOM, bits: int = 32, ok: Value | None = None) -> Value:
    """An integer tensor; a literal where only one value is possible."""
    if lo == hi and INT64[0] <= lo <= INT64[1]:
        return replace(number(lo), ok=ok)
    if lo < INT64[0] or hi > INT64[1]:  # hidden by a guard, or it wraps
        lo, hi = INT64
    return Value(text, "int", lo, hi, binds, bits, ok=ok)


# ------------------------------------------------------------------ conditions


def both(a: Value, b: Value) -> Value:
    if a.settled is not None:
        return b if a.settled else FALSE
    if b.settled is not None:
        return a if b.settled else FALSE
    return Value(f"{a.within(AND)} & {b.within(AND + 1)}", "bool", binds=AND)


def either(a: Value, b: Value) -> Value:
    if a.settled is not None:
        return TRUE if a.settled else b
    if b.settled is not None:
        return TRUE if b.settled else a
    left = a.text if a.binds == BIT_OR else a.within(PLUS)  # `&` inside `|` in parentheses, for the reader
    return Value(f"{left} | {b.within(PLUS)}", "bool", binds=BIT_OR)


def opposite(a: Value) -> Value:
    return number(not a.settled) if a.settled is not None else Value(f"~{a.within(UNARY)}", "bool", binds=UNARY)


def valid(a: Value) -> Value:
    return TRUE if a.ok is None else a.ok


def under(a: Value, ok: Value) -> Value:
    """The value, valid where `ok` holds."""
    return replace(a, ok=None if ok.settled else ok)


def all_valid(*values: Value) -> Value:
    result = TRUE
    for value in values:
        result = both(result, valid(value))
    return result


def holds(a: Value) -> Value:
    """The condition where it is valid, else False."""
    return both(replace(a, ok=None), valid(a))


def conjunction(a: Value, b: Value) -> Value:
    """`a and b`: what is invalid on the right does no harm where the left side is False."""
    return under(both(a, b), both(valid(a), either(valid(b), opposite(a))))


def disjunction(a: Value, b: Value) -> Value:
    return under(either(a, b), both(valid(a), either(valid(b), a)))


def negation(a: Value) -> Value:
    return under(opposite(a), valid(a))


def comparison(op: str, a: Value, b: Value) -> Value:
    ok = all_valid(a, b)
    if a.kind == b.kind == "int":
        settled = _settled(op, a, b)
        if settled is not None:
            return under(number(settled), ok)
    a, b = alike(a, b)
    return under(Value(f"{a.within(BIT_OR)} {op} {b.within(BIT_OR)}", "bool", binds=COMPARE), ok)


def _settled(op: str, a: Value, b: Value) -> bool | None:
    less, not_greater = a.hi < b.lo, a.hi <= b.lo
    greater, not_less = a.lo > b.hi, a.lo >= b.hi
    apart, same = less or greater, not_greater and not_less
    yes, no = {
        "<": (less, not_less),
        "<=": (not_greater, greater),
        ">": (greater, not_greater),
        ">=": (not_less, less),
        "==": (same, apart),
        "!=": (apart, same),
    }[op]
    return True if yes else False if no else None


# ------------------------------------------------------------------ numbers


def real(a: Value) -> Value:
    """The number as float64."""
    if a.kind == "float":
        return a
    if a.literal:
        return replace(number(float(a.lo)), ok=a.ok)
    return Value(f"{a.within(ATOM)}.to(torch.float64)", "float", ok=a.ok)


def tensor(a: Value) -> Value:
    """The value as a tensor. `q_idx` is an argument of every generated function."""
    if not a.literal:
        return a
    dtype = {"int": "torch.int64", "float": "torch.float64", "bool": "torch.bool"}[a.kind]
    return replace(a, text=f"q_idx.new_full((), {a.text}, dtype={dtype})", literal=False, bits=64, binds=ATOM)


def alike(a: Value, b: Value) -> tuple[Value, Value]:
    """Both as reals if either is real, and at least one of them a tensor."""
    if a.kind != b.kind:
        a, b = real(a), real(b)
    return (tensor(a), b) if a.literal and b.literal else (a, b)


def fits32(lo: float, hi: float) -> bool:
    return INT32[0] <= lo and hi <= INT32[1]
