"""The triton backend in Triton's interpreter, on tiny inputs: outputs, lse and gradients against the reference, and
what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import fifteen
import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from triton_calls import artifact, check, documents, inputs, results

import patternc
from benchmarks import suite
from patternc.backends import triton_executor, triton_masks, triton_plans, triton_run
from patternc.backends.reference import Reference
from patternc.backends.reference import attention as dense
from patternc.backends.triton_backend import TritonKernels
from patternc.backends.triton_schedule import BoundMask, Schedule, Step, schedule
from patternc.backends.triton_structure import Mask
from patternc.backends.triton_tables import Tables
from patternc.plan import FULL

pytestmark = pytest.mark.usefixtures("small_tiles")

SMALL: dict[str, tuple[int, dict[str, Any]]] = {
    "causal": (1, {}),
    "local_causal": (2, {"window": 19}),
    "longformer": (1, {"window": 6, "hubs": 5}),
    "dilated_blocks": (1, {"block": 4}),
    "sinks": (2, {"window": 20, "first": 3}),
    "dilated_window16": (1, {"window": 32, "dilation": 4}),
    "strided_st": (1, {"stride": 8}),
    "inblock_dil": (1, {"block": 16, "near": 1, "dense": 8}),
    "hier": (1, {"near": 4, "reach": 16, "mid": 2, "far": 8}),
    "document": (2, {}),
    "longnet": (4, {"levels": [(16, 1), (32, 2), (64, 4)]}),
}
"""Heads and parameters of the suite's patterns for some 70 tokens."""


# ------------------------------------------------------------------ every program


@pytest.mark.parametrize("case", fifteen.ALL, ids=str)
def test_the_fifteen_programs(case: fifteen.Case) -> None:
    compiled = case.compiled(kv_heads=2 if case.heads == 4 else 1)
    n = case.length(45)
    tensors = fifteen.tensors_of(case, n, batch=2 if case.name == "documents" else 1)
    assert TritonKernels().supports(compiled.program, "cpu", torch.float32) == []
    check(compiled, n, n - 4, tensors=tensors)


@pytest.mark.parametrize("case", suite.SUITE, ids=lambda case: case.name)
def test_the_suite(case: suite.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_executor, "tile_of", lambda dim, bits: (16, 16))
    heads, params = SMALL[case.name]
    check(patternc.compile(str(case.path), heads=heads, kv_heads=1, **params), 70, tensors=case.tensors(70))


def test_rows_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hubs on both sides, for so many processors that a hub's row is shared among them."""
    monkeypatch.setattr(triton_executor, "tile_of", lambda dim, bits: (16, 16))
    compiled = patternc.compile("std/global_local", heads=1, hubs=3, window=4)
    run = artifact(compiled)  # the same executor as that of the check, which holds it weakly
    check(compiled, 400)
    (made,) = run.executor._kept.values()
    assert any(step.tables.merge is not None for step in made.schedule.by_query)
    assert any(step.tables.merge is not None for step in made.schedule.by_key)


def test_terms_without_tiles() -> None:
    """They stay in their launches, so that these take the same kernels: nobody is global, nothing is far."""
    compiled = patternc.compile("std/longformer", heads=1, w=5, dilation=[1])
    check(compiled, 40, tensors={"is_global": torch.zeros(1, 40, dtype=torch.bool)})
    text = "pattern p() = { q -> k : 0 <= q - k < 5 } + { q -> k : k % 8 == 0 and q - k >= 40 }"
    check(patternc.compile(text, heads=2, kv_heads=1), 20)


def test_blocks_whose_size_hangs_on_the_length() -> None:
    check(patternc.compile("pattern p() = blocks(1 + n // 10) top(2, by = q ^ k)", heads=1), 25)


def test_heads_without_a_key_and_patterns_without_a_cell() -> None:
    some = "pattern p() = causal if h == 1 else empty"
    check(patternc.compile(some, heads=2), 20)
    check(patternc.compile("pattern p() = empty", heads=2), 20)


def test_one_query_and_other_scales() -> None:
    compiled = patternc.compile("std/local", heads=2, kv_heads=1, window=9)
    check(compiled, 33, 1)
    for scale in (-0.4, 0.0):
        check(compiled, 20, scale=scale)


def test_dropout_is_that_of_the_reference() -> None:
    check(patternc.compile("std/local", heads=2, kv_heads=1, window=9), 33, dropout_p=0.4, seed=9)
    compiled = patternc.compile("std/local", heads=1, window=9)
    q, k, v = inputs(compiled, 20, 20, 1)
    drawn = []
    for run in (artifact(compiled), Reference().emit(compiled.program, 1, 1)):
        torch.manual_seed(3)
        drawn.append(run(q, k, v, dropout_p=0.5))
    torch.testing.assert_close(*drawn)


