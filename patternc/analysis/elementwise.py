"""Arithmetic on values that are plain Python numbers or arrays, as they come.

An expression may have the same value everywhere, and then it has no array: these functions treat both alike. Truth
values are Python's or arrays of bool, numbers Python's or arrays of int64 or float64.
"""

from __future__ import annotations

from typing import Any

Array = Any
Plain = (bool, int, float)


def both(a: Any, b: Any) -> Any:
    """`a and b` of truth values, plain or arrays."""
    if isinstance(a, bool):
        return b if a else False
    if isinstance(b, bool):
        return a if b else False
    return a & b


def either(a: Any, b: Any) -> Any:
    """`a or b` of truth values, plain or arrays."""
    if isinstance(a, bool):
        return True if a else b
    if isinstance(b, bool):
        return True if b else a
    return a | b


def opposite(a: Any) -> Any:
    """`not a` of a truth value, plain or an array."""
    return (not a) if isinstance(a, bool) else ~a


def choose(xp: Any, c: Any, a: Any, b: Any) -> Any:
    """`a if c else b` of values, plain or arrays; integers and reals meet as reals."""
    if isinstance(c, bool):
        return a if c else b
    return xp.where(c, *alike(xp, a, b))


def alike(xp: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """The two values as reals if either is real: a plain real would make some libraries round integers to float32."""
    if is_real(xp, a) or is_real(xp, b):
        return as_real(xp, a), as_real(xp, b)
    return a, b


def is_real(xp: Any, a: Any) -> bool:
    return isinstance(a, float) if isinstance(a, Plain) else xp.is_real(a)


def as_real(xp: Any, a: Any) -> Any:
    return float(a) if isinstance(a, Plain) else xp.real(a)


def wrapped(a: Any) -> Any:
    """A plain integer as 64 bits hold it; everything else as it is."""
    if isinstance(a, int) and not -(1 << 63) <= a < 1 << 63:
        return (a + (1 << 63)) % (1 << 64) - (1 << 63)
    return a


def smaller(xp: Any, a: Any, b: Any) -> Any:
    """The minimum of values, plain or arrays of one type; NaN if either is."""
    if isinstance(a, Plain):
        return (a if a != a else min(b, a)) if isinstance(b, Plain) else xp.minimum(b, a)
    return xp.minimum(a, b)


def larger(xp: Any, a: Any, b: Any) -> Any:
    """The maximum of values, plain or arrays of one type; NaN if either is."""
    if isinstance(a, Plain):
        return (a if a != a else max(b, a)) if isinstance(b, Plain) else xp.maximum(b, a)
    return xp.maximum(a, b)


def clip(xp: Any, a: Any, lo: Any, hi: Any) -> Any:
    """`a` pushed into lo .. hi."""
    return smaller(xp, larger(xp, a, lo), hi)


def floor_divide(xp: Any, x: Any, y: Any) -> Any:
    """x // y; by a shift where y is a plain power of two, which is faster."""
    return x >> (y.bit_length() - 1) if _is_power_of_two(y) and not is_real(xp, x) else x // y


def remainder(xp: Any, x: Any, y: Any) -> Any:
    """x % y, with the sign of y; by a mask where y is a plain power of two, which is faster."""
    return x & (y - 1) if _is_power_of_two(y) and not is_real(xp, x) else x % y


def _is_power_of_two(y: Any) -> bool:
    return isinstance(y, int) and y > 0 and y & (y - 1) == 0


def ceil_log2(xp: Any, a: Any) -> Any:
    """The ceiling of log2 of integers, plain or an array; 0 where they are below 1."""
    if isinstance(a, Plain):
        return (int(a) - 1).bit_length() if a > 0 else 0
    return xp.searchsorted(1 << xp.arange(0, 63), a)
