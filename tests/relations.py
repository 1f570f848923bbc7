"""What numbers, patterns and their operators mean: the half of the oracle that needs no syntax."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

INF = math.inf
Value = Any
"""A number, a truth value, a list or tuple of values, a run-time tensor or a Relation."""


class OracleError(Exception):
    """The program has no meaning at this cell."""


@dataclass(frozen=True)
class Relation:
    """A pattern in one index space: `at(q, k)` is the multiplicity."""

    at: Callable[[int, int], int]


# ------------------------------------------------------------------ numbers


def integer_power(a: Value, b: Value) -> Value:
    if b < 0:
        raise OracleError("negative exponent")
    return a**b


def floor_divide(a: Value, b: Value) -> Value:
    if b == 0:
        raise OracleError("division by zero")
    return a if a in (INF, -INF) else a // b


def remainder(a: Value, b: Value) -> Value:
    if b == 0:
        raise OracleError("remainder of a division by zero")
    return a % b


def ceil_log2(x: Value) -> int:
    if x <= 0:
        raise OracleError("log2 of a number ≤ 0")
    return next(i for i in range(64) if 2**i >= x)


ARITHMETIC: dict[str, Callable[[Value, Value], Value]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": floor_divide,
    "%": remainder,
    "**": integer_power,
    "^": operator.xor,
}
COMPARISONS: dict[str, Callable[[Value, Value], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "in": lambda a, b: a in b,
    "not in": lambda a, b: a not in b,
}
NUMERIC: dict[str, Callable[..., Value]] = {
    "abs": abs,
    "min": min,
    "max": max,
    "clamp": lambda x, lo, hi: min(max(x, lo), hi),
    "cdiv": lambda a, b: -floor_divide(-a, b),
    "log2": ceil_log2,
    "len": len,
}

# ------------------------------------------------------------------ patterns


def relation_of_cells(condition: Callable[[int, int], bool]) -> Relation:
    return Relation(lambda q, k: int(condition(q, k)))


BUILT_IN = {
    "causal": relation_of_cells(lambda q, k: k <= q),
    "full": relation_of_cells(lambda q, k: True),
    "diagonal": relation_of_cells(lambda q, k: q == k),
    "empty": relation_of_cells(lambda q, k: False),
}


def union(a: Relation, b: Relation) -> Relation:
    return Relation(lambda q, k: max(a.at(q, k), b.at(q, k)))


def difference(a: Relation, b: Relation) -> Relation:
    def at(q: int, k: int) -> int:
        inside, taken = a.at(q, k), b.at(q, k)
        return int(inside == 1 and taken == 0)

    return Relation(at)


COMBINE: dict[str, Callable[[Relation, Relation], Relation]] = {
    "|": union,
    "-": difference,
    "&": lambda a, b: Relation(lambda q, k: a.at(q, k) * b.at(q, k)),
    "+": lambda a, b: Relation(lambda q, k: a.at(q, k) + b.at(q, k)),
}


def in_blocks(size: int, inner: Relation) -> Relation:
    return Relation(lambda q, k: inner.at(q // size, k // size))


def covered(size: int, inner: Relation, n: int) -> Relation:
    """Every block that holds a cell of `inner`, clipped to the sequence."""

    @cache
    def block(row: int, column: int) -> int:
        rows = range(row * size, min(n, (row + 1) * size))
        columns = range(column * size, min(n, (column + 1) * size))
        cells = [inner.at(q, k) for q in rows for k in columns]
        return int(max(cells) > 0)

    return Relation(lambda q, k: block(q // size, k // size))


def share_count(scores: list[float], share: float) -> int:
    """How many of the scores, the largest first, have together `share` of their softmax mass."""
    weights = [math.exp(s - scores[0]) for s in scores]
    total = 0.0
    for w in weights:
        total += w
    mass = 0.0
    for i, w in enumerate(weights):
        mass += w
        if mass >= share * total:
            return i + 1
    return len(scores)


def best(count: int | float, score: Callable[[int, int], float], of: Relation, n: int) -> Relation:
    """Per row the best keys of a set: the largest score first, of equal ones the smaller key."""

    @cache
    def row(q: int) -> frozenset[int]:
        scored = [(score(q, k), k) for k in range(n) if of.at(q, k) > 0]
        order = sorted((-s, k) for s, k in scored if s == s)
        number = share_count([-s for s, _ in order], count) if isinstance(count, float) and order else count
        return frozenset(k for _, k in order[: int(number)])

    return relation_of_cells(lambda q, k: k in row(q))


def mix(x: int) -> int:
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    return x ^ x >> 16


def sample_rank(seed: int, h: int, q: int, k: int) -> int:
    return mix(mix(mix(mix((seed + 0x9E3779B9) % 2**32) ^ h) ^ q) ^ k)
