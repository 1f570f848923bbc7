"""The torch backend: executes a plan tile by tile with batched matrix products, on any device.

Its cost is that of the tiles kept, its memory is bounded, and outputs, lse and gradients are the same bits each time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import torch

from patternc import ir
from patternc.backends import inputs
from patternc.backends.export import pattern_source
from patternc.backends.torch_contents import ByContents
from patternc.backends.torch_op import executor, in_graph, is_plain
from patternc.backends.torch_passes import counting
from patternc.backends.torch_program import IrPattern
from patternc.backends.torch_rows import TorchRows
from patternc.backends.torch_run import Ready, Runner
from patternc.passes.arranged import arranged

__all__ = ["TorchTiles", "TorchTilesArtifact", "counting"]


class TorchTilesArtifact(Runner):
    """A program, executed tile by tile."""

    def __init__(self, program: ir.Program, heads: int, kv_heads: int) -> None:
        self.program = program
        self._arranged = IrPattern(program, heads, arranged)
        super().__init__(self._arranged, kv_heads)
        self._rows = TorchRows(program, heads, kv_heads)
        self._executor = executor(program, self)
        self._by_contents = ByContents()
        self.changing = False
        """Whether it stands in for another pattern, in graphs of torch.compile that were made for that one."""

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        scale: float | None = None,
        dropout_p: float = 0.0,
        return_lse: bool = False,
        seed: int | None = None,
        tensors: Mapping[str, Any] | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """As in `Runner`; a call that something looks at, such as torch.compile, is one operator."""
        options: dict[str, Any] = {"scale": scale, "dropout_p": dropout_p, "return_lse": return_lse, "seed": seed}
        given = tensors or {}
        if is_plain(q, k, v, *(t for t in given.values() if isinstance(t, torch.Tensor))):
            return self.eager(q, k, v, tensors=given, **options)
        sizes = inputs.check_qkv(q, k, v, self.pattern.heads, self.kv_heads)
        scale = inputs.check_options(scale, dropout_p, sizes.dim)
        out, lse = in_graph(self._executor, q, k, v, scale, dropout_p, seed, given, self.changing)
        return (out, lse) if return_lse else out

    def eager(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        scale: float | None,
        dropout_p: float,
        return_lse: bool,
        seed: int | None,
        tensors: Mapping[str, Any],
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """A few queries without a plan, for their length is new each time in decoding; else as in `Runner`."""
        sizes = inputs.check_qkv(q, k, v, self.pattern.heads, self.kv_heads)
        checked = inputs.check_options(scale, dropout_p, sizes.dim)
        if not self._rows.suits(sizes, dropout_p):
            options: dict[str, Any] = {"dropout_p": dropout_p, "return_lse": return_lse, "seed": seed}
            return super().__call__(q, k, v, scale=scale, tensors=tensors, **options)
        declared = [] if self._rows.steady else self.pattern.declared(sizes.n)
        given = inputs.check_tensors(declared, tensors, q.device, sizes.batch)
        out, lse = self._rows(q, k, v, checked, given)
        return (out, lse) if return_lse else out

    def ready(self, n: int, n_q: int, batch: int, device: torch.device, tensors: Mapping[str, Any]) -> Ready:
        """As in `Runner`; plans of a few small run-time tensors are kept, too."""
        if not tensors:
            return super().ready(n, n_q, batch, device, tensors)
        make = partial(super().ready, n, n_q, batch, device)
        return self._by_contents.find((n, n_q, batch, device), tensors, make)

    @cached_property
    def source(self) -> str:
        """The pattern as the functions that a saved module has."""
        return pattern_source(self._arranged.arrangement)


class TorchTiles:
    """Batched matrix products over the tiles of a plan."""

    name = "torch"
    most_channels = math.inf

    def supports(self, program: ir.Program, device: str, dtype: torch.dtype) -> list[str]:
        return [] if dtype in inputs.FLOATS else [f"{dtype} is not a floating-point type of attention"]

    def emit(self, program: ir.Program, heads: int, kv_heads: int) -> TorchTilesArtifact:
        return TorchTilesArtifact(program, heads, kv_heads)
