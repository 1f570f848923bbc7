"""Simplification and splitting into arms: the same multiplicities, cell for cell, and the forms that are expected."""

from __future__ import annotations

import arms
import numpy as np
import pytest
from brute import TENSORS, bags, tensors
from hypothesis import given, settings
from hypothesis import strategies as st

import patternc
from patternc import ir
from patternc.analysis.meanings import trivial
from patternc.passes.facts import bounds
from patternc.passes.nature import is_set
from patternc.passes.radices import Radix, block_sizes, radices
from patternc.passes.simplify import Simplifier, simplify
from patternc.passes.terms import MOST_ARMS, terms
from patternc.printer import text

N = ir.Var("n")
_SHAPES = {"table": (ir.Const(3), N), "mask": (N, N)}
DECLARED = {name: ir.Tensor(name, kind, _SHAPES.get(name, (N,)), False) for name, kind in TENSORS.items()}


def pattern_of(condition: str, heads: int = 1) -> ir.Pattern:
    return trivial(patternc.compile(f"pattern p() = {condition}", heads=heads).program, heads).classes[0].pattern


def simplified(condition: str) -> str:
    return text(Simplifier({})(pattern_of(condition)))


# ------------------------------------------------------------------ simplify


@settings(max_examples=25)
@given(bags(), st.integers(1, 10), st.integers(0, 5))
def test_simplifying_keeps_every_multiplicity(pattern: ir.Pattern, n: int, seed: int) -> None:
    new = Simplifier(DECLARED)(pattern)
    given_tensors = tensors(n, seed)
    assert np.array_equal(arms.table(new, n, given_tensors), arms.table(pattern, n, given_tensors)), text(new)


@settings(max_examples=60)
@given(st.one_of(arms.sets(), arms.bags()), st.integers(1, 14), st.integers(0, 5))
def test_simplifying_keeps_windows_and_congruences(pattern: ir.Pattern, n: int, seed: int) -> None:
    simplifier = Simplifier({"flags": arms.FLAGS})
    new, flags = simplifier(pattern), arms.flags(n, seed)
    assert np.array_equal(arms.table(new, n, flags), arms.table(pattern, n, flags)), text(new)
    assert text(simplifier(new)) == text(Simplifier({"flags": arms.FLAGS})(new))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("causal & ~{ q -> k : q - k >= 8 }", "{ q -> k : k <= q and q - k < 8 }"),
        ("causal | { q -> k : k <= q and k % 4 == 0 }", "{ q -> k : k <= q }"),
        ("{ q -> k : abs(q - k) <= 64 and q - k <= 100 and k - q < 70 }", "{ q -> k : abs(q - k) <= 64 }"),
        ("{ q -> k : k % 8 == 3 and k % 4 == 2 }", "empty"),
        ("{ q -> k : k % 4 != 0 and k % 16 != 0 }", "{ q -> k : k % 4 != 0 }"),
        ("{ q -> k : k % 4096 % 2 == 1 and q % 7 % 1 == 0 }", "{ q -> k : k % 2 == 1 }"),
        ("{ q -> k : (k % 256 - 128) % 2 == 0 and k % 8 < 9 }", "{ q -> k : k % 2 == 0 }"),
        ("support(causal + causal)", "{ q -> k : k <= q }"),
        ("~(blocks(4) { q -> k : q == k })", "blocks(4) { q' -> k' : q' != k' }"),
        ("causal & ~(causal & { q -> k : q < 5 })", "{ q -> k : k <= q and q >= 5 }"),
        ("{ q -> k : abs(q - k) <= 3 } & ~{ q -> k : abs(q - k) <= 9 and k % 4 == 0 }",
         "{ q -> k : abs(q - k) <= 3 and k % 4 != 0 }"),
    ],
)  # fmt: skip
def test_what_is_plain_is_found(condition: str, expected: str) -> None:
    assert simplified(condition) == expected


def test_what_guards_is_left_alone() -> None:
    q, k = ir.Var("q"), ir.Var("k")
    guarded = ir.Where(ir.And((ir.Compare("<=", k, q), ir.Read("table", (ir.Binary("-", q, k), k)))))
    assert Simplifier(DECLARED)(guarded) is guarded
    hidden = ir.Complement(ir.Where(ir.Compare("<", ir.Unary("log2", k), ir.Const(3))))
    assert Simplifier(DECLARED)(hidden) is hidden
    floats = ir.Complement(ir.Where(ir.Compare("<", ir.Read("score", (k,)), ir.Const(0.5))))
    assert text(Simplifier(DECLARED)(floats)) == "{ q -> k : not score[k] < 0.5 }"


