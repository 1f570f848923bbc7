"""PyTorch's fused attention kernel for CPUs, which holds no scores, as a means to compute a piece.

It is not part of PyTorch's public interface. So it is tried once, on a small case with all that is asked of it, and
plain products take its place where it does not exist or does not do that.
"""

from __future__ import annotations

from functools import cache

import torch

from patternc.backends.torch_products import plain_backward, plain_forward

KERNEL = "_scaled_dot_product_flash_attention_for_cpu"


@cache
def fused_works(dtype: torch.dtype) -> bool:
    """Whether the kernel is there and right for the dtype."""
    if dtype not in (torch.float32, torch.float64) or not hasattr(torch.ops.aten, KERNEL):
        return False
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    q, k, v, d_out = draw(2, 3, 40, 8), draw(2, 3, 1100, 8), draw(2, 3, 1100, 8), draw(2, 3, 40, 8)
    bias = draw(1, 3, 40, 1100).clamp(max=0.5)
    bias = bias.masked_fill(bias < 0, -torch.inf)
    bias[:, 0, 5], bias[:, 1, :, :600] = -torch.inf, -torch.inf
    empty = bias.amax(3) == -torch.inf
    try:
        out, lse = fused_forward(q, k, v, 0.3, bias, empty)
        right_out, right_lse = plain_forward(q, k, v, 0.3, bias, None)
        lse = torch.where(empty, 0, lse) + 0.25  # a row's lse is that of all pieces together
        delta = (d_out * out).sum(-1)
        found = fused_backward(d_out, q, k, v, out, lse, 0.3, bias)
        right = plain_backward(d_out, q, k, v, lse, delta, 0.3, bias, None)
    except (RuntimeError, TypeError):  # other versions of PyTorch may take other arguments
        return False
    close = 1e-4 if dtype == torch.float32 else 1e-10
    pairs = [(out, right_out), (lse, torch.where(empty, 0, right_lse) + 0.25), *zip(found, right, strict=True)]
    return all(torch.allclose(f, r, rtol=close, atol=close) for f, r in pairs)


def fused_forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float,
    bias: torch.Tensor | None,
    empty: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `plain_forward`; `empty` (1, R, queries) says where a query reads nothing."""
    kernel = getattr(torch.ops.aten, KERNEL)
    out, lse = kernel(q, k, v, attn_mask=bias, scale=scale)
    return out, lse if empty is None else lse.masked_fill(empty, -torch.inf)  # the kernel has 0 there


def fused_backward(
    d_out: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    scale: float,
    bias: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `plain_backward`, with delta = d_out · out."""
    kernel = getattr(torch.ops.aten, f"{KERNEL}_backward")
    d_out, q, k, v, out, lse = (t.transpose(0, 1) for t in (d_out, q, k, v, out, lse))
    mask = None if bias is None else bias.transpose(0, 1)
    found = kernel(d_out, q, k, v, out, lse, 0.0, False, attn_mask=mask, scale=scale)  # rows first: it is faster
    dq, dk, dv = (t.transpose(0, 1) for t in found)
    return dq, dk, dv
