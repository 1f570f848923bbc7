"""The mods that FlexAttention is given mean what the program means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import test_differential as differential
import torch
from drawn import Program, examples, in_torch
from fifteen import ALL, Case, tensors_of
from flex_cases import artifact_of
from hypothesis import given, note, settings
from programs import programs
from torch.nn.attention.flex_attention import create_mask

import patternc
from patternc.backends import flex_words
from patternc.backends.flex import Flex, Mods


def multiplicities(mods: Mods, heads: int, n_q: int, n: int, batch: int, dtype: torch.dtype = torch.int64) -> Any:
    """M (B, H, n_q, n) as the mods have it, from indices of some integer type."""
    b, h, q, k = (torch.arange(size, dtype=dtype) for size in (batch, heads, n_q, n))
    cell = (b[:, None, None, None], h[:, None, None], q[:, None], k)
    mask = mods.mask_mod(*cell)
    if mods.score_mod is None:
        return mask.long().expand(batch, heads, n_q, n).numpy()
    weight = mods.score_mod(torch.zeros((), dtype=torch.float64), *cell).exp()
    return torch.where(mask, weight, 0).round().long().expand(batch, heads, n_q, n).numpy()


def compare_mods(program: Program) -> None:
    n, n_q, tensors = program.at(40)
    mask = differential.meaning(program, n, n_q, tensors, lenient=True)
    mask = mask if mask.ndim == 4 else mask[None]
    compiled = program.compile()
    run = Flex().emit(compiled.program, program.heads, program.heads)
    mods = run.mods(n, n_q, tensors=in_torch(tensors))
    note(run.source_at(n, n_q))
    for dtype in (torch.int64, torch.int32):  # as eager and as compiled code has them
        found = multiplicities(mods, program.heads, n_q, n, len(mask), dtype)
        np.testing.assert_array_equal(found, mask)


@settings(max_examples=examples(200))
@given(programs())
def test_mods_of_drawn_programs(program: Program) -> None:
    compare_mods(program)


@settings(max_examples=examples(200))
@given(programs(careless=True))
def test_mods_leave_out_what_has_no_meaning(program: Program) -> None:
    """A cell of a set builder that divides by zero or reads outside a tensor is False, and reads nothing there."""
    compare_mods(program)


@pytest.mark.parametrize("case", ALL, ids=str)
def test_mods_under_vmap(case: Case) -> None:
    """As FlexAttention calls them."""
    n = case.length(90)
    tensors, compiled = in_torch(tensors_of(case, n)), case.compiled(backend="flex")
    run = Flex().emit(compiled.program, case.heads, case.heads)
    expected = compiled.mask(n, 60, **tensors)
    batch = 2 if expected.ndim == 4 else 1
    found = create_mask(run.mask_mod(n, 60, tensors=tensors), batch, case.heads, 60, n, device="cpu")
    assert torch.equal(found, (expected > 0).expand(batch, case.heads, 60, n))


@pytest.mark.parametrize(
    "condition",
    [
        "(q * 70_000 + k) % 7 == 3",
        "q * q + k * k <= n * n",
        "2 ** (q // 2_000) > k",
        "(q ^ 4_294_967_296) % 5 == k % 5",
        "max(q, 5_000_000_000) % 11 == k % 11",
        "(q if k < 9 else 5_000_000_000) % 13 == 1",
        "log2(q * 100_000 + 1) > 31",
        "doc[q] * 70_000 == doc[k] * 70_000",
    ],
)
def test_integers_of_32_bits_suffice_or_are_widened(condition: str) -> None:
    """Compiled code indexes with 32 bits."""
    n, cells = 70_000, [0, 1, 8, 9, 10, 4_099, 30_679, 46_341, 65_537, 69_999]
    compiled = patternc.compile(f"pattern p(doc: int[n]) = {{ q -> k : doc[q] >= 0 and {condition} }}", heads=1)
    doc = torch.arange(n, dtype=torch.int32)
    mask_mod, _ = Flex().emit(compiled.program, 1, 1)._generated(n, n, {"doc": 32}).mods({"doc": doc}, doc.device)
    at = torch.tensor(cells)
    zero = torch.zeros((), dtype=torch.int32)
    shape = (len(cells), len(cells))
    wide, narrow = (mask_mod(zero, zero, at[:, None].to(t), at.to(t)).expand(shape) for t in (torch.int64, torch.int32))
    values = {"n": n, "doc": range(n), "log2": lambda x: (x - 1).bit_length(), "max": max}
    expected = [[eval(condition, values, {"q": q, "k": k}) for k in cells] for q in cells]
    assert narrow.tolist() == expected
    assert wide.tolist() == expected


def test_integers_are_read_with_the_bits_they_came_with() -> None:
    run = artifact_of("pattern p(doc: int[batch, n]) = { q -> k : doc[q] == doc[k] }")
    big = torch.tensor([[1 << 40, 1 << 41, 1 << 40]])
    assert multiplicities(run.mods(3, tensors={"doc": big}), 1, 3, 3, 1)[0, 0].tolist() == [
        [1, 0, 1],
        [0, 1, 0],
        [1, 0, 1],
    ]
    mask_mod = run.mask_mod(3, tensors={"doc": big.clamp(max=7).int()})
    captured = {cell.cell_contents.dtype for cell in mask_mod.__closure__ or ()}
    assert captured == {torch.int32}


@pytest.mark.parametrize(("base_", "exponents"), [(2, range(12)), (-3, range(9)), (0, range(3)), (1, range(5))])
def test_power(base_: int, exponents: range) -> None:
    found = flex_words.power(torch.full((len(exponents),), base_), torch.tensor(list(exponents)), bits=4)
    assert found.tolist() == [base_**e for e in exponents]


def test_sizes_that_hang_on_the_head() -> None:
    """Then heads have text of their own."""
    text = "pattern p(b: [int] = [3, 5, 3]) = blocks(b[h]) causal | union({ q -> k : k == i } for i in 0..h)"
    compiled = patternc.compile(text, heads=3)
    run = Flex().emit(compiled.program, 3, 3)
    found = multiplicities(run.mods(20), 3, 20, 20, 1)[0]
    np.testing.assert_array_equal(found, compiled.mask(20).numpy())


@pytest.mark.parametrize("name", ["torch", "tables", "mask_mod", "x_0", "power"])
def test_names_of_tensors_do_not_meet_those_of_the_source(name: str) -> None:
    run = artifact_of(f"pattern p({name}: int[n]) = {{ q -> k : {name}[q] ** k < 3 and {name}[q] < 3 }}")
    found = multiplicities(run.mods(2, tensors={name: torch.tensor([9, 1])}), 1, 2, 2, 1)
    assert found[0, 0].tolist() == [[0, 0], [1, 1]]


def test_source_is_that_of_a_length_the_pattern_admits() -> None:
    grid = artifact_of("std/neighborhood", H=8, W=9)
    assert "of 72 positions" in grid.source
    assert "of 4096 positions" in artifact_of("std/local", window=9).source
