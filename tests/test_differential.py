"""Drawn programs: the compiler's masks against the oracle's, and what is planned and computed against the masks."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import torch
from drawn import Program, examples, in_torch
from hypothesis import Phase, given, note, settings
from programs import guarded_programs, programs
from relations import OracleError
from tiles import check_plan

import patternc
from patternc import ast, parser
from patternc.analysis import planner
from patternc.analysis.arrays import NUMPY
from patternc.backends.torch_arrays import TorchArrays
from patternc.source import Source


def parse(text: str) -> ast.File:
    tree, mistakes = parser.parse(Source("<drawn>", text))
    assert all(m.severity == "warning" for m in mistakes), mistakes
    return tree


def meaning(program: Program, n: int, n_q: int, tensors: dict[str, np.ndarray], **options: bool) -> np.ndarray:
    values = {"heads": program.heads, "layer": program.layer, "params": program.params, "tensors": tensors}
    return oracle.mask(parse(program.text), n, n_q, **values, **options)


def compiled_mask(program: Program, n: int, n_q: int, tensors: dict[str, np.ndarray]) -> np.ndarray:
    return program.compile().mask(n, n_q, **in_torch(tensors)).numpy()


# ------------------------------------------------------------------ masks


@settings(max_examples=examples(500))
@given(programs())
def test_masks(program: Program) -> None:
    compare_masks(program)


@settings(max_examples=examples(200))
@given(guarded_programs())
def test_masks_behind_guards(program: Program) -> None:
    compare_masks(program)


def compare_masks(program: Program) -> None:
    n, n_q, tensors = program.at(24)
    np.testing.assert_array_equal(compiled_mask(program, n, n_q, tensors), meaning(program, n, n_q, tensors))


def test_most_masks_are_neither_empty_nor_full() -> None:
    """Else the properties of this file would say little."""
    trivial: list[bool] = []

    @settings(max_examples=300, phases=[Phase.generate])
    @given(programs())
    def count(program: Program) -> None:
        n = program.length(24)
        kept = meaning(program, n, n, program.make_tensors(n)) > 0
        trivial.append(bool(kept.all() or not kept.any()))

    count()
    assert sum(trivial) <= 0.4 * len(trivial)


@settings(max_examples=examples(200))
@given(programs(careless=True))
def test_the_reference_refuses_what_has_no_meaning(program: Program) -> None:
    """Without its guards a cell may divide by zero or read outside a tensor: both say so, or both have a mask."""
    n = program.length(16)
    tensors = program.make_tensors(n)
    note(f"{program.text}{program} at n = {n}")
    try:
        expected = meaning(program, n, n, tensors)
    except OracleError:
        with pytest.raises(patternc.SpatError):
            compiled_mask(program, n, n, tensors)
    else:
        np.testing.assert_array_equal(compiled_mask(program, n, n, tensors), expected)


@settings(max_examples=examples(200))
@given(programs(careless=True))
def test_compiled_code_leaves_out_what_has_no_meaning(program: Program) -> None:
    """Plans and the torch backend take such cells of a set builder for False."""
    n = program.length(24)
    tensors = program.make_tensors(n)
    note(f"{program.text}{program} at n = {n}")
    mask = meaning(program, n, n, tensors, lenient=True)
    compiled = program.compile(backend="torch")
    tile = {"tile_q": 4, "tile_k": 4}
    planned = planner.plan(compiled.program, heads=program.heads, n=n, tensors=tensors, xp=NUMPY, **tile)
    check_plan(planned, mask)
    q, k, v, *_ = random_inputs(program, n, n, program.heads)
    out = compiled(q, k, v, **in_torch(tensors))
    torch.testing.assert_close(out, dense_attention(q, k, v, torch.from_numpy(mask)), rtol=0, atol=1e-10)


def dense_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    """Softmax of score + log M; a row without keys gives 0."""
    weights = (q @ k.mT * q.shape[-1] ** -0.5).exp() * m
    total = weights.sum(-1, keepdim=True)
    return weights @ v / torch.where(total > 0, total, 1.0)


# ------------------------------------------------------------------ tiles


@settings(max_examples=examples(2000))
@given(programs())
def test_tiles(program: Program) -> None:
    """Sound: no wanted cell is in a skipped tile, no full tile has a hole. Exact: no tile is doubtful without need."""
    n, n_q, tensors = program.at(160)
    compiled = program.compile()
    mask = compiled.mask(n, n_q, **in_torch(tensors)).numpy()
    options = {"heads": program.heads, "n": n, "n_q": n_q}
    for tile in (4, 16, 128):
        check_plan(planner.plan(compiled.program, **options, tensors=tensors, xp=NUMPY, tile_q=tile, tile_k=tile), mask)
    if program.seed[3] % 4 == 0:  # oblong tiles, and the namespace that devices use
        device = {"tensors": in_torch(tensors), "xp": TorchArrays("cpu")}
        check_plan(planner.plan(compiled.program, **options, **device, tile_q=16, tile_k=4), mask)


@settings(max_examples=examples(100))
@given(programs())
def test_the_plan_of_a_compiled_object(program: Program) -> None:
    n = program.length(300)
    tensors = in_torch(program.make_tensors(n))
    compiled = program.compile()
    check_plan(compiled.plan(n, **tensors), compiled.mask(n, **tensors).numpy())


# ------------------------------------------------------------------ outputs and gradients


@settings(max_examples=examples(200))
@given(programs())
def test_outputs_and_gradients(program: Program) -> None:
    """The torch backend against the reference in float64: 1e-10 of the largest value."""
    n, n_q, arrays = program.at(150)
    tensors = in_torch(arrays)
    kv_heads = program.heads // 2 if program.heads % 2 == 0 else program.heads
    inputs = random_inputs(program, n, n_q, kv_heads)
    expected = attend(program.compile(backend="reference", kv_heads=kv_heads), inputs, tensors)
    got = attend(program.compile(backend="torch", kv_heads=kv_heads), inputs, tensors)
    for name, value in expected.items():
        torch.testing.assert_close(
            got[name], value, rtol=0, atol=1e-10 * largest(value), msg=lambda m, at=name: f"{at}: {m}"
        )


def random_inputs(program: Program, n: int, n_q: int, kv_heads: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(int.from_bytes(program.seed[:4]))
    shapes = [(2, program.heads, n_q, 8), (2, kv_heads, n, 8), (2, kv_heads, n, 4)]
    shapes += [(2, program.heads, n_q, 4), (2, program.heads, n_q)]
    return [torch.randn(shape, dtype=torch.float64, generator=random) for shape in shapes]


def largest(value: torch.Tensor) -> float:
    finite = value[torch.isfinite(value)]
    return max(1.0, float(finite.abs().max())) if len(finite) else 1.0


def attend(
    compiled: patternc.Compiled, inputs: list[torch.Tensor], tensors: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Outputs, lse and the gradients that both send back."""
    *qkv, d_out, d_lse = inputs
    q, k, v = (x.clone().requires_grad_() for x in qkv)
    out, lse = compiled(q, k, v, return_lse=True, **tensors)
    loss = (out * d_out).sum() + (torch.where(torch.isfinite(lse), lse, 0.0) * d_lse).sum()
    loss.backward()
    return {"out": out.detach(), "lse": lse.detach(), "dq": q.grad, "dk": k.grad, "dv": v.grad}
