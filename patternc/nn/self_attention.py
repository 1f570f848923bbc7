"""Self-attention under a pattern."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from patternc.compiler import Compiled
from patternc.library import Pattern
from patternc.nn.caches import KVCache, PagedCache
from patternc.nn.held import Patterned, attend_unpadded, hold
from patternc.nn.packed import attend_packed


class SelfAttention(Patterned, torch.nn.Module):
    """Projects x to queries, keys and values, attends under the pattern, projects back.

    `source` is a compiled pattern, or any source that `patternc.compile` takes; then `heads`, `kv_heads`, `layer`,
    `backend` and the pattern's `params` are as there. `embed_dim` is a multiple of the heads; with fewer key heads
    (GQA) the key and value projections are smaller by as much. `dropout` is the probability of dropping attention
    weights in training.
    """

    def __init__(
        self,
        source: str | Path | Pattern | Compiled,
        embed_dim: int,
        *,
        heads: int | None = None,
        kv_heads: int | None = None,
        layer: int = 0,
        backend: str = "auto",
        bias: bool = True,
        dropout: float = 0.0,
        **params: Any,
    ) -> None:
        super().__init__()
        if heads is None:
            if not isinstance(source, Compiled):
                raise TypeError("heads must be given for a source that is not compiled")
            heads = source.heads
        self._held = hold(source, heads=heads, kv_heads=kv_heads, layer=layer, backend=backend, params=params)
        if embed_dim < 1 or embed_dim % heads:
            raise ValueError(f"embed_dim must be a multiple of the {heads} heads; found {embed_dim}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a probability; found {dropout}")
        self.embed_dim, self.dropout, self.head_dim = embed_dim, dropout, embed_dim // heads
        kv_dim = self.head_dim * self.compiled.kv_heads
        self.q_proj = torch.nn.Linear(embed_dim, embed_dim, bias=bias)
        self.k_proj = torch.nn.Linear(embed_dim, kv_dim, bias=bias)
        self.v_proj = torch.nn.Linear(embed_dim, kv_dim, bias=bias)
        self.out_proj = torch.nn.Linear(embed_dim, embed_dim, bias=bias)

    def forward(
        self,
        x: torch.Tensor,
        *,
        key_padding_mask: torch.Tensor | None = None,
        cache: KVCache | PagedCache | None = None,
        cu_seqlens: torch.Tensor | None = None,
        **runtime_tensors: Any,
    ) -> torch.Tensor:
        """x (B, N, embed_dim) to the same shape.

        Keys for which `key_padding_mask`, bool (B, N), is true are left out; positions stay what they are. With a
        `cache` x holds the tokens that follow those in it, and they are added to it. With `cu_seqlens` x is (total,
        embed_dim), sequences one after the other; see `patternc.nn.attend_packed`.
        """
        if cu_seqlens is not None and (cache is not None or key_padding_mask is not None):
            raise ValueError("packed sequences take neither a cache nor padding: cu_seqlens has their lengths")
        q, k, v = (self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        options: dict[str, Any] = {"dropout_p": self.dropout if self.training else 0.0, **runtime_tensors}
        if cu_seqlens is not None:
            out: Any = attend_packed(self.compiled, q, k, v, cu_seqlens, **options)
            return self.out_proj(out.flatten(1))
        out = self._attended(q, k, v, key_padding_mask, cache, options)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def _attended(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        padding: torch.Tensor | None,
        cache: KVCache | PagedCache | None,
        options: dict[str, Any],
    ) -> Any:
        """(B, H, N, D), by what there is besides k and v."""
        if not isinstance(cache, PagedCache):
            keys = (k, v) if cache is None else cache.append(k, v)
            return attend_unpadded(self._held, q, *keys, padding, **options)
        if options.pop("dropout_p") or padding is not None:
            raise ValueError("a paged cache takes neither dropout nor padding: its sequences have lengths")
        return cache.attend(self.compiled, q, k, v, **options)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, H·D) to (B, H, N, D); (total, H·D) to (total, H, D)"""
        heads = x.unflatten(-1, (-1, self.head_dim))
        return heads.transpose(1, 2) if heads.ndim == 4 else heads

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, embed_dim={self.embed_dim}, dropout={self.dropout}"
