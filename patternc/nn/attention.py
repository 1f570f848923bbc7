"""Attention under a pattern, without projections."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from patternc.backends.base import unknown
from patternc.compiler import Compiled
from patternc.library import Pattern
from patternc.nn.held import Patterned, attend_unpadded, hold

LAYOUTS = ("bhnd", "bnhd")


class PatternAttention(Patterned, torch.nn.Module):
    """softmax(scale · q·k + log M) · v for queries, keys and values that are projected already.

    `source`, `heads`, `kv_heads`, `layer`, `backend` and the pattern's `params` are as in `patternc.compile`; the
    source may also be a compiled pattern for these heads. `layout` says how q, k, v and the output lie: "bhnd" is
    (B, H, N, D), as in scaled_dot_product_attention, "bnhd" is (B, N, H, D). `dropout` is the probability of dropping
    attention weights in training.

    It has no weights, so its state dict is empty.
    """

    def __init__(
        self,
        source: str | Path | Pattern | Compiled,
        *,
        heads: int,
        kv_heads: int | None = None,
        layer: int = 0,
        backend: str = "auto",
        layout: Literal["bhnd", "bnhd"] = "bhnd",
        dropout: float = 0.0,
        **params: Any,
    ) -> None:
        super().__init__()
        if layout not in LAYOUTS:
            raise ValueError(unknown("layout", layout, LAYOUTS))
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a probability; found {dropout}")
        self._held = hold(source, heads=heads, kv_heads=kv_heads, layer=layer, backend=backend, params=params)
        self.layout, self.dropout = layout, dropout

    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        scale: float | None = None,
        return_lse: bool = False,
        key_padding_mask: torch.Tensor | None = None,
        **runtime_tensors: Any,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """The output in the layout of q, and with `return_lse` the rows' log-sum-exp (B, H, N_q); the arguments are
        those of a compiled pattern's call. Keys for which `key_padding_mask`, bool (B, N), is true are left out, at
        whichever end they are; no other token's position changes by that."""
        q, k, v = self._turned(q), self._turned(k), self._turned(v)
        dropout_p = self.dropout if self.training else 0.0
        options = {"scale": scale, "dropout_p": dropout_p, "return_lse": return_lse}
        result = attend_unpadded(self._held, q, k, v, key_padding_mask, **options, **runtime_tensors)
        return (self._turned(result[0]), result[1]) if return_lse else self._turned(result)

    def _turned(self, t: torch.Tensor) -> torch.Tensor:
        """From the layout to (B, H, N, D), or back; what is no such tensor is left to the call to refuse."""
        return t.transpose(1, 2) if self.layout == "bnhd" and getattr(t, "ndim", 0) == 4 else t

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, layout={self.layout}, dropout={self.dropout}"
