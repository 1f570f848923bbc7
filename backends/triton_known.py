"""Calls like an earlier one: tensors of the same shapes, strides and dtypes, at other places, or a few queries whose
numbers of keys share a plan. What is checked and looked up for the first of them takes longer on the host than a short
kernel on the device, and comes out the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from patternc.backends.triton_few import longest_of, suits
from patternc.backends.triton_launch import Recipe
from patternc.backends.triton_op import Executor
from patternc.backends.triton_run import (
    Call,
    backward_pass,
    forward_few,
    forward_pass,
    gradients_of,
    numbers_of_call,
    outputs_of,
)


def call_key(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout_p: float) -> tuple[Any, ...]:
    """What calls must have in common."""
    return (
        q.shape, k.shape, v.shape, q.stride(), k.stride(), v.stride(), q.dtype, k.dtype, v.dtype, q.device, k.device,
        v.device, dropout_p,
    )  # fmt: skip


def few_key(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout_p: float) -> tuple[Any, ...] | None:
    """What calls of a few queries must have in common; None for other calls."""
    if not q.ndim == k.ndim == v.ndim == 4 or not suits(k.shape[2], q.shape[2]) or k.shape[2] != v.shape[2]:
        return None
    if any(t.stride(3) != 1 for t in (q, k, v)):
        return None
    return (
        longest_of(k.shape[2]), q.shape, *k.shape[:2], k.shape[3], *v.shape[:2], v.shape[3], q.dtype, k.dtype, v.dtype,
        q.device, k.device, v.device, dropout_p,
    )  # fmt: skip


def aligned_all(*tensors: torch.Tensor) -> bool:
    """Whether all start at multiples of 16 bytes."""
    places = 0
    for t in tensors:
        places |= t.data_ptr()
    return places % 16 == 0


class Known:
    """An executor of calls without run-time tensors that have a key in common, and are `aligned_all`; see
    `triton_op.Executor`. Neighbouring channels lie side by side."""

    def __init__(self, executor: Executor, call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        self.key, self._executor, self._call = executor.key, executor, call
        self.scale = 1 / math.sqrt(q.shape[3])
        self._forward = forward_pass(call, q, k, v)
        self._backward: dict[tuple[Any, ...], Recipe] = {}

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tensors: Sequence[torch.Tensor], scale: float,
        dropout_p: float, seed: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        out, lse = outputs_of(self._call.schedule, q, v)
        self._forward.run({"q": q, "k": k, "v": v, "out": out, "lse": lse}, numbers_of_call(scale, seed))
        return out, lse

    def backward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, lse: torch.Tensor,
        d_out: torch.Tensor, d_lse: torch.Tensor | None, tensors: Sequence[torch.Tensor], scale: float,
        dropout_p: float, seed: int, queries: bool, keys: bool,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
        given = {"q": q, "k": k, "v": v, "out": out, "lse": lse, "d_out": d_out}
        if d_lse is not None:
            given["d_lse"] = d_lse
        if not self._usual(given):
            others = (tensors, scale, dropout_p, seed, queries, keys)
            return self._executor.backward(q, k, v, out, lse, d_out, d_lse, *others)
        key = d_out.stride(), d_lse is None, queries, keys
        recipe = self._backward.get(key)
        if recipe is None:
            recipe = self._backward[key] = backward_pass(self._call, given, queries=queries, keys=keys)
        found = gradients_of(self._call.schedule, q, k, v, queries, keys)
        recipe.run({**given, **found}, numbers_of_call(scale, seed))
        return found.get("dq"), found.get("dk"), found.get("dv")

    def _usual(self, given: dict[str, torch.Tensor]) -> bool:
        """Whether the gradients that came, and what was saved, are as they mostly are."""
        d_out, d_lse = given["d_out"], given.get("d_lse")
        if d_out.dtype != given["q"].dtype or d_out.stride(-1) != 1 or not self._call.schedule.by_query:
            return False
        if d_lse is not None and (d_lse.dtype != torch.float32 or not d_lse.is_contiguous()):
            return False
        return given["out"].is_contiguous() and given["lse"].is_contiguous() and aligned_all(*given.values())


class KnownFew:
    """An executor of calls of a few queries that have a `few_key` in common; see `triton_op.Executor`. Gradients are
    computed by the plan of the call's own length."""

    def __init__(self, executor: Executor, call: Call, q: torch.Tensor) -> None:
        self.key, self._executor, self._call = executor.key, executor, call
        self.scale = 1 / math.sqrt(q.shape[3])

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tensors: Sequence[torch.Tensor], scale: float,
        dropout_p: float, seed: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        return forward_few(self._call, q, k, v, scale, seed)

    def backward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, lse: torch.Tensor,
        d_out: torch.Tensor, d_lse: torch.Tensor | None, tensors: Sequence[torch.Tensor], scale: float,
        dropout_p: float, seed: int, queries: bool, keys: bool,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
        others = (tensors, scale, dropout_p, seed, queries, keys)
        return self._executor.backward(q, k, v, out, lse, d_out, d_lse, *others)
