"""Which arms of a pattern are computed together, and how: every assignment of arms to ways is priced.

Arms that share the layouts of both sides become one term. Terms that share the layout of queries share a launch. It is
facility location: arms are the clients, layouts of queries the facilities with an opening price.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from patternc.passes.estimate import PLAIN, Side, Way
from patternc.passes.search import Group, Search, plainness

MOST_CHOICES = 256
"""Assignments of arms to ways that are compared."""
MOST_WAYS = 6
"""Ways of each arm, and of all arms together, that are compared for every arm."""
BURDEN = 0.005
"""The share of the cost that each further term must save to be worth it; a launch and a list twice that."""


@dataclass(frozen=True, eq=False, slots=True)
class Choice:
    """The groups of arms that share a way, and the price of it all in pairs per query."""

    groups: tuple[tuple[Way, Group], ...]
    cost: float
    search: Search

    @property
    def ways(self) -> tuple[Way, ...]:
        return tuple(way for way, _ in self.groups)

    @property
    def launches(self) -> int:
        return len({way.queries for way in self.ways})

    @property
    def lists(self) -> int:
        return sum((way.queries.listed is not None) + (way.keys.listed is not None) for way in self.ways)

    def rank(self) -> tuple[object, ...]:
        """Smaller is better: consecutive tokens win unless the gain is worth it, and what is simple wins a tie."""
        burden = BURDEN * (len(self.groups) - 1 + 2 * (self.launches - 1) + 2 * self.lists)
        margin = 0.0 if all(way.plain for way in self.ways) else self.search.prices.margin
        return round(self.cost * (1 + burden) / (1 - margin), 3), len(self.groups), [plainness(w) for w in self.ways]


class Assignment:
    """The choices for the arms of one search."""

    def __init__(self, search: Search) -> None:
        self.search = search

    def choices(self, each: Sequence[Sequence[Way]], common: Sequence[Way]) -> list[Choice]:
        """The whole under each of the common ways and what is better beside them, and the assignments of its arms to
        these and to their own best, which are given for each arm."""
        ways = self._asked(each, common)
        whole = self.search.climb(self.search.all, ways)
        ways = list(dict.fromkeys([*ways, *whole[:MOST_WAYS]]))
        found = [self.choice([(way, self.search.all)]) for way in whole]
        if len(self.search.all) > 1:
            found += [self._assigned(options) for options in product(*self._options(ways))]
        different = {frozenset(choice.groups): choice for choice in found if choice.cost < math.inf}
        return list(different.values())

    def _asked(self, each: Sequence[Sequence[Way]], common: Sequence[Way]) -> list[Way]:
        """The ways that every arm is asked about: the best of each arm, and its best in consecutive queries."""
        chosen = dict.fromkeys([Way(), *common])
        for ways in each:
            consecutive = [way for way in ways if way.queries == PLAIN]
            chosen.update(dict.fromkeys([*ways[:MOST_WAYS], *consecutive[:2]]))
        return list(chosen)

    def _options(self, ways: Sequence[Way]) -> list[list[Way]]:
        """For each arm its cheapest ways, as many as can be combined."""
        count = max(2, int(MOST_CHOICES ** (1 / len(self.search.all))))
        ranked = (self.search.ranked(frozenset([i]), ways)[: count - 1] for i in sorted(self.search.all))
        return [list(dict.fromkeys([*best, Way()])) for best in ranked]

    def _assigned(self, options: Sequence[Way]) -> Choice:
        groups: dict[Way, set[int]] = {}
        for i, way in enumerate(options):
            groups.setdefault(way, set()).add(i)
        return self.choice([(way, frozenset(group)) for way, group in groups.items()])

    def choice(self, groups: Sequence[tuple[Way, Group]]) -> Choice:
        """The groups in order, consecutive queries first, with their price."""
        ordered = sorted(groups, key=lambda g: (g[0].queries != PLAIN, min(g[1])))
        return Choice(tuple(ordered), self._total(groups), self.search)

    def _total(self, groups: Sequence[tuple[Way, Group]]) -> float:
        """Pairs per query, of tiles, terms and launches. The largest launch starts from nothing, the others read what
        is there."""
        tiles = sum(self.search.cost(group, way) for way, group in groups)
        if tiles == math.inf:
            return math.inf
        prices = self.search.prices
        rows = sorted(map(self._share, {way.queries for way, _ in groups}), reverse=True)
        return tiles + sum(self._share(way.queries) for way, _ in groups) * prices.term + sum(rows[1:]) * prices.opening

    def _share(self, queries: Side) -> float:
        """The share of the queries that a layout holds."""
        if queries.listed is None:
            return 1.0
        reference = self.search.reference
        return reference.axis(queries, 0).tiles * reference.tile[0] / reference.n
