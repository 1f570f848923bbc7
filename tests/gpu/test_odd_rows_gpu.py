"""Rows that start anywhere in memory, and values that are narrower or wider than keys: loads one element at a time,
which the assembler turns into other code than it does for aligned rows."""

from __future__ import annotations

import pytest
import torch

import patternc

DIMS = [(20, 16), (64, 16), (33, 24), (128, 1), (96, 5), (33, 33), (16, 20)]


def rows(n: int, dim: int, dtype: torch.dtype) -> torch.Tensor:
    """Rows of `dim` channels with another one between each two."""
    return torch.randn(1, 2, n, dim + 1, device="cuda", dtype=dtype)[..., :dim].requires_grad_()


@pytest.mark.parametrize(("dim", "dim_v"), DIMS)
def test_rows_that_start_anywhere(dim: int, dim_v: int) -> None:
    torch.manual_seed(0)
    compiled = patternc.compile("std/local", heads=2, window=70, backend="triton")
    dtype, allowed = (torch.bfloat16, 0.06) if dim % 3 else (torch.float16, 0.01)
    q, k, v = rows(150, dim, dtype), rows(150, dim, dtype), rows(150, dim_v, dtype)
    d_out = torch.randn(1, 2, 150, dim_v, device="cuda", dtype=dtype)
    out = compiled(q, k, v)
    found = out, *torch.autograd.grad(out, (q, k, v), d_out)
    exact = [t.detach().double().requires_grad_() for t in (q, k, v)]
    mask = compiled.mask(150)[None].cuda().bool()
    score = (exact[0] @ exact[1].mT * dim**-0.5).masked_fill(~mask, -torch.inf)
    expected = score.softmax(-1) @ exact[2]
    wanted = expected, *torch.autograd.grad(expected, exact, d_out.double())
    for name, a, b in zip(("out", "dq", "dk", "dv"), found, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=allowed, atol=allowed, msg=lambda m, at=name: f"{at}: {m}")
