"""Integer formulas of patterns: between them lies what the evaluator finds, and what is affine they hit exactly."""

from __future__ import annotations

from collections.abc import Callable

import islpy as isl
import numpy as np
import pytest
from drawn import Program, examples
from hypothesis import given, note, settings
from programs import guarded_programs, programs

import patternc
from patternc import ir
from patternc.analysis import proofs
from patternc.analysis.concrete import Evaluator, World
from patternc.analysis.formula import TooComplexError, conj, neg
from patternc.analysis.solver import Point, Subject, domain, names, read_set
from patternc.analysis.terms import CELL, CONSTANT, ROW

LEVELS = (CONSTANT, ROW, CELL)


def compiled(text: str, heads: int = 4, layer: int = 0, **params: object) -> ir.Program:
    return patternc.compile(f"pattern p() = {text}", heads=heads, layer=layer, **params).program


def cells(subject: Subject, m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, n): where M ≥ m may be, and where it surely is, whatever the fresh variables are."""
    t = subject.translator(True)
    found = t.at_least(subject.programs[0].pattern, m, t.root)

    def solutions(text: str) -> np.ndarray:
        order = names(t, LEVELS)
        solved = read_set(order, conj(*domain(t, LEVELS), text), 1_000_000)
        for i in reversed(range(len(order))):
            if order[i] not in ("q", "k"):
                solved = solved.project_out(isl.dim_type.set, i, 1)
        table = np.zeros((n, n), bool)

        def mark(point: isl.Point) -> None:
            table[tuple(point.get_coordinate_val(isl.dim_type.set, i).to_python() for i in range(2))] = True

        solved.foreach_point(mark)
        return table

    return solutions(found.over), ~solutions(neg(found.under))


# ------------------------------------------------------------------ soundness


@settings(max_examples=examples(150))
@given(programs())
def test_formulas_enclose_the_meaning(program: Program) -> None:
    check_enclosure(program)


@settings(max_examples=examples(100))
@given(guarded_programs())
def test_formulas_enclose_the_meaning_behind_guards(program: Program) -> None:
    check_enclosure(program)


def check_enclosure(program: Program) -> None:
    n = program.length(8)
    h = n % program.heads
    note(f"{program.text}{program} at n = {n}, h = {h}")
    tensors = program.make_tensors(n)
    made = program.compile().program
    first = {t.name: tensors[t.name][0] if t.batched else tensors[t.name] for t in made.tensors}
    matrix = np.array(
        Evaluator(made).matrix(World(n, program.heads, h, program.layer, read=lambda name, at: first[name][at].item()))
    )
    for m in (1, 2):
        try:
            over, surely = cells(Subject((made,), {"n": n, "heads": program.heads, "h": h, "layer": 0}), m, n)
        except (TooComplexError, isl.Error):
            return
        assert (over | (matrix < m)).all()
        assert (~surely | (matrix >= m)).all()


AFFINE = [
    "causal",
    "{ q -> k : 0 <= q - k < 4 }",
    "{ q -> k : abs(q - k) <= 2 or q < 2 and k % 3 == 1 }",
    "{ q -> k : (q - 2 * k) // 3 == (k - 5) % 4 - 1 }",
    "{ q -> k : (q - k) // -3 == -1 or (k - 7) % -4 == -2 }",
    "{ q -> k : min(q, k + 2) * 2 < max(q - 3, 5, k) or clamp(q, 2, n - 3) == k }",
    "{ q -> k : (q if k < 3 else k - 2) >= ([3, 1, 4][k % 3] if q % 2 == 0 else 2) }",
    "{ q -> k : [True, False, q == k][(q + k) % 3] }",
    "{ q -> k : (q < 3) == (k < 5) and (q > 1) != (k > 4) }",
    "{ q -> k : any(q - k == i and i % 2 == 0 for i in 0..n) }",
    "{ q -> k : all(q + i != k for i in 1..h + 3) }",
    "{ q -> k : 2 * q > 0.5 and k < 3.5 and q <= inf }",
    "blocks(3) { q -> k : k == q or k == n - 1 }",
    "blocks(2) blocks(2) { q -> k : k < q } | diagonal",
    "cover(3) { q -> k : k == 2 * q }",
    "blocks(2) cover(2) { q -> k : k == q + 1 } - cover(4) { q -> k : k == 9 - q }",
    "causal + diagonal + { q -> k : k < 2 }",
    "(causal + diagonal) & (causal + { q -> k : q == 4 })",
    "support(causal + causal) + diagonal",
    "match h % 2 { 0 => causal, 1 => ~causal }",
    "union({ q -> k : k == q - i } for i in 0..n // 2)",
]


@pytest.mark.parametrize("text", AFFINE)
@pytest.mark.parametrize("n", [1, 7, 10])
def test_affine_patterns_are_exact(text: str, n: int) -> None:
    program = compiled(text)
    for h in (0, 3):
        matrix = np.array(Evaluator(program).matrix(World(n, 4, h)))
        for m in (1, 2):
            over, surely = cells(Subject((program,), {"n": n, "heads": 4, "h": h, "layer": 0}), m, n)
            assert np.array_equal(over, matrix >= m)
            assert np.array_equal(surely, matrix >= m)


# ------------------------------------------------------------------ what is opaque

TENSORS = "pattern p(x: int[batch, n], s: float[batch, n], f: bool[batch, n], one: int[batch]) = "


def open_program(text: str) -> ir.Program:
    return patternc.compile(TENSORS + text, heads=2).program


@pytest.mark.parametrize(
    "text",
    [
        "{ q -> k : x[q] == x[k] or q != k }",
        "{ q -> k : x[q] < x[k] or x[k] <= x[q] }",
        "{ q -> k : f[q] or not f[q] }",
        "{ q -> k : x[q] * x[k] == x[k] * x[q] }",
        "{ q -> k : (q ^ k) == (k ^ q) and q ^ q == 0 and q ^ k >= 0 }",
        "{ q -> k : q % max(one, 1) < max(one, 1) }",
        "{ q -> k : q // (abs(one) + 1) <= q }",
        "{ q -> k : log2(n) < n and 2 ** q >= 1 }",
        "{ q -> k : s[q] < s[k] or s[q] >= s[k] or x[q] >= x[k] or x[k] > x[q] }",
        "top(3, by = s[k], of = causal) | ~top(3, by = s[k], of = causal)",
        "sample(2, of = causal) | ~sample(2, of = causal)",
        "{ q -> k : any(x[i] == x[q] for i in 0..n) }",
    ],
)
def test_full_whatever_tensors_hold(text: str) -> None:
    assert proofs.somewhere(Subject((open_program(text),))).proved


@pytest.mark.parametrize(
    "text",
    [
        "{ q -> k : x[q] == x[k] }",
        "{ q -> k : x[q - k] == x[q - k] }",  # not where the index is out of range
        "{ q -> k : q % one < n }",  # not where one is 0
        "{ q -> k : s[q] < s[k] or s[q] >= s[k] }",  # not where one is NaN
        "{ q -> k : any(x[i] == x[q] for i in 1..n) }",
        "top(1, by = s[k]) | ~top(2, by = s[k])",
    ],
)
def test_not_full(text: str) -> None:
    assert not proofs.somewhere(Subject((open_program(text),))).proved


@pytest.mark.parametrize(
    "text",
    [
        "top(3, by = x[k], of = causal)",
        "blocks(4) (sample(1, of = causal) | empty)",
        "causal & { q -> k : x[q] == x[k] }",
        "{ q -> k : k == q // 2 }",
        "{ q -> k : 2 * k == q or 2 * k == q - 1 }",
        "{ q -> k : x[q] >= 0 and k == 0 or x[q] < 0 and k == n - 1 }",
    ],
)
def test_nonempty(text: str) -> None:
    assert proofs.nonempty(Subject((open_program(text),))).proved


@pytest.mark.parametrize(
    "text", ["top(3, by = s[k], of = causal)", "{ q -> k : 2 * k == q }", "{ q -> k : x[k] == x[q] + 1 }"]
)
def test_not_proved_nonempty(text: str) -> None:
    assert not proofs.nonempty(Subject((open_program(text),))).proved


# ------------------------------------------------------------------ rows


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("{ q -> k : 0 <= q - k < 4 }", 4),
        ("{ q -> k : abs(q - k) <= 3 and (q - k) % 2 == 0 }", 3),
        ("blocks(4) diagonal", 4),
        ("{ q -> k : 0 <= q - k < 4 or k < 2 or k >= n - 3 }", 9),
        ("causal & match h % 2 { 0 => { q -> k : q - k < 5 }, 1 => diagonal }", 5),
        ("causal", None),
        ("{ q -> k : q < 3 }", None),
        ("empty", 0),
    ],
)
def test_keys_per_row(text: str, most: int | None) -> None:
    assert proofs.keys_per_row(Subject((compiled(text),))) == most


# ------------------------------------------------------------------ budgets


def test_candidates_are_the_smallest() -> None:
    program = compiled("{ q -> k : k <= q or q == 5000 and k == 5001 }")
    assert proofs.causal(Subject((program,))).point == Point(
        {"n": 5002, "heads": 1, "layer": 0, "h": 0, "q": 5000, "k": 5001}
    )


@pytest.mark.parametrize("question", [proofs.causal, proofs.nonempty, proofs.symmetric, proofs.somewhere])
def test_hard_questions_end(question: Callable[[Subject], proofs.Answer], capfd: pytest.CaptureFixture[str]) -> None:
    arms = [f"(q * {i + 1} + k) % {p} < {p // 2}" for i, p in enumerate([97, 89, 83, 79, 73, 71])]
    question(Subject((compiled("{ q -> k : " + " or ".join(arms) + " }"),), patient=False))
    assert capfd.readouterr() == ("", "")
