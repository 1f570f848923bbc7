"""A few queries at the end of many positions: one plan for a stretch of lengths, in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from saved_modules import load
from triton_calls import artifact, inputs, results

import patternc
from patternc.backends import triton_executor, triton_few
from patternc.backends.reference import Reference
from patternc.backends.triton_backend import TritonKernels
from patternc.backends.triton_few import FEW_QUERIES, few_ready
from patternc.backends.triton_plans import Ready
from patternc.backends.triton_tables import first_token
from patternc.plan import FULL, Axis

pytestmark = pytest.mark.usefixtures("interpreted")

CPU = torch.device("cpu")
HEADS = 2
STRETCH, N = 32, 160
"""Lengths of a stretch in these tests, and the longest of one of them."""
PATTERNS: dict[str, tuple[str, dict[str, Any]]] = {
    "all": ("pattern p() = full", {}),
    "window": ("std/local", {"window": 9}),
    "strided": ("std/strided", {"l": 6}),
    "columns": ("pattern p() = causal & ({ q -> k : q - k < 20 } | { q -> k : (q - k) % 16 == 0 })", {}),
    "both ways": ("pattern p() = { q -> k : abs(q - k) < 40 or k % 16 == 3 or k < 5 or q % 50 == 0 }", {}),
    "lists": ("pattern p() = { q -> k : abs(q - k) <= 20 or (q * q * q) % 61 < 3 or (k * k * k) % 53 < 3 }", {}),
    "bag": ("std/longnet", {"levels": [(8, 1), (16, 2), (64, 4)]}),
    "empty rows": ("pattern p() = { q -> k : k < q - 7 and q % 3 == 0 }", {}),
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_executor, "tile_of", lambda dim, bits: (16, 16))
    monkeypatch.setattr(triton_few, "LEAST", STRETCH)
    monkeypatch.setattr(triton_few, "MOST", STRETCH)
    monkeypatch.setattr(triton_few, "LEAST_PIECE", 1)  # rows are cut, though they are short
    monkeypatch.setattr(triton_few, "processors", lambda device: 8)


def compiled_of(name: str) -> patternc.Compiled:
    source, params = PATTERNS[name]
    return patternc.compile(source, heads=HEADS, kv_heads=1, **params)


def planned(name: str, n_q: int = 1, n: int = N) -> Ready:
    masks = artifact(compiled_of(name)).masks
    return few_ready(masks, n=n, n_q=n_q, batch=1, kv_heads=1, device=CPU, tile=(16, 16))


def close(found: Any, expected: Any) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


# ------------------------------------------------------------------ right


@pytest.mark.parametrize("name", PATTERNS)
def test_each_length_of_a_stretch(name: str) -> None:
    compiled = compiled_of(name)
    run, exact = artifact(compiled), Reference().emit(compiled.program, HEADS, 1)
    run.executor._few.clear()
    for n, n_q in ((129, 1), (160, 1), (151, 5), (20, 3)):
        given = inputs(compiled, n, n_q, 1)
        with torch.no_grad():
            close(run(*given, return_lse=True), exact(*given, return_lse=True))
    assert [key[:2] for key in run.executor._few] == [(160, 1), (160, 5), (32, 3)]


def test_gradients_are_those_of_the_length() -> None:
    compiled = compiled_of("columns")
    run, exact = artifact(compiled), Reference().emit(compiled.program, HEADS, 1)
    given = inputs(compiled, 70, 3, 1)
    close(results(run, *given), results(exact, *given))
    with torch.no_grad():
        alone = run(*given)
    assert torch.equal(run(*given), alone)


def test_what_nobody_reads_may_hold_anything() -> None:
    compiled = patternc.compile(
        "pattern p() = { q -> k : q - k < 50 and k % 16 < 11 and k <= q }", heads=HEADS, kv_heads=1
    )
    run = artifact(compiled)
    q, k, v = (t.detach() for t in inputs(compiled, 90, 2, 1))
    expected = run(q, k, v)
    unread = (torch.arange(90) % 16 >= 11) | (torch.arange(90) < 38)
    k, v = (t.masked_fill(unread[:, None], torch.nan) for t in (k, v))
    torch.testing.assert_close(run(q, k, v), expected, rtol=1e-5, atol=1e-6)


def test_dropout_is_that_of_the_reference() -> None:
    compiled = compiled_of("columns")
    run, exact = artifact(compiled), Reference().emit(compiled.program, HEADS, 1)
    given = [t.detach() for t in inputs(compiled, 77, 2, 2)]
    for _ in range(2):
        close([run(*given, dropout_p=0.4, seed=9)], [exact(*given, dropout_p=0.4, seed=9)])


@pytest.mark.parametrize(
    ("condition", "beside"), [("q - k < 40", [4, 4, 1]), ("h == 4 or (q - k) % 4 == 1", [1, 1, 1])]
)
def test_heads_that_share_keys(condition: str, beside: list[int]) -> None:
    """Three to each key head, side by side if they are computed alike, and if a tile has room for their queries."""
    compiled = patternc.compile(f"pattern p() = causal & {{ q -> k : {condition} }}", heads=6, kv_heads=2)
    run, exact = artifact(compiled), Reference().emit(compiled.program, 6, 2)
    for n, n_q in ((150, 1), (141, 4), (133, 5)):
        given = [t.detach() for t in inputs(compiled, n, n_q, 1)]
        close(run(*given, return_lse=True), exact(*given, return_lse=True))
    found = [max(step.tables.beside for step in made.schedule.by_query) for made in run.executor._few.values() if made]
    assert found == beside


# ------------------------------------------------------------------ what is shared


def test_a_stretch_is_planned_once_and_started_by_one_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = patternc.compile("pattern p() = { q -> k : 0 <= q - k < 21 }", heads=HEADS, kv_heads=1)
    run = artifact(compiled)
    q, k, v = (t.detach() for t in inputs(compiled, 160, 1, 1))
    run(q, k[:, :, :130], v[:, :, :130])
    checks: list[Any] = []
    monkeypatch.setattr(triton_executor, "check_qkv", lambda *x: checks.append(x))
    for n in (131, 140, 160):
        here = k[:, :, :n], v[:, :, :n]
        run(q, *here)
        run(q, *(t.contiguous() for t in here))
    (made,) = run.executor._few.values()
    assert made is not None
    assert (run.executor.planned, len(made.schedule.recipes), checks) == (1, 1, [])


def test_same_bits_whatever_was_decoded_before() -> None:
    compiled = compiled_of("both ways")
    q, k, v = (t.detach() for t in inputs(compiled, 160, 1, 1))
    found = []
    for lengths in ((140,), (129, 160, 100, 140)):
        run = artifact(compiled)
        run.executor._few.clear()
        found.append([run(q, k[:, :, :n], v[:, :, :n], return_lse=True) for n in lengths][-1])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_saved_modules_do_the_same(tmp_path: Path) -> None:
    compiled = patternc.compile("std/strided", heads=HEADS, kv_heads=1, l=6, backend="triton")
    module = load(compiled.save(tmp_path / "saved_few.py"))
    module.tile_of = lambda dim, bits: (16, 16)
    attention, exact = module.Attention(), Reference().emit(compiled.program, HEADS, 1)
    q, k, v = (t.detach() for t in inputs(compiled, 60, 1, 1))
    for n in (40, 60):
        given = q, k[:, :, :n], v[:, :, :n]
        close([attention(*given)], [exact(*given)])
    assert len(module.RUNNER.executor._few) == 1


@pytest.mark.parametrize(
    ("text", "n", "n_q"),
    [
        ("pattern p() = { q -> k : k >= n - 9 and k <= q }", 40, 1),
        ("pattern p() = { q -> k : q % 7 != 3 and k <= q }", 40, FEW_QUERIES + 1),
        ("pattern p() = { q -> k : q % 7 != 4 and k <= q }", 9, 9),
    ],
    ids=["speaks of n", "many queries", "all queries"],
)
def test_others_are_planned_by_length(text: str, n: int, n_q: int) -> None:
    compiled = patternc.compile(text, heads=HEADS, kv_heads=1)
    run = artifact(compiled)
    given = inputs(compiled, n, n_q, 1)
    close([run(*given)], [Reference().emit(compiled.program, HEADS, 1)(*given)])
    assert not run.executor._few
    assert len(run.executor._kept) == 1


def test_where_the_longest_length_is_not_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any, **options: Any) -> Ready:
        raise ValueError("too long")

    monkeypatch.setattr(triton_executor, "few_ready", refuse)
    compiled = patternc.compile("pattern p() = { q -> k : 0 <= q - k < 23 }", heads=HEADS, kv_heads=1)
    run, given = artifact(compiled), inputs(compiled, 40, 1, 1)
    for _ in range(2):
        close([run(*given)], [Reference().emit(compiled.program, HEADS, 1)(*given)])
    assert list(run.executor._few.values()) == [None]


# ------------------------------------------------------------------ tables


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("n_q", [1, 6])
def test_each_row_of_a_call_is_computed_once(name: str, n_q: int) -> None:
    made = planned(name, n_q)
    span = made.plan.n_q
    for step in made.schedule.by_query:
        tables = step.tables
        assert tables.turns is not None
        turns = tables.turns.view(-1, span, 3).tolist()
        axes = [made.plan.launches[number].queries for number, _ in step.parts]
        for lines, axis, (number, _) in zip(turns, axes, step.parts, strict=True):
            cost = [_cost(made, number, row) for row in range(axis.tiles)]
            for n in range(N - STRETCH + 1, N + 1):
                own = lines[n - n_q - (N - span) : n - (N - span)]
                items = [i for first, count, before in own if before < n - n_q for i in range(first, first + count)]
                queries = [q for q in range(n - n_q, n) if axis.index is None or q in axis.index]
                rows = {_row(axis, q) for q in queries}
                starts = {int(first_token(axis, torch.tensor(row))): cost[row] for row in rows}
                found = [tables.items[i, [0, 2]].tolist() for i in items]
                assert {start for start, _ in found} | {s for s, c in starts.items() if not c} == set(starts)
                assert sum(tiles for _, tiles in found) == sum(starts.values())


def test_programs_are_as_many_as_the_queries_need() -> None:
    (made,) = planned("columns").schedule.by_query[1:]
    assert made.tables.items.shape[0] >= STRETCH // 2, "a row for each column"
    assert made.tables.programs == made.tables.longest


def test_pieces_have_a_kernel_that_merges_them_before_a_length_needs_it() -> None:
    merged = {}
    for name in ("window", "all"):
        (step,) = planned(name).schedule.by_query
        assert step.tables.merge is not None
        merged[name] = step.tables.merge.programs
    assert merged == {"window": 0, "all": 1}, "heads lie side by side"


def _tiles(runs: Any) -> Iterator[tuple[int, int, int, int]]:
    """Row, tile, kind and weight."""
    for row in range(len(runs.rows) - 1):
        for i in range(int(runs.rows[row]), int(runs.rows[row + 1])):
            for tile in range(int(runs.first[i]), int(runs.first[i]) + int(runs.count[i])):
                yield row, tile, int(runs.kind[i]), int(runs.weight[i])


def _held(axis: Axis, tile: int) -> list[int]:
    found = [int(axis.tokens(tile, offset)) for offset in range(axis.tile)]
    return [token for token in found if token < axis.stop]


def _row(axis: Axis, query: int) -> int:
    return next(row for row in range(axis.tiles) if query in _held(axis, row))


def _cost(made: Ready, launch: int, row: int) -> int:
    tables = [term.by_query for term in made.plan.launches[launch].terms]
    return sum(int(runs.count[int(runs.rows[row]) : int(runs.rows[row + 1])].sum()) for runs in tables)


CONDITIONS = (
    "abs(q - k) < {a}", "q - k < {a}", "(q - k) % {m} == {r}", "k % {m} == {r}", "q % {m} == {r}", "k < {a}", "k <= q",
    "q // {a} == k // {a}", "(q + k) % {m} < {r}", "k >= {a}", "(k * k) % 31 == {r}", "q + {r} * h >= k",
)  # fmt: skip


@st.composite
def steady_patterns(draw: st.DrawFn) -> str:
    """Sets and bags of a few conditions."""
    numbers = {"a": st.integers(1, 150), "m": st.integers(1, 40), "r": st.integers(0, 5)}

    def part(depth: int) -> str:
        if depth and draw(st.booleans()):
            return f"({part(depth - 1)} {draw(st.sampled_from('|&'))} {part(depth - 1)})"
        chosen = {name: draw(values) for name, values in numbers.items()}
        return "{ q -> k : " + draw(st.sampled_from(CONDITIONS)).format(**chosen) + " }"

    first, operator = draw(st.sampled_from(["", "causal & "])), draw(st.sampled_from("+|"))
    return f"pattern p() = {first}({part(2)} {operator} {part(2)})"


@given(steady_patterns(), st.sampled_from([1, 3, 16]), st.sampled_from([(16, 16), (32, 16), (16, 64)]))
@settings(max_examples=examples(30), deadline=None)
def test_drawn_patterns(text: str, n_q: int, tile: tuple[int, int]) -> None:
    """Each cell of the last queries is in partial tiles, or in full ones of its multiplicity."""
    compiled = patternc.compile(text, heads=HEADS, kv_heads=1)
    masks = TritonKernels().emit(compiled.program, HEADS, 1).masks
    plan = few_ready(masks, n=N, n_q=n_q, batch=1, kv_heads=1, device=CPU, tile=tile).plan
    m, n = compiled.mask(N).long(), N - STRETCH + 5
    assert torch.equal(compiled.mask(n).long(), m[:, :n, :n])
    full, partial = torch.zeros_like(m), torch.zeros_like(m).bool()
    for launch in plan.launches:
        for term in launch.terms:
            for row, tile_k, kind, weight in _tiles(term.by_query):
                queries, keys = (torch.tensor(_held(*side)) for side in ((launch.queries, row), (term.keys, tile_k)))
                for head in launch.heads:
                    if kind == FULL:
                        full[head, queries[:, None], keys] += weight
                        assert bool((keys.max() <= queries.clamp(min=N - STRETCH)).all())
                    else:
                        partial[head, queries[:, None], keys] = True
    asked = slice(N - plan.n_q, N)
    assert bool((partial | (full == m))[:, asked].all())
