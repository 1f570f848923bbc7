"""A pattern beside its peers: one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from patternc.backends import base
from patternc.backends.torch_tiles import TorchTilesArtifact
from patternc.bench.clocks import clock_of
from patternc.bench.contenders import Contender, Size, inputs, ours
from patternc.bench.measure import Effort, alternated, difference, matmul_rate, tried, waits
from patternc.bench.rows import BACKWARD_FLOPS, Row, direction
from patternc.compiler import Compiled
from patternc.plan import Plan

REFERENCES = ("flex", "flash")
"""Peers that compute the same as we do, in this order of preference."""


def bench(
    compiled: Compiled,
    size: Size,
    tensors: Mapping[str, Any],
    peers: Sequence[Contender],
    effort: Effort,
    *,
    name: str | None = None,
    missing: Mapping[str, str] | None = None,
) -> Row:
    """Measures a compiled pattern beside peers. `tensors` are its run-time tensors, on the device; `missing` says why
    other peers are not there.

    A peer that cannot run is left out, and the row says why. RuntimeError if the pattern itself cannot, SpatError if
    the program does not admit the length.
    """
    given = inputs(compiled.heads, compiled.kv_heads, size)
    mine = ours(compiled, tensors)
    results = {contender.name: tried(contender, given) for contender in (mine, *peers)}
    failed = {peer: result for peer, result in results.items() if isinstance(result, str)}
    if mine.name in failed:
        raise RuntimeError(f"{compiled.name} does not run: {failed[mine.name]}")
    apart = _difference(results)
    results.clear()  # their memory is needed
    there = [mine, *(contender for contender in peers if contender.name not in failed)]
    reasons = {**(missing or {}), **failed}
    return _row(compiled, size, tensors, there, given, effort, name or compiled.name, reasons, apart)


def _difference(results: Mapping[str, list[torch.Tensor] | str]) -> float | None:
    mine = results["ours"]
    assert not isinstance(mine, str)
    for name in REFERENCES:
        other = results.get(name)
        if other is not None and not isinstance(other, str):
            return difference(mine, other)
    return None


def _row(
    compiled: Compiled, size: Size, tensors: Mapping[str, Any], there: Sequence[Contender],
    given: Sequence[torch.Tensor], effort: Effort, name: str, missing: Mapping[str, str], apart: float | None,
) -> Row:  # fmt: skip
    clock = clock_of(size.device)
    rate = matmul_rate(size.device, size.dtype, clock)
    waiting = tuple(contender.name for contender in there if waits(contender, given))
    times = alternated(there, given, clock, effort, waiting)
    medians = {contender: found.medians() for contender, found in times.items()}
    counts = compiled.stats(size.n, device=str(size.device), **tensors)
    wanted = counts.density * size.batch * compiled.heads * size.n**2
    backend = compiled.backend_for(given[0])
    computed = computed_pairs(backend, compiled, size, given, tensors)
    flops = 4.0 * size.dim * wanted
    return Row(
        pattern=name,
        n=size.n,
        head_dim=size.dim,
        dtype=str(size.dtype).removeprefix("torch."),
        backend=backend,
        wanted=counts.density,
        padding=None if computed is None or not wanted else computed / wanted,
        forward=direction({c: m[0] for c, m in medians.items()}, flops, rate),
        backward=direction({c: m[1] for c, m in medians.items()}, BACKWARD_FLOPS * flops, rate),
        host_us=medians["ours"][2],
        repeats=len(times["ours"].forward),
        matmul_tflops=rate,
        difference=apart,
        missing=missing,
        waiting=waiting,
    )


@runtime_checkable
class Kernels(Protocol):
    """What the triton backend makes of a program; its modules import Triton, which may be missing."""

    executor: Any


def computed_pairs(
    backend: str, compiled: Compiled, size: Size, given: Sequence[torch.Tensor], tensors: Mapping[str, Any]
) -> int | None:
    """Pairs in the tiles that a forward call computes, over all heads and batch rows; None for a backend whose plan is
    not known."""
    plan = executed(backend, compiled, size, given, tensors)
    if plan is None:
        return None
    tiles = sum(
        len(launch.heads) * (size.batch if launch.batch is None else len(launch.batch)) * int(t.by_query.count.sum())
        for launch in plan.launches
        for t in launch.terms
    )
    return tiles * plan.tile_q * plan.tile_k


def executed(
    backend: str, compiled: Compiled, size: Size, given: Sequence[torch.Tensor], tensors: Mapping[str, Any]
) -> Plan | None:
    """The plan that a call on the inputs executes; None for a backend whose plan is not known."""
    artifact = base.load(backend).emit(compiled.program, compiled.heads, compiled.kv_heads)
    if isinstance(artifact, TorchTilesArtifact):
        return artifact.ready(size.n, size.n, size.batch, size.device, tensors).plan
    if isinstance(artifact, Kernels):
        q, k, v, _ = given
        if tensors:  # the device plans by itself, in tables that have room for all that might be kept
            tile = artifact.executor.form(q, v).tile
            return compiled.plan(size.n, device=str(size.device), tile=tile, **tensors)
        plan: Plan = artifact.executor.ready(q, k, v, ()).plan
        return plan
    return None
