"""The choice of layouts: what is expected for patterns by name, and that terms are the pattern whatever is chosen."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import arms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import patternc
from patternc import ir
from patternc.analysis.arrays import NUMPY
from patternc.analysis.planner import plan
from patternc.analysis.tiles import Counter
from patternc.arrangement import HeadClass
from patternc.passes.arranged import arranged, arranged_with_story
from patternc.passes.disjoint import terms_of
from patternc.plan import LISTED, Layout
from patternc.printer import text

WINDOW = "abs(q - k)"
DILATED = "{ q -> k : abs(q - k) <= 64 * (h + 1) and (q - k) % (h + 1) == 0 }"


def classes(source: str, heads: int = 1, **aim: object) -> tuple[HeadClass, ...]:
    body = source if "pattern" in source else f"pattern p() = {source}"
    return arranged(patternc.compile(body, heads=heads).program, heads, **aim).classes


def pairs(c: HeadClass) -> list[tuple[object, object]]:
    """(queries, keys) of each term: (stride, width), or "listed"."""
    show = lambda layout: "listed" if layout.listed else (layout.stride, layout.width)
    return [(show(term.queries), show(term.keys)) for term in c.terms]


PLAIN = ((1, 1), (1, 1))
GRID = """pattern p(H: int = 128, W: int = 128) over (y: H, x: W) =
    { q -> k : abs(clamp(q.y, 6, H - 7) - k.y) <= 6 and abs(clamp(q.x, 6, W - 7) - k.x) <= 6 }"""
LONGNET = """pattern segment(w: tokens, r: int) =
    { q -> k : q // w == k // w and q % w % r == h % r and k % w % r == h % r }
pattern p() = causal & sum(segment(w, r) for w, r in [(2048, 1), (4096, 2), (8192, 4)])"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("causal", [PLAIN]),
        ("{ q -> k : 0 <= q - k < 1024 }", [PLAIN]),
        (f"{{ q -> k : {WINDOW} <= 256 or q < 128 or k < 128 }}", [PLAIN]),
        ("{ q -> k : k <= q and (q - k < 2048 or k < 64) }", [PLAIN]),
        (f"{{ q -> k : {WINDOW} <= 4096 and (q - k) % 16 == 0 }}", [((16, 1), (16, 1))]),
        ("{ q -> k : k <= q and (q - k < 128 or (q - k) % 128 == 0) }", [PLAIN, ((128, 1), (128, 1))]),
        (f"blocks(256) {{ q -> k : {WINDOW} <= 2 }} & {{ q -> k : k % 256 < 128 or k % 2 == 0 }}", [((1, 1), (2, 1))]),
        (f"{{ q -> k : {WINDOW} <= 64 or {WINDOW} <= 256 and k % 4 == 0 or k % 16 == 0 }}",
         [PLAIN, ((1, 1), (4, 1)), ((1, 1), (16, 1))]),
        ("causal & { q -> k : q // 128 == k // 128 or k % 128 >= 120 }", [PLAIN, ((1, 1), (128, 8))]),
        (f"{{ q -> k : {WINDOW} <= 512 and (q - k) % 4 == 0 or {WINDOW} <= 4096 and (q - k) % 32 == 0 }}",
         [((4, 1), (4, 1)), ((32, 1), (32, 1))]),
        ("{ q -> k : (q - k) % 3 == 0 and (q - k) % 5 == 0 }", [((15, 1), (15, 1))]),
        ("{ q -> k : q % 3 == 0 and k % 5 == 0 }", [((3, 1), (5, 1))]),
        ("pattern p(flag: bool[n]) = { q -> k : abs(q - k) < 64 or flag[k] }", [PLAIN, ((1, 1), "listed")]),
        ("cover(64) { q -> k : q % 64 == 0 and abs(q - k) <= 128 } | cover(64) { q -> k : q % 1024 == 0 }",
         [((1024, 64), (1, 1))]),
        ("sample(9, of = causal & { q -> k : (q - k) % 16 == 0 }, seed = 1)", [((16, 1), (16, 1))]),
        ("pattern p(length: int[batch]) = { q -> k : k < length }", [PLAIN]),
        ("pattern p(doc: int[batch, n]) = causal & { q -> k : doc[q] == doc[k] }", [PLAIN]),
    ],
)  # fmt: skip
def test_layouts_of_patterns(source: str, expected: list[tuple[object, object]]) -> None:
    (found,) = classes(source)
    assert pairs(found) == expected


