"""Comparison of a compiled pattern with the reference: outputs, lse and gradients, on random inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from patternc.compiler import Compiled
from patternc.draws import draw

SLACK = 2.0
"""The error allowed, as a multiple of that of the dense computation in the same dtype (both against float64)."""
FLOOR = 4.0
"""Added to it: this many units in the last place of the largest reference value."""
RELATIVE_FP64 = 1e-10
"""The error allowed in float64, relative to the largest reference value."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The largest error of one quantity (`out`, `lse`, `dq`, `dk`, `dv`) against float64, and the error allowed."""

    quantity: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance  # False for NaN


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found; true if all is well."""

    pattern: str
    backend: str
    case: str
    comparisons: tuple[Comparison, ...]
    counterexample: str | None
    """One cell where the weights differ, in words, if a comparison failed and a cell was found."""

    @property
    def ok(self) -> bool:
        return all(c.ok for c in self.comparisons)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [f"{self.pattern} on backend {self.backend}: {self.case}"]
        for c in self.comparisons:
            verdict = "ok" if c.ok else "WRONG"
            lines.append(f"  {c.quantity:<4} error {c.error:9.2e}  allowed {c.tolerance:9.2e}  {verdict}")
        if self.counterexample:
            lines.append(f"  {self.counterexample}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Case:
    """Random inputs: q (B, H, N_q, D), k and v (B, H_kv, N, D), and gradients that come in for out and lse."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    d_out: torch.Tensor
    d_lse: torch.Tensor
    tensors: Mapping[str, Any]

    def to(self, dtype: torch.dtype) -> _Case:
        moved = [t.to(dtype) for t in (self.q, self.k, self.v, self.d_out, self.d_lse)]
        q, k, v, d_out, d_lse = moved
        return _Case(q, k, v, d_out, d_lse, self.tensors)


def verify(
    compiled: Compiled,
    *,
    n: int,
    n_q: int | None = None,
    batch: int = 2,
    head_dim: int = 32,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    backend: str | None = None,
    seed: int = 0,
    tensors: Mapping[str, Any] | None = None,
) -> Report:
    """Runs `compiled` (on `backend`, if given) and the reference on the same random inputs of N = n keys.

    Each quantity may be off from the reference in float64 by twice what the dense computation in `dtype` is off, plus
    4 eps of the largest value; in float64 by 1e-10 of it. Run-time tensors not among `tensors` are drawn. The reference
    needs memory for n_q · n scores per head and batch row. Wrong arguments are TypeError or ValueError.
    """
    case = _draw_case(compiled, n, n_q or n, batch, head_dim, device, seed, tensors or {})
    name = backend or compiled.backend_for(case.q.to(dtype))
    found = _run(compiled, name, case.to(dtype))
    exact = _run(compiled, "reference", case.to(dtype).to(torch.float64))
    eager = exact if dtype == torch.float64 else _run(compiled, "reference", case.to(dtype))
    comparisons = tuple(
        Comparison(key, _error(found[key], exact[key]), _tolerance(eager[key], exact[key], dtype)) for key in exact
    )
    failed = not all(c.ok for c in comparisons)
    text = f"n = {n}, n_q = {n_q or n}, batch {batch}, head_dim {head_dim}, {str(dtype).removeprefix('torch.')}"
    return Report(
        compiled.name, name, f"{text}, {device}", comparisons, _counterexample(compiled, name, case) if failed else None
    )


def _draw_case(
    compiled: Compiled, n: int, n_q: int, batch: int, head_dim: int, device: Any, seed: int, given: Mapping[str, Any]
) -> _Case:
    drawn = draw(compiled.program.tensors, n, heads=compiled.heads, batch=batch, seed=seed)
    tensors = {key: torch.as_tensor(value).to(device) for key, value in (drawn | dict(given)).items()}
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)

    heads, kv_heads = compiled.heads, compiled.kv_heads
    return _Case(
        normal(batch, heads, n_q, head_dim),
        normal(batch, kv_heads, n, head_dim),
        normal(batch, kv_heads, n, head_dim),
        normal(batch, heads, n_q, head_dim),
        normal(batch, heads, n_q),
        tensors,
    )


def _run(compiled: Compiled, backend: str, case: _Case) -> dict[str, torch.Tensor]:
    q, k, v = (t.detach().requires_grad_() for t in (case.q, case.k, case.v))
    out, lse = compiled.run(backend, q, k, v, tensors=case.tensors, return_lse=True)
    finite = torch.isfinite(lse)  # rows without keys have no lse to differentiate
    loss = (out * case.d_out.to(out.dtype)).sum() + torch.where(finite, lse * case.d_lse.to(lse.dtype), 0).sum()
    dq, dk, dv = torch.autograd.grad(loss, (q, k, v))
    return {"out": out.detach(), "lse": lse.detach(), "dq": dq, "dk": dk, "dv": dv}


def _error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest difference; NaN where only one is finite or found is NaN. Equal infinities (lse) agree."""
    difference = torch.where(found == exact, 0, found.double() - exact).abs()
    return float(difference.nan_to_num(nan=math.inf, posinf=math.inf).max())


def _tolerance(eager: torch.Tensor, exact: torch.Tensor, dtype: torch.dtype) -> float:
    largest = _largest(exact)
    if dtype == torch.float64:
        return RELATIVE_FP64 * max(largest, 1.0)
    return SLACK * _error(eager, exact) + FLOOR * torch.finfo(dtype).eps * largest


def _largest(exact: torch.Tensor) -> float:
    finite = exact[torch.isfinite(exact)]
    return float(finite.abs().max()) if finite.numel() else 0.0


def _counterexample(compiled: Compiled, backend: str, case: _Case) -> str | None:
    """A cell whose attention weight is wrong: with the identity for values, the output is the weights."""
    n, kv_heads = case.k.shape[2], compiled.kv_heads
    identity = torch.eye(n, dtype=torch.float64, device=case.k.device)
    v = identity.expand(case.k.shape[0], kv_heads, n, n)
    wrong = compiled.run(backend, case.q, case.k, v, tensors=case.tensors)
    right = compiled.run("reference", case.q, case.k, v, tensors=case.tensors)
    off = ~torch.isclose(wrong, right, rtol=1e-6, atol=1e-12)
    if not off.any():
        return None
    b, h, i, key = (int(x) for x in off.nonzero()[0])
    query = n - case.q.shape[2] + i
    weights = f"{float(wrong[b, h, i, key]):.6g}, the reference {float(right[b, h, i, key]):.6g}"
    return f"counterexample: batch row {b}, head {h}, query {query}, key {key} has weight {weights}"
