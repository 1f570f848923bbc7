"""A plan together with what it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

from patternc.analysis.arrays import NUMPY
from patternc.analysis.meanings import Meanings
from patternc.analysis.planner import shorter
from patternc.arrangement import Arrangement
from patternc.plan import TILE_K, TILE_Q, Plan
from patternc.runtime_tensors import as_arrays
from patternc.statistics import Statistics, statistics


@dataclass(frozen=True, eq=False)
class Planned:
    """The schedule of a program at one length, the multiplicities it was made from, and their array namespace."""

    plan: Plan
    meanings: Meanings
    xp: Any
    arrangement: Arrangement
    tensors: Mapping[str, Any]
    """The run-time tensors as arrays."""

    def statistics(self, most: int | None = None) -> Statistics:
        """Exact counts of a complete plan; estimates, if no more than `most` cells of a term may be looked at."""
        return statistics(self.plan, self.meanings, self.xp, most=most)

    def of_heads(self, heads: Sequence[int]) -> Planned:
        """The part of the schedule that these heads follow."""
        launches = (replace(x, heads=tuple(h for h in x.heads if h in heads)) for x in self.plan.launches)
        return replace(self, plan=replace(self.plan, launches=tuple(x for x in launches if x.heads)))


def planned(
    arrangement: Arrangement,
    n: int,
    n_q: int,
    tensors: Mapping[str, Any],
    device: str,
    tile: tuple[int, int] = (TILE_Q, TILE_K),
    *,
    complete: bool = True,
) -> Planned:
    """Plans the last n_q of n positions in tiles of tile[0] queries and tile[1] keys. Tables are arrays of NumPy for
    the device "cpu", else tensors on the device. If it need not be `complete` and no run-time tensors are given, the
    plan keeps every tile that they might, in arrays of NumPy.

    SpatError if the program does not admit the length, TypeError or ValueError for wrong run-time tensors.
    """
    program = arrangement.program
    static = bool(program.tensors) and not tensors and not complete
    xp = NUMPY if static or device == "cpu" else import_module("patternc.backends.torch_arrays").TorchArrays(device)
    checked = {} if static else as_arrays(tensors, program.tensors, n, arrangement.heads)
    arrays = {name: xp.asarray(array) for name, array in checked.items()}
    make = partial(Meanings, n=n, n_q=n_q, tensors=arrays, xp=xp)
    meanings, plan = shorter(make, n, arrangement, tile)
    return Planned(plan, meanings, xp, meanings.arrangement, arrays)
