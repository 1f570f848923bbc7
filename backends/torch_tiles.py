"""The torch backend: executes a plan tile by tile with batched matrix products, on any device.

Its cost is that of the tiles kept, its memory is bounded, and outputs, lse and gradients are the same bits each time.
"""

from __future__ import annotations

from functools import cached_property

import torch

from patternc import ir
from patternc.backends import inputs
from patternc.backends.export import pattern_source
from patternc.backends.torch_passes import counting
from patternc.backends.torch_program import IrPattern
from patternc.backends.torch_run import Runner
from patternc.passes.arranged import arranged

__all__ = ["TorchTiles", "TorchTilesArtifact", "counting"]


class TorchTilesArtifact(Runner):
    """A program, executed tile by tile."""

    def __init__(self, program: ir.Program, heads: int, kv_heads: int) -> None:
        self.program = program
        self._arranged = IrPattern(program, heads, arranged)
        super().__init__(self._arranged, kv_heads)

    @cached_property
    def source(self) -> str:
        """The pattern as the functions that a saved module has."""
        return pattern_source(self._arranged.arrangement)


class TorchTiles:
    """Batched matrix products over the tiles of a plan."""

    name = "torch"

    def supports(self, program: ir.Program, device: str, dtype: torch.dtype) -> list[str]:
        return [] if dtype in inputs.FLOATS else [f"{dtype} is not a floating-point type of attention"]

    def emit(self, program: ir.Program, heads: int, kv_heads: int) -> TorchTilesArtifact:
        return TorchTilesArtifact(program, heads, kv_heads)
