"""Arithmetic of typed torch expressions: texts with the ranges that hold their values."""

from __future__ import annotations

import itertools
from dataclasses import replace

from patternc.analysis.elementwise import wrapped
from patternc.backends.flex_values import (
    ATOM,
    BIT_OR,
    COMPARE,
    FALSE,
    INT64,
    PLUS,
    TIMES,
    TRUE,
    UNARY,
    XOR,
    Value,
    alike,
    all_valid,
    both,
    comparison,
    either,
    fits32,
    integer,
    literal,
    number,
    opposite,
    real,
    tensor,
    under,
    valid,
)

_BINDS = {"+": PLUS, "-": PLUS, "*": TIMES, "//": TIMES, "%": TIMES, "^": XOR}
_FAR = 70
"""Exponents above this lead outside 64 bits, if the base is not 0 or ±1, and nothing else matters."""


def roomy(lo: int, hi: int, *values: Value) -> list[Value]:
    """Integers as operands of an operation with a result in lo .. hi, which may need 64 bits."""
    if fits32(lo, hi) or any(v.bits == 64 and not v.literal for v in values):
        return list(values)
    first = next(i for i, v in enumerate(values) if not v.literal)
    cast = replace(values[first], text=f"{values[first].within(ATOM)}.to(torch.int64)", binds=ATOM, bits=64)
    return [*values[:first], cast, *values[first + 1 :]]


def widest(*values: Value) -> int:
    return max((v.bits for v in values if not v.literal), default=64)


def binary(op: str, a: Value, b: Value) -> Value:
    """`+ - * ^`, and `//` and `%` by what is never zero."""
    ok = all_valid(a, b)
    if "float" in (a.kind, b.kind):
        a, b = alike(real(a), real(b))
        level = _BINDS[op]
        return Value(
            f"{a.within(level)} {op} {b.within(level + 1)}", "float", binds=level, ok=None if ok.settled else ok
        )
    lo, hi = _RANGES[op](a, b)
    if (op == "%" and a.lo >= 0 and a.hi < b.lo) or _is_neutral(op, b):
        return under(a, ok)
    if op in "+*" and _is_neutral(op, a):
        return under(b, ok)
    if a.literal and b.literal:
        return under(number(wrapped(lo)), ok)
    a, b = roomy(lo, hi, a, b)
    level = _BINDS[op]
    text = f"{a.within(level)} {op} {b.within(level + 1)}"
    return under(integer(text, lo, hi, binds=level, bits=widest(a, b)), ok)


def _is_neutral(op: str, b: Value) -> bool:
    """Whether the operation with b on the right changes nothing."""
    return b.literal and b.lo == {"+": 0, "-": 0, "*": 1, "//": 1}.get(op)


def division(op: str, a: Value, b: Value) -> Value:
    """`//` and `%`, which floor; invalid where the divisor is zero."""
    if b.kind == "int" and (b.lo > 0 or b.hi < 0):
        return binary(op, a, b)
    if b.literal:
        return binary(op, a, b) if literal(b) != 0 else replace(number(0), ok=FALSE)
    zero = Value(f"{b.within(BIT_OR)} == 0", "bool", binds=COMPARE)
    guarded = replace(b, text=f"torch.where({zero.text}, 1, {b.text})", binds=ATOM, ok=None)
    ok = both(all_valid(a, b), opposite(zero))
    return under(binary(op, replace(a, ok=None), guarded), ok)


def negative(a: Value) -> Value:
    if a.kind == "float":
        return replace(a, text=f"-{a.within(UNARY)}", binds=UNARY)
    if a.literal:
        return replace(number(wrapped(-a.lo)), ok=a.ok)
    (wide,) = roomy(-a.hi, -a.lo, a)
    return under(integer(f"-{wide.within(UNARY)}", -a.hi, -a.lo, binds=UNARY, bits=wide.bits), valid(a))


def absolute(a: Value) -> Value:
    if a.kind == "float":
        return replace(a, text=f"torch.abs({tensor(a).text})", binds=ATOM, literal=False)
    if a.lo >= 0:
        return a
    hi = max(-a.lo, a.hi)
    if a.literal:
        return replace(number(wrapped(hi)), ok=a.ok)
    (wide,) = roomy(0, hi, a)
    return under(integer(f"torch.abs({wide.text})", max(0, -a.hi), hi, bits=wide.bits), valid(a))


def extreme(op: str, a: Value, b: Value) -> Value:
    """`min` or `max`; NaN if either is."""
    ok = all_valid(a, b)
    if "float" in (a.kind, b.kind):
        a, b = (tensor(real(x)) for x in (a, b))
        return under(Value(f"torch.{op}imum({a.text}, {b.text})", "float"), ok)
    pick = min if op == "min" else max
    lo, hi = pick(a.lo, b.lo), pick(a.hi, b.hi)
    if a.literal and b.literal:
        return under(number(lo), ok)
    if a.literal or b.literal:
        one, bound = (b, a) if a.literal else (a, b)
        (one,) = roomy(min(lo, bound.lo), max(hi, bound.hi), one)
        return under(
            integer(f"torch.clamp({one.text}, {'max' if op == 'min' else 'min'}={bound.text})", lo, hi, bits=one.bits),
            ok,
        )
    return under(integer(f"torch.{op}imum({a.text}, {b.text})", lo, hi, bits=widest(a, b)), ok)


