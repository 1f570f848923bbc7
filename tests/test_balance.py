"""Balance: every tile is in one item of work, items are heaviest first, and long rows alone are cut."""

from __future__ import annotations

import time
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patternc.analysis.arrays import NUMPY
from patternc.backends.torch_arrays import TorchArrays
from patternc.passes.balance import LEAST_PIECE, PROCESSORS, UNEVEN, balance, stages
from patternc.plan import CONSECUTIVE, FULL, Axis, Launch, Plan, Runs, TermTiles, Work
from patternc.statistics import imbalance

TILE = 4


def table(costs: np.ndarray, xp=NUMPY) -> Runs:
    """Rows of one full run of so many tiles each."""
    has = np.flatnonzero(costs)
    rows = np.concatenate([[0], np.cumsum(costs > 0)])
    first, one = np.zeros_like(has), np.ones_like(has)
    return Runs(*(xp.asarray(a) for a in (rows, first, costs[has], one * FULL, one)))


def planned(*terms: tuple[list[int], list[int]], heads=1, batch=None, xp=NUMPY) -> Plan:
    """A launch whose terms have rows of so many tiles, of queries and of keys."""
    length = TILE * max(len(side) for term in terms for side in term)
    axis = Axis(CONSECUTIVE, 0, length, TILE)
    tiles = tuple(TermTiles(i, axis, *(table(np.array(c), xp) for c in term)) for i, term in enumerate(terms))
    return Plan(length, length, heads, TILE, TILE, (Launch(tuple(range(heads)), batch, axis, tiles),))


def work(*costs: list[int], processors: int = PROCESSORS, **options) -> Work | None:
    (launch,) = balance(planned(*((c, [1]) for c in costs), **options), NUMPY, processors).launches
    return launch.by_query


def pieces(found: Work) -> dict[int, list[tuple[int, int]]]:
    """The items of each row, by start."""
    by_row: dict[int, list[tuple[int, int]]] = {}
    for row, start, stop in zip(found.row.tolist(), found.start.tolist(), found.stop.tolist(), strict=True):
        by_row.setdefault(row, []).append((start, stop))
    return {row: sorted(items) for row, items in by_row.items()}


COSTS = st.lists(st.one_of(st.integers(0, 40), st.integers(0, 3000)), min_size=1, max_size=60)


