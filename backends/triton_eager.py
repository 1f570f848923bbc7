"""Attention without the dispatcher's detour through an operator, for plain tensors outside any trace.

That detour takes longer on the host than a short kernel on the device.
Only private functions of torch tell whether somebody looks at operators; where they are missing all calls are ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

from patternc.backends.triton_op import Executor, attention_backward

_PLAIN = frozenset((torch.Tensor, torch.nn.Parameter))
_NEGATED = torch.Tensor.is_neg
_MODES = getattr(torch._C, "_len_torch_dispatch_stack", None)
_TRANSFORMS = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", None)


def is_plain(*tensors: torch.Tensor) -> bool:
    """Whether nothing looks at operators as they are called: no trace, no mode, no transform, no subclass, and no view
    that stands for the negative of what is in memory."""
    if torch.compiler.is_compiling() or _MODES is None or _TRANSFORMS is None:
        return False
    if getattr(forward_ad, "_current_level", -1) >= 0:
        _refuse_tangents(tensors)
    if _MODES() or _TRANSFORMS() is not None:
        return False
    return _PLAIN.issuperset(map(type, tensors)) and True not in map(_NEGATED, tensors)


def _refuse_tangents(tensors: Sequence[torch.Tensor]) -> None:
    """Derivatives in forward mode, which operators would lose in silence."""
    given = [t for t in tensors if isinstance(t, torch.Tensor)]
    if any(forward_ad.unpack_dual(t).tangent is not None for t in given):
        raise RuntimeError("attention has no forward-mode derivatives; the reference backend has them")


def plain_attention(
    executor: Executor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tensors: Sequence[torch.Tensor],
    scale: float, dropout_p: float, seed: int,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """The same as the operator `patternc::attention`."""
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        out, lse = _Attention.apply(executor, q, k, v, scale, dropout_p, seed, *tensors)
        return out, lse
    return executor.forward(q, k, v, tensors, scale, dropout_p, seed)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, executor: Executor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float,
        dropout_p: float, seed: int, *tensors: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        out, lse = executor.forward(q, k, v, tensors, scale, dropout_p, seed)
        ctx.executor, ctx.numbers = executor, (scale, dropout_p, seed)
        ctx.save_for_backward(q, k, v, out, lse, *tensors)
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor | None, d_lse: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        q, k, v, out, lse, *tensors = ctx.saved_tensors
        none = (None,) * (3 + len(tensors))
        queries, *keys = ctx.needs_input_grad[1:4]
        if d_out is None and d_lse is None:
            return None, None, None, None, *none
        d_out = torch.zeros_like(out) if d_out is None else d_out.resolve_neg()
        d_lse = None if d_lse is None else d_lse.resolve_neg()
        scale, dropout_p, seed = ctx.numbers
        given = (q, k, v, out, lse, d_out, d_lse, tensors)
        if torch.is_grad_enabled():  # create_graph=True: the operator refuses what follows
            dq, dk, dv = attention_backward(
                *given, ctx.executor.key, scale, dropout_p, torch.tensor(seed), queries, any(keys)
            )
        else:
            dq, dk, dv = ctx.executor.backward(*given, scale, dropout_p, seed, queries, any(keys))
        dq = dq if queries else None
        return None, dq, dk if keys[0] else None, dv if keys[1] else None, *none
