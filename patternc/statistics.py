"""What a plan costs against what its pattern wants, counted exactly."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from patternc import fold, ir
from patternc.analysis.evaluate import Meaning
from patternc.analysis.meanings import Meanings
from patternc.analysis.measure import kept_pairs
from patternc.analysis.periods import diagonal_period
from patternc.analysis.tiles import Area, Counter, classify, consecutive_area
from patternc.arrangement import HeadClass
from patternc.passes.balance import PROCESSORS, followers, row_costs, stages
from patternc.passes.nature import is_set
from patternc.passes.tiles import tiles
from patternc.plan import PARTIAL, Launch, Plan, Runs, TermTiles, Work

FEW = 8
"""Equal items for each processor that are dealt out one by one; more are dealt together, in some 40 steps."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one plan, over all heads and, if a run-time tensor has a batch axis, all batch rows."""

    density: float
    """The share of (query, key) pairs that are kept."""
    wanted_pairs: int
    """Pairs with M > 0."""
    computed_pairs: int
    """Tiles of all terms times the area of a tile, slots that hold no token included."""
    padding: float
    """computed_pairs / wanted_pairs, and 1 if nothing is wanted."""
    padding_backward: float
    """The same for the key-major tables, from which dk and dv are computed."""
    full_tiles: int
    partial_tiles: int
    skipped_tiles: int
    """Of the tiles of each term, those that are not computed."""
    launches: int
    imbalance: float
    """The time of the forward pass over that of a perfect division of the same work: the slowest processor's tiles over
    the larger of the mean and the largest item of work."""
    plan_bytes: int
    """Size of the plan's tables."""
    flops: int
    """Forward floating-point operations for each channel of the head: 4 · wanted_pairs; times head_dim they are all."""
    exact: bool
    """Whether wanted_pairs, and what follows from it, is counted; else it is estimated."""


def statistics(plan: Plan, meanings: Meanings, xp: Any, *, most: int | None = None) -> Statistics:
    """Counts the pairs of `plan`, whose multiplicities are `meanings`; with `most`, only so many cells of each term's
    partial tiles are looked at."""
    area, tiles = plan.tile_q * plan.tile_k, tile_counts(plan, meanings)
    wanted, exact = _wanted(plan, meanings, xp, most)
    return Statistics(
        density=wanted / (plan.heads * (meanings.batch or 1) * plan.n_q * plan.n),
        wanted_pairs=wanted,
        computed_pairs=tiles.forward * area,
        padding=_ratio(tiles.forward * area, wanted),
        padding_backward=_ratio(tiles.backward * area, wanted),
        full_tiles=tiles.forward - tiles.partial,
        partial_tiles=tiles.partial,
        skipped_tiles=tiles.all - tiles.forward,
        launches=len(plan.launches),
        imbalance=imbalance(plan, xp),
        plan_bytes=plan_bytes(plan),
        flops=4 * wanted,
        exact=exact,
    )


def _ratio(computed: int, wanted: int) -> float:
    return computed / wanted if wanted else 1.0


@dataclass(frozen=True, slots=True)
class TileCounts:
    """Over all heads and batch rows that follow a plan."""

    all: int
    """Of all terms that are in the plan."""
    forward: int
    """Those of the query-major tables."""
    partial: int
    """The partial ones of these."""
    backward: int
    """Those of the key-major tables."""


def tile_counts(plan: Plan, meanings: Meanings) -> TileCounts:
    """The tiles of a plan that was made from `meanings`."""
    every, forward, partial, backward = 0, 0, 0, 0
    for launch in plan.launches:
        times = len(launch.heads) * len(_rows(launch, meanings))
        for term in launch.terms:
            every += launch.queries.tiles * term.keys.tiles * times
            forward += _tiles(term.by_query) * times
            partial += _tiles(term.by_query, term.by_query.kind == PARTIAL) * times
            backward += _tiles(term.by_key) * times
    return TileCounts(every, forward, partial, backward)


def _tiles(runs: Runs, chosen: Any = slice(None)) -> int:
    return int(runs.count[chosen].sum())


def _rows(launch: Launch, meanings: Meanings) -> list[int | None]:
    """The batch rows that follow the launch."""
    return _all_rows(meanings) if launch.batch is None else list(launch.batch)