def test_a_grid_is_read_in_boxes() -> None:
    (found,) = classes(GRID)
    ((queries, keys),) = pairs(found)
    assert {queries, keys} <= {(128, 8), (128, 16)}


def test_longnet_is_one_term_of_every_head() -> None:
    found = classes(LONGNET, heads=8)
    assert sorted(c.heads for c in found) == [(0, 4), (1, 5), (2, 6), (3, 7)]
    assert all(pairs(c) == [((4, 1), (4, 1))] for c in found)
    assert all(c.terms[0].pattern is c.pattern for c in found)


def test_each_head_has_its_dilation() -> None:
    found = classes(DILATED, heads=8)
    assert [pairs(c) for c in found] == [[((h, 1), (h, 1))] for h in range(1, 9)]


def test_hub_rows_live_in_one_term_and_are_listed() -> None:
    (found,) = classes("pattern p(g: bool[n]) = { q -> k : abs(q - k) <= 256 or g[q] or g[k] }")
    assert pairs(found) == [PLAIN, ((1, 1), "listed"), ("listed", (1, 1))]
    window, columns, rows = found.terms
    assert text(window.pattern) == "{ q -> k : abs(q - k) <= 256 and not g[q] }"
    assert text(columns.pattern) == "{ q -> k : not g[q] and abs(q - k) > 256 }"
    assert text(rows.pattern) == "full"
    assert rows.queries == LISTED


def test_paired_blocks_share_a_tile() -> None:
    source = "blocks(64) { q -> k : abs(q - k) in [0, 1, 2, 4, 8] }"
    assert pairs(classes(source)[0]) == [((128, 64), (1, 1))]
    assert pairs(classes(source, tile=(64, 64))[0]) == [PLAIN]


def test_terms_that_overlap_are_subtracted_where_that_costs_least() -> None:
    (found,) = classes(f"{{ q -> k : {WINDOW} <= 64 or {WINDOW} <= 256 and k % 4 == 0 or k % 16 == 0 }}")
    assert [text(term.pattern) for term in found.terms] == [
        "{ q -> k : abs(q - k) <= 64 and k % 4 != 0 }",
        "{ q -> k : abs(q - k) <= 256 and k % 4 == 0 and k % 16 != 0 }",
        "{ q -> k : k % 16 == 0 }",
    ]


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(ValueError, match="objective must be one of time, padding; found 'speed'"):
        classes("causal", objective="speed")


# ------------------------------------------------------------------ correctness


@settings(max_examples=80)
@given(
    st.one_of(arms.sets(), arms.sets(), arms.bags()),
    st.integers(2, 14),
    st.integers(0, 5),
    st.sampled_from([(4, 4), (8, 4), (5, 8)]),
    st.sampled_from(["time", "padding"]),
)
def test_terms_are_the_pattern_whatever_is_chosen(
    pattern: ir.Pattern, n: int, seed: int, tile: tuple[int, int], objective: str
) -> None:
    made = arranged(arms.program(pattern), 1, tile=tile, objective=objective, length=64)
    (found,) = made.classes
    flags = arms.flags(n, seed)
    expected = arms.table(pattern, n, flags)
    assert np.array_equal(arms.table(found.pattern, n, flags), expected)
    assert np.array_equal(arms.terms_table(found, n, flags), expected)
    for term in found.terms:
        for layout, size in zip((term.queries, term.keys), tile, strict=True):
            assert size % layout.width == 0
            assert layout.width <= layout.stride


def test_the_same_program_gives_the_same_arrangement() -> None:
    assert classes(LONGNET, heads=4) == classes(LONGNET, heads=4)


def test_the_tests_would_see_terms_that_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    def overlapping(groups, search, simplifier):
        terms = terms_of(groups, search, simplifier)
        return terms[:1] + terms[:1] + terms[2:]

    monkeypatch.setattr("patternc.passes.layout.terms_of", overlapping)
    (found,) = classes("{ q -> k : k <= q and (q - k < 128 or (q - k) % 128 == 0) }")
    assert not np.array_equal(arms.terms_table(found, 12, {}), arms.table(found.pattern, 12, {}))


# ------------------------------------------------------------------ stories and limits


def test_the_story_tells_what_was_compared() -> None:
    program = patternc.compile(f"pattern p() = {{ q -> k : {WINDOW} <= 4096 and (q - k) % 16 == 0 }}", heads=2).program
    made, (story,) = arranged_with_story(program, 2)
    assert story.heads == (0, 1) == made.classes[0].heads
    assert [radix.stride for radix in story.radices] == [16]
    assert story.n == 16384
    assert story.trials[0].cost < story.plain / 10
    assert story.trials[0].ways[0].queries.layout == Layout(16)
    assert [trial.cost for trial in story.trials] == sorted(trial.cost for trial in story.trials)