def test_half_precision_and_strides() -> None:
    compiled = patternc.compile("std/local", heads=2, window=9)
    q, k, v = (t.detach() for t in inputs(compiled, 40, 40, 1, torch.float16, dim=24))
    run = artifact(compiled)
    out, lse = run(q, k, v, return_lse=True)
    assert (out.dtype, lse.dtype) == (torch.float16, torch.float32)
    strided = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (q, k, v)]
    assert torch.equal(run(*strided), out)
    assert torch.equal(run(*(t.mT.contiguous().mT for t in (q, k, v))), out)


# ------------------------------------------------------------------ what is executed


@pytest.mark.parametrize("name", ["hier", "dilated_window16", "longformer"])
def test_exactly_the_tiles_of_the_plan_are_computed(name: str) -> None:
    """With masks that keep every cell, attention is that over the cells of all tiles of the plan, each counted once."""
    heads, params = SMALL[name]
    compiled = patternc.compile(suite.HERE / "suite" / f"{name}.spat", heads=heads, **params)
    n, cpu = 70, torch.device("cpu")
    masks = triton_masks.Masks.of(artifact(compiled).executor.pattern.arrangement)
    plan = triton_plans.ready(masks, n=n, n_q=n, batch=1, kv_heads=heads, device=cpu, tensors={}, tile=(16, 16)).plan
    m = torch.zeros(heads, n + 1, n + 1, dtype=torch.int64)
    for launch in plan.launches:
        for term in launch.terms:
            rows, runs = torch.as_tensor(term.by_query.rows), term.by_query
            for row in range(len(rows) - 1):
                q = launch.queries.tokens(row, torch.arange(16))
                for r in range(int(rows[row]), int(rows[row + 1])):
                    for tile in range(int(runs.first[r]), int(runs.first[r] + runs.count[r])):
                        k = term.keys.tokens(tile, torch.arange(16))
                        for h in launch.heads:
                            m[h, q[:, None], k[None]] += int(runs.weight[r]) if runs.kind[r] == FULL else 1
    m = m[:, :n, :n]
    everything = BoundMask(Mask("@triton.jit\ndef MASK(q, k, n, h):\n    return (q == q) & (k == k)"), {})
    q, k, v = (t.detach() for t in inputs(compiled, n, n, 1))
    made = schedule(plan, lambda launch: [everything] * len(launch.terms), heads, 1, cpu)
    out, lse = triton_run.forward(triton_run.Call(made, 0.3), q, k, v)
    expected, expected_lse = dense(q, k, v, m, 0.3)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lse, expected_lse.float(), rtol=1e-4, atol=1e-5)


def test_plans_are_kept() -> None:
    """A length is planned once; with run-time tensors, once for both passes, and anew for a changed tensor."""
    run = artifact(patternc.compile("std/local", heads=1, window=11))
    q, k, v = inputs(patternc.compile("std/local", heads=1, window=11), 20, 20, 1)
    for _ in range(3):
        results(run, q, k, v)
    assert run.executor.planned == 1
    compiled = patternc.compile("pattern documents(doc: int[batch, n]) = { q -> k : doc[q] == doc[k] }", heads=1)
    run = artifact(compiled)
    doc = torch.arange(20)[None] // 7
    results(run, q, k, v, tensors={"doc": doc})
    assert run.executor.planned == 1
    first = run(q, k, v, tensors={"doc": doc})
    doc.zero_()
    second = run(q, k, v, tensors={"doc": doc})
    assert run.executor.planned == 3
    assert not torch.equal(first, second)
    assert torch.equal(run(q, k, v, tensors={"doc": doc.numpy()}), second)


def test_later_calls_are_like_the_first_and_as_strict() -> None:
    compiled = patternc.compile("std/local", heads=2, window=7)
    run = artifact(compiled)
    q, k, v = inputs(compiled, 20, 20, 1)
    for options in ({}, {"scale": 0.3}, {"scale": -0.3}, {"dropout_p": 0.4, "seed": 3}):
        run._known.clear()
        first = results(run, q, k, v, **options)
        assert len(run._known) == 1
        assert all(torch.equal(a, b) for a, b in zip(results(run, q, k, v, **options), first, strict=True))
    (known,) = run._known.values()
    lse = run(q, k, v, dropout_p=0.4, seed=3, return_lse=True)[1]
    assert lse.grad_fn is not None
    gradient = torch.autograd.grad(lse.double().square().sum(), q)[0]  # of lse alone
    assert torch.equal(gradient, torch.autograd.grad(run(q, k, v, return_lse=True)[1].double().square().sum(), q)[0])
    assert known in run._known.values()
    for wrong, error in (
        ((q[:, :1], k, v), ValueError), ((q, k.half(), v), TypeError), ((q, k[:, :, :9], v), ValueError),
    ):  # fmt: skip
        with pytest.raises(error):
            run(*wrong)
    for options in ({"dropout_p": 2.0}, {"scale": float("nan")}, {"dropout_p": [0.4]}):
        with pytest.raises(ValueError, match=r"dropout_p|scale"):
            run(q, k, v, **options)