# ------------------------------------------------------------------ whole patterns in consecutive tokens


class Consecutive:
    """The tiles that whole patterns have in consecutive tokens, made when they are first asked for.

    Those of `plan` and its multiplicities; TooMuchWorkError beyond the limit of the counter, if it has one."""

    def __init__(self, plan: Plan, meanings: Meanings, xp: Any) -> None:
        self.area = consecutive_area(plan.n - plan.n_q, plan.n_q, plan.n, plan.tile_q, plan.tile_k)
        self._meanings, self._xp, self.counter = meanings, xp, Counter()
        self._known: dict[int, Runs] = {}

    def runs(self, h: int, b: int | None) -> Runs:
        """The runs of one head and batch row, by query."""
        meaning = self._meanings.of(h, b)
        if id(meaning) not in self._known:
            self._known[id(meaning)] = classify(meaning, self.area, self._xp, self.counter).by_query
        return self._known[id(meaning)]

    def counts(self, heads: Iterable[int]) -> tuple[int, int]:
        """The full and the partial tiles of heads, in all batch rows."""
        full, partial = 0, 0
        for h in heads:
            for b in _all_rows(self._meanings):
                runs = self.runs(h, b)
                some = _tiles(runs, runs.kind == PARTIAL)
                full, partial = full + _tiles(runs) - some, partial + some
        return full, partial


def _all_rows(meanings: Meanings) -> list[int | None]:
    """The batch rows; they are told apart only where some pattern depends on them."""
    return [None] if meanings.batch is None else list(range(meanings.batch))


# ------------------------------------------------------------------ pairs


def _wanted(plan: Plan, meanings: Meanings, xp: Any, most: int | None) -> tuple[int, bool]:
    """Pairs with M > 0 of all heads and batch rows, and whether they are counted. Terms of a set are disjoint, so their
    pairs add up; those of a bag are tiled again, each without the pairs of those before it."""
    heads = sorted({h for launch in plan.launches for h in launch.heads})
    bags = {h for h in heads if len(meanings.terms(h)) > 1 and not is_set(meanings.of(h, 0).pattern)}
    total, exact = _pairs(plan, meanings, xp, most, set(heads) - bags)
    if not bags:
        return total, exact
    classes = tuple(_apart(own) for own in meanings.arrangement.classes if not bags.isdisjoint(own.heads))
    supports = meanings.rearranged(replace(meanings.arrangement, classes=classes))
    more, counted = _pairs(tiles(supports, plan.tile_q, plan.tile_k), supports, xp, most, bags)
    return total + more, exact and counted


def _apart(own: HeadClass) -> HeadClass:
    """The class with the support of each term, without those of the terms before it."""
    terms, before = [], list[ir.Pattern]()
    for term in own.terms:
        alone = [fold.complement(other, other.span) for other in before]
        span, support = term.pattern.span, ir.Support(term.pattern, span=term.pattern.span)
        terms.append(replace(term, pattern=fold.product([support, *alone], span)))
        lists = [listed for listed in (term.listed_queries, term.listed_keys) if listed is not None]
        before.append(fold.product([support, *lists], span))
    return replace(own, terms=tuple(terms))


def _pairs(plan: Plan, meanings: Meanings, xp: Any, most: int | None, heads: set[int]) -> tuple[int, bool]:
    """The pairs of all terms of heads, and whether they are counted."""
    count = _Count(meanings, xp, most)
    total = sum(
        count.term(launch, term, h, b)
        for launch in plan.launches
        for term in launch.terms
        for h in heads.intersection(launch.heads)
        for b in _rows(launch, meanings)
    )
    return total, count.exact


