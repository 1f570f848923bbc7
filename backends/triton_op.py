"""The passes as operators of PyTorch: `patternc::attention` and `patternc::attention_backward`, with gradients of the
first, and shapes of both for torch.compile.

A program is known to them by a key, which is the same in every process; run-time tensors come as a list, in the order
in which the program declares them. A seed is a tensor, so that drawing one breaks no graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch

from patternc.backends.triton_namespace import NAMESPACE


class Executor(Protocol):
    """A program that the operators run."""

    key: str
    """Its name among the operators' arguments."""

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tensors: Sequence[torch.Tensor], scale: float,
        dropout_p: float, seed: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """The output (B, H, N_q, D_v) and lse (B, H, N_q), contiguous; lse in float32, of float64 inputs in float64."""

    def backward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, lse: torch.Tensor,
        d_out: torch.Tensor, d_lse: torch.Tensor | None, tensors: Sequence[torch.Tensor], scale: float,
        dropout_p: float, seed: int, queries: bool, keys: bool,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
        """dq, dk and dv, contiguous; None for those not asked for."""


_EXECUTORS: WeakValueDictionary[str, Executor] = WeakValueDictionary()


def known(executor: Executor) -> Executor:
    """The executor of its key: the one given, unless there is one already."""
    return _EXECUTORS.setdefault(executor.key, executor)


def as_tensor(key: str) -> torch.Tensor:
    """A key as an input of a graph, which serves other patterns then: the operators take it as the last of their
    tensors, and an empty key."""
    return torch.frombuffer(bytearray(key.encode()), dtype=torch.uint8)


def _key(key: str, tensors: Sequence[torch.Tensor]) -> str:
    return key or bytes(tensors[-1].tolist()).decode()


def _executor(key: str) -> Executor:
    found = _EXECUTORS.get(key)
    if found is None:
        raise RuntimeError(f"the attention {key!r} is not there any more: keep the compiled pattern while it is called")
    return found


def _number(seed: torch.Tensor | None) -> int:
    return 0 if seed is None else int(seed)


# ------------------------------------------------------------------ forward


@torch.library.custom_op(f"{NAMESPACE}::attention", mutates_args=())
def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    tensors: list[torch.Tensor],
    key: str,
    scale: float,
    dropout_p: float,
    seed: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output (B, H, N_q, D_v), in q's dtype, and lse (B, H, N_q), in float32 or float64. The triton backend's
    `scale` is positive; `seed` is a number on the CPU, or None without dropout."""
    found, given = _executor(_key(key, tensors)), tensors if key else tensors[:-1]
    return found.forward(q, k, v, given, scale, dropout_p, _number(seed))


@attention.register_fake
def _(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tensors: list[torch.Tensor], key: str, scale: float,
    dropout_p: float, seed: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    batch, heads, n_q, _ = q.shape
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    return q.new_empty(batch, heads, n_q, v.shape[3]), q.new_empty(batch, heads, n_q, dtype=wide)


# ------------------------------------------------------------------ backward


@torch.library.custom_op(f"{NAMESPACE}::attention_backward", mutates_args=())
def attention_backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
    tensors: list[torch.Tensor],
    key: str,
    scale: float,
    dropout_p: float,
    seed: torch.Tensor | None,
    queries: bool,
    keys: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """dq, and dk with dv; those not asked for by `queries` and `keys` have no element."""
    found, given = _executor(_key(key, tensors)), tensors if key else tensors[:-1]
    gradients = found.backward(q, k, v, out, lse, d_out, d_lse, given, scale, dropout_p, _number(seed), queries, keys)
    dq, dk, dv = (q.new_empty(0) if g is None else g for g in gradients)
    return dq, dk, dv


@attention_backward.register_fake
def _(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, lse: torch.Tensor, d_out: torch.Tensor,
    d_lse: torch.Tensor | None, tensors: list[torch.Tensor], key: str, scale: float, dropout_p: float,
    seed: torch.Tensor | None, queries: bool, keys: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    dq, dk, dv = (
        t.new_empty(t.shape) if wanted else t.new_empty(0) for t, wanted in ((q, queries), (k, keys), (v, keys))
    )
    return dq, dk, dv


# ------------------------------------------------------------------ autograd


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    q, k, v, tensors, ctx.key, ctx.scale, ctx.dropout_p, seed = inputs
    ctx.executor = _EXECUTORS.get(ctx.key) if ctx.key else None  # stays while it may be needed
    ctx.count, ctx.seeded = len(tensors), seed is not None
    ctx.save_for_backward(q, k, v, *output, *tensors, *([] if seed is None else [seed]))
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, d_out: torch.Tensor | None, d_lse: torch.Tensor | None) -> tuple[Any, ...]:
    q, k, v, out, lse, *rest = ctx.saved_tensors
    tensors, seed = rest[: ctx.count], rest[ctx.count] if ctx.seeded else None
    none = [None] * ctx.count
    queries, *keys = ctx.needs_input_grad[:3]
    if (d_out is None and d_lse is None) or not (queries or any(keys)):
        return None, None, None, none, None, None, None, None
    d_out = torch.zeros_like(out) if d_out is None else d_out
    dq, dk, dv = attention_backward(
        q, k, v, out, lse, d_out, d_lse, tensors, ctx.key, ctx.scale, ctx.dropout_p, seed, queries, any(keys)
    )
    wanted = (dq if queries else None, dk if keys[0] else None, dv if keys[1] else None)
    return *wanted, none, None, None, None, None


def _no_second_order(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
    raise RuntimeError("attention has no second-order gradients in graphs; the reference backend has them")


attention.register_autograd(_gradients, setup_context=_setup)
attention_backward.register_autograd(_no_second_order)