def tensors_in(part: Any) -> Iterator[torch.Tensor]:
    match part:
        case torch.Tensor():
            yield part
        case Schedule() | Step() | Tables():
            for field in fields(part):
                yield from tensors_in(getattr(part, field.name))
        case tuple():
            for value in part:
                yield from tensors_in(value)
        case Mapping():
            yield from tensors_in(tuple(part.values()))


def test_plans_made_by_the_host_go_to_the_device_whole() -> None:
    run, given, doc = documents()
    strided = patternc.compile("std/strided", heads=2, l=8)
    of_batch = artifact(strided).executor.ready(*inputs(strided, 40, 40, 3), [])
    for made in (run.executor.ready(*given, [doc]).schedule, of_batch.schedule):
        there = triton_plans._moved(made, torch.device("meta"), {})
        pairs = list(zip(tensors_in(made), tensors_in(there), strict=True))
        assert all(b.device.type == "meta" and (a.shape, a.stride()) == (b.shape, b.stride()) for a, b in pairs)
        assert len({id(a) for a, _ in pairs}) == len({id(b) for _, b in pairs}) < len(pairs)


def test_structures_do_not_hang_on_numbers() -> None:
    """Another window, another length: the same source of kernels."""
    found = []
    for window, n in ((200, 1000), (333, 5555)):
        compiled = patternc.compile("std/local", heads=2, window=window)
        masks = triton_masks.Masks.of(artifact(compiled).executor.pattern.arrangement)
        cpu = torch.device("cpu")
        made = triton_plans.ready(masks, n=n, n_q=n, batch=1, kv_heads=2, device=cpu, tensors={}, tile=(128, 64))
        found.append([step.structure for step in (*made.schedule.by_query, *made.schedule.by_key)])
    assert found[0] == found[1]


def test_source() -> None:
    source = artifact(patternc.compile("std/local", heads=2, window=100)).source
    assert "def forward(" in source
    assert "def mask0(" in source
    compile(source, "generated", "exec")


# ------------------------------------------------------------------ what is refused


def test_reasons_against() -> None:
    program = patternc.compile("std/local", heads=1).program
    backend = TritonKernels()
    assert backend.supports(program, "cpu", torch.float32) == []
    assert "float64" in backend.supports(program, "cpu", torch.float64)[0]
    assert "CUDA" in backend.supports(program, "mps", torch.float32)[0]
    assert "no CUDA device" in backend.supports(program, "cuda", torch.bfloat16)[0]
    wide = patternc.compile("pattern p(w: int = 12345678901) = { q -> k : q - k < w }", heads=1).program
    assert "32 bits" in backend.supports(wide, "cpu", torch.float32)[0]


def test_wrong_arguments() -> None:
    run, (q, k, v), doc = documents()
    with pytest.raises(TypeError, match="run-time tensor"):
        run(q, k, v)
    with pytest.raises(TypeError, match="docs"):
        run(q, k, v, tensors={"docs": doc})
    with pytest.raises(ValueError, match="shape"):
        run(q, k, v, tensors={"doc": doc[:3]})
    with pytest.raises(ValueError, match="float64"):
        run(q.double(), k.double(), v.double(), tensors={"doc": doc})
    wide = torch.randn(1, 2, 9, 300)
    with pytest.raises(ValueError, match="up to 256"):
        run(wide, wide[:, :1], wide[:, :1], tensors={"doc": doc[:9]})


def test_triton_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys, torch; from patternc.backends.triton_backend import TritonKernels; "
        "assert TritonKernels().supports(None, 'cpu', torch.float32); assert 'triton' not in sys.modules"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_sizes_of_tiles() -> None:
    """Tiles get smaller where channels and bits get more."""
    sizes = [np.prod(triton_plans.tile_of(dim, bits)) for dim, bits in ((64, 16), (128, 16), (256, 16), (256, 32))]
    assert sizes == sorted(sizes, reverse=True)
