"""torch.nn.MultiheadAttention under a pattern."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from patternc.compiler import Compiled
from patternc.library import Pattern
from patternc.nn import dense, masks
from patternc.nn.held import Patterned, hold
from patternc.nn.masked import Masked

EVERYTHING = "pattern everything() = full"


class MultiheadAttention(Patterned, torch.nn.MultiheadAttention):
    """A torch.nn.MultiheadAttention whose heads attend under a pattern.

    Its arguments, those of `forward`, its results and its state dict are those of torch's class. `pattern` is any
    source that `patternc.compile` takes, or a compiled pattern for `num_heads` heads, and `layer`, `backend` and
    `params` are as there.

    - Masks leave out pairs of the pattern, or add to their scores. A row to which nothing is left gives 0 before the
      output projection, where torch gives NaN, and weights of 0.
    - With L queries and S > L keys the queries are the last L of S positions. More queries than keys have no
      positions: only the pattern that keeps every pair admits them.
    - `is_causal` leaves out later keys, with or without `attn_mask`; with it, `attn_mask` counts as the causal mask
      and is not read.
    - The keys of `add_bias_kv` and `add_zero_attn` lie outside the pattern: every query attends to them.
    - The weights that `need_weights` asks for are those before dropout. They are dense, (L, S) for each batch row, or
      with `weights_block`, a number of tokens, sparse: blocks of so many queries and keys, in a sparse tensor as
      `patternc.nn.block_weights` makes it. Keys outside the pattern have no place there, and are refused.
    - Float masks that hold more than 0 and −inf, and more queries than keys, are computed densely, in memory of
      L·S for each head; a backend named explicitly refuses them, unless it is "reference".
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        pattern: str | Path | Pattern | Compiled = EVERYTHING,
        layer: int = 0,
        backend: str = "auto",
        weights_block: int | None = None,
        **params: Any,
    ) -> None:
        if weights_block is not None and (add_bias_kv or add_zero_attn):
            raise ValueError(
                "add_bias_kv and add_zero_attn append keys outside the pattern; weights_block must be None"
            )
        super().__init__(
            embed_dim, num_heads, dropout, bias, add_bias_kv, add_zero_attn, kdim, vdim, batch_first, device, dtype
        )
        self._held = hold(pattern, heads=num_heads, layer=layer, backend=backend, params=params)
        self.weights_block = weights_block

    def _reset_parameters(self) -> None:
        self._qkv_same_embed_dim = self.in_proj_weight is not None
        super()._reset_parameters()
        # Encoder layers of torch bypass forward() in evaluation, by a fused kernel that knows no pattern, if this is
        # true; nothing else asks for it.
        self._qkv_same_embed_dim = False

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        **runtime_tensors: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """query (N, L, embed_dim), key (N, S, kdim) and value (N, S, vdim), with the first axes exchanged unless
        `batch_first`, or without a batch axis, to the output in the form of query; and with `need_weights` the weights
        (N, L, S), or (N, num_heads, L, S) if they are not averaged. `runtime_tensors` are those of the pattern."""
        _check_inputs(query, key, value, self.batch_first)
        batched = query.ndim == 3
        q, k, v = self._projected(query, key, value)
        sizes = masks.Sizes(q.shape[0], self.num_heads, q.shape[2], k.shape[2], batched)
        given = masks.read(key_padding_mask, attn_mask, is_causal, sizes)
        masked = Masked(self._held, given, runtime_tensors, sizes)
        out, weights = self._attended(masked, q, k, v, need_weights, average_attn_weights)
        out = self._placed(self.out_proj(out.transpose(1, 2).flatten(2)), batched)
        return out, weights if weights is None or batched else weights[0]

    def _attended(
        self, masked: Masked, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, need_weights: bool, average: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The output (B, H, L, D), and the weights (B, H, L, S and the appended keys), without heads if they are
        averaged, if they are asked for."""
        dropout_p = self.dropout if self.training else 0.0
        out, lse = masked.attention(q, k, v, dropout_p)
        others = self._appended(q)
        merged = dense.merge(out, lse, q, *others, dropout_p) if others else None
        if merged is not None:
            out, lse = merged.out, merged.lse
        if not need_weights:
            return out, None
        if self.weights_block is not None:
            return out, masked.block_weights(q, k, lse, self.weights_block, average)
        weights = dense.weights(masked.logits(q, k), lse)
        weights = weights if merged is None else torch.cat([weights, merged.weight], dim=-1)
        weights = weights.mean(dim=1) if average else weights
        return out, weights.to(q.dtype)

    # ------------------------------------------------------------------ projections

    def _projected(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """q, k and v (B, H, L or S, D)"""
        if self.in_proj_weight is not None and query is key and key is value:
            parts = functional.linear(self._batch_first(query), self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        else:
            inputs = (self._batch_first(x) for x in (query, key, value))
            parts = tuple(map(functional.linear, inputs, *self._projections()))
        q, k, v = (part.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for part in parts)
        return q, k, v

    def _projections(self) -> tuple[Any, Any]:
        """The weights and the biases of the three projections."""
        separate: Any = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        weights = separate if self.in_proj_weight is None else self.in_proj_weight.chunk(3)
        return weights, (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)

    def _batch_first(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim == 2:
            return x.unsqueeze(0)
        return x if self.batch_first else x.transpose(0, 1)

    def _placed(self, x: torch.Tensor, batched: bool) -> torch.Tensor:
        """From (B, L, embed_dim) back to the form of the query."""
        if not batched:
            return x.squeeze(0)
        return x if self.batch_first else x.transpose(0, 1)

    def _appended(self, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The keys and values outside the pattern, (B, H, one or two, D)."""
        found = [] if self.bias_k is None else [(self._of_heads(self.bias_k, q), self._of_heads(self.bias_v, q))]
        if self.add_zero_attn:
            zeros = q.new_zeros(q.shape[0], self.num_heads, 1, self.head_dim)
            found.append((zeros, zeros))
        return (torch.cat([k for k, _ in found], dim=2), torch.cat([v for _, v in found], dim=2)) if found else None

    def _of_heads(self, bias: Any, q: torch.Tensor) -> torch.Tensor:
        """(1, 1, embed_dim) to (B, H, 1, D), in the dtype of q."""
        return bias.to(q.dtype).view(1, self.num_heads, 1, self.head_dim).expand(q.shape[0], -1, -1, -1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, embed_dim={self.embed_dim}, dropout={self.dropout}"


def _check_inputs(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, batch_first: bool) -> None:
    if query.is_nested or key.is_nested or value.is_nested:
        raise TypeError("nested tensors are not supported; pad them and pass key_padding_mask")
    shapes = [tuple(x.shape) for x in (query, key, value)]
    good = query.ndim == key.ndim == value.ndim and query.ndim in (2, 3) and shapes[1][:-1] == shapes[2][:-1]
    batch = 0 if batch_first else 1
    if not good or (query.ndim == 3 and query.shape[batch] != key.shape[batch]):
        order = "(N, L, E), key (N, S, E_k) and value (N, S, E_v)"
        order = order if batch_first else "(L, N, E), key (S, N, E_k) and value (S, N, E_v)"
        raise ValueError(f"expected query {order}, or all without N; found {', '.join(map(str, shapes))}")
