"""Tiles, relations and counts against brute force, cell for cell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from axes import NOBODY, axes, filled
from brute import Brute, bags, draw, sets, tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from patternc import ir
from patternc.analysis import relation, tiles
from patternc.analysis.arrays import NUMPY
from patternc.analysis.axes import axis_of
from patternc.analysis.boxes import bounds
from patternc.analysis.enclosures import interval
from patternc.analysis.evaluate import Meaning
from patternc.analysis.measure import kept_pairs, profile, row_counts
from patternc.analysis.numbers import Cells, exists, indicator, read
from patternc.analysis.periods import diagonal_period
from patternc.analysis.tables import Table
from patternc.analysis.tiles import (
    MOST_BOXES,
    Area,
    Counter,
    Tiling,
    TooMuchWorkError,
    classify,
    consecutive_area,
)
from patternc.backends.torch_arrays import TorchArrays
from patternc.plan import CONSECUTIVE, FULL, PARTIAL, Axis, Layout, Runs

LENGTHS = st.one_of(st.integers(1, 24), st.integers(1, 60))


def masks(pattern: ir.Pattern, n: int, n_q: int, h: int, seed: int) -> tuple[np.ndarray, Meaning]:
    """The multiplicities (n_q, n) of a pattern by brute force, and its meaning as the analysis has it."""
    arrays = tensors(n, seed)
    brute = Brute(n, h, arrays)
    mask = np.array([[brute.cell(pattern, q, k) for k in range(n)] for q in range(n - n_q, n)]).reshape(n_q, n)
    tables = {name: Table(NUMPY, array) for name, array in arrays.items()}
    return mask, Meaning(pattern, n=n, n_q=n_q, h=h, tables=tables, xp=NUMPY)


def tile_table(runs: Runs, rows: int, axis: Axis) -> np.ndarray:
    """(rows, tiles of the axis along the runs): 0 for a skipped tile, -1 for a partial one, M for a full one; checks
    the form of the runs."""
    table = np.zeros((rows, axis.tiles), int)
    for row in range(rows):
        end, last = 0, None
        for run in range(runs.rows[row], runs.rows[row + 1]):
            first, count, kind, weight = (int(a[run]) for a in (runs.first, runs.count, runs.kind, runs.weight))
            assert count > 0
            assert first > end or (first == end and (last != (kind, weight) or first % axis.per_lane == 0)), (
                "runs overlap or were not merged"
            )
            assert first // axis.per_lane == (first + count - 1) // axis.per_lane, "a run leaves its lane"
            assert weight == 0 if kind == PARTIAL else weight > 0
            table[row, first : first + count] = -1 if kind == PARTIAL else weight
            end, last = first + count, (kind, weight)
        assert end <= axis.tiles
    assert len(runs.rows) == rows + 1
    assert runs.rows[0] == 0
    assert runs.rows[-1] == len(runs.first)
    return table


def cells_of_tile(mask: np.ndarray, rows: list[int], columns: list[int], first: int) -> np.ndarray:
    """The multiplicities in the cells of two tokens, of a mask (n_q, n) whose queries begin at `first`."""
    return mask[np.ix_([q - first for q in rows if q != NOBODY], [k for k in columns if k != NOBODY])]


def expected_table(mask: np.ndarray, area: Area) -> np.ndarray:
    """The same, from the mask."""
    rows, columns = filled(area.queries), filled(area.keys)
    table = np.zeros((len(rows), len(columns)), int)
    for i, j in np.ndindex(*table.shape):
        values = np.unique(cells_of_tile(mask, rows[i], columns[j], area.queries.start))
        table[i, j] = 0 if len(values) == 0 else values[0] if len(values) == 1 else -1
    return table


def check_tiling(tiling: Tiling, mask: np.ndarray, area: Area) -> None:
    expected = expected_table(mask, area)
    assert np.array_equal(tile_table(tiling.by_query, area.rows, area.keys), expected)
    assert np.array_equal(tile_table(tiling.by_key, area.columns, area.queries), expected.T)


def on_the_axes(mask: np.ndarray, area: Area) -> np.ndarray:
    """The mask without the rows and columns that the axes leave out."""
    rows, columns = (np.zeros(extent, bool) for extent in mask.shape)
    rows[[q - area.queries.start for tile in filled(area.queries) for q in tile if q != NOBODY]] = True
    columns[[k for tile in filled(area.keys) for k in tile if k != NOBODY]] = True
    return mask * rows[:, None] * columns


@st.composite
def drawn_areas(draw: st.DrawFn) -> Area:
    n = draw(LENGTHS)
    n_q = draw(st.one_of(st.just(n), st.integers(1, n)))
    return Area(draw(axes(n - n_q, n)), draw(axes(0, n)))


@st.composite
def consecutive_areas(draw: st.DrawFn) -> Area:
    n = draw(LENGTHS)
    n_q = draw(st.one_of(st.just(n), st.integers(1, n)))
    tiles = draw(st.sampled_from([1, 4, 16, 128])), draw(st.sampled_from([4, 16, 128, 5]))
    return consecutive_area(n - n_q, n_q, n, *tiles)


@settings(max_examples=300)
@given(
    bags(),
    st.one_of(drawn_areas(), drawn_areas(), consecutive_areas()),
    st.integers(0, 3),
    st.integers(0, 9),
    st.sampled_from([1, 16, tiles.FEW_BOXES]),
)
def test_tiles_are_exact(pattern: ir.Pattern, area: Area, h: int, seed: int, few: int) -> None:
    with mock.patch.object(tiles, "FEW_BOXES", few):
        mask, meaning = masks(pattern, area.n, area.n_q, h, seed)
        tiling = classify(meaning, area, NUMPY)
    check_tiling(tiling, mask, area)
    held = on_the_axes(mask, area)
    keys, total = row_counts(meaning, tiling.by_query, area, NUMPY)
    assert np.array_equal(keys, (held > 0).sum(1))
    assert np.array_equal(total, held.sum(1))
    period = diagonal_period(meaning.pattern)
    assert kept_pairs(meaning, tiling.by_query, area, NUMPY, period=period) == (held > 0).sum()


@settings(max_examples=60)
@given(sets(left=1), st.integers(1, 60), st.integers(0, 9), st.data())
def test_tensors_give_the_tables_of_numpy(pattern: ir.Pattern, n: int, seed: int, data: st.DataObject) -> None:
    area, xp = Area(data.draw(axes(0, n)), data.draw(axes(0, n))), TorchArrays("cpu")
    arrays = tensors(n, seed)
    tables = {name: Table(xp, torch.from_numpy(array)) for name, array in arrays.items()}
    there = Meaning(pattern, n=n, n_q=n, h=0, tables=tables, xp=xp)
    here = Meaning(pattern, n=n, n_q=n, h=0, tables={name: Table(NUMPY, a) for name, a in arrays.items()}, xp=NUMPY)
    sides = [
        axis if axis.index is None else replace(axis, index=torch.from_numpy(axis.index))
        for axis in (area.queries, area.keys)
    ]
    found, expected = classify(there, Area(*sides), xp), classify(here, area, NUMPY)
    for major in ("by_query", "by_key"):
        for name in ("rows", "first", "count", "kind", "weight"):
            mine, theirs = (getattr(getattr(tiling, major), name) for tiling in (found, expected))
            assert np.array_equal(mine.numpy(), theirs)
            assert mine.numpy().dtype == theirs.dtype == np.int32


@settings(max_examples=120)
@given(bags(), LENGTHS, st.integers(0, 3), st.integers(0, 9), st.data())
def test_boxes_of_patterns_are_sound(pattern: ir.Pattern, n: int, h: int, seed: int, data: st.DataObject) -> None:
    mask, meaning = masks(pattern, n, n, h, seed)
    ends = st.tuples(*[st.integers(0, n - 1)] * 4)
    drawn = [
        (min(a, b), max(a, b), min(c, d), max(c, d)) for a, b, c, d in data.draw(st.lists(ends, min_size=1, max_size=5))
    ]
    q0, q1, k0, k1 = (np.array(e) for e in zip(*drawn, strict=True))
    with NUMPY.quiet():
        m = meaning(interval(NUMPY, q0, q1, 0, n - 1), interval(NUMPY, k0, k1, 0, n - 1))
    lo, hi = (np.broadcast_to(end, (len(drawn),)) for end in bounds(m))
    for i, (a, b, c, d) in enumerate(drawn):
        inside = mask[a : b + 1, c : d + 1]
        assert lo[i] <= inside.min()
        assert inside.max() <= hi[i]


@settings(max_examples=60)
@given(sets(), st.one_of(drawn_areas(), consecutive_areas()), st.integers(0, 9))
def test_profiles_bound_the_mask(pattern: ir.Pattern, area: Area, seed: int) -> None:
    mask, meaning = masks(pattern, area.n, area.n_q, 0, seed)
    result = profile(meaning, area, NUMPY)
    rows, columns = filled(area.queries), filled(area.keys)
    for i, j in np.ndindex(area.rows, area.columns):
        tile = cells_of_tile(mask, rows[i], columns[j], area.queries.start)
        assert result.possible[i, j] or not tile.any()
        assert not result.full[i, j] or tile.all()
        assert not result.exact or (result.possible[i, j], result.full[i, j]) == (tile.any(), tile.size and tile.all())
        assert 0 <= result.mean[i, j] <= 1
        assert not result.exact or tile.size == 0 or result.mean[i, j] == pytest.approx(tile.mean())


# ------------------------------------------------------------------ relations


def test_the_hash_is_that_of_the_language() -> None:
    assert relation.draw(7, 3, 100, 5) == draw(7, 3, 100, 5) == 0xC4A78487
    q, k = np.arange(90, 110)[:, None], np.arange(30)[None]
    assert relation.draw(7, 3, q, k)[10, 5] == 0xC4A78487


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 39), st.integers(1, 3), st.integers(0, 99), st.booleans())
def test_relations_answer_cells_and_boxes(
    rows: int, columns: int, first: int, size: int, seed: int, bitmap: bool
) -> None:
    rng = np.random.default_rng(seed)
    held = rng.random((rows, columns)) < rng.random()
    row, column = (xs.astype(np.int64) for xs in np.nonzero(held))
    made = relation.Relation(NUMPY, relation._points(row, column, NUMPY), first, rows, columns, size)
    wide = np.kron(held, np.ones((size, size), bool))
    q, k = np.arange(wide.shape[0])[:, None], np.arange(wide.shape[1])[None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relation, "DENSE_CELLS", relation.DENSE_CELLS if bitmap else 0)
        assert np.array_equal(made.contains(q + first * size, k), wide)
    a, b = np.sort(rng.integers(0, wide.shape[0], (2, 20)), 0)
    c, d = np.sort(rng.integers(0, wide.shape[1], (2, 20)), 0)
    some, none = made.overlaps((a + first * size, b + first * size), (c, d))
    for i in range(20):
        inside = wide[a[i] : b[i] + 1, c[i] : d[i] + 1]
        assert some[i] or not inside.any()
        assert none[i] or inside.all()


def test_aligned_boxes_of_a_relation_are_answered_exactly() -> None:
    held = np.random.default_rng(0).random((37, 50)) < 0.8
    made = relation.Relation(NUMPY, relation._points(*np.nonzero(held), NUMPY), 0, 37, 50)
    for height in (1, 2, 4, 16):
        top = np.arange(0, 37, height)
        bottom = np.minimum(top + height - 1, 36)
        some, none = made.overlaps((top, bottom), (np.full(len(top), 7), np.full(len(top), 8)))
        for i, (a, b) in enumerate(zip(top, bottom, strict=True)):
            assert some[i] == held[a : b + 1, 7:9].any(axis=1).any()
            assert none[i] == (not held[a : b + 1, 7:9].all())


# ------------------------------------------------------------------ cost


def window(q: Any, k: Any) -> Any:
    return indicator((q - k >= 0) & (q - k < 1024))


def longnet(q: Any, k: Any) -> Any:
    branches = [(2048, 1), (4096, 2), (8192, 4)]
    m: Any = 0
    for w, r in branches:
        m = m + indicator((q // w == k // w) & (q % w % r == 0) & (k % w % r == 0))
    return m * indicator(k <= q)


PREDICATES = {
    "window": window,
    "causal": lambda q, k: indicator(k <= q),
    "full": lambda q, k: indicator(k >= 0),
    "dilated": lambda q, k: indicator(((q - k) % 16 == 0) & (abs(q - k) <= 4096)),
    "hubs": lambda q, k: indicator((abs(q - k) <= 256) | (q < 128) | (k < 128)),
    "butterfly": lambda q, k: indicator((q // 64 == k // 64) | exists(0, 10, lambda i: (q // 64) ^ (k // 64) == 2**i)),
    "longnet": longnet,
}
PERIODS = {"window": 1, "hubs": None, "dilated": 1, "longnet": 8192}
"""Of predicates, along the diagonal."""


@pytest.mark.parametrize("name", PREDICATES)
def test_evaluations_are_bounded_by_the_tiles_kept(name: str) -> None:
    counter = Counter()
    area = consecutive_area(0, 65536, 65536, 128, 128)
    tiling = classify(PREDICATES[name], area, NUMPY, counter)
    runs = tiling.by_query
    partial = int(runs.count[runs.kind == PARTIAL].sum())
    pieces = partial + int((runs.kind == FULL).sum()) + area.rows
    assert counter.boxes <= 8 * pieces
    assert counter.cells <= 1.1 * 128 * 128 * pieces
    assert counter.cells <= 0.1 * 128 * 128 * partial or name == "butterfly"


@pytest.mark.parametrize("tile", [(128, 64), (64, 64)])
def test_the_right_layout_decides_what_consecutive_tiles_cannot(tile: tuple[int, int]) -> None:
    """Dilation 16 within 4096: as many tiles as a window of 512 has on one of 16 lanes, most of them full."""
    counter, layout = Counter(), Layout(16)
    area = Area(Axis(layout, 0, 65536, tile[0]), Axis(layout, 0, 65536, tile[1]))
    runs = classify(PREDICATES["dilated"], area, NUMPY, counter).by_query
    computed = int(runs.count.sum()) * tile[0] * tile[1]
    assert computed < 1.25 * 65536 * 513
    assert int(runs.count[runs.kind == FULL].sum()) > 0.5 * int(runs.count.sum())
    assert counter.boxes <= 8 * (len(runs.first) + area.rows)


def test_lines_of_wide_tiles_are_enclosed_before_cells_are_looked_at() -> None:
    counter, n = Counter(), 32768
    area = Area(Axis(Layout(128, 64), 0, n, 128), Axis(CONSECUTIVE, 0, n, 64))
    distance = lambda q, k: abs(q // 64 - k // 64)
    blocks = lambda q, k: indicator((distance(q, k) <= 2) | (distance(q, k) == 4))
    runs = classify(blocks, area, NUMPY, counter).by_query
    assert counter.cells == 0
    assert counter.boxes <= 8 * int(runs.count.sum())


def test_few_cells_tell_a_partial_tile_of_a_long_period() -> None:
    counter, area = Counter(), consecutive_area(0, 8192, 8192, 128, 64)
    sparse = lambda q, k: indicator((q % 12 == 1) & (k % 12 == 1))
    runs = classify(sparse, area, NUMPY, counter).by_query
    assert int(runs.count.sum()) == 64 * 128
    assert counter.cells <= 400 * 64 * 128


@pytest.mark.parametrize("tile", [(128, 64), (64, 128), (48, 80)])
@pytest.mark.parametrize("name", ["window", "hubs", "dilated", "longnet"])
def test_pairs_are_counted_by_parts_of_tiles(name: str, tile: tuple[int, int]) -> None:
    n = 2500
    q, k = np.arange(n)[:, None], np.arange(n)[None]
    expected = (PREDICATES[name](Cells(q, True, NUMPY), Cells(k, True, NUMPY)).value > 0).sum()
    for layout in (CONSECUTIVE, Layout(16), Layout(100, 16), Layout(12, 2)):
        area = Area(axis_of(layout, 0, n, tile[0], None, NUMPY), axis_of(layout, 0, n, tile[1], None, NUMPY))
        by_query = classify(PREDICATES[name], area, NUMPY).by_query
        assert kept_pairs(PREDICATES[name], by_query, area, NUMPY) == expected
        assert kept_pairs(PREDICATES[name], by_query, area, NUMPY, period=PERIODS[name]) == expected


def test_a_counter_with_a_limit_stops_the_work() -> None:
    area, counter = consecutive_area(0, 65536, 65536, 128, 128), Counter(limit=1_000_000)
    strided = lambda q, k: indicator((q - k) % 4 == 0)
    with pytest.raises(TooMuchWorkError):
        row_counts(strided, classify(strided, area, NUMPY, counter).by_query, area, NUMPY, counter)
    assert counter.boxes + counter.cells < 1_000_000 + MOST_BOXES + NUMPY.chunk


def test_cells_of_ragged_and_late_queries_are_exact_at_length() -> None:
    n, n_q = 3001, 777
    q, k = np.arange(n - n_q, n)[:, None], np.arange(n)[None]
    for name in ("window", "dilated", "hubs", "butterfly", "longnet"):
        mask = PREDICATES[name](Cells(q, True, NUMPY), Cells(k, True, NUMPY)).value
        for tile in (64, 128):
            area = consecutive_area(n - n_q, n_q, n, tile, tile)
            check_tiling(classify(PREDICATES[name], area, NUMPY), mask, area)


# ------------------------------------------------------------------ selection at length


def dense(made: relation.Relation, n: int) -> np.ndarray:
    return made.contains(np.arange(made.first, n)[:, None], np.arange(n)[None])


@pytest.mark.parametrize("n", [1, 63, 300, 700])
@pytest.mark.parametrize("count", [0, 1, 3, 40, 0.01, 0.5, 0.97])
@pytest.mark.parametrize("at_once", [1 << 12, 1 << 20])
def test_selections_of_many_keys(n: int, count: float, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relation, "SELECTED_AT_ONCE", at_once)
    rng = np.random.default_rng(n)
    score = np.round(rng.normal(size=(n, n)) * 3, 1)  # with ties
    score[rng.random((n, n)) < 0.05] = np.nan
    table, first = Table(NUMPY, score), n // 3
    within = lambda q, k: indicator((k <= q) & (q - k < 150) | (q % 50 == 7))
    made = relation.top_relation(within, lambda q, k: read(table, q, k), count=count, first=first, n=n, xp=NUMPY)
    expected = np.zeros((n - first, n), bool)
    for row, q in enumerate(range(first, n)):
        keys = [k for k in range(n) if (0 <= q - k < 150 or q % 50 == 7) and score[q, k] == score[q, k]]
        ranked = sorted(keys, key=lambda k: (-score[q, k], k))
        mass = np.cumsum(np.exp(score[q, ranked] - max(score[q, ranked], default=0)))
        taken = count if isinstance(count, int) else int(np.searchsorted(mass, count * mass[-1])) + 1 if keys else 0
        expected[row, ranked[:taken]] = True
    assert np.array_equal(dense(made, n), expected)


def test_samples_of_many_keys() -> None:
    n, first = 500, 100
    made = relation.sample_relation(lambda q, k: indicator(k != q), count=5, seed=3, h=2, first=first, n=n, xp=NUMPY)
    expected = np.zeros((n - first, n), bool)
    for q in range(first, n):
        keys = sorted((k for k in range(n) if k != q), key=lambda k: -draw(3, 2, q, k))
        expected[q - first, keys[:5]] = True
    assert np.array_equal(dense(made, n), expected)
