"""Classes of rows: they say of every row what the table says, and do not grow with the length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from axes import axes
from hypothesis import given, settings
from hypothesis import strategies as st

from patternc.analysis.arrays import NUMPY
from patternc.analysis.numbers import indicator
from patternc.analysis.tiles import Area, classify, consecutive_area
from patternc.passes.row_classes import RowClass, classes_of, row_classes
from patternc.plan import Axis, Launch, Layout, Runs, TermTiles

PREDICATES = [
    lambda q, k: indicator((q - k >= 0) & (q - k < 9)),
    lambda q, k: indicator(k <= q),
    lambda q, k: indicator((k < 5) | (q // 8 == k // 8)),
    lambda q, k: indicator(k >= 0) + indicator(q % 5 == 0),
]


def said_of(found: tuple[RowClass, ...]) -> list[list[tuple[int, ...]]]:
    """For the first row of each class and those `every` rows further down: the runs. None for other rows."""
    rows: list[Any] = []
    for own in found:
        assert own.first == len(rows)
        for i in range(own.count):
            turns, rest = divmod(i, own.every)
            moved = [
                (r.first + turns * r.first_step, r.count + turns * r.count_step, r.kind, r.weight) for r in own.runs
            ]
            rows.append(moved if rest == 0 else None)
    return rows


def table(runs: Runs) -> list[list[tuple[int, ...]]]:
    each = list(zip(*(a.tolist() for a in (runs.first, runs.count, runs.kind, runs.weight)), strict=True))
    return [each[a:b] for a, b in zip(runs.rows, runs.rows[1:], strict=False)]


@settings(max_examples=100)
@given(st.sampled_from(PREDICATES), st.integers(1, 60), st.data())
def test_classes_say_what_the_table_says(predicate: Any, n: int, data: st.DataObject) -> None:
    n_q = data.draw(st.integers(1, n))
    area = Area(data.draw(axes(n - n_q, n)), data.draw(axes(0, n)))
    tiling = classify(predicate, area, NUMPY)
    for runs, rows, columns in (
        (tiling.by_query, area.queries, area.keys),
        (tiling.by_key, area.keys, area.queries),
    ):
        expected = table(runs)
        said = said_of(row_classes(runs, rows, columns, NUMPY))
        assert len(said) == len(expected)
        assert all(row is None or row == other for row, other in zip(said, expected, strict=True))


@pytest.mark.parametrize("tile", [(128, 64), (64, 64), (64, 128)])
@pytest.mark.parametrize("n", [1 << 14, 1 << 17])
def test_a_window_has_one_class_inside(n: int, tile: tuple[int, int]) -> None:
    area = consecutive_area(0, n, n, *tile)
    tiling = classify(lambda q, k: indicator((q - k >= 0) & (q - k < 1024)), area, NUMPY)
    for runs, rows, columns in ((tiling.by_query, area.queries, area.keys), (tiling.by_key, area.keys, area.queries)):
        found = row_classes(runs, rows, columns, NUMPY)
        assert len(found) <= 4
        assert max(own.count for own in found) > 0.9 * rows.tiles


def test_every_lane_of_a_dilation_has_its_classes() -> None:
    n, layout = 1 << 16, Layout(16)
    area = Area(Axis(layout, 0, n, 128), Axis(layout, 0, n, 64))
    dilated = lambda q, k: indicator(((q - k) % 16 == 0) & (abs(q - k) <= 4096))
    found = row_classes(classify(dilated, area, NUMPY).by_query, area.queries, area.keys, NUMPY)
    assert len(found) <= 16 * 5
    assert np.sum([own.count for own in found]) == area.rows


def test_classes_of_a_launch_end_where_those_of_a_term_do() -> None:
    area = consecutive_area(0, 2048, 2048, 128, 64)
    near = lambda q, k: indicator((q - k >= 0) & (q - k < 512))
    first = lambda q, k: indicator((k < 64) & (q >= 640))
    tilings = [classify(predicate, area, NUMPY) for predicate in (near, first)]
    terms = tuple(TermTiles(i, area.keys, t.by_query, t.by_key) for i, t in enumerate(tilings))
    assert classes_of(Launch((0,), None, area.queries, terms[:1]), NUMPY) == [1, 3, 12]
    assert classes_of(Launch((0,), None, area.queries, terms), NUMPY) == [1, 3, 1, 11]
