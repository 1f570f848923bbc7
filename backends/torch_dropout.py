"""Which probabilities dropout keeps: a hash of (seed, batch row, head, query, key), the same in every pass."""

from __future__ import annotations

import torch

_MASK = 0xFFFFFFFF


def mix(x: torch.Tensor) -> torch.Tensor:
    """The mixer of the language's `sample`, on uint32 values held in int64."""
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _MASK
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def kept(
    seed: int, p: float, b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """1 / (1 - p) where a probability is kept and 0 where it is dropped, of the broadcast shape of the positions."""
    x = mix(torch.tensor((seed + 0x9E3779B9) & _MASK, device=q.device))
    for counter in (b, h, q, k):
        x = mix(x ^ counter)
    return (x >= int(p * 2**32)).to(dtype) * (0.0 if p == 1 else 1 / (1 - p))
