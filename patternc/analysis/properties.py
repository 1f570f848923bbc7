"""Properties of a pattern at one length, read off its multiplicities, and the sentences that tell of a failure."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from patternc import ir

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Property:
    """What a `check` asks for: `causal`, `nonempty`, `symmetric`, `set`, `row OP number`, `density OP number` or
    `equals(other)`."""

    name: str
    op: str | None = None
    number: float | None = None
    other: ir.Program | None = None

    def accepts(self, value: float) -> bool:
        """Whether a row's number of keys, or a density, is as wanted."""
        assert self.op is not None
        assert self.number is not None
        return _COMPARE[self.op](value, self.number)

    @property
    def expected(self) -> str:
        return f"expected {self.op} {self.number}"

    @property
    def most_keys(self) -> float:
        """The largest number of keys per row that is not too large."""
        assert self.number is not None
        bounds = {"<=": math.floor, "==": math.floor, "<": lambda x: math.ceil(x) - 1}
        return bounds[self.op](self.number) if self.op in bounds and not math.isinf(self.number) else math.inf

    @property
    def fewest_keys(self) -> float:
        """The smallest number of keys per row that is not too small."""
        assert self.number is not None
        bounds = {">=": math.ceil, "==": math.ceil, ">": lambda x: math.floor(x) + 1}
        if self.op in bounds and math.isinf(self.number):
            return self.number
        return bounds[self.op](self.number) if self.op in bounds else 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Where a property fails; `key` is None where a whole row does, `query` where it is the density."""

    query: int | None
    key: int | None
    sentence: str
    """With `{at}` for the length, head and layer, `{here}` for the same before further words."""

    def told(self, at: str) -> str:
        """The sentence, at that place."""
        return self.sentence.format(at=at, here=f"{at}," if "," in at else at)


def times(count: int) -> str:
    return {0: "not at all", 1: "once", 2: "twice"}.get(count, f"{count} times")


def not_causal(q: int, k: int) -> Failure:
    return Failure(q, k, f"not causal: {{here}} query {q} attends key {k}")


def no_key(q: int) -> Failure:
    return Failure(q, None, f"row {q} has no key {{at}}")


def not_set(q: int, k: int, m: int) -> Failure:
    return Failure(q, k, f"not a set: {{here}} query {q} attends key {k} {times(m)}")


def not_symmetric(q: int, k: int, there: int, back: int) -> Failure:
    if max(there, back) == 1:
        a, b = (q, k) if there else (k, q)
        told = f"query {a} attends key {b}, but query {b} does not attend key {a}"
    else:
        told = f"query {q} attends key {k} {times(there)}, but query {k} attends key {q} {times(back)}"
    return Failure(q, k, f"not symmetric: {{here}} {told}")


def not_equal(q: int, k: int, mine: int, others: int) -> Failure:
    told = f"attends key {k} {times(mine)}, in the other pattern {times(others)}"
    if max(mine, others) == 1:
        told = f"attends key {k} only in {'this' if mine else 'the other'} pattern"
    return Failure(q, k, f"not equal: {{here}} query {q} {told}")


def wrong_row(q: int, keys: int, wanted: Property) -> Failure:
    return Failure(q, None, f"{{here}} row {q} has {keys} key{'s' * (keys != 1)}, {wanted.expected}")


def wrong_density(density: float, wanted: Property) -> Failure:
    return Failure(None, None, f"{{here}} the density is {density:.6g}, {wanted.expected}")


def cell_failure(wanted: Property, q: int, k: int, m: int, back: int = 0, other: int = 0) -> Failure | None:
    """The failure in a cell with multiplicity m; `back` is that of (k, q), `other` the other pattern's."""
    match wanted.name:
        case "causal":
            return not_causal(q, k) if m and k > q else None
        case "set":
            return not_set(q, k, m) if m > 1 else None
        case "symmetric":
            return not_symmetric(q, k, m, back) if m != back else None
        case "equals":
            return not_equal(q, k, m, other) if m != other else None
    raise AssertionError(f"not a property of cells: {wanted.name}")


def row_failure(
    wanted: Property, q: int, row: Sequence[int], column: Sequence[int] = (), other: Sequence[int] = ()
) -> Failure | None:
    """The first failure in one row of multiplicities; `column` is its mirror image, `other` the other pattern's row.

    Sequences that the property does not look at may be left out.
    """
    match wanted.name:
        case "nonempty":
            return None if any(row) else no_key(q)
        case "row":
            keys = sum(1 for m in row if m)
            return None if wanted.accepts(keys) else wrong_row(q, keys, wanted)
    cells = zip_longest(row, column, other, fillvalue=0)
    failures = (cell_failure(wanted, q, k, *cell) for k, cell in enumerate(cells))
    return next((f for f in failures if f is not None), None)
