"""The passes as one differentiable function."""

from __future__ import annotations

from typing import Any

import torch

from patternc.backends.torch_passes import Call, backward, forward, saved

_HALF = (torch.float16, torch.bfloat16)


def computed_in(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which tiles are computed: float32 for half precision."""
    return torch.float32 if dtype in _HALF else dtype


def attention(call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and lse, with first-order gradients of both."""
    return _Attention.apply(q, k, v, call)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, call: Call
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(q.device.type, enabled=False):
            out, lse = forward(call, q, k, v)
        ctx.call = call
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor | None, d_lse: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        kept = ctx.saved_tensors
        if d_out is None and d_lse is None:
            return None, None, None, None
        with torch.no_grad(), torch.autocast(kept[0].device.type, enabled=False):
            gradients: tuple[torch.Tensor | None, ...] = _gradients(ctx, kept, d_out, d_lse)
        if torch.is_grad_enabled():  # create_graph=True
            gradients = tuple(None if g is None else _Once.apply(g, *kept[:3]) for g in gradients)
        return *gradients, None


def _gradients(
    ctx: Any, kept: tuple[torch.Tensor, ...], d_out: torch.Tensor | None, d_lse: torch.Tensor | None
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """Those of q, k and v; what was saved is taken out once, as checkpointing demands."""
    q, k, v, out, lse = kept
    d_out = torch.zeros_like(out) if d_out is None else d_out
    gradients = backward(ctx.call, saved(ctx.call, q, k, v, out, lse, d_out, d_lse))
    dq, dk, dv = (
        g.to(t.dtype).view(t.shape) if needed else None
        for g, t, needed in zip(gradients, (q, k, v), ctx.needs_input_grad[:3], strict=True)
    )
    return dq, dk, dv


class _Once(torch.autograd.Function):
    """A gradient that cannot be differentiated again, and says so instead of counting as a constant."""

    @staticmethod
    def forward(ctx: Any, gradient: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise RuntimeError("attention of the torch backend has no second-order gradients; the reference backend has")