class _Count:
    """Pairs with M > 0, counted or, beyond `most` cells in partial tiles, estimated; `exact` says which. Heads and
    batch rows that share a multiplicity and tiles share the count."""

    def __init__(self, meanings: Meanings, xp: Any, most: int | None) -> None:
        self._meanings, self._xp, self._most = meanings, xp, most
        self._known: dict[tuple[int, int], int] = {}
        self.exact = True

    def term(self, launch: Launch, term: TermTiles, h: int, b: int | None) -> int:
        """Of a term for one head and batch row."""
        meaning = self._meanings.term(h, b, term.term)
        key = (id(meaning), id(term))
        if key not in self._known:
            self._known[key] = self._pairs(meaning, term.by_query, Area(launch.queries, term.keys))
        return self._known[key]

    def _pairs(self, meaning: Meaning, runs: Runs, area: Area) -> int:
        cells = _tiles(runs, runs.kind == PARTIAL) * area.tile_q * area.tile_k
        self.exact = self.exact and (self._most is None or cells <= self._most)
        return kept_pairs(meaning, runs, area, self._xp, self._most, diagonal_period(meaning.pattern))


# ------------------------------------------------------------------ tables


def plan_bytes(plan: Plan) -> int:
    """The size of all tables; one that several launches share counts once."""
    return sum({id(array): int(array.nbytes) for array in _arrays(plan)}.values())


def _arrays(plan: Plan) -> Iterator[Any]:
    for launch in plan.launches:
        parts: list[Runs | Work] = [runs for term in launch.terms for runs in (term.by_query, term.by_key)]
        parts += [launch.by_query] if launch.by_query else []
        parts += launch.by_key or ()
        for part in parts:
            yield from (getattr(part, field.name) for field in fields(part))
        axes = [launch.queries, *(term.keys for term in launch.terms)]
        yield from (axis.index for axis in axes if axis.index is not None)


# ------------------------------------------------------------------ balance


def imbalance(plan: Plan, xp: Any, processors: int = PROCESSORS) -> float:
    """How much longer the stages of the forward pass take than they must, one after the other, if all tiles take the
    same time and each processor that is free takes the next item; 1 is perfect."""
    taken, needed = 0.0, 0.0
    for stage in stages(plan.launches):
        classes = [item for i in stage for item in _items(plan.launches[i], xp)]
        if len(stage) > 1:
            classes.sort(reverse=True)
        if classes:
            total = sum(cost * count for cost, count in classes)
            taken += makespan(classes, processors)
            needed += max(total / processors, *(cost for cost, _ in classes))
    return taken / needed if needed else 1.0


def _items(launch: Launch, xp: Any) -> list[tuple[int, int]]:
    """(tiles of an item, how many such items follow each other), in the order of work, without empty ones."""
    work, times = launch.by_query, followers(launch)
    costs = row_costs([term.by_query for term in launch.terms], xp) if work is None else work.stop - work.start
    at = xp.concatenate([xp.full((1,), 0), xp.flatnonzero(costs[1:] != costs[:-1]) + 1])
    ends = [*at.tolist()[1:], costs.shape[0]]
    found = zip(costs[at].tolist(), at.tolist(), ends, strict=True)
    return [(cost, (end - start) * times) for cost, start, end in found if cost]


def makespan(classes: Iterable[tuple[int, int]], processors: int) -> int:
    """When the last processor is done if items, (cost, how many) in their order, go each to the one that is free first.

    With the heaviest items first this is the rule of the longest processing time (Graham, "Bounds on multiprocessing
    timing anomalies", 1969)."""
    loads = [0] * processors
    for cost, count in classes:
        _deal(loads, cost, count)
    return max(loads)


def _deal(loads: list[int], cost: int, count: int) -> None:
    """Adds so many items of one cost, each to the least load; `loads` is a heap."""
    if count > FEW * len(loads):
        count -= _fill(loads, cost, count)
    for _ in range(count):
        heapq.heapreplace(loads, loads[0] + cost)


def _fill(loads: list[int], cost: int, count: int) -> int:
    """All but the last round of `_deal` at once, and how many items that are: those that start before some time."""
    low, high = loads[0], max(loads) + cost * (count // len(loads) + 1)
    while high - low > 1:  # no more than `count` items start before `low`; more do before `high`
        middle = (low + high) // 2
        started = sum(-(-(middle - load) // cost) for load in loads if load < middle)
        low, high = (middle, high) if started <= count else (low, middle)
    rounds = [max(0, -(-(low - load) // cost)) for load in loads]
    loads[:] = [load + cost * times for load, times in zip(loads, rounds, strict=True)]
    heapq.heapify(loads)
    return sum(rounds)
