"""`verify`: agrees where all is well, and finds planted faults, with a cell to look at."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import patternc
from patternc.backends import torch_run
from patternc.plan import FULL, PARTIAL, Plan, Runs

WINDOW = "pattern window(w: tokens = 40) = { q -> k : 0 <= q - k < w }"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_agreement(dtype):
    report = patternc.verify(patternc.compile(WINDOW, heads=2, kv_heads=1), n=150, n_q=97, dtype=dtype)
    assert report
    assert report.backend == "torch"
    assert [c.quantity for c in report.comparisons] == ["out", "lse", "dq", "dk", "dv"]
    assert "ok" in str(report)
    assert "WRONG" not in str(report)


def test_rows_without_keys_and_run_time_tensors():
    assert patternc.verify(patternc.compile("pattern p() = { q -> k : k < q - 9 }", heads=1), n=70)
    assert patternc.verify(patternc.compile("std/documents", heads=2), n=70, batch=3)


def too_short(runs: Runs) -> Runs:
    return replace(runs, count=runs.count - (runs.count > 1).long())


def full_for_partial(runs: Runs) -> Runs:
    partial = runs.kind == PARTIAL
    return replace(runs, kind=torch.where(partial, FULL, runs.kind), weight=torch.where(partial, 1, runs.weight))


def lost_row(runs: Runs) -> Runs:
    """The last tile row has no tiles any more."""
    rows = runs.rows.clone()
    rows[-1] = rows[-2]
    kept = int(rows[-1])
    rest = {name: getattr(runs, name)[:kept] for name in ("first", "count", "kind", "weight")}
    return Runs(rows, **rest)


def wrong_weight(runs: Runs) -> Runs:
    return replace(runs, weight=runs.weight * 2)


@pytest.mark.parametrize("major", ["by_query", "by_key"])
@pytest.mark.parametrize("fault", [too_short, full_for_partial, lost_row, wrong_weight])
def test_planted_faults_are_found(fault, major, monkeypatch):
    tiled_plan = torch_run.tiled_plan

    def faulty(*args, **options) -> Plan:
        plan = tiled_plan(*args, **options)
        return replace(plan, launches=tuple(replace(x, **{major: fault(getattr(x, major))}) for x in plan.launches))

    monkeypatch.setattr(torch_run, "tiled_plan", faulty)
    report = patternc.verify(patternc.compile(WINDOW, heads=1, w=300), n=900)
    assert not report
    wrong = {c.quantity for c in report.comparisons if not c.ok}
    if major == "by_query":
        assert {"out", "lse"} <= wrong
        assert report.counterexample is not None
        assert "has weight" in report.counterexample
    else:
        assert wrong <= {"dk", "dv"}, "only the gradients of keys and values hang on the key-major tables"


def test_a_wrong_cell_is_named(monkeypatch):
    tiled_plan = torch_run.tiled_plan
    spoil = lambda launch: replace(launch, by_query=full_for_partial(launch.by_query))

    def faulty(*args, **options) -> Plan:
        plan = tiled_plan(*args, **options)
        return replace(plan, launches=tuple(map(spoil, plan.launches)))

    monkeypatch.setattr(torch_run, "tiled_plan", faulty)
    report = patternc.verify(patternc.compile("pattern p() = causal", heads=1), n=64, batch=1)
    assert "query 0, key 0" in report.counterexample or "query 0, key 1" in report.counterexample
