"""Drawn programs under the triton backend in Triton's interpreter, against the definition: masks by the oracle,
outputs, lse and gradients in float64, at drawn shapes, strides and scales, with NaN where nobody reads."""

from __future__ import annotations

from random import Random
from typing import Any

import definition
import numpy as np
import pytest
import torch
from drawn import Program, examples
from hypothesis import given, settings
from programs import programs
from test_differential import in_torch, meaning

pytest.importorskip("triton")

import patternc

pytestmark = pytest.mark.usefixtures("small_tiles")

NAN = float("nan")
DIMS = (1, 3, 8, 16, 20, 33, 40)


def laid_out(random: Random, t: torch.Tensor) -> torch.Tensor:
    """The same numbers in another place of memory."""
    match random.randrange(4):
        case 0:
            return t.transpose(1, 2).contiguous().transpose(1, 2)
        case 1:
            return t.mT.contiguous().mT
        case 2:
            return torch.full((*t.shape[:3], 2 * t.shape[3] + 1), NAN, dtype=t.dtype)[..., 1::2].copy_(t)
    return t


def compare(case: str, found: Any, expected: definition.Results) -> None:
    for name, a, b in zip(definition.Results._fields, found, expected, strict=True):
        np.testing.assert_allclose(
            a.detach().double().numpy(), b, rtol=0, atol=2e-5 * _size(b), err_msg=f"{name}: {case}"
        )


def _size(x: np.ndarray) -> float:
    finite = x[np.isfinite(x)]
    return max(4.0, float(np.abs(finite).max())) if finite.size else 4.0


def drawn_call(compiled: patternc.Compiled, m: np.ndarray, tensors: dict[str, Any], random: Random) -> None:
    """A call with what is drawn, and its gradients, against the definition under `m` (B, H, N_q, N)."""
    batch, heads, n_q, n = m.shape
    kv_heads, (dim, dim_v) = compiled.kv_heads, random.choices(DIMS, k=2)
    scale, p, seed = random.choice([dim**-0.5] * 2 + [-0.5, 0.0]), random.choice([0.0, 0.0, 0.3]), random.randrange(99)
    case = f"D = {dim}, D_v = {dim_v}, scale {scale}, dropout {p} of seed {seed}"
    numbers = torch.Generator().manual_seed(seed)
    shapes = [(batch, heads, n_q, dim), (batch, kv_heads, n, dim), (batch, kv_heads, n, dim_v)]
    shapes += [(batch, heads, n_q, dim_v), (batch, heads, n_q)]
    q, k, v, d_out, d_lse = (torch.randn(shape, generator=numbers) for shape in shapes)
    kept = definition.kept(seed, p, m.shape) if p else None
    q[torch.from_numpy(~m.any(3))] = NAN
    unread = torch.from_numpy(~m.reshape(batch, kv_heads, -1, n).any(2))
    k[unread], v[unread] = NAN, random.choice([NAN, float("inf")])
    expected = definition.attention(
        *(t.double().numpy() for t in (q, k, v)), m, scale, d_out.numpy(), d_lse.numpy(), kept
    )
    q, k, v = (laid_out(random, t).requires_grad_() for t in (q, k, v))
    out, lse = compiled.run("triton", q, k, v, scale=scale, dropout_p=p, seed=seed, return_lse=True, tensors=tensors)
    gradients = torch.autograd.grad((out, lse), (q, k, v), (laid_out(random, d_out), d_lse))
    compare(case, (out, lse, *gradients), expected)


@settings(max_examples=examples(4))
@given(programs())
def test_drawn_programs(program: Program) -> None:
    n, n_q, tensors = program.at(48)
    m = meaning(program, n, n_q, tensors)
    m = m if m.ndim == 4 else m[None].repeat(2, axis=0)
    kv_heads = program.heads // 2 if program.heads % 2 == 0 else program.heads
    try:
        compiled = program.compile(backend="triton", kv_heads=kv_heads)
        compiled.backend_for(torch.empty(1, 1, 1, 1))
    except ValueError:  # it has no counterpart in a kernel, and says so
        return
    drawn_call(compiled, m, in_torch(tensors), Random(program.seed))


@pytest.mark.parametrize(("n", "n_q"), [(16, 16), (40, 40), (40, 9), (33, 1)])
def test_rows_that_are_none_read_nothing(n: int, n_q: int) -> None:
    """Slots of a tile past the last query, or before the first, would read keys that no query does."""
    compiled = patternc.compile("pattern p() = { q -> k : 1 <= q - k < 5 }", heads=2, kv_heads=1, backend="triton")
    back = np.subtract.outer(np.arange(n - n_q, n), np.arange(n))
    m = np.broadcast_to((back >= 1) & (back < 5), (1, 2, n_q, n))
    drawn_call(compiled, m, {}, Random(n_q))
