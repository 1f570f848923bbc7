"""Patterns whose modules are saved, with what the reference gives for calls of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from saved_modules import run

import patternc

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Case:
    """A pattern of a file or in a text, and how it is called; of `tensors` each gives values for (batch, n)."""

    name: str
    source: str
    heads: int
    kv_heads: int
    params: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Any] = field(default_factory=dict)
    n: int | None = None
    """The only length that there is."""

    def compiled(self, backend: str) -> patternc.Compiled:
        return patternc.compile(self.source, heads=self.heads, kv_heads=self.kv_heads, backend=backend, **self.params)


def _documents(batch: int, n: int) -> torch.Tensor:
    return (torch.arange(n) // 9)[None].repeat(batch, 1)


def _some(batch: int, n: int) -> torch.Tensor:
    return torch.rand(batch, n) < 0.2


CASES = (
    Case("window", "std/local", 4, 2, {"window": 11}),
    Case("strided", str(ROOT / "benchmarks/suite/strided_st.spat"), 1, 1, {"stride": 8}),
    Case("bag", "pattern p() = causal + { q -> k : (q - k) % 4 == 0 } + { q -> k : k < 3 }", 2, 2),
    Case("documents", "std/documents", 2, 1, {}, {"doc": _documents}),
    Case("heads", "pattern p() = match h % 3 { 0 => causal, 1 => { q -> k : k % 8 == q % 8 }, 2 => empty }", 3, 3),
    Case("listed", "std/longformer", 2, 2, {"w": 5, "dilation": [1, 2]}, {"is_global": _some}),
    Case("sampled", "pattern p() = sample(3, of = causal, seed = 5) | blocks(2 + n // 20) top(2, by = q ^ k)", 2, 1),
    Case("grid", "std/neighborhood", 1, 1, {"H": 6, "W": 8, "size": 3}, n=48),
)


def write(case: Case, folder: Path, lengths: random.Random, most: int, dim: int, calls: int) -> Path:
    """Saves the module of a case, and calls with what they must give, of all queries or of some of them."""
    path = case.compiled("triton").save(folder / f"saved_{case.name}.py")
    reference = case.compiled("reference")
    made = []
    for _ in range(calls):
        n = case.n or lengths.randint(most // 2, most)
        made.append(call(case, reference, n, lengths.choice([n, lengths.randint(1, n)]), dim))
    torch.save(made, path.with_suffix(".pt"))
    return path


def call(case: Case, reference: patternc.Compiled, n: int, n_q: int, dim: int) -> dict[str, Any]:
    batch = 2 if case.tensors else 1
    tensors = {name: make(batch, n) for name, make in case.tensors.items()}
    shapes = ((case.heads, n_q, dim), (case.kv_heads, n, dim), (case.kv_heads, n, dim // 2))
    inputs = [torch.randn(batch, *shape) for shape in shapes]
    direction = torch.randn(batch, case.heads, n_q, dim // 2)
    expected = run(reference, inputs, tensors, direction)
    return {"inputs": inputs, "tensors": tensors, "direction": direction, "expected": expected}
