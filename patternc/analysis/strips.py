"""Strips: adjacent tiles of one row and kind, on their way to the runs of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patternc.analysis.elementwise import Array
from patternc.plan import Runs

MOST_INT32 = (1 << 31) - 1


@dataclass(frozen=True, eq=False)
class Strips:
    """Adjacent tiles of one kind: `count` tiles from tile `first` on, in tile row `row`; parallel arrays."""

    row: Array
    first: Array
    count: Array
    kind: Array
    weight: Array


def spread_out(counts: Array, xp: Any) -> tuple[Array, Array]:
    """For groups of so many items: each item's group, and its number within the group."""
    group = xp.repeat(xp.arange(0, counts.shape[0]), counts)
    before = xp.cumsum(counts) - counts
    return group, xp.arange(0, group.shape[0]) - before[group]


def merged(strips: list[Strips], xp: Any, per_lane: int | None = None) -> Strips:
    """All strips in order of row and first tile, those that meet and agree in kind and weight as one; but none goes on
    from one lane of so many tiles to the next."""
    if not strips:
        nothing = xp.arange(0, 0)
        return Strips(nothing, nothing, nothing, nothing, nothing)
    row, first, count, kind, weight = (
        xp.concatenate([getattr(s, name) for s in strips]) for name in ("row", "first", "count", "kind", "weight")
    )
    order = xp.argsort(row * (largest_or(first, 0, xp) + 1) + first)
    row, first, count, kind, weight = row[order], first[order], count[order], kind[order], weight[order]
    total = row.shape[0]
    meets = (row[1:] == row[:-1]) & (first[1:] == first[:-1] + count[:-1])
    meets = meets & (kind[1:] == kind[:-1]) & (weight[1:] == weight[:-1])
    if per_lane is not None:
        meets = meets & (first[1:] % per_lane > 0)
    start = xp.concatenate([xp.arange(0, min(total, 1)), xp.flatnonzero(~meets) + 1])
    last = xp.concatenate([start[1:] - 1, xp.arange(total - 1, total)]) if total else start
    return Strips(row[start], first[start], first[last] + count[last] - first[start], kind[start], weight[start])


def largest_or(a: Array, default: int, xp: Any) -> int:
    """The largest element as a plain number, or what is said if there is none."""
    return xp.max(a, (0,)).item() if a.shape[0] else default


def runs(strips: Strips, rows: int, xp: Any) -> Runs:
    """Strips, in order, as the runs of a plan; tables of 32 bits, but for weights that need more."""
    pointers = xp.searchsorted(strips.row, xp.arange(0, rows + 1))
    wide = largest_or(strips.weight, 0, xp) > MOST_INT32
    weight = strips.weight if wide else xp.small(strips.weight)
    rows, first, count, kind = (xp.small(a) for a in (pointers, strips.first, strips.count, strips.kind))
    return Runs(rows, first, count, kind, weight)
