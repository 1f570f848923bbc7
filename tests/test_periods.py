"""Periods along the diagonal, against brute force, and counts that look at one of the tiles that they make equal."""

from __future__ import annotations

import numpy as np
import pytest
from axes import axes
from brute import Brute, bags, tensors
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import patternc
from patternc import ir
from patternc.analysis import measure
from patternc.analysis.arrays import NUMPY
from patternc.analysis.axes import axis_of, consecutive_axis
from patternc.analysis.binding import binding
from patternc.analysis.evaluate import Meaning
from patternc.analysis.measure import kept_pairs
from patternc.analysis.periods import diagonal_period
from patternc.analysis.tiles import Area, classify
from patternc.plan import LISTED, PARTIAL, Layout

MOST_MOVE = 24


def bound(condition: str, n: int = 100) -> ir.Pattern:
    """The pattern of a set builder's condition, at a length."""
    compiled = patternc.compile(f"pattern p() = {{ q -> k : {condition} }}", heads=1)
    return binding(compiled.arrangement()).at(n).classes[0].pattern


@pytest.mark.parametrize(
    ("condition", "period"),
    [
        ("0 <= q - k < 10", 1),
        ("q // 12 == k // 12", 12),
        ("q // 12 == k // 12 and (q % 12) % 8 == (k % 12) % 8", 12),
        ("(q - k) % 6 == 0 and abs(q - k) < 100", 1),
        ("(q + k) % 6 == 0", 3),
        ("q % 8 == 3", 8),
        ("2 * q // 6 == 2 * k // 6", 3),
        ("q // 4 % 3 == k // 4 % 3", 12),
        ("max(q, k) - min(q, k) < 9", 1),
        ("q // 4 <= k", None),
        ("q >= 5", None),
        ("q // 4 * 4 == k // 4 * 4 + 4", 4),
        ("q ** 2 == k ** 2", None),
    ],
)
def test_periods(condition: str, period: int | None) -> None:
    assert diagonal_period(bound(condition)) == period


def test_covers_and_selections_have_none() -> None:
    window = ir.Where(ir.Compare("<", ir.Binary("-", ir.Var("q"), ir.Var("k")), ir.Const(4)))
    assert diagonal_period(ir.Blocks(ir.Const(8), window)) == 8
    assert diagonal_period(ir.Cover(ir.Const(8), window)) is None
    assert diagonal_period(ir.Sample(ir.Const(2), window, ir.Const(0))) is None


@settings(max_examples=40)
@given(bags(left=2), st.integers(0, 9))
def test_a_move_by_the_period_changes_no_cell(pattern: ir.Pattern, seed: int) -> None:
    period = diagonal_period(pattern)
    assume(period is not None and period <= MOST_MOVE)
    assert period is not None
    n = MOST_MOVE + 12
    brute = Brute(n, 0, tensors(n, seed))
    for q in range(0, n - period, 5):
        for k in range(n - period):
            assert brute.cell(pattern, q, k) == brute.cell(pattern, q + period, k + period), (q, k)


def longnet(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Segments of 16, 32 and 64 tokens, of which every first, second and fourth is kept."""
    parts = [(q // w == k // w) & (q % w % r == 0) & (k % w % r == 0) for w, r in ((16, 1), (32, 2), (64, 4))]
    return (k <= q) & np.any(parts, axis=0)


LONGNET = "k <= q and (q // 16 == k // 16 or q // 32 == k // 32 and q % 32 % 2 == 0 and k % 32 % 2 == 0 or \
q // 64 == k // 64 and q % 64 % 4 == 0 and k % 64 % 4 == 0)"


@settings(max_examples=30)
@given(st.integers(1, 400), st.data())
def test_pairs_of_equal_tiles_are_counted_once(n: int, data: st.DataObject) -> None:
    n_q = data.draw(st.one_of(st.just(n), st.integers(1, n)))
    area = Area(data.draw(axes(n - n_q, n)), data.draw(axes(0, n)))
    meaning = Meaning(bound(LONGNET, n), n=n, n_q=n_q, h=0, tables={}, xp=NUMPY)
    by_query = classify(meaning, area, NUMPY).by_query
    found = kept_pairs(meaning, by_query, area, NUMPY, period=diagonal_period(meaning.pattern))
    assert found == kept_pairs(meaning, by_query, area, NUMPY)
    if LISTED not in (area.queries.layout, area.keys.layout):
        assert found == longnet(np.arange(n - n_q, n)[:, None], np.arange(n)[None]).sum()


@pytest.mark.parametrize("layout", [Layout(), Layout(4, 1), Layout(64, 4)])
def test_few_of_many_equal_tiles_are_looked_at(layout: Layout) -> None:
    n = 1 << 16
    meaning = Meaning(bound(LONGNET, n), n=n, n_q=n, h=0, tables={}, xp=NUMPY)
    area = Area(axis_of(layout, 0, n, 16, None, NUMPY), consecutive_axis(0, n, 16))
    by_query = classify(meaning, area, NUMPY).by_query
    row, column = measure._partial_tiles(by_query, NUMPY)
    kinds = measure._distinct(area, row, column, 64, NUMPY)[0]
    assert int(by_query.count[by_query.kind == PARTIAL].sum()) == row.shape[0] > 100 * kinds.shape[0]
