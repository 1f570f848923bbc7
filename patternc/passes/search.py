"""The search for the cheapest layouts of one group of arms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from patternc.machine import Costs
from patternc.passes.arm import Arm
from patternc.passes.estimate import PLAIN, Reference, Side, Tiles, Way, WorkSpentError, united
from patternc.plan import Layout

MOST_STRIDES = 12
"""Strides tried on each side of an arm."""
MOST_SEEDS = 40
MOST_STEPS = 8
"""Steps from one way to a better one beside it."""
CLIMBS = 2
"""Seeds of different strides from which the search climbs."""
BROAD = 8
"""The width of a box's first guess; from it and from single columns widths are halved and doubled."""
PAIRS = (2, 4, 8)
"""How many blocks apart the blocks of one tile may stand."""
LEAST_GAIN = 0.004
"""The share of the cost by which a step must improve."""
SMALL_PRIMES = (2, 3, 5, 7)

Group = frozenset[int]


class Search:
    """The costs of ways for groups of the arms, in pairs per query, and the ways found for them. The arms are summands
    of a `bag`, else alternatives, which may share cells unless they are known to be `disjoint`."""

    def __init__(
        self, arms: tuple[Arm, ...], reference: Reference, prices: Costs, *, bag: bool, disjoint: bool = False
    ) -> None:
        self.arms, self.reference, self.prices, self.bag, self.disjoint = arms, reference, prices, bag, disjoint
        self.all: Group = frozenset(range(len(arms)))
        self.costs: dict[tuple[Group, Way], float] = {}
        """All that was estimated; infinite where a way does not fit."""

    def tiles(self, group: Group, way: Way) -> Tiles | None:
        """The tiles of a group under a way; None if it does not fit an arm."""
        rests = [self.arms[i].rest(way) for i in sorted(group)]
        found = [rest for rest in rests if rest is not None]
        if len(found) < len(rests):
            return None
        return united((self.reference.tiles(rest, way) for rest in found), bag=self.bag)

    def cost(self, group: Group, way: Way) -> float:
        """Of the tiles alone; infinite where the way does not fit or the budget does not allow to look."""
        if (group, way) not in self.costs:
            try:
                tiles = self.tiles(group, way)
            except WorkSpentError:
                return math.inf
            self.costs[group, way] = math.inf if tiles is None else self.price(tiles, way)
        return self.costs[group, way]

    def price(self, tiles: Tiles, way: Way) -> float:
        touched, full = int(tiles.touched.sum()), int(tiles.full.sum())
        lists = (way.queries.listed is not None) + (way.keys.listed is not None)
        pairs = (full + (touched - full) * self.prices.partial) * math.prod(self.reference.tile) * tiles.scale
        return pairs / self.reference.n * self.prices.listed**lists

    # ------------------------------------------------------------------ searching

    def seeds(self, arm: Arm) -> list[Way]:
        """Where to begin: strides of one side alone, and of both."""
        return list(dict.fromkeys(self._strided(arm)))[:MOST_SEEDS]

    def lists(self, arm: Arm, ways: Sequence[Way]) -> list[Way]:
        """Lists of the arm's tokens on one side or both, the other side as in the ways given or consecutive."""
        beside = [Way(), *ways]
        return list(dict.fromkeys(Way(q or way.queries, k or way.keys) for q, k in arm.lists for way in beside))

    def climb(self, group: Group, seeds: Iterable[Way]) -> list[Way]:
        """The best seeds and what is better beside them, best first."""
        ranked = self.ranked(group, seeds)
        tops: list[Way] = []
        for way in ranked:
            if len(tops) < CLIMBS and strides(way) not in map(strides, tops):
                tops.append(way)
        found = dict.fromkeys(ranked)
        for way in tops:
            found.update(dict.fromkeys(self._path(group, way)))
        return self.ranked(group, found)

    def ranked(self, group: Group, ways: Iterable[Way]) -> list[Way]:
        """Those that fit, cheapest first; of equals the simplest."""
        fitting = [way for way in dict.fromkeys(ways) if self.cost(group, way) < math.inf]
        return sorted(fitting, key=lambda way: (self.cost(group, way), plainness(way)))

    def _path(self, group: Group, way: Way) -> Iterator[Way]:
        for _ in range(MOST_STEPS):
            best = next(iter(self.ranked(group, self._beside(way))), way)
            if not self.cost(group, best) < self.cost(group, way) * (1 - LEAST_GAIN):
                return
            way = best
            yield way

    def _strided(self, arm: Arm) -> Iterator[Way]:
        of_q, of_k, both = (self._strides(arm, names) for names in ("q", "k", "kq"))
        for s in both:
            yield Way(self._side(s, 0, 1), self._side(s, 1, 1))
        pairs = [(s, s) for s in of_q if s in of_k] + [(1, s) for s in of_k] + [(s, 1) for s in of_q]
        pairs += [(s, t) for s in of_q for t in of_k if s != t]
        for a, b in pairs:
            for broad in (1, BROAD):
                yield Way(self._side(a, 0, broad), self._side(b, 1, broad))
        yield from self._paired(arm)

    def _paired(self, arm: Arm) -> Iterator[Way]:
        """Tiles of several blocks that stand apart, of blocks smaller than a tile."""
        for block in sorted(arm.blocks):
            periods = [radix.stride for radix in sorted(arm.radices) if radix.stride % block == 0]
            for stride in dict.fromkeys([*(block * apart for apart in PAIRS), *periods]):
                if stride <= self.reference.n // 2:
                    q, k = (_of_blocks(stride, block, tile) for tile in self.reference.tile)
                    yield from (way for way in (Way(q, PLAIN), Way(PLAIN, k), Way(q, k)) if not way.plain)

    def _strides(self, arm: Arm, names: str) -> list[int]:
        """Strides to try on the sides named: the radices that speak of them, their common multiples and divisors."""
        own = sorted(r.stride for r in arm.radices if r.sides == names)
        pairs = [(a, b) for i, a in enumerate(own) for b in own[:i]]
        more = [math.lcm(a, b) for a, b in pairs] + [math.gcd(a, b) for a, b in pairs]
        fitting = [s for s in dict.fromkeys([*own, *more]) if 1 < s <= self.reference.n // 2]
        return fitting[:MOST_STRIDES]

    def _side(self, stride: int, which: int, broad: int) -> Side:
        """A side whose tiles have at least `broad` columns, and no more lines than there are."""
        tile = self.reference.tile[which]
        lines = max(1, self.reference.n // stride)
        width = max(broad, _power(-(-tile // lines)))
        return Side(Layout(stride, min(width, widest(stride, tile)))) if stride > 1 else PLAIN

    def _beside(self, way: Way) -> Iterator[Way]:
        """The ways one step away: widths doubled or halved, strides divided."""
        queries = list(self._sides_beside(way.queries, 0))
        keys = list(self._sides_beside(way.keys, 1))
        yield from (replace(way, queries=side) for side in queries)
        yield from (replace(way, keys=side) for side in keys)
        for a in queries:
            for b in keys:
                if _change(way.queries, a) == _change(way.keys, b):
                    yield Way(a, b)

    def _sides_beside(self, side: Side, which: int) -> Iterator[Side]:
        stride, width, tile = side.layout.stride, side.layout.width, self.reference.tile[which]
        if stride == 1:
            return
        for w in (width * 2, width // 2):
            if 1 <= w <= widest(stride, tile):
                yield Side(Layout(stride, w))
        for p in SMALL_PRIMES:
            if stride % p == 0:
                yield Side(Layout(stride // p, min(width, widest(stride // p, tile)))) if stride > p else PLAIN


def _of_blocks(stride: int, block: int, tile: int) -> Side:
    """A side whose tiles take one block from each line, if there is room for two."""
    fits = block & (block - 1) == 0 and tile % block == 0 and 2 * block <= tile
    return Side(Layout(stride, block)) if fits else PLAIN


def _change(old: Side, new: Side) -> tuple[float, float]:
    return new.layout.stride / old.layout.stride, new.layout.width / old.layout.width


def _power(x: int) -> int:
    """The smallest power of two that is at least x."""
    return 1 << max(0, x - 1).bit_length()


def widest(stride: int, tile: int) -> int:
    """The largest width that divides a tile and leaves out some columns: all of them are consecutive tokens, and so is
    a tile of one line."""
    widest_in_tile = tile // 2 if tile & (tile - 1) == 0 and stride % tile == 0 else tile & -tile
    return max(1, min(widest_in_tile, _power(stride) // 2))


def strides(way: Way) -> tuple[object, ...]:
    return way.queries.layout.stride, way.keys.layout.stride, way.queries.layout.listed, way.keys.layout.listed


def plainness(way: Way) -> tuple[int, ...]:
    """Small for the simple: lists after boxes, wide and far strides last, queries before keys."""
    sides = way.queries, way.keys
    lists = sum(side.listed is not None for side in sides)
    return lists, *(side.layout.stride for side in sides), *(side.layout.width for side in sides)