def test_nothing_is_compared_where_there_is_nothing_to_follow() -> None:
    _, (story,) = arranged_with_story(patternc.compile("pattern p() = causal", heads=1).program, 1)
    assert (story.n, story.trials, story.reason) == (0, (), "no radix and no list to follow")


def test_a_length_that_the_program_does_not_admit_is_not_an_error() -> None:
    (found,) = classes("{ q -> k : q % 2 == 0 and 5 // (n - 64) < k }", length=64)
    assert pairs(found) == [PLAIN]


HOSTILE = {
    "a hundred moduli": ("union({ q -> k : (q - k) % i == 0 } for i in 2..102)", 1),
    "moduli on both sides": ("{ q -> k : all(q % i != 0 for i in 2..40) and all(k % i != 0 for i in 2..40) }", 1),
    "a modulus a head": (DILATED, 64),
    "products of alternatives": (
        "{ q -> k : " + " and ".join(f"((q - k) % {i} == 1 or k % {i + 1} < 2)" for i in range(3, 12)) + " }", 1,
    ),
    "a huge grid": (
        "pattern p() over (y: 100000, x: 100000) = { q -> k : abs(q.y - k.y) <= 3 and abs(q.x - k.x) <= 3 }", 1,
    ),
    "nested": ("{ q -> k : " + "(" * 60 + "q" + " // 2 + k % 3)" * 60 + " % 5 == 0 }", 1),
    "too many nodes": ("union({ q -> k : q % 640 == i and (k + i * 7) % 640 == i } for i in 0..600)", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_work_is_bounded(name: str) -> None:
    source, heads = HOSTILE[name]
    program = patternc.compile(source if "pattern" in source else f"pattern p() = {source}", heads=heads).program
    start = time.process_time()
    arranged(program, heads)
    assert time.process_time() - start < 3  # some 0.3 s alone


def test_a_program_is_arranged_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    module, calls = import_module("patternc.passes.arranged"), []
    study = module.study
    monkeypatch.setattr(module, "study", lambda *args: calls.append(args) or study(*args))
    attention = patternc.compile("std/strided", heads=2, backend="torch")
    attention.plan(600)
    attention.explain(700)
    attention.save(tmp_path / "attention.py")
    assert attention.source is not None
    assert arranged(attention.program, 2) is attention.arrangement()
    assert len(calls) == 1
    attention.stats(600, tile=(64, 64))
    assert len(calls) == 2
    arranged(attention.program, 1)
    assert len(calls) == 3


def test_few_arrangements_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("patternc.passes.arranged")
    monkeypatch.setattr(module, "KEPT", 2)
    monkeypatch.setattr(module, "_kept", type(module._kept)())
    program = patternc.compile("std/local", heads=4).program
    made = [arranged(program, heads) for heads in (1, 2, 3)]
    assert len(module._kept) == 2
    assert arranged(program, 3) is made[2]
    assert arranged(program, 1) is not made[0]


def test_a_cover_has_the_periods_of_its_pattern() -> None:
    """Rows that see everything stand in every 1,024 tokens: they are found without looking at every tile."""
    counter, n = Counter(), 1 << 16
    made = arranged(patternc.compile("std/hierarchical", heads=1).program, 1)
    found = plan(made, n=n, tensors={}, xp=NUMPY, counter=counter)
    computed = sum(int(x.by_query.count.sum()) for launch in found.launches for x in launch.terms)
    (whole,) = plan(made.whole(), n=n, tensors={}, xp=NUMPY).launches
    assert computed <= 0.75 * int(whole.terms[0].by_query.count.sum())
    assert counter.boxes + counter.cells < 20 * computed


def test_lists_that_are_too_dear_to_look_at_come_last() -> None:
    """The budget is spent when the arms are made disjoint: a choice is made all the same."""
    source = """
    pattern segment(w: tokens, r: int) = { i -> j : i // w == j // w and i % w % r == h % r }
    pattern p(levels: [(tokens, int)] = [(6, 3), (7, 2), (8, 2)]) = far & near - support(longnet)
      where longnet = sum(segment(w, r) for w, r in levels)
            far = cover(4) { q -> k : k % 6 != 2 }
            near = blocks(5) { q -> k : q % 4 < 2 and cdiv(q // 4, 1) != h }
    """
    assert [c.heads for c in classes(source, heads=4)] == [(0,), (1,), (2,), (3,)]
