"""Dense attention under multiplicities, in plain differentiable operations."""

from __future__ import annotations

import torch

from patternc.backends.reference_mask import hashed


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    m: torch.Tensor,
    scale: float,
    dropout_p: float = 0.0,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(scale · q·k + log M) · v, and lse, computed in the inputs' dtype.

    q (B, H, N_q, D), k (B, H_kv, N, D), v (B, H_kv, N, D_v), m (H, N_q, N) or (B, H, N_q, N). A row without keys has
    output 0, lse −inf and no gradient. Keys and values that no query reads, and queries that read none, may hold NaN.
    """
    batch, heads, n_q, _ = q.shape
    m = m.expand(batch, heads, n_q, k.shape[2])
    reads = m > 0
    some = reads.any(dim=-1, keepdim=True)
    q = torch.where(some, q, 0)
    k, v = _only_read(k, reads), _only_read(v, reads)
    score = (q @ _per_head(k, heads).transpose(-1, -2)) * scale + m.clamp(min=1).double().log().to(q.dtype)
    score = score.masked_fill(~reads, -torch.inf)
    top = torch.where(some, score.detach().amax(dim=-1, keepdim=True), 0)
    weight = (score - top).exp()
    total = torch.where(some, weight.sum(dim=-1, keepdim=True), 1)
    probability = weight / total
    if dropout_p > 0:
        probability = probability * kept(seed, dropout_p, batch, heads, n_q, k.shape[2], q.device).to(q.dtype)
    out = torch.where(some, probability @ _per_head(v, heads), 0)
    lse = torch.where(some, top + total.log(), -torch.inf).squeeze(-1)
    return out, lse.float() if q.dtype in (torch.float16, torch.bfloat16) else lse


def _per_head(t: torch.Tensor, heads: int) -> torch.Tensor:
    """Key heads repeated for the query heads they serve: head h reads key head h // (H / H_kv)."""
    return t.repeat_interleave(heads // t.shape[1], dim=1)


def _only_read(t: torch.Tensor, reads: torch.Tensor) -> torch.Tensor:
    """Zeros in place of the keys (or values) that no query of the group reads: 0 · NaN would be NaN."""
    read = reads.any(dim=2).unflatten(1, (t.shape[1], -1)).any(dim=2)
    return torch.where(read[..., None], t, 0)


def kept(seed: int, dropout_p: float, batch: int, heads: int, n_q: int, n: int, device: torch.device) -> torch.Tensor:
    """1 / (1 - p) where dropout keeps a probability and 0 where it drops it: float64 (B, H, N_q, N)."""
    if dropout_p == 1:
        return torch.zeros(batch, heads, n_q, n, dtype=torch.float64, device=device)
    b = torch.arange(batch, device=device)[:, None, None, None]
    h = torch.arange(heads, device=device)[:, None, None]
    query = torch.arange(n - n_q, n, device=device)[:, None]
    key = torch.arange(n, device=device)
    kept_cells = torch.as_tensor(hashed(seed, b, h, query, key)) >= int(dropout_p * 2**32)
    return kept_cells.double() / (1 - dropout_p)
