"""The measured patterns: their programs are clean and laid out, and their masks are those of the formulas."""

from __future__ import annotations

import inspect

import numpy as np
import padding_cases
import pytest
import torch

import patternc
from benchmarks import suite
from patternc import format as formatter
from patternc import parser

BY_NAME = pytest.mark.parametrize("case", suite.CASES, ids=lambda case: case.name)


def test_every_program_has_a_formula_and_a_small_form() -> None:
    programs = {path.stem for folder in ("suite", "patterns") for path in (suite.HERE / folder).glob("*.spat")}
    assert programs == {case.name for case in suite.CASES} == {small.name for small in padding_cases.SCALED}


@BY_NAME
def test_a_program_is_laid_out_and_its_checks_hold(case: suite.Case) -> None:
    source = parser.decode(case.path.read_bytes(), case.name)
    assert formatter.format(source) == source.text
    report = patternc.check(str(case.path))
    assert report.diagnostics == ()


@BY_NAME
def test_defaults_are_those_of_the_formula(case: suite.Case) -> None:
    parameters = inspect.signature(case.formula).parameters.values()
    named = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}
    plain, given = (patternc.compile(case.path, heads=case.kinds, **values) for values in ({}, lists))
    assert plain.program == given.program


@pytest.mark.parametrize("small", padding_cases.SCALED, ids=str)
@pytest.mark.parametrize("n_q", [None, 333])
def test_masks_are_those_of_the_formulas(small: padding_cases.Scaled, n_q: int | None) -> None:
    case, n = small.case, padding_cases.LENGTH
    compiled = patternc.compile(str(case.path), heads=case.kinds, backend="reference", **small.params)
    found = compiled.mask(n, n_q, **{name: torch.as_tensor(array) for name, array in small.tensors.items()})
    for h in range(case.kinds):
        expected = case.multiplicities(n, n_q, h=h, **small.params, **small.tensors)
        assert np.array_equal(found[h].numpy(), expected)
        assert 0 < np.count_nonzero(expected) < expected.size


@pytest.mark.parametrize("small", padding_cases.SCALED, ids=str)
def test_the_arms_are_the_pattern(small: padding_cases.Scaled) -> None:
    n = padding_cases.LENGTH
    for h in range(small.case.kinds):
        arms = small.masks(h)
        together = np.sum(arms, axis=0) if small.bag else np.any(arms, axis=0)
        assert np.array_equal(together, small.case.multiplicities(n, h=h, **small.params, **small.tensors))


def test_the_suite_keeps_the_shares_that_are_known_of_it() -> None:
    n, shares = suite.LENGTH, {"local_causal": 0.0605, "dilated_blocks": 0.0347, "document": 0.0209}
    for case in suite.SUITE:
        if case.name in shares:
            assert case.wanted(n, **case.tensors(n)) / n**2 == pytest.approx(shares[case.name], abs=1e-4)
