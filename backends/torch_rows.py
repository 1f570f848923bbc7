"""A few queries of a program without a plan, as decoding has them: each class of heads reads the keys that it wants.

Everything is plain differentiable arithmetic on any device, with bounded memory; the keys are listed on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from patternc import ir
from patternc.analysis.row_keys import RowKeys, Rows
from patternc.backends.inputs import Sizes
from patternc.backends.torch_function import computed_in

FEW_QUERIES = 16
"""Up to so many queries of more positions are computed here. Beyond, the union of their keys may be much more than each
wants."""
MOST_SCORES = 1 << 27
"""Scores of a call at once: 512 MiB in float32."""


@dataclass(frozen=True)
class HeadGroup:
    """Heads of one class, and the key heads they read: of each, successive `each` heads."""

    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]


def group(heads: tuple[int, ...], served: int) -> HeadGroup:
    """Ascending heads, of which `served` successive ones share a key head."""
    owners = [h // served for h in heads]
    distinct = sorted(set(owners))
    even = len({owners.count(owner) for owner in distinct}) == 1
    return HeadGroup(heads, tuple(distinct if even else owners))


class TorchRows:
    """The rows of one program."""

    def __init__(self, program: ir.Program, heads: int, kv_heads: int) -> None:
        self._rows, self._heads, self._served = Rows(program, heads), heads, heads // kv_heads

    @property
    def steady(self) -> bool:
        """Whether the program admits every length, reads no tensors, and keeps the same pairs at all lengths."""
        return self._rows.steady

    def suits(self, sizes: Sizes, dropout_p: float) -> bool:
        """Whether a call is computed here: a few of many positions, without dropout."""
        return sizes.n_q <= FEW_QUERIES and sizes.n_q < sizes.n and dropout_p == 0

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, tensors: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The output (B, H, N_q, D_v) and lse (B, H, N_q) of q (B, H, N_q, D), k (B, H_kv, N, D), v (B, H_kv, N, D_v);
        `tensors` are checked."""
        arrays = {name: t.cpu().numpy() for name, t in tensors.items()}
        found: list[tuple[torch.Tensor, torch.Tensor]] = []
        with torch.autocast(q.device.type, enabled=False):
            for b, wanted in self._rows.wanted(k.shape[2], q.shape[2], arrays):
                rows = slice(None) if b is None else slice(b, b + 1)
                parts = [(own.heads, self._part(own, q[rows], k[rows], v[rows], scale)) for own in wanted]
                found.append(joined(parts, self._heads))
        if len(found) == 1:
            return found[0]
        return torch.cat([out for out, _ in found]), torch.cat([lse for _, lse in found])

    def _part(
        self, own: RowKeys, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of some heads; as many batch rows at once as memory has room for."""
        heads = group(own.heads, self._served)
        bias = log_weights(own.multiplicity, computed_in(q.dtype), q.device)
        q, k, v = chosen(q, heads.heads), picked(k, heads, own.keys), picked(v, heads, own.keys)
        rows = max(1, MOST_SCORES // max(1, len(own.heads) * q.shape[2] * len(own.keys)))
        if rows >= len(q):
            return attention(q, k, v, bias, scale)
        some = zip(q.split(rows), k.split(rows), v.split(rows), strict=True)
        parts = [attention(own_q, own_k, own_v, bias, scale) for own_q, own_k, own_v in some]
        return torch.cat([out for out, _ in parts]), torch.cat([lse for _, lse in parts])


def picked(t: torch.Tensor, heads: HeadGroup, keys: np.ndarray) -> torch.Tensor:
    """(B, H_kv, N, D) to the heads' key heads and the keys (B, G, K, D): a view, where they are equally spaced."""
    here = equally_spaced(keys)
    if here is not None:
        return chosen(t[:, :, here], heads.kv_heads)
    return chosen(t, heads.kv_heads, torch.from_numpy(keys).to(t.device))


def chosen(t: torch.Tensor, heads: tuple[int, ...], at: torch.Tensor | None = None) -> torch.Tensor:
    """Some heads of (B, H, N, D), and the positions `at` of them; a view, if all are and the heads are equally
    spaced."""
    here = equally_spaced(np.array(heads))
    if here is not None:
        return t[:, here] if at is None else t[:, here].index_select(2, at)
    of = torch.tensor(heads, device=t.device)
    return t[:, of] if at is None else t[:, of[:, None], at]


def equally_spaced(numbers: np.ndarray) -> slice | None:
    """Ascending numbers as a slice, if they are one."""
    if len(numbers) == 0:
        return slice(0, 0)
    first, last = int(numbers[0]), int(numbers[-1])
    step = int(numbers[1]) - first if len(numbers) > 1 else 1
    if step < 1 or last - first != step * (len(numbers) - 1) or not bool((np.diff(numbers) == step).all()):
        return None
    return slice(first, last + 1, step)


def log_weights(m: np.ndarray | None, dtype: torch.dtype, device: torch.device) -> torch.Tensor | None:
    """log M, −inf for 0; None for None."""
    return None if m is None else torch.tensor(m).to(device, dtype).log()


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(scale · q·k + bias) · v in q's dtype and lse in that of the computation: of q (B, G · each, N_q, D),
    k (B, G, K, D), v (B, G, K, D_v) and a bias that broadcasts to (B, G, each, N_q, K), 0 and −inf for a row without
    keys."""
    dtype = computed_in(q.dtype)
    grouped = q.unflatten(1, (k.shape[1], -1))
    (each, n_q), keys = grouped.shape[2:4], k.shape[2]
    if keys == 0:
        nothing = q[..., :0].sum() + k.sum() + v.sum()  # so that there are gradients, of 0
        return q.new_zeros(*q.shape[:3], v.shape[3]) + nothing.to(q.dtype), q.new_full(
            q.shape[:3], -torch.inf, dtype=dtype
        )
    flat = grouped.flatten(2, 3).to(dtype) * scale
    score = (flat @ k.to(dtype).mT).unflatten(2, (each, n_q))
    score = score if bias is None else score + bias
    top = score.detach().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(dtype).min)
    weight = (score - top).exp()
    total = weight.sum(dim=-1, keepdim=True)
    some = total > 0
    total = torch.where(some, total, 1)
    out = (weight.flatten(2, 3) @ v.to(dtype)).unflatten(2, (each, n_q)) / total
    lse = torch.where(some, top + total.log(), -torch.inf).squeeze(-1)
    return out.flatten(1, 2).to(q.dtype), lse.flatten(1, 2)


def joined(
    parts: list[tuple[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]]], heads: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and lse of some heads each, as those of all heads in their order."""
    if len(parts) == 1:
        return parts[0][1]
    order = np.argsort([h for own, _ in parts for h in own])
    at = torch.from_numpy(order).to(parts[0][1][0].device)
    out, lse = (torch.cat([results[i] for _, results in parts], dim=1).index_select(1, at) for i in (0, 1))
    assert out.shape[1] == heads, "every head is in one class"
    return out, lse
