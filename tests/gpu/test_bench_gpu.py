"""Measuring on a CUDA device: the clock, calls that wait, and a pattern beside its peers."""

from __future__ import annotations

import pytest
import torch

import patternc
from patternc.bench.bench import bench
from patternc.bench.clocks import CudaClock
from patternc.bench.contenders import Contender, Size, inputs, resolved
from patternc.bench.measure import Effort, matmul_rate, waits

CUDA = torch.device("cuda")
SIZE = Size(1024, 64, torch.bfloat16, CUDA)


def test_the_clock_leaves_out_what_the_host_does() -> None:
    clock = CudaClock(CUDA)
    a = torch.randn(2048, 2048, device=CUDA, dtype=torch.bfloat16)

    def slow() -> torch.Tensor:
        sum(range(20_000))
        return a @ a

    slow()
    readings = [clock.timed(slow)[1] for _ in range(10)]
    waited = [clock.timed(slow, wait=True)[1] for _ in range(10)]
    clock.settle()
    assert sorted(read() for read in readings)[5] < 0.2 < sorted(read() for read in waited)[5]
    assert matmul_rate(CUDA, torch.bfloat16, clock, 5) > 20


def test_a_call_that_waits_is_found() -> None:
    given = inputs(1, 1, SIZE)
    assert waits(Contender("x", lambda q, k, v: q * float(k.sum().item())), given)
    assert not waits(Contender("x", lambda q, k, v: q * k.sum()), given)
    assert torch.cuda.get_sync_debug_mode() == 0


def test_a_pattern_beside_its_peers() -> None:
    compiled = patternc.compile("std/local", heads=4, window=200, backend="triton")
    there, missing = resolved(["dense", "flex", "flash"], compiled, SIZE, {})
    row = bench(compiled, SIZE, {}, there, Effort(5, 5), missing=missing)
    assert row.backend == "triton"
    assert row.difference is not None
    assert row.difference < 0.03
    assert row.padding == pytest.approx(compiled.stats(1024, tile=(64, 64)).padding)
    assert row.forward.peers.keys() >= {"dense", "flex"}
    assert not row.waiting
