"""Self-attention under a compiled pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from patternc.compiler import Compiled


class SelfAttention(torch.nn.Module):
    """Projects x to queries, keys and values, attends under the pattern, projects back.

    `embed_dim` is a multiple of the pattern's heads; with fewer key heads (GQA) the key and value projections are
    smaller by as much. `dropout` is the probability of dropping attention weights in training.
    """

    def __init__(self, compiled: Compiled, embed_dim: int, *, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        if embed_dim < 1 or embed_dim % compiled.heads:
            raise ValueError(f"embed_dim must be a multiple of the {compiled.heads} heads; found {embed_dim}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a probability; found {dropout}")
        self.compiled, self.embed_dim, self.dropout = compiled, embed_dim, dropout
        self.head_dim = embed_dim // compiled.heads
        kv_dim = self.head_dim * compiled.kv_heads
        self.q_proj = torch.nn.Linear(embed_dim, embed_dim, bias=bias)
        self.k_proj = torch.nn.Linear(embed_dim, kv_dim, bias=bias)
        self.v_proj = torch.nn.Linear(embed_dim, kv_dim, bias=bias)
        self.out_proj = torch.nn.Linear(embed_dim, embed_dim, bias=bias)

    def forward(self, x: torch.Tensor, **runtime_tensors: Any) -> torch.Tensor:
        """x (B, N, embed_dim) to the same shape."""
        q, k, v = (self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        dropout_p = self.dropout if self.training else 0.0
        out: Any = self.compiled(q, k, v, dropout_p=dropout_p, **runtime_tensors)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, H·D) to (B, H, N, D)"""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def extra_repr(self) -> str:
        return f"{self.compiled!r}, embed_dim={self.embed_dim}, dropout={self.dropout}"
