"""Keys that no query reads, and queries that read no key, may hold anything: it must not get into products.

0 · NaN is NaN, and inf - inf too. So tensors that hold what is not finite, or so large that a score may not be, are
cleaned before the passes; others, nearly all, are only looked at.
"""

from __future__ import annotations

import torch

from patternc.backends.torch_masks import Masks
from patternc.backends.torch_schedule import Part, Schedule
from patternc.backends.torch_strips import Strip


def bounded(*tensors: torch.Tensor) -> bool:
    """Whether all elements are so small that products of two, added up, stay finite."""
    for t in tensors:
        if t.numel():
            low, high = t.aminmax()
            limit = torch.finfo(t.dtype).max ** 0.4 if t.dtype != torch.float16 else torch.finfo(t.dtype).max
            if not bool((low >= -limit) & (high <= limit)):  # neither holds if one of them is NaN
                return False
    return True


def reads(s: Schedule, masks: Masks, batch: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Which queries read a key (B · H, N_q), and which keys are read by a query (B · H_kv, N)."""
    queries = torch.zeros(batch * s.heads, s.n_q, dtype=torch.bool, device=device)
    keys = torch.zeros(batch * s.kv_heads, s.n, dtype=torch.bool, device=device)
    for part in s.parts:
        own = torch.zeros_like(queries[0]), torch.zeros_like(keys[0])
        for strip in part.by_query:
            _mark(*own, part, strip, masks)
        for streams in part.streams:
            streams.queries(queries).logical_or_(own[0])
            for one in range(streams.count):  # several may share a key head
                streams.cut(slice(one, one + 1)).keys(keys).logical_or_(own[1])
    return queries, keys


def _mark(queries: torch.Tensor, keys: torch.Tensor, part: Part, strip: Strip, masks: Masks) -> None:
    device = queries.device
    q, k = strip.queries.tokens(device), strip.keys.tokens(device)
    if not strip.masked:
        queries[q], keys[k] = True, True
        return
    for row in range(len(q)):
        alive = masks.evaluate(part, strip, slice(row, row + 1), torch.float32)[0, 0].to(device) > -torch.inf
        queries[q[row][alive.any(1)]] = True
        keys[k[row][alive.any(0)]] = True
