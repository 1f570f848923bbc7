"""Plans under drawn layouts, of drawn patterns in one term or in two, against brute force, cell for cell."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from brute import TENSORS, Brute, bags, sets, tensors
from dense_plans import check_plan
from drawn import examples
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from patternc import ir
from patternc.analysis.arrays import NUMPY
from patternc.analysis.planner import Meanings, plan_of
from patternc.arrangement import Arrangement, HeadClass, Term
from patternc.errors import SpatError
from patternc.plan import LISTED, Layout, Plan

Array = np.ndarray
Q, K, N = ir.Var("q"), ir.Var("k"), ir.Var("n")
TILES = st.sampled_from([(4, 4), (16, 16), (16, 4), (4, 16), (5, 4), (16, 5), (128, 64)])


@cache
def layouts(tile: int) -> st.SearchStrategy[Layout]:
    """Strides that divide the length, or not, or are beyond it; boxes of any width that the tile admits."""

    def wide(stride: int) -> st.SearchStrategy[Layout]:
        widths = [w for w in (1, 2, 4, 8, 16, 32, 64, 128) if w <= stride and tile % w == 0]
        return st.sampled_from(widths).map(lambda width: Layout(stride, width))

    return st.one_of(st.just(1), st.integers(1, 12), st.integers(1, 70)).flatmap(wide)


@cache
def tokens(x: ir.Var) -> st.SearchStrategy[ir.Pattern]:
    """Sets that depend on one position alone."""
    residue = lambda s, r: ir.Compare("==", ir.Binary("%", x, ir.Const(s)), ir.Const(r % s))
    return st.one_of(
        st.builds(residue, st.integers(1, 7), st.integers(0, 6)),
        st.integers(0, 60).map(lambda end: ir.Compare("<", x, ir.Const(end))),
        st.just(ir.Read("flags", (x,))),
        st.booleans().map(ir.Const),
    ).map(ir.Where)


Drawn = tuple[ir.Pattern, tuple[Term, ...]]
"""A pattern, and terms that add up to it."""


@st.composite
def one_term(draw: st.DrawFn, tile_q: int, tile_k: int) -> Drawn:
    pattern = draw(bags(left=2))
    return pattern, (Term(pattern, draw(layouts(tile_q)), draw(layouts(tile_k))),)


@st.composite
def two_terms(draw: st.DrawFn, tile_q: int, tile_k: int) -> Drawn:
    """A union whose second arm leaves out the first, or a sum; often of one query layout, for then they are merged."""
    summed = draw(st.booleans())
    a, b = (draw(bags(left=1) if summed else sets(left=1)) for _ in range(2))
    of_queries = draw(layouts(tile_q))
    others = draw(st.one_of(st.just(of_queries), layouts(tile_q)))
    rest = b if summed else ir.Product((b, ir.Complement(a)))
    terms = Term(a, of_queries, draw(layouts(tile_k))), Term(rest, others, draw(layouts(tile_k)))
    return (ir.Sum if summed else ir.Union)((a, b)), terms


@st.composite
def listed_terms(draw: st.DrawFn, tile_q: int, tile_k: int) -> Drawn:
    """The tokens in a list on one side or both, and the rest under layouts. What a term holds outside its list does not
    count, so that the pattern of the first need not say where it ends."""
    pattern, narrow = draw(bags(left=1)), draw(st.booleans())
    rows = draw(st.one_of(st.none(), tokens(Q)))
    columns = draw(tokens(K) if rows is None else st.one_of(st.none(), tokens(K)))
    inside = ir.Product(tuple(side for side in (rows, columns) if side is not None))
    first = Term(
        ir.Product((pattern, inside)) if narrow else pattern,
        draw(layouts(tile_q)) if rows is None else LISTED,
        draw(layouts(tile_k)) if columns is None else LISTED,
        rows,
        columns,
    )
    rest = ir.Product((pattern, ir.Complement(inside)))
    return pattern, (first, Term(rest, draw(layouts(tile_q)), draw(layouts(tile_k))))


def program(pattern: ir.Pattern) -> ir.Program:
    dims = {"mask": (N, N), "table": (ir.Const(3), N)}
    declared = tuple(ir.Tensor(name, kind, dims.get(name, (N,)), True) for name, kind in TENSORS.items())
    return ir.Program("drawn", pattern, declared)


def dense(pattern: ir.Pattern, brute: Brute, n_q: int) -> Array:
    n = brute.n
    return np.array([[brute.cell(pattern, q, k) for k in range(n)] for q in range(n - n_q, n)]).reshape(n_q, n)


def of_term(term: Term, brute: Brute, n_q: int) -> Array:
    """The multiplicities of a term, 0 outside its lists."""
    m = dense(term.pattern, brute, n_q)
    for chosen in (term.listed_queries, term.listed_keys):
        if chosen is not None:
            m = m * dense(chosen, brute, n_q)
    return m


def check(drawn: tuple[Drawn, ...], n: int, n_q: int, tile: tuple[int, int], seed: int = 0, batch: int = 1) -> Plan:
    """Plans heads that each have a pattern, and compares every one in every batch row; SpatError if there is none."""
    classes = tuple(HeadClass((h,), pattern, terms) for h, (pattern, terms) in enumerate(drawn))
    rows = [tensors(n, seed + b) for b in range(batch)]
    arrays = {name: np.stack([row[name] for row in rows]) for name in TENSORS}
    arrangement = Arrangement(program(ir.Union(tuple(p for p, _ in drawn))), len(drawn), classes)
    plan = plan_of(Meanings(arrangement, n=n, n_q=n_q, tensors=arrays, xp=NUMPY), *tile)
    for h, (pattern, terms) in enumerate(drawn):
        for b, row in enumerate(rows):
            brute = Brute(n, h, row)
            each = {i: of_term(term, brute, n_q) for i, term in enumerate(terms)}
            check_plan(plan, h, b, each, dense(pattern, brute, n_q))
    return plan


def property_of(
    draw: Callable[[int, int], st.SearchStrategy[Drawn]], ci: int, heads: int = 1, batch: int = 1
) -> Callable[[], None]:
    @settings(max_examples=examples(ci))
    @given(TILES, st.one_of(st.integers(1, 24), st.integers(1, 24), st.integers(1, 60)), st.integers(0, 5), st.data())
    def test(tile: tuple[int, int], n: int, seed: int, data: st.DataObject) -> None:
        n_q = data.draw(st.one_of(st.just(n), st.integers(1, n)))
        drawn = tuple(data.draw(draw(*tile)) for _ in range(heads))
        try:
            check(drawn, n, n_q, tile, seed, batch)
        except SpatError:  # numbers beyond 64 bits, above all
            assume(False)

    return test


test_one_term = property_of(one_term, 100)
test_two_terms = property_of(two_terms, 80)
test_listed_terms = property_of(listed_terms, 80)
test_heads_and_batch_rows_with_terms_of_their_own = property_of(two_terms, 20, heads=2, batch=2)


def residue(stride: int) -> ir.Pattern:
    return ir.Where(ir.Compare("==", ir.Binary("%", ir.Binary("-", Q, K), ir.Const(stride)), ir.Const(0)))


def test_the_right_stride_makes_tiles_full() -> None:
    pattern = residue(8)
    plan = check(((pattern, (Term(pattern, Layout(8), Layout(8)),)),), 64, 64, (4, 4))
    (launch,) = plan.launches
    (term,) = launch.terms
    assert (int(term.by_query.count.sum()), set(term.by_query.kind.tolist())) == (8 * 2 * 2, {0})


def test_terms_of_one_query_layout_share_a_launch() -> None:
    near = ir.Where(ir.Compare("<=", ir.Unary("abs", ir.Binary("-", Q, K)), ir.Const(3)))
    far = ir.Product((residue(8), ir.Complement(near)))
    whole = ir.Union((near, residue(8)))
    together = check(((whole, (Term(near), Term(far, Layout(), Layout(8)))),), 60, 60, (4, 4))
    assert [len(launch.terms) for launch in together.launches] == [2]
    apart = check(((whole, (Term(near), Term(far, Layout(8), Layout(8)))),), 60, 60, (4, 4))
    assert [len(launch.terms) for launch in apart.launches] == [1, 1]
