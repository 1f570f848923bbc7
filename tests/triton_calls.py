"""Calls of the triton backend in Triton's interpreter, beside the reference."""

from __future__ import annotations

from typing import Any

import torch

import patternc
from patternc.backends.reference import Reference
from patternc.backends.triton_artifact import TritonArtifact
from patternc.backends.triton_backend import TritonKernels


def artifact(compiled: patternc.Compiled) -> TritonArtifact:
    return TritonKernels().emit(compiled.program, compiled.heads, compiled.kv_heads)


def inputs(
    compiled: patternc.Compiled, n: int, n_q: int, batch: int, dtype: torch.dtype = torch.float32, dim: int = 16
):
    torch.manual_seed(0)
    heads, kv_heads = compiled.heads, compiled.kv_heads
    shapes = [(batch, heads, n_q, dim), (batch, kv_heads, n, dim), (batch, kv_heads, n, dim)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def results(run: Any, q: Any, k: Any, v: Any, **options: Any) -> list[torch.Tensor]:
    """Output, lse, dq, dk and dv, with gradients that come into both."""
    out, lse = run(q, k, v, return_lse=True, **options)
    loss = (out.double() * torch.linspace(-1, 1, out.shape[-1])).sum() + torch.where(lse.isfinite(), lse, 0).sum()
    return [out, lse, *torch.autograd.grad(loss, (q, k, v))]


def check(compiled: patternc.Compiled, n: int, n_q: int | None = None, *, tensors: Any = None, **options: Any) -> None:
    """The kernels against the reference."""
    tensors = {name: torch.as_tensor(array) for name, array in (tensors or {}).items()}
    batch = max([1, *(tensors[t.name].shape[0] for t in compiled.program.tensors if t.batched)])
    given = inputs(compiled, n, n_q or n, batch)
    expected = results(
        Reference().emit(compiled.program, compiled.heads, compiled.kv_heads), *given, tensors=tensors, **options
    )
    found = results(artifact(compiled), *given, tensors=tensors, **options)
    for name, a, b in zip(("out", "lse", "dq", "dk", "dv"), found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


DOCUMENTS = "pattern documents(doc: int[n]) = causal & { q -> k : doc[q] == doc[k] }"


def documents() -> tuple[TritonArtifact, list[torch.Tensor], torch.Tensor]:
    compiled = patternc.compile(DOCUMENTS, heads=2, kv_heads=1)
    return artifact(compiled), inputs(compiled, 20, 17, 1), torch.arange(20) // 7
