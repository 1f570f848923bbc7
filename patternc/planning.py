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

    def statistics(self) -> Statistics:
        return statistics(self.plan, self.meanings, self.xp)


def planned(program: ir.Program, heads: int, n: int, n_q: int, tensors: Mapping[str, Any], device: str) -> Planned:
    """Plans the last n_q of n positions. Tables are arrays of NumPy for the device "cpu", else tensors on the device.

    SpatError if the program does not admit the length, TypeError or ValueError for wrong run-time tensors.
    """
    xp = NUMPY if device == "cpu" else import_module("patternc.backends.torch_arrays").TorchArrays(device)
    arrays = {name: xp.asarray(a) for name, a in as_arrays(tensors, program.tensors, n, heads).items()}
    meanings = Meanings(program, heads=heads, n=n, n_q=n_q, tensors=arrays, xp=xp)
    return Planned(plan_of(meanings), meanings, xp)
