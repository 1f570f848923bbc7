"""The plans of the measured patterns and of the examples, as a person last looked at them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fifteen
import plan_text
import pytest
from padding_cases import LENGTH, SCALED, Scaled

import patternc

PLANS = Path(__file__).parent / "cases" / "plans"
Golden = Callable[[Path, str], None]

EXAMPLES = {case.name: case for case in (*fifteen.ON_GRIDS, *fifteen.HALVED, *reversed(fifteen.CASES))}
"""Each program of examples/ once, with the first of its parameters."""
LENGTHS = {"neighborhood": 72, "block_diffusion": 72}
"""Those that are made for one length; the others are planned at 100."""


@pytest.mark.parametrize("small", SCALED, ids=str)
def test_plans_of_the_measured_patterns(small: Scaled, golden: Golden) -> None:
    compiled = patternc.compile(small.case.path, heads=small.case.kinds, **small.params)
    plan = compiled.plan(LENGTH, tile=(32, 16), **small.tensors)
    golden(PLANS / f"{small.case.folder}-{small.name}.plan", plan_text.text(plan))


@pytest.mark.parametrize("case", EXAMPLES.values(), ids=lambda case: case.name)
def test_plans_of_the_examples(case: fifteen.Case, golden: Golden) -> None:
    n = LENGTHS.get(case.name, 100)
    path = fifteen.EXAMPLES / f"{case.name}.spat"
    compiled = patternc.compile(path, case.name, heads=case.heads, layer=case.layer, **case.params)
    plan = compiled.plan(n, tile=(8, 8), **fifteen.tensors_of(case, n))
    golden(PLANS / f"example-{case.name}.plan", plan_text.text(plan))
