"""Covers of sets whose conditions come apart, against the same set taken as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from brute import sets
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tiles import masks

import patternc
from patternc import ir
from patternc.analysis.arrays import NUMPY
from patternc.analysis.evaluate import Meaning
from patternc.analysis.relation import cover_relation
from patternc.analysis.sides import by_side
from patternc.analysis.sieve import Apart
from patternc.analysis.tiles import Counter

Q, K = ir.Var("q"), ir.Var("k")


def every(x: ir.Scalar, m: int, rest: int) -> ir.Compare:
    return ir.Compare("==", ir.Binary("%", x, ir.Const(m)), ir.Const(rest))


def test_conditions_come_apart_by_the_sides_that_they_hang_on() -> None:
    causal, invalid = ir.Compare("<=", K, Q), ir.Compare("==", ir.Binary("//", K, ir.Binary("%", K, ir.Const(2))), K)
    both = ir.And((every(Q, 4, 1), causal, every(K, 3, 0), invalid))
    assert by_side(ir.Where(both)) == (
        ir.Product((ir.Where(both.args[0]),)),
        ir.Product((ir.Where(both.args[2]), ir.Where(invalid))),
        ir.Product((ir.Where(causal),)),
    )
    assert by_side(ir.Where(causal)) is None
    assert by_side(ir.Where(ir.Or((every(Q, 4, 1), every(K, 3, 0))))) is None


@settings(max_examples=150)
@given(
    st.lists(sets(left=1), min_size=1, max_size=2),
    st.integers(2, 9),
    st.integers(1, 12),
    st.integers(1, 60),
    st.integers(0, 9),
    st.data(),
)
def test_a_cover_by_parts_is_that_of_the_whole(
    others: list[ir.Pattern], m: int, size: int, n: int, seed: int, data: st.DataObject
) -> None:
    sides = data.draw(st.lists(st.sampled_from([Q, K]), max_size=2))
    conditions = tuple(every(x, m, data.draw(st.integers(0, m - 1))) for x in sides)
    pattern = ir.Product((*others, ir.Where(ir.And(conditions))))
    first = data.draw(st.integers(0, n - 1))
    mask, meaning = masks(ir.Cover(ir.Const(size), pattern), n, n - first, 1, seed)
    (made,) = [meaning.relations[key] for key in meaning.relations if key[0] == id(meaning.pattern)]
    assert np.array_equal(made.contains(np.arange(first, n)[:, None], np.arange(n)[None]), mask > 0)


@pytest.mark.parametrize("condition", ["q % 1024 == 0", "k % 1024 == 0 and k <= q", "q % 512 == 3 and k % 2048 == 5"])
def test_sparse_rows_and_columns_are_not_looked_for_in_every_block(condition: str) -> None:
    n, counter = 1 << 18, Counter()
    body = patternc.compile(f"pattern p() = {{ q -> k : {condition} }}", heads=1).program.pattern
    parts = by_side(body)
    assert parts is not None

    def of(pattern: ir.Pattern) -> Meaning:
        return Meaning(pattern, n=n, n_q=n, h=0, tables={}, xp=NUMPY)

    cover_relation(of(body), Apart(*map(of, parts)), size=64, first=0, n=n, xp=NUMPY, counter=counter)
    assert counter.boxes + counter.cells < 40 * n // 64
