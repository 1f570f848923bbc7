"""Outputs, log-sum-exp and gradients of the suite under the layouts chosen for it, against the reference."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

import patternc
from benchmarks import suite


@pytest.mark.parametrize("case", suite.SUITE, ids=lambda case: case.name)
def test_the_suite_under_its_layouts(case: suite.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("patternc.passes.tiles"), "SHORT", 0)  # else consecutive tokens may be taken
    attention = patternc.compile(case.path, heads=4, kv_heads=2, backend="torch")
    for n, n_q in ((700, 700), (613, 130)):
        report = patternc.verify(attention, n=n, n_q=n_q, batch=1, head_dim=16, dtype=torch.float64)
        assert report, str(report)
