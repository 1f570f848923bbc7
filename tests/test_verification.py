"""`verify`: agrees where all is well, and finds planted faults, with a cell to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch

import patternc
from patternc.backends import torch_run
from patternc.plan import FULL, PARTIAL, Axis, Plan, Runs, TermTiles

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


def too_short(runs: Runs, rows: Axis, along: Axis) -> Runs:
    return replace(runs, count=runs.count - (runs.count > 1).int())


def too_long(runs: Runs, rows: Axis, along: Axis) -> Runs:
    """Full runs have one tile more of their lane, the next one or the one before."""
    full = runs.kind == FULL
    after = full & ((runs.first + runs.count) % along.per_lane != 0)
    before = full & ~after & (runs.first % along.per_lane != 0)
    assert (after | before).any()
    return replace(runs, first=runs.first - before.int(), count=runs.count + (after | before).int())


def full_for_partial(runs: Runs, rows: Axis, along: Axis) -> Runs:
    partial = runs.kind == PARTIAL
    return replace(runs, kind=torch.where(partial, FULL, runs.kind), weight=torch.where(partial, 1, runs.weight))


def lost_row(runs: Runs, rows: Axis, along: Axis) -> Runs:
    """The last tile row has no tiles any more."""
    return without(runs, torch.arange(rows.tiles) == rows.tiles - 1)


def lost_lane(runs: Runs, rows: Axis, along: Axis) -> Runs:
    """The tile rows of the second lane have no tiles any more."""
    return without(runs, torch.arange(rows.tiles) // rows.per_lane == 1)


def without(runs: Runs, lost: torch.Tensor) -> Runs:
    """The runs of the other rows."""
    counts = runs.rows[1:] - runs.rows[:-1]
    kept = ~torch.repeat_interleave(lost, counts)
    starts = torch.cat([torch.zeros(1), torch.where(lost, 0, counts).cumsum(0)]).to(runs.rows.dtype)
    return Runs(starts, **{name: getattr(runs, name)[kept] for name in ("first", "count", "kind", "weight")})


def wrong_weight(runs: Runs, rows: Axis, along: Axis) -> Runs:
    return replace(runs, weight=runs.weight * 2)


Fault = Callable[[Runs, Axis, Axis], Runs]
"""Tables, the axis of their rows, and the one that runs walk along."""


def spoilt(plan: Plan, fault: Fault, major: str, number: int = 0) -> Plan:
    """The plan with a fault in the tables of one of its launches."""
    launch = plan.launches[number]

    def spoil(term: TermTiles) -> TermTiles:
        axes = (launch.queries, term.keys) if major == "by_query" else (term.keys, launch.queries)
        return replace(term, **{major: fault(getattr(term, major), *axes)})

    launches = list(plan.launches)
    launches[number] = replace(launch, terms=tuple(map(spoil, launch.terms)))
    return replace(plan, launches=tuple(launches))


@pytest.fixture
def plant(monkeypatch) -> Callable[..., None]:
    """`plant(fault, major, launch)`: the torch backend makes its plans with the fault from now on."""
    tiled_plan = torch_run.tiled_plan

    def planted(*fault: Any) -> None:
        monkeypatch.setattr(torch_run, "tiled_plan", lambda *args: spoilt(tiled_plan(*args), *fault))

    return planted


def judge(report: patternc.Report, major: str) -> None:
    """The report must name what is wrong, and a cell if weights are."""
    assert not report
    wrong = {c.quantity for c in report.comparisons if not c.ok}
    if major == "by_query":
        assert {"out", "lse"} <= wrong
        assert report.counterexample is not None
        assert "has weight" in report.counterexample
    else:
        assert wrong.isdisjoint({"out", "lse"}), "only gradients hang on the key-major tables"


@pytest.mark.parametrize("major", ["by_query", "by_key"])
@pytest.mark.parametrize("fault", [too_short, too_long, full_for_partial, lost_row, wrong_weight])
def test_planted_faults_are_found(fault, major, plant):
    plant(fault, major)
    judge(patternc.verify(patternc.compile(WINDOW, heads=1, w=300), n=900), major)


LAYOUTS = {
    "stride": ("() = { q -> k : (q - k) % 4 == 0 and abs(q - k) <= 700 }", 0, 4),
    "grid": ("() over (y: 24, x: 64) = { q -> k : abs(q.y - k.y) <= 16 and abs(q.x - k.x) <= 18 }", 0, 64),
    "second launch": ("() = causal & { q -> k : q - k < 64 or (q - k) % 8 == 0 }", 1, 8),
}
"""Patterns, a launch to spoil, and the stride of its queries."""
LENGTH = 1536


@pytest.fixture
def layouts_at_every_length(monkeypatch):
    monkeypatch.setattr(import_module("patternc.passes.tiles"), "SHORT", 0)


@pytest.mark.usefixtures("layouts_at_every_length")
@pytest.mark.parametrize("major", ["by_query", "by_key"])
@pytest.mark.parametrize("fault", [too_short, too_long, full_for_partial, lost_row, lost_lane])
@pytest.mark.parametrize("name", LAYOUTS)
def test_planted_faults_are_found_under_layouts(name, fault, major, plant):
    text, number, stride = LAYOUTS[name]
    attention = patternc.compile(f"pattern p{text}", heads=1)
    assert attention.plan(LENGTH).launches[number].queries.layout.stride == stride
    plant(fault, major, number)
    judge(patternc.verify(attention, n=LENGTH, batch=1, head_dim=16), major)


@pytest.mark.usefixtures("layouts_at_every_length")
@pytest.mark.parametrize("name", LAYOUTS)
def test_agreement_under_layouts(name):
    attention = patternc.compile(f"pattern p{LAYOUTS[name][0]}", heads=2, kv_heads=1)
    for n_q in (LENGTH, 130):
        report = patternc.verify(attention, n=LENGTH, n_q=n_q, batch=1, head_dim=16, dtype=torch.float64)
        assert report, str(report)


def test_a_wrong_cell_is_named(plant):
    plant(full_for_partial, "by_query")
    report = patternc.verify(patternc.compile("pattern p() = causal", heads=1), n=64, batch=1)
    assert "query 0, key 0" in report.counterexample or "query 0, key 1" in report.counterexample
