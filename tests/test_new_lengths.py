"""A new length is planned only: what has been decided for every length is not decided again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

import patternc
from benchmarks import suite
from patternc.passes import arranged

PASSES = ("simplify", "terms", "study")
"""The passes of compiling, as `arranged` calls them; the last is `layout` with its reasons."""
NAMES = ["dilated_window16", "strided_st", "hier", "longnet", "fixed"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each pass of compiling has been called."""
    counted: Counter[str] = Counter()

    def count(name: str, function: Any) -> Any:
        def counting(*arguments: Any, **named: Any) -> Any:
            counted[name] += 1
            return function(*arguments, **named)

        return counting

    for name in PASSES:
        monkeypatch.setattr(arranged, name, count(name, getattr(arranged, name)))
    return counted


@pytest.mark.parametrize("name", NAMES)
def test_a_new_length_compiles_nothing(name: str, calls: Counter[str]) -> None:
    case = next(case for case in suite.CASES if case.name == name)
    compiled = patternc.compile(case.path, heads=case.kinds)
    first = compiled.plan(1000)
    assert calls == dict.fromkeys(PASSES, 1)
    assert compiled.plan(1001).n != first.n
    assert compiled.plan(1001, 1) is compiled.plan(1001, 1)
    compiled.stats(777)
    assert calls == dict.fromkeys(PASSES, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_call_of_a_new_length_compiles_nothing(name: str, calls: Counter[str]) -> None:
    case = next(case for case in suite.CASES if case.name == name)
    compiled = patternc.compile(case.path, heads=case.kinds, backend="torch")
    found = []
    for n in (100, 150):
        compiled(*(torch.randn(1, case.kinds, n, 8) for _ in range(3)))
        found.append(dict(calls))
    assert found[0] == found[1] != {}
