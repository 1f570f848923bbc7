"""A program of the IR as what a `Runner` runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from patternc import ir
from patternc.analysis.planner import Meanings
from patternc.backends.inputs import Declared
from patternc.backends.torch_arrays import TorchArrays
from patternc.draws import extent
from patternc.rewrite import walk
from patternc.specialise import bind


@dataclass(frozen=True, eq=False)
class IrPattern:
    """A closed program; see `torch_run.Pattern`."""

    program: ir.Program
    heads: int

    @property
    def bag(self) -> bool:
        return is_bag(self.program.pattern)

    @property
    def reads_tensors(self) -> bool:
        return bool(self.program.tensors)

    def declared(self, n: int) -> list[Declared]:
        return [
            Declared(t.name, t.element, tuple(extent(d, n, self.heads) for d in t.dims), t.batched)
            for t in bind(self.program, n).tensors
        ]

    def meanings(self, n: int, n_q: int, tensors: Mapping[str, torch.Tensor], xp: TorchArrays) -> Meanings:
        return Meanings(self.program, heads=self.heads, n=n, n_q=n_q, tensors=tensors, xp=xp)


def is_bag(pattern: ir.Pattern) -> bool:
    """Whether a sum in the pattern may make a multiplicity above 1."""
    return any(
        isinstance(node, ir.Sum) or (isinstance(node, ir.Family) and node.kind == "sum") for node in walk(pattern)
    )
