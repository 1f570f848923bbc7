"""A plan together with what it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from patternc import ir
from patternc.analysis.arrays import NUMPY
from patternc.analysis.planner import Meanings, plan_of
from patternc.plan import Plan
from patternc.runtime_tensors import as_arrays
from patternc.statistics import Statistics, statistics


@dataclass(frozen=True, eq=False)
class Planned:
    """The schedule of a program at one length, the multiplicities it was made from, and their array namespace."""

    plan: Plan
    meanings: Meanings
    xp: Any

    def statistics(self, most: int | None = None) -> Statistics:
        """Exact counts of a complete plan; estimates, if no more than `most` cells of a launch may be looked at."""
        return statistics(self.plan, self.meanings, self.xp, most=most)


def planned(
    program: ir.Program,
    heads: int,
    n: int,
    n_q: int,
    tensors: Mapping[str, Any],
    device: str,
    *,
    complete: bool = True,
) -> Planned:
    """Plans the last n_q of n positions. Tables are arrays of NumPy for the device "cpu", else tensors on the device.
    If it need not be `complete` and no run-time tensors are given, the plan keeps every tile that they might, in arrays
    of NumPy.

    SpatError if the program does not admit the length, TypeError or ValueError for wrong run-time tensors.
    """
    static = bool(program.tensors) and not tensors and not complete
    xp = NUMPY if static or device == "cpu" else import_module("patternc.backends.torch_arrays").TorchArrays(device)
    checked = {} if static else as_arrays(tensors, program.tensors, n, heads)
    arrays = {name: xp.asarray(array) for name, array in checked.items()}
    meanings = Meanings(program, heads=heads, n=n, n_q=n_q, tensors=arrays, xp=xp)
    return Planned(plan_of(meanings), meanings, xp)