def test_an_arrangement_in_which_nothing_changes_stays_the_same() -> None:
    arrangement = trivial(patternc.compile("pattern p() = causal", heads=2).program, 2)
    assert simplify(arrangement) is arrangement
    assert terms(arrangement) is arrangement


def test_bounds_of_a_deep_expression_are_found_at_once() -> None:
    deep: ir.Scalar = ir.Var("q")
    for _ in range(200):
        deep = ir.Unary("abs", ir.Binary("//", deep, ir.Const(2)))
    assert bounds(deep) == (0, 0)


# ------------------------------------------------------------------ terms


@settings(max_examples=60)
@given(st.one_of(arms.sets(), arms.bags()), st.integers(1, 12), st.integers(0, 5))
def test_arms_unite_or_add_up_to_the_pattern(pattern: ir.Pattern, n: int, seed: int) -> None:
    split = terms(simplify(trivial(arms.program(pattern), 1))).classes[0]
    flags = arms.flags(n, seed)
    tables = [arms.table(term.pattern, n, flags) for term in split.terms]
    assert len(tables) <= MOST_ARMS
    whole = np.maximum.reduce(tables) if is_set(split.pattern) else np.add.reduce(tables)
    assert np.array_equal(whole, arms.table(pattern, n, flags))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("causal & { q -> k : q - k < 128 or (q - k) % 128 == 0 }",
         ["{ q -> k : k <= q and q - k < 128 }", "{ q -> k : k <= q and (q - k) % 128 == 0 }"]),
        ("{ q -> k : abs(q - k) <= 64 or q < 9 or k % 16 == 0 }",
         ["{ q -> k : abs(q - k) <= 64 or q < 9 }", "{ q -> k : k % 16 == 0 }"]),
        ("blocks(8) { q -> k : q == k or k % 4 == 0 }",
         ["blocks(8) { q' -> k' : q' == k' }", "blocks(8) { q' -> k' : k' % 4 == 0 }"]),
        ("causal & ({ q -> k : q % 2 == 0 } + { q -> k : k % 3 == 0 })",
         ["{ q -> k : k <= q } & { q -> k : q % 2 == 0 }", "{ q -> k : k <= q } & { q -> k : k % 3 == 0 }"]),
        ("{ q -> k : q - k in (0, 1, 2, 4) and k < 9 }", ["{ q -> k : k < 9 and (q - k == 0 or q - k == 1 or "
          "q - k == 2 or q - k == 4) }"]),
    ],
)  # fmt: skip
def test_arms_are_what_may_want_layouts_of_their_own(condition: str, expected: list[str]) -> None:
    arrangement = trivial(patternc.compile(f"pattern p() = {condition}", heads=1).program, 1)
    found = [text(term.pattern) for term in terms(simplify(arrangement)).classes[0].terms]
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected)), found


# ------------------------------------------------------------------ radices


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("{ q -> k : (q - k) % 16 == 0 and abs(q - k) < 99 }", {Radix(16, "kq")}),
        ("{ q -> k : q % 3 == 0 and k % 5 == 0 }", {Radix(3, "q"), Radix(5, "k")}),
        ("blocks(64) { q -> k : q % 4 == 0 }", {Radix(256, "q")}),
        ("blocks(2) blocks(3) { q -> k : k // 5 % 7 == 0 }", {Radix(210, "k")}),
        ("{ q -> k : (4 * q + 2) % 8 == 2 }", {Radix(2, "q")}),
        ("cover(8) { q -> k : q % 64 == 0 }", {Radix(64, "q")}),
        ("cover(8) { q -> k : q % 12 == 0 or k % 4 == 0 }", {Radix(24, "q")}),
        ("blocks(2) cover(8) { q -> k : k % 6 == 0 }", {Radix(48, "k")}),
        ("sample(2, of = { q -> k : (q - k) % 4 == 0 }, seed = 1)", {Radix(4, "kq")}),
        ("causal", set()),
    ],
)
def test_radices_are_the_periods_of_remainders(condition: str, expected: set[Radix]) -> None:
    assert radices(pattern_of(condition)) == expected


def test_sizes_of_blocks_are_in_tokens() -> None:
    assert block_sizes(pattern_of("blocks(4) blocks(2) { q -> k : q == k } | cover(16) diagonal")) == {4, 8, 16}
