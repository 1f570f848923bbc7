"""Groups of arms as terms: those of a set made disjoint by subtraction.

Of two groups that may share cells one gives way to the other. Who does is chosen so that few full tiles become partial.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

from patternc import fold, ir
from patternc.arrangement import Term
from patternc.passes.arm import Arm, conjoined
from patternc.passes.estimate import Way, WorkSpentError
from patternc.passes.nature import sides
from patternc.passes.search import Group, Search
from patternc.passes.simplify import Simplifier
from patternc.source import NOWHERE

Groups = Sequence[tuple[Way, Group]]
MOST_ORDERS = 5
"""Up to so many groups all orders are compared."""


def terms_of(groups: Groups, search: Search, simplifier: Simplifier) -> tuple[Term, ...]:
    """One term for each group, in the order given."""
    pairs = zip(groups, _earlier(groups, search), strict=True)
    return tuple(_term(search, *group, earlier, simplifier) for group, earlier in pairs)


def apart(each: Sequence[Way], search: Search, simplifier: Simplifier) -> list[tuple[ir.Pattern, ...]]:
    """The arms made disjoint, in one or two orders: few full tiles become partial where each arm has the way given; or
    the arms of the shortest lists come first, which shortens the lists of the others."""
    groups = [(way, frozenset([i])) for i, way in enumerate(each)]
    shortest = sorted(range(len(groups)), key=lambda i: _listed(search, search.arms[i]))
    orders = [_order(groups, search), tuple(shortest)]

    def without(order: tuple[int, ...], place: int) -> ir.Pattern:
        earlier = [groups[i][1] for i in order[:place]]
        return _term(search, Way(), groups[order[place]][1], earlier, simplifier).pattern

    return [tuple(without(order, place) for place in range(len(order))) for order in dict.fromkeys(orders)]


def _listed(search: Search, arm: Arm) -> float:
    """The share of the pairs that the arm's lists leave; all, if the budget does not allow to look."""
    sides = arm.lists[-1] if arm.lists else ()
    try:
        axes = [search.reference.axis(side, which) for which, side in enumerate(sides) if side]
    except WorkSpentError:
        return 1.0
    return math.prod(axis.tiles * axis.tile / search.reference.n for axis in axes)


def _earlier(groups: Groups, search: Search) -> list[list[Group]]:
    """For each group those that it gives way to."""
    if search.bag or search.disjoint:
        return [[] for _ in groups]
    order = _order(groups, search)
    return [[groups[j][1] for j in order[: order.index(i)]] for i in range(len(groups))]


def _term(search: Search, way: Way, group: Group, earlier: Sequence[Group], simplifier: Simplifier) -> Term:
    """The group, without the cells of earlier ones."""
    join = fold.total if search.bag else fold.union
    rests = [search.arms[i].rest(way) for i in sorted(group)]
    own = join([rest for rest in rests if rest is not None], NOWHERE)
    others = [search.arms[i].pattern for g in earlier for i in sorted(g)]
    pattern = simplifier(conjoined([own, *(fold.complement(other, other.span) for other in others)]))
    lists = (side.listed.pattern if side.listed else None for side in (way.queries, way.keys))
    return Term(pattern, way.queries.layout, way.keys.layout, *lists)


# ------------------------------------------------------------------ who gives way


def _order(groups: Groups, search: Search) -> tuple[int, ...]:
    """The groups from the one that keeps all its cells to the one that gives way to all. Rows of queries that see
    everything come first, so that they live in one term."""
    hubs = [i for i, (way, group) in enumerate(groups) if _is_hub(search, way, group)]
    rest = [i for i in range(len(groups)) if i not in hubs]
    loss = {(i, j): _loss(search, groups[i], groups[j]) for i in rest for j in rest if i != j}

    def total(order: tuple[int, ...]) -> float:
        return sum(loss[order[b], order[a]] for b in range(len(order)) for a in range(b))

    if len(rest) > MOST_ORDERS:
        ranked = sorted(rest, key=lambda i: sum(loss[j, i] - loss[i, j] for j in rest if j != i))
        return *hubs, *ranked
    return *hubs, *min(permutations(rest), key=total)


def _is_hub(search: Search, way: Way, group: Group) -> bool:
    patterns: list[ir.Pattern] = [search.arms[i].pattern for i in group]
    return all(sides(p) == {"q"} for p in patterns)


def _loss(search: Search, mine: tuple[Way, Group], other: tuple[Way, Group]) -> float:
    """What it costs when one group gives way to another."""
    way, group = mine
    try:
        own, taken = search.tiles(group, way), search.tiles(other[1], Way(way.queries, way.keys))
    except WorkSpentError:
        return 0.0
    if own is None or taken is None:
        return 0.0
    return search.price(own.without(taken), way) - search.price(own, way)