@given(st.lists(COSTS, min_size=1, max_size=3), st.integers(1, 5), st.integers(1, 140))
def test_every_tile_is_in_one_item(terms, heads, processors):
    rows = max(map(len, terms))
    terms = [costs + [0] * (rows - len(costs)) for costs in terms]
    total = np.sum(terms, axis=0)
    found = work(*terms, heads=heads, processors=processors)
    share = max(2 * LEAST_PIECE, -(-int(total.sum()) * heads // processors))
    if found is None:
        assert total.max() < share + LEAST_PIECE
        return
    assert sorted(pieces(found)) == list(range(rows))
    for row, items in pieces(found).items():
        assert [start for start, _ in items] == [0, *(stop for _, stop in items[:-1])]
        assert items[-1][1] == total[row]
        if total.max() >= share + LEAST_PIECE:
            assert (len(items) > 1) == (total[row] >= share + LEAST_PIECE), "long rows alone are cut"
        if len(items) > 1:
            assert min(stop - start for start, stop in items) >= LEAST_PIECE
            assert max(stop - start for start, stop in items) <= share
    size = (found.stop - found.start).tolist()
    assert size == sorted(size, reverse=True)


@given(COSTS, st.integers(1, 140))
def test_the_fewest_cuts(costs, processors):
    """Wrap-around makes at most one cut for every processor that long rows fill."""
    found = work(costs, processors=processors)
    share = max(2 * LEAST_PIECE, -(-sum(costs) // processors))
    if found is not None and max(costs) >= share + LEAST_PIECE:
        assert found.row.shape[0] - len(costs) <= sum(c for c in costs if c >= share + LEAST_PIECE) // share


def test_equal_rows_and_few_rows_need_no_table():
    assert work([7] * 1000) is None
    assert work(list(range(1, 20))) is None, "each row has a processor of its own"
    assert work(list(range(1, 20)), processors=4) is not None


def test_no_table_where_the_order_costs_next_to_nothing():
    costs = [*range(20), *[20] * 60_000]
    assert UNEVEN * sum(costs) >= 20 * PROCESSORS
    assert work(costs) is None
    assert work(costs[:100]) is None
    assert work(costs[:400]) is not None


@given(st.lists(st.integers(20, 40), min_size=1, max_size=60), st.integers(1, 9), st.integers(2, 140))
def test_the_last_round_is_shared(costs, heads, processors):
    """Rows are cut for it only if that saves time, and what the last round then takes is shared by all."""
    found = work(costs, heads=heads, processors=processors)
    if found is None or max(map(len, pieces(found).values())) == 1:
        return
    plan = planned((costs, [1]), heads=heads)
    before, after = imbalance(plan, NUMPY, processors), imbalance(balance(plan, NUMPY, processors), NUMPY, processors)
    share = max(2 * LEAST_PIECE, -(-sum(costs) * heads // processors))
    assert max(costs) >= share + LEAST_PIECE or after < before


def test_equal_rows_in_three_rounds():
    found = work([52] * 43, heads=8)
    assert sorted(len(items) for items in pieces(found).values()) == [1] * 33 + [3] * 10
    plan = planned(([52] * 43, [1]), heads=8)
    assert imbalance(plan, NUMPY) > 1.15
    assert imbalance(balance(plan, NUMPY), NUMPY) < 1.03


def test_equal_rows_keep_their_order():
    found = work([3, 9, 3, 9, 1] * 60, processors=20)
    assert found.row.tolist()[:4] == [1, 3, 6, 8]
    assert found.row.tolist()[-2:] == [294, 299]


def test_hub_rows_and_hub_columns_are_cut():
    light = [4] * 127
    (launch,) = balance(planned(([256, *light], [256, *light]), heads=2), NUMPY).launches
    for found in (launch.by_query, launch.by_key[0]):
        assert len(pieces(found)[0]) == 256 // (2 * LEAST_PIECE)
        assert all(len(pieces(found)[row]) == 1 for row in range(1, 128))


def test_heads_and_batch_rows_share_the_processors():
    costs = [256] * 64
    assert len(pieces(work(costs))[0]) == 3
    assert work(costs, heads=4) is None, "256 rows of equal cost"
    assert work(costs, batch=(0, 2, 5, 6)) is None


def test_terms_without_need_have_their_rows_in_order():
    plan = planned(([1] * 8, [5] * 8), ([1] * 8, [900, *[1] * 7]))
    (launch,) = balance(plan, NUMPY).launches
    assert launch.by_query is None
    calm, cut = launch.by_key
    assert calm.row.tolist() == list(range(8))
    assert calm.stop.tolist() == [5] * 8
    assert cut.row.shape[0] > 8


def test_stages_have_each_head_once():
    (launch,) = planned(([1], [1])).launches
    heads = [((0, 1), None), ((2,), (0, 1)), ((2,), (2,)), ((1, 2), None), ((0,), None), ((3,), None), ((0, 2), (1,))]
    launches = [replace(launch, heads=h, batch=b) for h, b in heads]
    assert stages(launches) == [[0, 1, 2, 5], [3, 4], [6]]


def test_launches_of_other_heads_share_the_processors():
    plan = planned(([256] * 64, [1]))
    (launch,) = plan.launches
    others = tuple(replace(launch, heads=(h,)) for h in range(4))
    assert balance(plan, NUMPY).launches[0].by_query is not None
    assert all(x.by_query is None for x in balance(replace(plan, heads=4, launches=others), NUMPY).launches)


def test_balanced_twice_and_on_another_library_is_the_same():
    costs = ([900, 3, 40, 0, 77] * 30, [5, 2000, 1] * 50)
    once = balance(planned(costs, heads=3), NUMPY)
    again = balance(once, NUMPY)
    other = balance(planned(costs, heads=3, xp=TorchArrays("cpu")), TorchArrays("cpu"))
    for plan in (again, other):
        for a, b in zip(_works(once), _works(plan), strict=True):
            for field in fields(a):
                assert getattr(a, field.name).tolist() == getattr(b, field.name).tolist()
    assert all(isinstance(w.row, torch.Tensor) for w in _works(other))


def _works(plan: Plan) -> list[Work]:
    (launch,) = plan.launches
    return [launch.by_query, *launch.by_key]


@pytest.mark.parametrize(("heads", "most"), [(1, 1.15), (16, 1.05)])
@pytest.mark.parametrize(
    "costs",
    [
        list(range(2, 258, 2)), [256, *[9] * 126, 256], [18] * 128, [1] * 8192, list(range(1, 8192, 4)),
        [*[4096] * 8, *[20] * 4088],
    ],
    ids=["causal", "hubs", "window", "even", "long causal", "hub rows"],
)  # fmt: skip
def test_processors_end_together(costs, heads, most):
    plan = balance(planned((costs, [1]), heads=heads), NUMPY)
    assert 1 <= imbalance(plan, NUMPY) <= most


def test_ten_million_tokens_take_little_time():
    rows = 10_000_000 // 128
    costs = np.minimum(np.arange(rows) + 1, 4000)
    costs[::1000] = rows * 2
    plan = planned((costs.tolist(), np.repeat(costs, 2).tolist()))
    best = min(_time(plan) for _ in range(5))
    assert best < 0.05, f"{best:.3f} s"


def _time(plan: Plan) -> float:
    start = time.process_time()
    assert balance(replace(plan), NUMPY).launches[0].by_query is not None
    return time.process_time() - start
