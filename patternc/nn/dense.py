"""What needs every score of a call: additions to scores, attention weights; and keys that lie outside a pattern."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import dropout


def logits(
    q: torch.Tensor,
    k: torch.Tensor,
    m: torch.Tensor,
    bias: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """scale · q·k + bias + log M, and −inf for pairs that do not attend: (B, H, L, S), float32 for half precision.

    m and bias broadcast to that shape; −inf in the bias takes a pair out, like 0 in m. `scale` is 1/√D unless given. Of
    fewer key heads each serves as many query heads.
    """
    k = shared(k, q.shape[1])
    reads = (m > 0).expand(*q.shape[:3], k.shape[2])
    product = _scores(q, _only_read(k, reads if bias is None else reads & (bias != -torch.inf)), scale)
    product = product + m.clamp(min=1).to(product.dtype).log()
    product = product if bias is None else product + bias
    return product.masked_fill(~reads, -torch.inf)


def shared(t: torch.Tensor, heads: int) -> torch.Tensor:
    """Keys or values (B, H_kv, S, D) for so many query heads."""
    return t if t.shape[1] == heads else t.repeat_interleave(heads // t.shape[1], dim=1)


def _scores(q: torch.Tensor, k: torch.Tensor, scale: float | None = None) -> torch.Tensor:
    product = q @ k.transpose(-1, -2)
    product = product / math.sqrt(q.shape[-1]) if scale is None else product * scale
    return product.float() if product.dtype in (torch.float16, torch.bfloat16) else product


def _only_read(t: torch.Tensor, reads: torch.Tensor) -> torch.Tensor:
    """Zeros for the keys (or values) that no query reads: 0 · NaN would be NaN."""
    return torch.where(reads.any(dim=2)[..., None], t, 0)


def attention(logit: torch.Tensor, v: torch.Tensor, dropout_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The output (B, H, L, D_v) and the log-sum-exp (B, H, L); a row without keys gives 0 and −inf."""
    reads = logit != -torch.inf
    some = reads.any(dim=-1)
    lse = torch.where(some, logit.masked_fill(~some[..., None], 0).logsumexp(dim=-1), -torch.inf)
    weight = dropout(weights(logit, lse), dropout_p).to(v.dtype)
    return weight @ _only_read(shared(v, logit.shape[1]), reads), lse


def weights(logit: torch.Tensor, lse: torch.Tensor) -> torch.Tensor:
    """exp(logit − lse), and 0 for pairs that do not attend: (B, H, L, S)."""
    shifted = logit - lse[..., None].to(logit.dtype)
    return shifted.masked_fill(logit == -torch.inf, -torch.inf).exp()


@dataclass(frozen=True, eq=False)
class Merged:
    """Attention to the keys of a pattern and to some others."""

    out: torch.Tensor
    lse: torch.Tensor
    weight: torch.Tensor
    """Of the others: (B, H, L, others)."""


def merge(
    out: torch.Tensor, lse: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout_p: float
) -> Merged:
    """One softmax over the keys behind (out, lse) and the keys k (B, H, others, D), which every query attends once.

    The parts are weighted by their shares of the denominator, so the first may come from any backend.
    """
    own = _scores(q, k)
    total = torch.cat([lse[..., None].to(own.dtype), own], dim=-1).logsumexp(dim=-1)
    share = (lse.to(own.dtype) - total).exp()[..., None]
    weight = (own - total[..., None]).exp()
    joined = share * out.to(own.dtype) + dropout(weight, dropout_p) @ v.to(own.dtype)
    return Merged(joined.to(out.dtype), total, weight)
