"""Attention of one piece by plain matrix products: any device and dtype, with dropout.

Shapes are (S, R, queries, D) and (S, R, keys, D): streams and rows of a strip. Scores are scale · q·k + bias.
"""

from __future__ import annotations

import torch


def plain_forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float,
    bias: torch.Tensor | None,
    keep: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output (S, R, queries, D_v) and lse (S, R, queries); 0 and -inf where a query reads nothing. `keep` is what
    dropout multiplies probabilities by."""
    score = _scores(q, k, scale, bias)
    lowest = torch.finfo(score.dtype).min  # instead of -inf, so that empty rows have no inf - inf
    top = score.amax(dim=-1, keepdim=True).clamp_(min=lowest)
    weight = score.sub_(top).exp_()
    total = weight.sum(dim=-1, keepdim=True)
    if keep is not None:
        weight.mul_(keep)
    out = (weight @ v).div_(total.clamp(min=0.5))  # the best key weighs 1, so only empty rows are below
    return out, (top + total.log()).squeeze(-1)


def plain_backward(
    d_out: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lse: torch.Tensor,
    delta: torch.Tensor,
    scale: float,
    bias: torch.Tensor | None,
    keep: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the piece adds to dq, dk and dv. `lse` (finite) and `delta` (S, R, queries) are those of whole rows."""
    probability = _scores(q, k, scale, bias).sub_(lse[..., None]).exp_()
    d_weight = d_out @ v.mT
    if keep is not None:
        d_weight.mul_(keep)
    d_score = d_weight.sub_(delta[..., None]).mul_(probability).mul_(scale)
    if keep is not None:
        probability.mul_(keep)
    return d_score @ k, d_score.mT @ q, probability.mT @ d_out


def _scores(q: torch.Tensor, k: torch.Tensor, scale: float, bias: torch.Tensor | None) -> torch.Tensor:
    score = (q * scale) @ k.mT
    return score if bias is None else score.add_(bias)
