"""Figures of plans: balance against a simulation, table sizes."""

from __future__ import annotations

import heapq
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import patternc
from patternc.analysis.meanings import Meanings
from patternc.analysis.planner import plan_of
from patternc.backends.torch_arrays import TorchArrays
from patternc.statistics import makespan, plan_bytes, statistics


def simulated(classes: list[tuple[int, int]], processors: int) -> int:
    """Item by item."""
    loads = [0] * processors
    for cost, count in classes:
        for _ in range(count):
            heapq.heapreplace(loads, loads[0] + cost)
    return max(loads)


CLASSES = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 200)), min_size=1, max_size=8)


@given(CLASSES, st.integers(1, 12))
def test_makespan_is_that_of_dealing_item_by_item(classes, processors):
    assert makespan(classes, processors) == simulated(classes, processors)


@pytest.mark.parametrize("name", ["std/strided", "std/bigbird", "std/longnet"])
def test_tensors_give_the_figures_of_arrays(name):
    attention = patternc.compile(name, heads=4)
    xp = TorchArrays("cpu")
    meanings = Meanings(attention.arrangement(), n=3000, tensors={}, xp=xp)
    assert statistics(plan_of(meanings), meanings, xp) == attention.stats(3000)


def test_the_size_of_a_plan_counts_shared_tables_once():
    plan = patternc.compile("std/strided", heads=2).plan(3000)
    twice = replace(plan, launches=(*plan.launches, *plan.launches))
    assert plan_bytes(twice) == plan_bytes(plan) > 0


def test_a_million_tokens_have_small_tables():
    for name in ("std/local", "std/strided", "std/global_local"):
        assert plan_bytes(patternc.compile(name, heads=16).plan(1_000_000)) < 4 << 20
