"""The reference backend: the oracle that every other backend is compared with. Dense, slow and obvious."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from patternc import ir
from patternc.backends import inputs
from patternc.backends.reference_attention import attention
from patternc.backends.reference_mask import hashed, mask

__all__ = ["Reference", "ReferenceArtifact", "attention", "hashed", "mask"]


@dataclass(frozen=True, eq=False)
class ReferenceArtifact:
    """A program that computes all N_q × N scores."""

    program: ir.Program
    heads: int
    kv_heads: int
    source: None = None

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
        """See `base.Artifact`."""
        sizes = inputs.check_qkv(q, k, v, self.heads, self.kv_heads)
        scale = inputs.check_options(scale, dropout_p, sizes.dim)
        m = mask(self.program, self.heads, sizes.n, sizes.n_q, tensors, q.device, sizes.batch)
        out, lse = attention(q, k, v, m, scale, dropout_p, inputs.draw_seed(seed, dropout_p))
        return (out, lse) if return_lse else out


class Reference:
    """Runs everything, everywhere, in quadratic time and memory."""

    name = "reference"
    most_channels = math.inf

    def mask(
        self, program: ir.Program, heads: int, n: int, n_q: int | None = None, tensors: Mapping[str, Any] | None = None
    ) -> torch.Tensor:
        """The multiplicities; see `reference_mask.mask`."""
        return mask(program, heads, n, n_q, tensors)

    def supports(self, program: ir.Program, device: str, dtype: torch.dtype) -> list[str]:
        reasons = [] if dtype in inputs.FLOATS else [f"{dtype} is not a floating-point type of attention"]
        return reasons + (["mps has no float64"] if device == "mps" else [])

    def emit(self, program: ir.Program, heads: int, kv_heads: int) -> ReferenceArtifact:
        inputs.check_heads(heads, kv_heads)
        return ReferenceArtifact(program, heads, kv_heads)
