"""Plans of whole programs: classes of heads, batch rows, and every launch against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from brute import TENSORS, Brute, bags, tensors
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_tiles import expected_table, tile_table

from patternc import ir
from patternc.analysis.arrays import NUMPY
from patternc.analysis.planner import Meanings, plan
from patternc.errors import SpatError
from patternc.plan import Launch, Plan

Q, K, H, N = ir.Var("q"), ir.Var("k"), ir.Var("h"), ir.Var("n")
CAUSAL = ir.Where(ir.Compare("<=", K, Q))
BATCH = 2


def within(width: ir.Scalar) -> ir.Where:
    return ir.Where(ir.Compare("<=", ir.Unary("abs", ir.Binary("-", Q, K)), width))


def program(pattern: ir.Pattern, batched: bool = True) -> ir.Program:
    dims = {"mask": (N, N), "table": (ir.Const(3), N)}
    declared = tuple(ir.Tensor(name, kind, dims.get(name, (N,)), batched) for name, kind in TENSORS.items())
    return ir.Program("drawn", pattern, declared)


def batch(n: int, seed: int) -> dict[str, np.ndarray]:
    rows = [tensors(n, seed + b) for b in range(BATCH)]
    return {name: np.stack([row[name] for row in rows]) for name in TENSORS}


def launch_of(made: Plan, h: int, b: int) -> Launch:
    """The one launch that a head follows in a batch row."""
    found = [x for x in made.launches if h in x.heads and (x.batch is None or b in x.batch)]
    assert len(found) == 1
    return found[0]


@settings(max_examples=40)
@given(bags(left=2), bags(left=2), st.integers(1, 30), st.data())
def test_every_head_and_batch_row_follows_its_pattern(
    a: ir.Pattern, b: ir.Pattern, n: int, data: st.DataObject
) -> None:
    n_q, tile = data.draw(st.integers(1, n)), data.draw(st.sampled_from([4, 16, 128]))
    even = ir.Compare("==", ir.Binary("%", H, ir.Const(2)), ir.Const(0))
    pattern = ir.Product((ir.Choose(even, a, b), within(ir.Binary("*", ir.Const(9), ir.Binary("//", H, ir.Const(2))))))
    arrays = batch(n, data.draw(st.integers(0, 5)))
    try:
        made = plan(program(pattern), heads=4, n=n, n_q=n_q, tensors=arrays, xp=NUMPY, tile_q=tile, tile_k=tile)
    except SpatError:
        assume(False)
    for h in range(4):
        for row in range(BATCH):
            brute = Brute(n, h, {name: array[row] for name, array in arrays.items()})
            mask = np.array([[brute.cell(pattern, q, k) for k in range(n)] for q in range(n - n_q, n)])
            launch, expected = launch_of(made, h, row), expected_table(mask, tile, tile)
            assert np.array_equal(tile_table(launch.by_query, tile, expected.shape[1]), expected)
            assert np.array_equal(tile_table(launch.by_key, tile, expected.shape[0]), expected.T)


def launches(
    pattern: ir.Pattern, heads: int, arrays: dict[str, np.ndarray] | None = None
) -> list[tuple[object, object]]:
    made = plan(
        ir.Program("p", pattern) if arrays is None else program(pattern),
        heads=heads,
        n=40,
        tensors=arrays or {},
        xp=NUMPY,
        tile_q=4,
        tile_k=4,
    )
    return [(x.heads, x.batch) for x in made.launches]


def test_heads_with_equal_patterns_share_a_launch() -> None:
    assert launches(CAUSAL, 8) == [(tuple(range(8)), None)]
    dilation = ir.Pick(H, tuple(ir.Const(d) for d in (3, 3, 9, 3)))
    assert launches(within(dilation), 4) == [((0, 1, 3), None), ((2,), None)]
    parity = ir.Compare("==", ir.Binary("%", H, ir.Const(2)), ir.Const(0))
    assert launches(ir.Choose(parity, CAUSAL, within(ir.Const(3))), 4) == [((0, 2), None), ((1, 3), None)]


def test_heads_with_other_patterns_but_equal_tiles_share_a_launch() -> None:
    assert launches(within(ir.Binary("+", ir.Binary("min", H, ir.Const(1)), ir.Const(1))), 4) == [((0, 1, 2, 3), None)]


def test_samples_differ_from_head_to_head() -> None:
    pattern = ir.Blocks(ir.Const(4), ir.Sample(ir.Const(2), ir.Where(ir.Const(True)), ir.Const(0)))
    assert launches(pattern, 3) == [((0,), None), ((1,), None), ((2,), None)]
    assert launches(ir.Choose(ir.Compare("<", H, ir.Const(2)), CAUSAL, pattern), 3) == [((0, 1), None), ((2,), None)]


def test_batch_rows_with_equal_tiles_share_a_launch() -> None:
    ids = ir.Where(ir.Compare("==", ir.Read("ids", (Q,)), ir.Read("ids", (K,))))
    arrays = batch(40, 0)
    arrays["ids"] = np.repeat([[0, 1], [0, 2]], 20, axis=1)
    assert launches(ids, 2, arrays) == [((0, 1), None)]
    arrays["ids"] = np.stack([np.arange(40) // 8, np.arange(40) // 20])
    assert launches(ids, 2, arrays) == [((0, 1), (0,)), ((0, 1), (1,))]
    only_one = ir.Choose(ir.Compare("==", H, ir.Const(0)), ids, CAUSAL)
    assert launches(only_one, 2, arrays) == [((0,), (0,)), ((0,), (1,)), ((1,), None)]


def test_a_meaning_is_made_once_for_its_class() -> None:
    meanings = Meanings(ir.Program("p", CAUSAL), heads=4, n=16, tensors={}, xp=NUMPY)
    assert meanings.of(0) is meanings.of(3, 1)
    assert meanings.rows_of(0) is None


def test_a_length_that_does_not_fill_the_grid_is_an_error() -> None:
    grid = ir.Program("p", CAUSAL, (), (ir.Grid((ir.Const(4), ir.Const(5))),))
    with pytest.raises(SpatError, match="4 \\* 5"):
        plan(grid, heads=1, n=21, tensors={}, xp=NUMPY)
    assert plan(grid, heads=1, n=20, tensors={}, xp=NUMPY).n_q == 20
