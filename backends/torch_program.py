"""A program of the IR as what a `Runner` runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from patternc import ir
from patternc.analysis.meanings import Meanings, trivial
from patternc.arrangement import Arrangement
from patternc.backends.inputs import Declared
from patternc.backends.torch_arrays import TorchArrays
from patternc.draws import extent
from patternc.specialise import bind


@dataclass(frozen=True, eq=False)
class IrPattern:
    """A closed program, arranged when it is first needed; see `torch_run.Pattern`."""

    program: ir.Program
    heads: int
    arrange: Callable[[ir.Program, int], Arrangement] = trivial

    @cached_property
    def arrangement(self) -> Arrangement:
        return self.arrange(self.program, self.heads)

    @property
    def reads_tensors(self) -> bool:
        return bool(self.program.tensors)

    def declared(self, n: int) -> list[Declared]:
        return [
            Declared(t.name, t.element, tuple(extent(d, n, self.heads) for d in t.dims), t.batched)
            for t in bind(self.program, n).tensors
        ]

    def meanings(self, n: int, n_q: int, tensors: Mapping[str, torch.Tensor], xp: TorchArrays) -> Meanings:
        return Meanings(self.arrangement, n=n, n_q=n_q, tensors=tensors, xp=xp)

    def whole(self) -> IrPattern:
        return self if self._plain.arrangement == self.arrangement else self._plain

    @cached_property
    def _plain(self) -> IrPattern:
        whole = self.arrangement.whole()
        return IrPattern(self.program, self.heads, lambda program, heads: whole)
