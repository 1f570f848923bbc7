"""The passes of a schedule on tensors: forward, and backward in three kernels.

Interface: `schedule(plan, masks, kv_heads, batch, device)` makes the tables of a plan; `Call` holds what the passes of
a call share; `forward(call, q, k, v)` and `backward(call, q, k, v, out, lse, d_out, d_lse)` run them on tensors that
are `usable`, out being contiguous. What the launches of a pass are is found once for tensors of equal shapes and
strides (triton_bind), and kept with the schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, reduce
from operator import or_
from types import MappingProxyType
from typing import Any

import torch

from patternc.backends.triton_bind import Call, backward_recipe, forward_recipe, lengths_of, signed
from patternc.backends.triton_launch import Recipe
from patternc.backends.triton_schedule import Schedule

_LOG2_E = 1.4426950408889634
_MASK = 0xFFFFFFFF
_NO_TABLES: Mapping[str, torch.Tensor] = MappingProxyType({})
_KEPT = 64
"""Recipes of a schedule that are kept."""


def usable(t: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy with neighbouring channels side by side."""
    return t if t.stride(-1) == 1 else t.contiguous()


def forward(
    call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tables: Mapping[str, torch.Tensor] = _NO_TABLES
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, in q's dtype, and lse (B, H, N_q) in float32. `tables` are the call's own, where its schedule asks
    for them (`Step.drawn`)."""
    out, lse = outputs_of(call.schedule, q, v)
    given = {"q": q, "k": k, "v": v, "out": out, "lse": lse, **tables}
    forward_pass(call, q, k, v).run(given, numbers_of_call(call.scale, call.seed))
    return out, lse


def forward_few(
    call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by a schedule for a stretch of lengths; scale and seed are those given, and not the call's. Tensors that
    differ in length and in strides are started by the same recipe."""
    out, lse = outputs_of(call.schedule, q, v)
    align, recipe = _few_pass(call, q, k, v)
    given = {"q": q, "k": k, "v": v}
    numbers = {**numbers_of_call(scale, seed), **lengths_of(given, align)}
    recipe.run({**given, "out": out, "lse": lse}, numbers)
    return out, lse


def backward(
    call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, lse: torch.Tensor,
    d_out: torch.Tensor, d_lse: torch.Tensor | None, *, queries: bool = True, keys: bool = True,
    tables: Mapping[str, torch.Tensor] = _NO_TABLES,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
    """dq, dk and dv, in the dtypes of the inputs; None for those not asked for."""
    given = {"q": q, "k": k, "v": v, "out": out, "lse": lse, "d_out": d_out}
    if d_lse is not None:
        given["d_lse"] = d_lse.float().contiguous()
    found = gradients_of(call.schedule, q, k, v, queries, keys)
    recipe = backward_pass(call, given, queries=queries, keys=keys)
    recipe.run({**given, **found, **tables}, numbers_of_call(call.scale, call.seed))
    return found.get("dq"), found.get("dk"), found.get("dv")


# ------------------------------------------------------------------ what a pass is made of


def outputs_of(schedule: Schedule, q: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The output and lse, 0 and -inf where the schedule leaves queries out."""
    batch, heads, n_q, _ = q.shape
    out = q.new_empty(batch, heads, n_q, v.shape[3])
    lse = q.new_empty(batch, heads, n_q, dtype=torch.float32)
    if not schedule.queries_complete:
        out.zero_()
        lse.fill_(-torch.inf)
    return out, lse


def forward_pass(call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Recipe:
    """The launches of the forward pass on tensors like these."""
    return _recipe("forward", call, (q, k, v), lambda kept: forward_recipe(call, q, k, v, kept=kept))


def _few_pass(call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[int, Recipe]:
    """The elements in which strides are counted, and the launches."""
    places = q.data_ptr() | k.data_ptr() | v.data_ptr()
    strides = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3])
    steps = reduce(or_, strides)
    unit = 16 // q.element_size()
    align = unit if places % 16 == 0 and steps % unit == 0 else 1
    key = (
        q.shape, v.shape[3], q.dtype, call.dropout_p, call.precision, *call.options.items(), places % 16 == 0, align,
        max(strides[5], strides[8]) * call.schedule.n >= 1 << 31, strides if steps >> 31 else None,
    )  # fmt: skip
    kept = call.schedule.recipes
    found: Recipe | None = kept.get(key)
    if found is None:
        if len(kept) >= _KEPT:
            kept.clear()
        found = kept[key] = forward_recipe(call, q, k, v, kept=places % 16 == 0)
    return align, found


def backward_pass(call: Call, given: Mapping[str, torch.Tensor], *, queries: bool, keys: bool) -> Recipe:
    """The launches of the backward pass on tensors like these: those of a call that are read, by name."""
    name = f"backward {queries} {keys} {'d_lse' in given}"
    made = lambda kept: backward_recipe(call, given, queries=queries, keys=keys, kept=kept)
    return _recipe(name, call, tuple(given.values()), made)


def gradients_of(
    schedule: Schedule, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, queries: bool, keys: bool
) -> dict[str, torch.Tensor]:
    """dq, dk and dv, 0 where the schedule leaves tokens out."""
    wanted = ({"dq": q} if queries else {}) | ({"dk": k, "dv": v} if keys else {})
    found = {name: torch.empty(t.shape, dtype=t.dtype, device=t.device) for name, t in wanted.items()}
    for name, t in found.items():
        if not (schedule.queries_complete if name == "dq" else schedule.keys_complete):
            t.zero_()
    return found


def _recipe(name: str, call: Call, read: tuple[torch.Tensor, ...], make: Callable[[bool], Recipe]) -> Recipe:
    """The recipe of a pass for tensors like those it reads."""
    places = 0
    key: list[Any] = [name, read[0].dtype, call.dropout_p, call.precision, call.boxes, *call.options.items()]
    for t in read:
        key += (t.shape, t.stride())
        places |= t.data_ptr()
    aligned = places % 16 == 0  # loads are wider then
    key.append(aligned)
    kept, whole = call.schedule.recipes, tuple(key)
    found: Recipe | None = kept.get(whole)
    if found is None:
        if len(kept) >= _KEPT:
            kept.clear()
        found = kept[whole] = make(aligned)
    return found


def numbers_of_call(scale: float, seed: int) -> dict[str, float]:
    """What launches are given beside tensors."""
    return {"scale": scale, "log_scale": scale * _LOG2_E, "seed": _mixed_bits(seed)}


@lru_cache(64)
def _mixed_bits(seed: int) -> int:
    return signed(_mixed(seed))


def _mixed(seed: int) -> int:
    """The seed after the first step of the hash; see torch_dropout."""
    x = (seed + 0x9E3779B9) & _MASK
    x ^= x >> 16
    x = (x * 0x7FEB352D) & _MASK
    x ^= x >> 15
    x = (x * 0x846CA68B) & _MASK
    return x ^ (x >> 16)
