"""The plan of a program at one length. What the passes themselves need of a length is in meanings.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from patternc import ir
from patternc.analysis.binding import binding
from patternc.analysis.meanings import Meanings, trivial
from patternc.analysis.tiles import Counter
from patternc.arrangement import Arrangement
from patternc.passes.balance import PROCESSORS, balance
from patternc.passes.merge import merge
from patternc.passes.tiles import forms, tiles
from patternc.plan import TILE_K, TILE_Q, Plan

__all__ = ["Meanings", "plan", "plan_of", "shorter", "trivial"]


def plan(
    source: Arrangement | ir.Program,
    *,
    n: int,
    heads: int | None = None,
    n_q: int | None = None,
    tensors: Mapping[str, Any],
    xp: Any,
    tile_q: int = TILE_Q,
    tile_k: int = TILE_K,
    counter: Counter | None = None,
) -> Plan:
    """Which tiles to compute for the last n_q (all, unless given) of n positions, by an arrangement or, in tiles of
    consecutive tokens, by a program for so many heads, closed but for h and n.

    `tensors` are its run-time tensors as arrays of the namespace `xp`, already checked. Of those left out nothing is
    assumed: their tiles are kept, as partial ones (NumPy only). SpatError if the program does not admit the length.
    """
    if isinstance(source, ir.Program):
        assert heads is not None, "a program is planned for a number of heads"
        source = trivial(source, heads)
    return plan_of(Meanings(source, n=n, n_q=n_q, tensors=tensors, xp=xp, counter=counter), tile_q, tile_k)


def plan_of(meanings: Any, tile_q: int = TILE_Q, tile_k: int = TILE_K, processors: int = PROCESSORS) -> Plan:
    """The plan of multiplicities at their length (see `Meanings`), balanced for so many processors."""
    return balance(merge(tiles(meanings, tile_q, tile_k), meanings.xp), meanings.xp, processors)


def shorter(
    make: Callable[[Arrangement], Meanings], n: int, arrangement: Arrangement, tile: tuple[int, int]
) -> tuple[Meanings, Plan]:
    """Multiplicities at the length n, as `make` has them by arrangement, and their plan; of a short sequence those of
    consecutive tokens, if they compute fewer pairs."""
    every = [make(form) for form in forms(n, arrangement, lambda: binding(arrangement).whole)]
    plans = [(meanings, plan_of(meanings, *tile)) for meanings in every]
    return min(plans, key=lambda pair: _tiles(pair[1])) if len(plans) > 1 else plans[0]


def _tiles(plan: Plan) -> int:
    """Tiles, over all heads and the batch rows that differ."""
    return sum(
        len(launch.heads) * len(launch.batch or (0,)) * int(term.by_query.count.sum())
        for launch in plan.launches
        for term in launch.terms
    )
