"""Functions that generated mask_mods call. They are traced by torch.compile and run under vmap."""

from __future__ import annotations

import torch


def power(a: torch.Tensor, b: torch.Tensor, *, bits: int) -> torch.Tensor:
    """a ** b of integers, 0 <= b < 2^bits; of a negative b anything."""
    result, square = torch.ones_like(a), a
    for bit in range(bits):
        result = torch.where((b >> bit) & 1 == 1, result * square, result)
        square = square * square
    return result


def ceil_log2(a: torch.Tensor, *, bits: int) -> torch.Tensor:
    """The smallest e with a <= 2^e, of integers up to 2^bits."""
    result = torch.zeros_like(a, dtype=torch.int32)
    for bit in range(bits):
        result = result + (a > 1 << bit).to(torch.int32)
    return result


def log_weight(multiplicity: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
    """log M, for addition to a score: in float32 at least. Cells with M = 0 are masked, so their value is free."""
    dtype = torch.promote_types(score.dtype, torch.float32)
    return torch.log(torch.clamp(multiplicity, min=1).to(dtype))
