"""Saved modules of the triton backend on a CUDA device: each alone in a process, beside patternc, and in a graph."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import saved_triton_cases as cases
import torch
from cuda_graphs import captured
from saved_modules import load, run

import patternc
from patternc.backends import triton_artifact, triton_tuned
from patternc.backends.triton_options import Form, Options

Call = Callable[..., Any]
TESTS = Path(__file__).parent.parent


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_modules_stand_alone_and_agree_with_the_reference(case: cases.Case, tmp_path: Path) -> None:
    """In a process of its own, at lengths drawn after saving."""
    cases.write(case, tmp_path, random.Random(os.urandom(8)), 400, dim=64, calls=3)
    command = [sys.executable, str(TESTS / "saved_triton_modules.py"), str(tmp_path), "cuda"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "1 modules agree with the reference\n", done.stderr[-2000:]


Given = dict[str, torch.Tensor]
N = 1000
NAMES = ("out", "dq", "dk", "dv")
STRIDED = "pattern d(doc: int[batch, n]) = causal & { q -> k : doc[q] == doc[k] and (q - k) % 16 == 0 }"


def given(seed: int, name: str) -> Given:
    g = torch.Generator().manual_seed(seed)
    made = torch.rand(2, N, generator=g) < 0.02 if name == "is_global" else torch.randint(0, 9, (2, N), generator=g)
    return {name: (made if name == "is_global" else made.sort(1)[0]).cuda()}


def inputs(dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, heads, N, 64, dtype=dtype, device="cuda") for heads in (4, 2, 2, 4)]


def both(attention: Call, tensors: list[torch.Tensor], given: Given) -> list[torch.Tensor]:
    """Output and gradients."""
    *leaves, direction = [t.detach().requires_grad_() for t in tensors]
    out = attention(*leaves, **given)
    return [out.detach(), *torch.autograd.grad(out, leaves, direction.detach())]


def check_equal(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for name, a, b in zip(NAMES, found, expected, strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("source", ["std/documents", STRIDED, "std/longformer"], ids=["documents", "strided", "listed"])
def test_run_time_tensors_are_planned_by_the_device(source: str, tmp_path: Path) -> None:
    """The same bits as in memory; nothing waits, and a CUDA graph follows the tensors."""
    compiled = patternc.compile(source, heads=4, kv_heads=2, backend="triton")
    (name,) = (t.name for t in compiled.program.tensors)
    attention = load(compiled.save(tmp_path / f"saved_drawn_{hash(source)}.py")).Attention()
    tensors, first, second = inputs(torch.bfloat16), given(0, name), given(1, name)
    both(attention, tensors, first)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = both(attention, tensors, second)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    check_equal(found, both(compiled, tensors, second))
    replay, held = captured(lambda: both(attention, tensors, first))
    for seed in (1, 2, 0):
        first[name].copy_(given(seed, name)[name])
        replay()
        check_equal(held, both(compiled, tensors, given(seed, name)))


def test_what_was_tuned_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For this device, by its name, as in memory; for other dtypes the usual form stays."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    triton_tuned._read.cache_clear()
    compiled = patternc.compile("std/local", heads=4, kv_heads=2, window=101, backend="triton")
    form = Form((128, 64), {"forward": Options(8, 3), "backward_keys": Options(4, 1, 168)})
    program = triton_artifact.key_of(compiled.program, 4, 2)
    triton_tuned.keep(triton_tuned.Key(torch.cuda.get_device_name(), program, 64, 16), form)
    module = load(compiled.save(tmp_path / "saved_tuned.py"))
    narrow, wide = inputs(torch.float16), inputs(torch.float32)
    assert module.RUNNER.executor.form(narrow[0], narrow[2]).tile == (128, 64)
    assert module.RUNNER.executor.form(wide[0], wide[2]).tile == (64, 64)
    check_equal(both(module.Attention(), narrow, {}), both(compiled, narrow, {}))


def test_the_same_bits_as_in_memory_and_in_a_graph(tmp_path: Path) -> None:
    """The module beside the package; compiled as one graph by torch."""
    compiled = patternc.compile("std/local", heads=4, kv_heads=2, window=100, backend="triton")
    attention = load(compiled.save(tmp_path / "saved_beside.py")).Attention()
    shapes = ((4, 700, 64), (2, 700, 64), (2, 700, 64))
    inputs = [torch.randn(2, *shape, dtype=torch.float16, device="cuda") for shape in shapes]
    direction = torch.randn_like(inputs[0])
    expected = run(compiled, inputs, {}, direction)
    traced = torch.compile(attention, fullgraph=True, backend="aot_eager")  # inductor draws seeds of its own
    for call in (attention, traced):
        found = run(call, inputs, {}, direction)
        for name, a, b in zip(("out", "lse", "dq", "dk", "dv"), found, expected, strict=True):
            assert torch.equal(a, b), name
    with torch.no_grad():
        last = inputs[0][:, :, -1:]
        assert torch.equal(attention(last, *inputs[1:]), compiled(last, *inputs[1:]))
