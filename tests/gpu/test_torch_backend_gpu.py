"""The torch backend on a CUDA device: against the reference, and the same bits each time."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from fifteen import CASES, FIRST

import patternc
from patternc.draws import draw


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_every_program(case, dtype):
    report = patternc.verify(case.compiled(backend="torch"), n=187, dtype=dtype, device="cuda")
    assert report.backend == "torch"
    assert report, str(report)


@pytest.mark.parametrize("name", ["local", "documents", "longnet", "bigbird"])
def test_same_bits(name):
    case = FIRST[name]
    attention = case.compiled(backend="torch")
    tensors = {
        k: torch.as_tensor(v, device="cuda")
        for k, v in draw(attention.program.tensors, 700, heads=case.heads, batch=2).items()
    }
    q, k, v = (torch.randn(2, case.heads, 700, 64, device="cuda", requires_grad=True) for _ in range(3))
    runs = []
    for _ in range(3):
        torch.manual_seed(1)
        out = attention(q, k, v, dropout_p=0.1, **tensors)
        runs.append((out, *torch.autograd.grad(out.square().sum(), (q, k, v))))
    for again in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], again, strict=True))


@pytest.mark.parametrize("name", ["documents", "adaptive", "strided"])
def test_plans_made_on_the_device_are_those_of_the_cpu(name):
    attention = FIRST[name].compiled(backend="torch")
    arrays = draw(attention.program.tensors, 500, heads=attention.heads, batch=2)
    here = attention.plan(500, **arrays)
    there = attention.plan(500, device="cuda", **{k: torch.as_tensor(v, device="cuda") for k, v in arrays.items()})
    assert len(here.launches) == len(there.launches)
    for a, b in zip(here.launches, there.launches, strict=True):
        assert (a.heads, a.batch) == (b.heads, b.batch)
        assert (a.queries.layout, [t.term for t in a.terms]) == (b.queries.layout, [t.term for t in b.terms])
        tables = [(x.by_query, y.by_query) for x, y in zip(a.terms, b.terms, strict=True)]
        tables += [(x.by_key, y.by_key) for x, y in zip(a.terms, b.terms, strict=True)]
        for x, y in tables:
            for field in ("rows", "first", "count", "kind", "weight"):
                assert getattr(y, field).device.type == "cuda"
                assert getattr(x, field).tolist() == getattr(y, field).tolist()


def test_a_saved_module_gives_the_same_bits(tmp_path):
    attention = FIRST["longnet"].compiled(backend="torch")
    spec = importlib.util.spec_from_file_location("saved", attention.save(tmp_path / "saved.py"))
    saved = importlib.util.module_from_spec(spec)
    sys.modules["saved"] = saved  # dataclasses look their module up
    spec.loader.exec_module(saved)
    q, k, v = (torch.randn(1, attention.heads, 333, 32, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    assert torch.equal(saved.Attention()(q, k, v), attention(q, k, v))


def test_peak_memory_of_a_long_window():
    attention = patternc.compile("std/local", heads=1, backend="torch", window=1024)
    q, k, v = (torch.randn(1, 1, 131072, 64, device="cuda", requires_grad=True) for _ in range(3))
    base = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    attention(q, k, v).sum().backward()
    gradients_and_output = 4 * q.numel() * 4
    assert torch.cuda.max_memory_allocated() - base <= gradients_and_output + (512 << 20)
