"""Calls of the torch executor on plans made by brute force, and what they are compared by."""

from __future__ import annotations

from collections.abc import Callable

import layout_plans
import torch

from patternc.backends.torch_function import computed_in
from patternc.backends.torch_masks import Masks
from patternc.backends.torch_passes import Call
from patternc.backends.torch_schedule import schedule
from patternc.plan import Plan

Tensors = list[torch.Tensor]


def positions(n_q: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(n - n_q, n)[:, None], torch.arange(n)[None, :]


def draw_m(kind: str, heads: int, n_q: int, n: int) -> torch.Tensor:
    """Multiplicities (heads, n_q, n), or with a batch axis of 2."""
    q, k = positions(n_q, n)
    match kind:
        case "window":
            return ((q - k >= 0) & (q - k < 11)).long().expand(heads, n_q, n)
        case "causal":
            return (q >= k).long().expand(heads, n_q, n)
        case "hubs":  # rows with many tiles and rows with few, and full tiles
            return ((q < 5) | (k < 9) | ((q - k).abs() < 3)).long().expand(heads, n_q, n)
        case "heads":  # every head its own, and empty rows
            return torch.stack([((q - k) % (h + 2) == 0) & (k <= q - h) for h in range(heads)]).long()
        case "bag":  # weights above 1, in full tiles too
            return ((q >= k).long() + 2 * (q - k > 12) + (q % 3 == k % 3)).expand(heads, n_q, n)
        case "dots":
            return (torch.rand(heads, n_q, n) < 0.01).long()
        case "documents":
            ids = torch.randint(0, 4, (2, n)).sort(dim=1).values
            same = (ids[:, n - n_q :, None] == ids[:, None, :]) & (q >= k)
            return same.long()[:, None].expand(2, heads, n_q, n)
        case "empty":
            return torch.zeros(heads, n_q, n, dtype=torch.int64)
    raise AssertionError(kind)


KINDS = ("window", "causal", "hubs", "heads", "bag", "dots", "documents", "empty")


def call_of(
    m: torch.Tensor, kv_heads: int, dtype: torch.dtype, tile_q: int = 16, tile_k: int = 8, **options: float
) -> Call:
    """A call that executes a brute-force plan of M in tiles of consecutive tokens."""
    return call_of_plan(layout_plans.plain(m, tile_q, tile_k), [m], kv_heads, dtype, **options)


def call_of_plan(
    plan: Plan, terms: list[torch.Tensor], kv_heads: int, dtype: torch.dtype, *, keep: bool = False, **options: float
) -> Call:
    """A call that executes a plan of terms with the multiplicities given, in a batch of 2."""
    whole = [m if m.ndim == 4 else m.expand(2, *m.shape) for m in terms]
    shift = plan.n - plan.n_q

    def cells(term: int, q: torch.Tensor, k: torch.Tensor, head: int, row: int) -> torch.Tensor:
        shape = torch.broadcast_shapes(q.shape, k.shape)
        return whole[term][row, head][(q - shift).expand(shape), k.expand(shape)]

    cpu = torch.device("cpu")
    s = schedule(plan, kv_heads, 2, lambda h, b: (h, b), cpu)
    given = {"scale": 0.3, "dropout_p": 0.0, "seed": 0, **options}
    return Call(s, Masks(cells, keep=keep, home=cpu, first=shift), dtype=computed_in(dtype), **given)


def draw(
    heads: int, kv_heads: int, n_q: int, n: int, dtype: torch.dtype = torch.float64, dim: int = 8, dim_v: int = 5
) -> Tensors:
    shapes = ((heads, n_q, dim), (kv_heads, n, dim), (kv_heads, n, dim_v))
    return [torch.randn(2, *shape, dtype=dtype).requires_grad_() for shape in shapes]


def results(function: Callable[..., Tensors], tensors: Tensors, *, of_lse: bool = True) -> Tensors:
    """Output, lse, dq, dk, dv under a fixed random direction."""
    out, lse = function(*tensors)
    generator = torch.Generator().manual_seed(1)
    loss = (out * torch.randn(out.shape, dtype=torch.float64, generator=generator).to(out.dtype)).sum()
    if of_lse:
        finite = torch.where(lse == -torch.inf, 0, lse)
        loss = loss + (finite * torch.randn(lse.shape, dtype=torch.float64, generator=generator).to(lse.dtype)).sum()
    return [out, lse, *torch.autograd.grad(loss, tensors)]
