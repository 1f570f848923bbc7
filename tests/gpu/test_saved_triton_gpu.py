"""Saved modules of the triton backend on a CUDA device: each alone in a process, beside patternc, and in a graph."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)
pytest.importorskip("triton")

import saved_triton_cases as cases  # noqa: E402
from saved_modules import load, run  # noqa: E402

import patternc  # noqa: E402

TESTS = Path(__file__).parent.parent


def test_modules_stand_alone_and_agree_with_the_reference(tmp_path: Path) -> None:
    """At lengths drawn after saving; a process for each, for kernels take their time to compile."""
    lengths = random.Random(os.urandom(8))
    running = {}
    for case in cases.CASES:
        folder = tmp_path / case.name
        folder.mkdir()
        cases.write(case, folder, lengths, 400, dim=64, calls=3)
        command = [sys.executable, str(TESTS / "saved_triton_modules.py"), str(folder), "cuda"]
        running[case.name] = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
        )
    found = {name: process.communicate() for name, process in running.items()}
    wrong = {name: errors for name, (said, errors) in found.items() if said != "1 modules agree with the reference\n"}
    assert not wrong, "\n\n".join(f"{name}: {errors[-2000:]}" for name, errors in wrong.items())


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
