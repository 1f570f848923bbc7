"""Padding, pairs computed over pairs wanted: against the best of all layouts, and at length."""

from __future__ import annotations

from functools import cache
from typing import Any

import layouts_oracle
import pytest
import torch
from padding_cases import AT_LENGTH, LENGTH, LONG, SCALED, Scaled

import patternc
from benchmarks import suite
from patternc.backends.torch_passes import counting
from patternc.plan import Plan

SHAPES = [(32, 16), (16, 16), (32, 32)]
"""Tiles at 4,096 tokens, in place of 128 × 64, 64 × 64 and 128 × 128 at 16,384."""
SLACK = 1.05
EVERY = [
    pytest.param(small, tile, id=f"{small}-{tile}", marks=[pytest.mark.exhaustive] if tile != SHAPES[i % 3] else [])
    for i, small in enumerate(AT_LENGTH)
    for tile in SHAPES
]
"""All patterns in all tiles; without --exhaustive, each in one of them."""


@cache
def fewest_pairs(name: str, tile: tuple[int, int]) -> tuple[int, str]:
    """The pairs that the best layouts compute, over the kinds of heads, and which layouts they are."""
    small = next(small for small in AT_LENGTH if small.name == name)
    splits = [
        layouts_oracle.best_split(small.masks(h), *tile, small.radices, bag=small.bag) for h in range(small.case.kinds)
    ]
    return sum(split.tiles for split in splits) * tile[0] * tile[1], str([split.groups for split in splits])


def compiled_of(case: suite.Case, heads: int | None = None, **params: Any) -> patternc.Compiled:
    return patternc.compile(case.path, heads=heads or case.kinds, **params)


def pairs_of(plan: Plan, table: str = "by_query") -> int:
    """Tiles of the tables times their area, over heads; every launch is for all batch rows."""
    tiles = [
        int(getattr(term, table).count.sum()) * len(launch.heads) for launch in plan.launches for term in launch.terms
    ]
    return sum(tiles) * plan.tile_q * plan.tile_k


@pytest.mark.parametrize(("small", "tile"), EVERY)
def test_layouts_are_nearly_the_best_there_are(small: Scaled, tile: tuple[int, int]) -> None:
    found = compiled_of(small.case, **small.params).stats(LONG, tile=tile, objective="padding", **small.tensors)
    best, layouts = fewest_pairs(small.name, tile)
    wanted = small.case.wanted(LONG, **small.params, **small.tensors)
    assert found.wanted_pairs == wanted
    assert found.computed_pairs / wanted <= SLACK * best / wanted, layouts
    assert found.padding == pytest.approx(found.computed_pairs / wanted)


LIMITS = [
    ("causal", (128, 64), 1.25),
    ("local_causal", (128, 64), 1.25),
    ("longformer", (128, 64), 1.25),
    ("dilated_blocks", (64, 64), 1.05),
    ("sinks", (128, 64), 1.25),
    ("dilated_window16", (128, 64), 1.25),
    ("strided_st", (64, 64), 1.55),
    ("inblock_dil", (128, 64), 1.25),
    ("hier", (128, 64), 1.25),
    ("document", (128, 64), 1.5),
    ("longnet", (128, 64), 1.25),
]


@pytest.mark.parametrize(("name", "tile", "limit"), LIMITS, ids=[name for name, _, _ in LIMITS])
def test_the_suite_is_padded_little(name: str, tile: tuple[int, int], limit: float) -> None:
    case = next(case for case in suite.SUITE if case.name == name)
    tensors = case.tensors(suite.LENGTH)
    compiled = compiled_of(case)
    found = compiled.stats(suite.LENGTH, tile=tile, **tensors)
    assert found.exact
    assert found.padding <= limit
    assert found.computed_pairs == pairs_of(compiled.plan(suite.LENGTH, tile=tile, **tensors))


@pytest.mark.parametrize("small", SCALED, ids=str)
def test_as_many_tiles_are_executed_as_are_counted(small: Scaled) -> None:
    compiled = compiled_of(small.case, heads=4, backend="torch", **small.params)
    tensors = {name: torch.as_tensor(array) for name, array in small.tensors.items()}
    inputs = [torch.randn(1, 4, LENGTH, 8, requires_grad=True) for _ in range(3)]
    with counting() as tally:
        compiled(*inputs, **tensors).sum().backward()
    plan = compiled._artifact("torch").ready(LENGTH, LENGTH, 1, torch.device("cpu"), tensors).plan
    executed = {name: tiles * plan.tile_q * plan.tile_k for name, tiles in tally.items()}
    assert executed == dict.fromkeys(tally, pairs_of(plan))
    assert pairs_of(plan) == pairs_of(plan, "by_key") > 0
