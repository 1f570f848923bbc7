"""Pages and packed sequences on a CUDA device, against the reference in float64, sequence by sequence."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from test_decoding_gpu import BF16, DIM, F32, KV_HEADS, close, compiled_of, inputs, reference

from patternc.nn import PagedCache, attend_packed, attend_paged

SOURCES = ["causal", "local", "strided", "columns", "longnet", "both ways", "bigbird"]
PAGE = 16


@pytest.mark.parametrize("dtype", [BF16, F32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("name", SOURCES)
def test_pages_are_one_piece(name: str, dtype: torch.dtype) -> None:
    compiled = compiled_of(name)
    lengths, counts = [300, 37, 129], [5, 1, 4]
    q, k, v = inputs(300, dtype, batch=3)
    pages = torch.randperm(60, device="cuda").view(3, 20)
    pools = [torch.full((60, PAGE, KV_HEADS, DIM), torch.nan, device="cuda", dtype=dtype) for _ in range(2)]
    for pool, t in zip(pools, (k, v), strict=True):
        for b, n in enumerate(lengths):
            token = torch.arange(n, device="cuda")
            pool[pages[b, token // PAGE], token % PAGE] = t[b, :, :n].transpose(0, 1)
    found = attend_paged(compiled, q[:, :, :5], *pools, pages, lengths, query_lengths=counts, return_lse=True)
    for b, (n, count) in enumerate(zip(lengths, counts, strict=True)):
        row = slice(b, b + 1)
        expected = reference(compiled, q[row, :, 5 - count : 5], k[row, :, :n], v[row, :, :n])
        close([t[row, :, 5 - count :] for t in found], expected, dtype)
        assert not found[0][b, :, : 5 - count].any()


@pytest.mark.parametrize("name", SOURCES)
def test_a_pool_token_by_token(name: str) -> None:
    compiled = compiled_of(name)
    q, k, v = inputs(60, BF16)
    pool = PagedCache(2, 20, PAGE, KV_HEADS, DIM, device="cuda", dtype=BF16)
    ends = torch.tensor([50, 33])
    parts = [torch.zeros(2, t.shape[1], 50, DIM, device="cuda", dtype=BF16) for t in (q, k, v)]
    for part, t in zip(parts, (q, k, v), strict=True):
        for b, end in enumerate(ends.tolist()):
            part[b, :, 50 - end :] = t[b, :, :end]
    pool.attend(compiled, *parts, counts=ends.tolist())
    for step in range(4):
        at = ends + step
        now = [torch.stack([t[b, :, at[b] : at[b] + 1] for b in range(2)]) for t in (q, k, v)]
        found = pool.attend(compiled, *now, return_lse=True)
        for b in range(2):
            row, n = slice(b, b + 1), int(at[b]) + 1
            expected = reference(compiled, now[0][row], k[row, :, :n], v[row, :, :n])
            close([t[row] for t in found], expected, BF16)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("local", BF16), ("columns", BF16), ("longnet", BF16), ("bigbird", BF16), ("local", F32)],
    ids=str,
)
def test_packed_sequences(name: str, dtype: torch.dtype) -> None:
    compiled = compiled_of(name)
    stops = [0, 170, 170, 173, 400]
    given = [t[0].transpose(0, 1).contiguous().requires_grad_() for t in inputs(400, dtype, batch=1)]
    cu_seqlens = torch.tensor(stops, device="cuda")
    out, lse = attend_packed(compiled, *given, cu_seqlens, return_lse=True)
    weight = torch.randn_like(out)
    gradients = torch.autograd.grad((out * weight).sum(), given)
    wide = [t.detach().double().requires_grad_() for t in given]
    exact: list[Any] = []
    for a, b in pairwise(stops):
        if b > a:
            one = reference(compiled, *(t[a:b].transpose(0, 1)[None] for t in wide))
            close((out[None, a:b].transpose(1, 2), lse[None, :, a:b]), one, dtype)
            exact.append(one[0][0].transpose(0, 1))
    expected = torch.autograd.grad((torch.cat(exact) * weight).sum(), wide)
    tolerance = 2e-2 if dtype == BF16 else 1e-4
    for a, b in zip(gradients, expected, strict=True):
        assert float((a.double() - b).abs().max()) <= tolerance * float(b.abs().max())
