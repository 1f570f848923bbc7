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


@pytest.mark.parametrize("small", SCALED, ids=str)
def test_plans_of_the_measured_patterns(small: Scaled, golden: Golden) -> None:
    compiled = patternc.compile(small.case.path, heads=small.case.kinds, **small.params)
    plan = compiled.plan(LENGTH, tile=(32, 16), **small.tensors)
    golden(PLANS / f"{small.case.folder}-{small.name}.plan", plan_text.text(plan))


@pytest.mark.parametrize("case", fifteen.FIRST.values(), ids=lambda case: case.name)
def test_plans_of_the_examples(case: fifteen.Case, golden: Golden) -> None:
    n = case.length(100)
    plan = case.compiled().plan(n, tile=(8, 8), **fifteen.tensors_of(case, n))
    golden(PLANS / f"example-{case.name}.plan", plan_text.text(plan))