def choice(c: Value, a: Value, b: Value) -> Value:
    """`a if c else b`, where only the side that is chosen need be valid."""
    if c.settled is not None:
        chosen = a if c.settled else b
        return under(chosen, all_valid(c, chosen))
    guarded = a.ok is not None or b.ok is not None
    ok = both(valid(c), either(both(c, valid(a)), both(opposite(c), valid(b))) if guarded else TRUE)
    if a.kind == "bool" and (a.literal or b.literal):
        return under(either(both(c, a), both(opposite(c), b)), ok)
    if a.kind != b.kind or (a.kind == "float" and a.literal and b.literal):
        a, b = alike(a, b)
    lo, hi = min(a.lo, b.lo), max(a.hi, b.hi)
    if a.kind == "int" and not (a.literal and b.literal):
        a, b = roomy(lo, hi, a, b)
    text = f"torch.where({c.text}, {a.text}, {b.text})"
    if a.kind != "int":
        return under(Value(text, a.kind), ok)
    if a.literal and b.literal and fits32(lo, hi):  # two literals make 64 bits
        return under(integer(f"{text}.to(torch.int32)", lo, hi), ok)
    return under(integer(text, lo, hi, bits=widest(a, b)), ok)


def inside(a: Value, extent: int) -> tuple[Value, Value]:
    """An index that is safe for an axis, and whether it was in range before it was clamped."""
    ok = both(comparison(">=", replace(a, ok=None), number(0)), comparison("<", replace(a, ok=None), number(extent)))
    if ok.settled:
        return a, ok
    if a.literal:
        return number(min(max(a.lo, 0), extent - 1)), ok
    return Value(f"torch.clamp({a.text}, 0, {extent - 1})", "int", 0, extent - 1, bits=a.bits), ok


def power(a: Value, b: Value) -> Value:
    """a ** b; of integers invalid where b < 0."""
    if "float" in (a.kind, b.kind):
        ok = all_valid(a, b)
        return under(Value(f"torch.pow({tensor(real(a)).text}, {tensor(real(b)).text})", "float"), ok)
    ok = both(all_valid(a, b), comparison(">=", replace(b, ok=None), number(0)))
    if b.hi < 0:
        return replace(number(0), ok=FALSE)
    most = max(abs(a.lo), abs(a.hi), 1) ** min(b.hi, _FAR)
    lo, hi = (a.lo ** max(b.lo, 0) if b.hi <= _FAR else 0) if a.lo >= 0 else -most, most
    if a.literal and b.literal:
        return under(number(wrapped(pow(a.lo, b.lo, 1 << 64))), ok)
    a, b = roomy(lo, hi, tensor(a), tensor(b))
    text = f"power({a.text}, {b.text}, bits={min(b.hi, INT64[1]).bit_length()})"
    return under(integer(text, lo, hi, bits=widest(a, b)), ok)


def ceil_log2(a: Value) -> Value:
    """The ceiling of the logarithm; invalid for a <= 0."""
    ok = both(valid(a), comparison(">", replace(a, ok=None), number(0)))
    if a.hi <= 0:
        return replace(number(0), ok=FALSE)
    lo, hi = ((max(x, 1) - 1).bit_length() for x in (a.lo, a.hi))
    return under(integer(f"ceil_log2({a.text}, bits={hi})", lo, hi), ok)


# ------------------------------------------------------------------ ranges of results


def _sums(a: Value, b: Value) -> tuple[int, int]:
    return a.lo + b.lo, a.hi + b.hi


def _differences(a: Value, b: Value) -> tuple[int, int]:
    return a.lo - b.hi, a.hi - b.lo


def _corners(results: list[int]) -> tuple[int, int]:
    return min(results), max(results)


def _products(a: Value, b: Value) -> tuple[int, int]:
    return _corners([x * y for x, y in itertools.product((a.lo, a.hi), (b.lo, b.hi))])


def _quotients(a: Value, b: Value) -> tuple[int, int]:
    if b.lo > 0 or b.hi < 0:
        return _corners([x // y for x, y in itertools.product((a.lo, a.hi), (b.lo, b.hi))])
    most = max(abs(a.lo), abs(a.hi))  # by at least 1 in size
    return -most, most


def _remainders(a: Value, b: Value) -> tuple[int, int]:
    if a.literal and b.literal:
        return a.lo % b.lo, a.lo % b.lo
    if b.lo > 0 and a.lo >= 0 and a.hi < b.lo:
        return a.lo, a.hi
    return min(0, b.lo + 1), max(0, b.hi - 1)


def _xors(a: Value, b: Value) -> tuple[int, int]:
    if a.literal and b.literal:
        return a.lo ^ b.lo, a.lo ^ b.lo
    bits = max(v.bit_length() for x in (a, b) for v in (x.lo, x.hi))
    return (0 if a.lo >= 0 and b.lo >= 0 else -(1 << bits)), (1 << bits) - 1


_RANGES = {"+": _sums, "-": _differences, "*": _products, "//": _quotients, "%": _remainders, "^": _xors}
