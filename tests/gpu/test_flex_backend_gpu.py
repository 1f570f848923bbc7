"""The flex backend on a CUDA device: compiled FlexAttention under our mods and BlockMasks, against the reference."""

from __future__ import annotations

import pytest
import torch
from fifteen import CASES, Case
from torch.nn.attention.flex_attention import create_block_mask

import patternc
from patternc.backends.flex import Flex
from patternc.draws import draw

ONCE = list({case.name: case for case in CASES if not case.trivial}.values())
"""One case of each program: each takes seconds to compile."""
GROUPED = [
    (Case("strided", 6, 0, {"l": 32}), 3),
    (Case("longnet", 6, 0, {"levels": [(64, 1), (128, 2)]}), 2),
    (Case("documents", 4), 1),
]


@pytest.mark.parametrize("case", ONCE, ids=str)
def test_every_program(case):
    report = patternc.verify(case.compiled(backend="flex"), n=300, dtype=torch.bfloat16, device="cuda")
    assert report.backend == "flex"
    assert report, str(report)


@pytest.mark.parametrize("name", ["local", "longnet", "documents", "bigbird"])
def test_in_float32(name):
    case = next(c for c in ONCE if c.name == name)
    report = patternc.verify(case.compiled(backend="flex"), n=384, dtype=torch.float32, device="cuda")
    assert report, str(report)


@pytest.mark.parametrize(("case", "kv_heads"), GROUPED, ids=str)
def test_groups_of_heads(case, kv_heads):
    report = patternc.verify(
        case.compiled(backend="flex", kv_heads=kv_heads), n=260, dtype=torch.bfloat16, device="cuda"
    )
    assert report, str(report)


@pytest.mark.parametrize(("n", "n_q"), [(300, 1), (300, 40), (300, 200)])
def test_fewer_queries_than_keys(n, n_q):
    for case, kv_heads in GROUPED:
        attention = case.compiled(backend="flex", kv_heads=kv_heads)
        tensors = draw(attention.program.tensors, n, heads=case.heads, batch=2)
        tensors = {name: torch.as_tensor(t, device="cuda") for name, t in tensors.items()}
        q = torch.randn(2, case.heads, n_q, 32, device="cuda", dtype=torch.bfloat16)
        k, v = (torch.randn(2, kv_heads, n, 32, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        with torch.no_grad():
            out, lse = attention(q, k, v, return_lse=True, **tensors)
            inputs = (t.double() for t in (q, k, v))
            expected = attention.run("reference", *inputs, tensors=tensors, return_lse=True)
        torch.testing.assert_close(out.double(), expected[0], rtol=2e-2, atol=2e-2)
        torch.testing.assert_close(lse.double(), expected[1], rtol=1e-2, atol=1e-2)


def test_rows_without_keys():
    attention = patternc.compile("pattern late() = { q -> k : k + 200 < q }", heads=1, backend="flex")
    q, k, v = (torch.randn(1, 1, 400, 32, device="cuda", requires_grad=True) for _ in range(3))
    out, lse = attention(q, k, v, return_lse=True)
    assert not out[:, :, :201].any()
    assert (lse[:, :, :201] == -torch.inf).all()
    gradients = torch.autograd.grad(out.sum(), (q, k, v))
    assert all(g.isfinite().all() for g in gradients)
    assert not gradients[0][:, :, :201].any()


def test_same_bits():
    attention = Case("longnet", 4, 0, {"levels": [(64, 1), (128, 2)]}).compiled(backend="flex")
    q, k, v = (torch.randn(2, 4, 512, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    runs = []
    for _ in range(3):
        out = attention(q, k, v)
        runs.append((out, *torch.autograd.grad(out.float().square().sum(), (q, k, v))))
    for again in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], again, strict=True))


def test_many_lengths_stay_compiled():
    """More than torch.compile makes for one function before it falls back to the eager form, which would need the
    memory of all scores."""
    attention = patternc.compile("std/local", heads=4, backend="flex", window=64)
    for n in range(8192, 8192 + 11 * 128, 128):
        q, k, v = (torch.randn(1, 4, n, 32, device="cuda", dtype=torch.bfloat16) for _ in range(3))
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
        with torch.no_grad():
            attention(q, k, v)
        assert torch.cuda.max_memory_allocated() - base < 4 * n * n


@pytest.mark.parametrize("name", ["local", "documents"])
def test_block_masks_are_those_of_pytorch(name):
    case = next(c for c in ONCE if c.name == name)
    compiled = case.compiled(backend="flex")
    tensors = draw(compiled.program.tensors, 1000, heads=case.heads, batch=2)
    tensors = {key: torch.as_tensor(t, device="cuda") for key, t in tensors.items()}
    mods = Flex().emit(compiled.program, case.heads, case.heads).mods(1000, device="cuda", tensors=tensors)
    ours = mods.block_mask
    assert ours.kv_indices.device.type == "cuda"
    theirs = create_block_mask(mods.mask_mod, *ours.kv_num_blocks.shape[:2], 1000, 1000, device="cuda")
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    assert torch.equal(ours.kv_num_blocks, theirs.kv_num_blocks)
    assert torch.equal(ours.q_num_blocks, theirs.q_num_blocks)
