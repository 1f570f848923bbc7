"""Hypothesis strategies of patterns that ask for layouts: unions and sums of windows, congruences, flags and blocks."""

from __future__ import annotations

import numpy as np
from brute import Brute
from hypothesis import strategies as st

from patternc import ir
from patternc.arrangement import HeadClass, Term

Q, K, N = ir.Var("q"), ir.Var("k"), ir.Var("n")
FLAGS = ir.Tensor("flags", "bool", (N,), False)


def _const(lo: int, hi: int) -> st.SearchStrategy[ir.Const]:
    return st.integers(lo, hi).map(ir.Const)


def _atoms(d: int) -> st.SearchStrategy[ir.Scalar]:
    q, k = ir.Var("q", d), ir.Var("k", d)
    distance = ir.Binary("-", q, k)
    asked = st.sampled_from([q, k, distance, distance])
    remainder = st.builds(lambda a, m: ir.Binary("%", a, m), asked, _const(2, 8))
    nested = st.builds(lambda a, m, r: ir.Binary("%", ir.Binary("%", a, m), r), asked, _const(2, 12), _const(1, 4))
    return st.one_of(
        st.builds(lambda w: ir.Compare("<=", ir.Unary("abs", distance), w), _const(0, 12)),
        st.just(ir.Compare("<=", k, q)),
        st.builds(ir.Compare, st.sampled_from(["==", "==", "!=", "<"]), remainder, _const(0, 5)),
        st.builds(ir.Compare, st.just("=="), st.one_of(nested, remainder), _const(0, 3)),
        st.builds(ir.Compare, st.sampled_from(["<", ">=", "=="]), st.sampled_from([q, k]), _const(0, 20)),
        st.builds(lambda m: ir.Compare("==", ir.Binary("//", q, m), ir.Binary("//", k, m)), _const(2, 9)),
        st.sampled_from([ir.Read("flags", (q,)), ir.Read("flags", (k,))]),
    )


def conditions(d: int) -> st.SearchStrategy[ir.Scalar]:
    """`or` of `and` of a few simple conditions."""
    both = st.lists(_atoms(d), min_size=1, max_size=3).map(lambda args: ir.And(tuple(args)))
    return st.one_of(both, st.lists(both, min_size=2, max_size=4).map(lambda args: ir.Or(tuple(args))))


def sets(d: int = 0) -> st.SearchStrategy[ir.Pattern]:
    simple = st.builds(ir.Where, conditions(d))
    options = [
        simple,
        simple,
        st.lists(simple, min_size=2, max_size=3).map(lambda args: ir.Union(tuple(args))),
        st.lists(simple, min_size=2, max_size=3).map(lambda args: ir.Product(tuple(args))),
        st.builds(lambda a, b: ir.Product((a, ir.Complement(b))), simple, simple),
    ]
    if d == 0:
        blocks = st.builds(ir.Blocks, _const(1, 4), sets(1))
        options += [blocks, st.builds(lambda a, b: ir.Union((a, b)), simple, blocks)]
    return st.one_of(options)


def bags() -> st.SearchStrategy[ir.Pattern]:
    total = st.lists(sets(), min_size=2, max_size=3).map(lambda args: ir.Sum(tuple(args)))
    return st.one_of(total, st.builds(lambda a, b: ir.Product((a, b)), sets(), total))


def program(pattern: ir.Pattern) -> ir.Program:
    return ir.Program("drawn", pattern, (FLAGS,))


def flags(n: int, seed: int) -> dict[str, np.ndarray]:
    return {"flags": np.random.default_rng(seed).random(n) < 0.2}


def table(pattern: ir.Pattern, n: int, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """M (n, n), by brute force."""
    brute = Brute(n, 0, tensors)
    return np.array([[brute.cell(pattern, q, k) for k in range(n)] for q in range(n)])


def terms_table(c: HeadClass, n: int, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """The sum of the multiplicities of a class's terms, on the tokens of their lists."""
    return sum((_term_table(term, n, tensors) for term in c.terms), np.zeros((n, n), int))


def _term_table(term: Term, n: int, tensors: dict[str, np.ndarray]) -> np.ndarray:
    found = table(term.pattern, n, tensors)
    for layout, listed in ((term.queries, term.listed_queries), (term.keys, term.listed_keys)):
        assert layout.listed == (listed is not None)
        if listed is not None:
            found = found * table(listed, n, tensors)
    if term.listed_queries is not None:
        kept = table(term.listed_queries, n, tensors)
        assert (kept == kept[:, :1]).all(), "a list of queries depends on the query alone"
    if term.listed_keys is not None:
        kept = table(term.listed_keys, n, tensors)
        assert (kept == kept[:1]).all(), "a list of keys depends on the key alone"
    return found
