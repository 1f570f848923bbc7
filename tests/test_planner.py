"""Plans of whole programs: classes of heads, batch rows, and every launch against brute force."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from brute import TENSORS, Brute, bags, tensors
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_tiles import expected_table, tile_table

import patternc
from patternc import ir
from patternc.analysis.arrays import NUMPY
from patternc.analysis.binding import binding
from patternc.analysis.planner import Meanings, plan, plan_of, trivial
from patternc.analysis.tiles import Area, classify
from patternc.arrangement import Arrangement, HeadClass, Term
from patternc.errors import SpatError
from patternc.plan import CONSECUTIVE, LISTED, PARTIAL, Launch, Layout, Plan, TermTiles

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


def launch_of(made: Plan, h: int, b: int) -> Launch | None:
    """The one launch that a head follows in a batch row, if its pattern keeps anything."""
    found = [x for x in made.launches if h in x.heads and (x.batch is None or b in x.batch)]
    assert len(found) <= 1
    return found[0] if found else None


def check_term(launch: Launch, term: TermTiles, mask: np.ndarray) -> None:
    """The tiles of a term against its mask (n_q, n)."""
    area = Area(launch.queries, term.keys)
    expected = expected_table(mask, area)
    assert np.array_equal(tile_table(term.by_query, area.rows, area.keys), expected)
    assert np.array_equal(tile_table(term.by_key, area.columns, area.queries), expected.T)


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
            launch = launch_of(made, h, row)
            assert (launch is not None) == mask.any()
            if launch is not None:
                (term,) = launch.terms
                check_term(launch, term, mask)


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
    meanings = Meanings(trivial(ir.Program("p", CAUSAL), 4), n=16, tensors={}, xp=NUMPY)
    assert meanings.of(0) is meanings.of(3, 1) is meanings.term(2, 0, 0)
    assert meanings.rows_of(0) is None


def test_a_length_that_does_not_fill_the_grid_is_an_error() -> None:
    grid = ir.Program("p", CAUSAL, (), (ir.Grid((ir.Const(4), ir.Const(5))),))
    with pytest.raises(SpatError, match="4 \\* 5"):
        plan(grid, heads=1, n=21, tensors={}, xp=NUMPY)
    assert plan(grid, heads=1, n=20, tensors={}, xp=NUMPY).n_q == 20


# ------------------------------------------------------------------ terms


FLAGGED = ir.Where(ir.Read("flags", (K,)))
FLAGS = (ir.Tensor("flags", "bool", (N,), True),)


def arranged(*classes: HeadClass, declared: tuple[ir.Tensor, ...] = ()) -> Arrangement:
    heads = sum(len(own.heads) for own in classes)
    return Arrangement(ir.Program("p", ir.Union(tuple(own.pattern for own in classes)), declared), heads, classes)


def listing() -> Arrangement:
    """Keys that are flagged, in a list, and a window among the others."""
    rest = ir.Product((within(ir.Const(2)), ir.Complement(FLAGGED)))
    terms = Term(CAUSAL, keys=LISTED, listed_keys=FLAGGED), Term(rest)
    pattern = ir.Union((ir.Product((CAUSAL, FLAGGED)), rest))
    return arranged(HeadClass((0, 1), pattern, terms), declared=FLAGS)


def test_classes_with_equal_terms_at_the_length_are_one() -> None:
    half = lambda x: ir.Binary("//", N, ir.Const(x))
    one, other = within(half(4)), within(ir.Const(10))
    arrangement = arranged(HeadClass((0, 2), one, (Term(one),)), HeadClass((1,), other, (Term(other),)))
    assert Meanings(arrangement, n=40, tensors={}, xp=NUMPY).classes == [(0, 1, 2)]
    assert Meanings(arrangement, n=80, tensors={}, xp=NUMPY).classes == [(0, 2), (1,)]
    strided = arranged(HeadClass((0,), other, (Term(other),)), HeadClass((1,), other, (Term(other, Layout(4)),)))
    assert Meanings(strided, n=40, tensors={}, xp=NUMPY).classes == [(0,), (1,)]


def test_lists_are_the_positions_of_each_batch_row() -> None:
    flags = np.zeros((2, 40), bool)
    flags[0, [3, 17]] = flags[1, 39] = True
    meanings = Meanings(listing(), n=40, n_q=8, tensors={"flags": flags}, xp=NUMPY)
    assert meanings.rows_of(1) == 2
    assert meanings.terms(0) == ((CONSECUTIVE, LISTED), (CONSECUTIVE, CONSECUTIVE))
    assert [meanings.listed(0, b, 0)[1].tolist() for b in range(2)] == [[3, 17], [39]]
    assert meanings.listed(0, 0, 0)[0] is None
    assert meanings.listed(0, 0, 1) == (None, None)
    made = plan_of(meanings, 4, 4)
    assert [(x.batch, [term.term for term in x.terms]) for x in made.launches] == [((0,), [0, 1]), ((1,), [0, 1])]
    assert [x.terms[0].keys.index.tolist() for x in made.launches] == [[3, 17, 40, 40], [39, 40, 40, 40]]


def test_lists_without_their_tensors_are_conditions() -> None:
    meanings = Meanings(listing(), n=40, tensors={}, xp=NUMPY)
    assert meanings.terms(0) == ((CONSECUTIVE, CONSECUTIVE),) * 2
    (launch,) = plan_of(meanings, 4, 4).launches
    every, near = launch.terms
    assert set(every.by_query.kind.tolist()) == set(near.by_query.kind.tolist()) == {PARTIAL}
    assert (int(every.by_query.count.sum()), int(near.by_query.count.sum())) == (55, 28)


def test_terms_without_tiles_are_left_out() -> None:
    nothing = ir.Product((CAUSAL, ir.Where(ir.Compare(">", K, ir.Const(100)))))
    pattern = ir.Union((CAUSAL, nothing))
    arrangement = arranged(
        HeadClass((0,), pattern, (Term(nothing), Term(CAUSAL))), HeadClass((1,), nothing, (Term(nothing, Layout(2)),))
    )
    short, long = (plan(arrangement, n=n, tensors={}, xp=NUMPY, tile_q=4, tile_k=4) for n in (40, 120))
    assert [(x.heads, [term.term for term in x.terms]) for x in short.launches] == [((0,), [1])]
    assert [(x.heads, [term.term for term in x.terms]) for x in long.launches] == [((0,), [0, 1]), ((1,), [0])]


def test_heads_share_the_launches_that_are_equal() -> None:
    """Two heads have the window in common, and differ in what they see from far."""
    near, strides = within(ir.Const(3)), (Layout(4), Layout(8))
    classes = []
    for h, layout in enumerate(strides):
        lane = ir.Compare("==", ir.Binary("%", ir.Binary("-", Q, K), ir.Const(layout.stride)), ir.Const(0))
        far = ir.Product((ir.Where(lane), ir.Complement(near)))
        classes.append(HeadClass((h,), ir.Union((near, far)), (Term(near), Term(far, layout, layout))))
    made = plan(arranged(*classes), n=64, tensors={}, xp=NUMPY, tile_q=4, tile_k=4)
    assert [(x.heads, x.queries.layout.stride) for x in made.launches] == [((0, 1), 1), ((0,), 4), ((1,), 8)]


def test_terms_of_one_head_and_row_share_their_relations() -> None:
    """A selection that occurs in two terms is made once."""
    top = ir.Top(ir.Const(2), ir.Read("score", (K,)), CAUSAL)
    terms = Term(ir.Product((top, within(ir.Const(3))))), Term(ir.Product((top, ir.Complement(within(ir.Const(3))))))
    declared = (ir.Tensor("score", "float", (N,), False),)
    arrangement = arranged(HeadClass((0,), top, terms), declared=declared)
    meanings = Meanings(arrangement, n=40, tensors={"score": np.arange(40.0)}, xp=NUMPY)
    assert meanings.term(0, None, 0).relations is meanings.term(0, None, 1).relations is meanings.of(0).relations
    assert len(meanings.of(0).relations) == 1


# ------------------------------------------------------------------ what is known for all lengths


def of_condition(condition: str) -> Arrangement:
    compiled = patternc.compile(f"pattern p() = {{ q -> k : {condition} }}", heads=2)
    return compiled.arrangement()


def test_patterns_without_n_are_bound_once() -> None:
    steady, open_ = (binding(of_condition(text)) for text in ("q - k < 9", "q - k < n // 4"))
    assert steady.at(100) is steady.at(2000)
    assert open_.at(100).classes != open_.at(2000).classes
    assert binding(steady.arrangement) is steady


def test_integers_are_looked_at_anew_at_longer_lengths() -> None:
    bounds = binding(of_condition("q * 4611686018427387904 // 4611686018427387904 >= k"))
    assert bounds.at(2) is bounds.at(1)
    for n in (100, 3):
        with pytest.raises(SpatError):
            bounds.at(n)
    assert bounds.at(2) is bounds.at(1)


def test_heads_whose_samples_hold_nothing_have_their_tiles_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last query of BigBird sees everything, so that nothing is left to draw from."""
    module, calls = import_module("patternc.passes.tiles"), []
    monkeypatch.setattr(module, "classify", lambda *given, **more: calls.append(1) or classify(*given, **more))
    arrangement = patternc.compile("std/bigbird", heads=3, block=4).arrangement()
    for n_q, count in ((1, 1), (64, 3)):
        calls.clear()
        plan_of(Meanings(arrangement, n=64, n_q=n_q, tensors={}, xp=NUMPY), 16, 16)
        assert len(calls) == count
