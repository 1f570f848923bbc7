"""What a plan costs against what its pattern wants, counted exactly."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from patternc.analysis.measure import kept_pairs
from patternc.analysis.planner import Meanings
from patternc.analysis.tiles import Area
from patternc.plan import PARTIAL, Launch, Plan, Runs

PROCESSORS = 132
"""For how many processors imbalance is stated where there is no GPU: those of an H100 or H200."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one plan, over all heads and, if a run-time tensor has a batch axis, all batch rows."""

    density: float
    """The share of (query, key) pairs that are kept."""
    wanted_pairs: int
    """Pairs with M > 0."""
    computed_pairs: int
    """Tiles times the area of a tile, beyond the end of the sequence included."""
    padding: float
    """computed_pairs / wanted_pairs, and 1 if nothing is wanted."""
    padding_backward: float
    """The same for the key-major tables, from which dk and dv are computed."""
    full_tiles: int
    partial_tiles: int
    skipped_tiles: int
    launches: int
    imbalance: float
    """The longest processor's work over the larger of the mean and the longest single row of tiles, when rows are dealt
    out longest first."""
    plan_bytes: int
    """Size of the plan's tables."""
    flops: int
    """Forward floating-point operations for each channel of the head: 4 · wanted_pairs; times head_dim they are all."""
    exact: bool
    """Whether wanted_pairs, and what follows from it, is counted; else it is estimated."""


def statistics(plan: Plan, meanings: Meanings, xp: Any, *, most: int | None = None) -> Statistics:
    """Counts the pairs of `plan`, whose multiplicities are `meanings`; with `most`, only so many cells of each launch's
    partial tiles are looked at."""
    followers = [_followers(launch, meanings) for launch in plan.launches]
    wanted = sum(_wanted(plan, launch, meanings, xp, most) for launch in plan.launches)
    partial, forward, backward = 0, 0, 0
    for launch, times in zip(plan.launches, followers, strict=True):
        partial += _tiles(launch.by_query, launch.by_query.kind == PARTIAL) * times
        forward += _tiles(launch.by_query) * times
        backward += _tiles(launch.by_key) * times
    area = plan.tile_q * plan.tile_k
    schedules = sum(followers)
    grid = -(-plan.n_q // plan.tile_q) * -(-plan.n // plan.tile_k)
    return Statistics(
        density=wanted / (schedules * plan.n_q * plan.n),
        wanted_pairs=wanted,
        computed_pairs=forward * area,
        padding=_ratio(forward * area, wanted),
        padding_backward=_ratio(backward * area, wanted),
        full_tiles=forward - partial,
        partial_tiles=partial,
        skipped_tiles=schedules * grid - forward,
        launches=len(plan.launches),
        imbalance=_imbalance(_row_costs(plan, followers), PROCESSORS),
        plan_bytes=sum(_bytes(runs) for launch in plan.launches for runs in (launch.by_query, launch.by_key)),
        flops=4 * wanted,
        exact=most is None or all(_partial_cells(plan, launch) <= most for launch in plan.launches),
    )


def _ratio(computed: int, wanted: int) -> float:
    return computed / wanted if wanted else 1.0


def _followers(launch: Launch, meanings: Meanings) -> int:
    """How many pairs of head and batch row follow the launch; a batch row counts only where patterns depend on it."""
    return len(launch.heads) * len(_rows(launch, meanings))


def _rows(launch: Launch, meanings: Meanings) -> list[int | None]:
    if launch.batch is not None:
        return list(launch.batch)
    count = meanings.batch
    return [None] if count is None else list(range(count))


def _partial_cells(plan: Plan, launch: Launch) -> int:
    return _tiles(launch.by_query, launch.by_query.kind == PARTIAL) * plan.tile_q * plan.tile_k


def _wanted(plan: Plan, launch: Launch, meanings: Meanings, xp: Any, most: int | None) -> int:
    """Pairs with M > 0; heads and rows of one meaning are counted once and multiplied."""
    area = Area(plan.n - plan.n_q, plan.n_q, plan.n, plan.tile_q, plan.tile_k)
    counts: dict[int, int] = {}
    total = 0
    for h in launch.heads:
        for b in _rows(launch, meanings):
            meaning = meanings.of(h, b)
            if id(meaning) not in counts:
                counts[id(meaning)] = kept_pairs(meaning, launch.by_query, area, xp, most)
            total += counts[id(meaning)]
    return total


def _tiles(runs: Runs, chosen: Any = slice(None)) -> int:
    return int(runs.count[chosen].sum())


def _bytes(runs: Runs) -> int:
    return sum(int(array.nbytes) for array in (getattr(runs, field.name) for field in fields(runs)))


def _row_costs(plan: Plan, followers: list[int]) -> Iterable[tuple[int, int]]:
    """(cost in tiles, how many rows have it)"""
    classes: dict[int, int] = {}
    for launch, times in zip(plan.launches, followers, strict=True):
        pointers, counts = launch.by_query.rows.tolist(), launch.by_query.count.tolist()
        for start, end in pairwise(pointers):
            cost = sum(counts[start:end])
            classes[cost] = classes.get(cost, 0) + times
    return classes.items()


def _imbalance(classes: Iterable[tuple[int, int]], processors: int) -> float:
    """Longest processing time first: each row goes to the processor with the least work so far."""
    rows = sorted(((cost, count) for cost, count in classes if cost), reverse=True)
    if not rows:
        return 1.0
    loads = [0] * processors
    for cost, count in rows:
        whole, rest = divmod(count, processors)
        loads = [load + cost * whole for load in loads]  # equal rows in equal shares keep the order of the loads
        heapq.heapify(loads)
        for _ in range(rest):
            heapq.heapreplace(loads, loads[0] + cost)
    total = sum(cost * count for cost, count in rows)
    return max(loads) / max(total / processors, rows[0][0])
