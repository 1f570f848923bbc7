"""Plans that a device makes by itself, in Triton's interpreter: never wrong, as good as those of the planner that waits
where enclosures decide, and enqueued without waiting for a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

import drawn_tables
from axes import layouts
from brute import TENSORS, Brute, conditions, tensors
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import patternc
from patternc import ir
from patternc.arrangement import Arrangement, HeadClass, Term
from patternc.backends import triton_cuts, triton_drawn
from patternc.backends.inputs import Declared
from patternc.backends.triton_drawn import DrawnPlans
from patternc.backends.triton_launch import Recipe
from patternc.backends.triton_mask import UnsupportedPatternError
from patternc.backends.triton_masks import Masks
from patternc.backends.triton_plans import Ready, ready
from patternc.errors import SpatError

pytestmark = pytest.mark.usefixtures("small_tiles")
CPU = torch.device("cpu")
Q, K, N = ir.Var("q"), ir.Var("k"), ir.Var("n")
DIMS = {"mask": (N, N), "table": (ir.Const(3), N)}
MAJORS = ("by_query", "by_key")
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "repeat_interleave", "unique", "equal", "is_nonzero")


@pytest.fixture(autouse=True, scope="module")
def here():
    """Plans are made so on the CPU too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_drawn, "enqueued", lambda device: True)
        yield


@contextmanager
def pieces_of(least: int) -> Iterator[None]:
    """Plans whose pieces have so many tiles at least."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_cuts, "LEAST_PIECE", least)
        yield


class Unwaited(TorchDispatchMode):
    """While it is entered, to wait for a tensor is an error."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert not any(word in str(function) for word in WAITING), f"the host waits for a tensor in {function}"
        return function(*args, **(kwargs or {}))


def arranged(pattern: ir.Pattern, *terms: Term) -> Arrangement:
    declared = tuple(ir.Tensor(name, kind, DIMS.get(name, (N,)), True) for name, kind in TENSORS.items())
    program = ir.Program("drawn", pattern, declared)
    return Arrangement(program, 2, (HeadClass((0, 1), pattern, terms or (Term(pattern),)),))


def batch(n: int, seed: int) -> dict[str, torch.Tensor]:
    rows = [tensors(n, seed + b) for b in range(2)]
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in TENSORS}


def made(
    arrangement: Arrangement, arrays: dict[str, torch.Tensor], n: int, n_q: int, tile: tuple[int, int]
) -> Ready | str:
    kinds = {t.name: t for t in arrangement.program.tensors}
    dims = {name: tuple(array.shape[1:]) for name, array in arrays.items()}
    declared = [Declared(name, kinds[name].element, dims[name], True) for name in arrays]
    wide = {"int": torch.int64, "float": torch.float64, "bool": torch.bool}
    types = {name: array.dtype for name, array in arrays.items()}
    checked = {d.name: arrays[d.name].to(wide[d.element]) for d in declared}
    plans = DrawnPlans(Masks.of(arrangement), 2, "")
    return plans.ready(declared, checked, types, n=n, n_q=n_q, batch=2, device=CPU, tile=tile)


def brute(pattern: ir.Pattern, arrays: dict[str, torch.Tensor], n: int, n_q: int) -> np.ndarray:
    mask = np.zeros((2, 2, n_q, n), int)
    for b, h in np.ndindex(2, 2):
        one = Brute(n, h, {name: array[b].numpy() for name, array in arrays.items()})
        mask[b, h] = [[one.cell(pattern, q, k) for k in range(n)] for q in range(n - n_q, n)]
    return mask


@settings(max_examples=25, deadline=None)
@given(conditions(0), st.integers(1, 40), st.integers(0, 9), st.data())
def test_plans_are_sound(condition: ir.Scalar, n: int, seed: int, data: st.DataObject) -> None:
    n_q, tile = data.draw(st.integers(1, n)), data.draw(st.sampled_from([(16, 16), (16, 32), (32, 16)]))
    pattern = ir.Where(condition)
    arrangement = arranged(pattern, Term(pattern, *(data.draw(layouts(t)) for t in tile)))
    arrays = batch(n, seed)
    try:
        with pieces_of(data.draw(st.sampled_from([1, 8]))):
            found = made(arrangement, arrays, n, n_q, tile)
    except (SpatError, UnsupportedPatternError, ValueError):
        assume(False)
    if isinstance(found, str):
        assume("candidate tiles" not in found)
        return
    mask = brute(pattern, arrays, n, n_q)
    by_query, by_key = (drawn_tables.tiles(found, major) for major in MAJORS)
    drawn_tables.check(by_query, mask)
    drawn_tables.check(by_key, mask)
    assert all(count > 1 for major in MAJORS for count in drawn_tables.cut_rows(found, major).values())


DOCUMENTS = "pattern d(ids: int[batch, n]) = causal & { q -> k : ids[q] == ids[k] }"
LOCAL = "pattern d(ids: int[batch, n]) = { q -> k : 0 <= q - k < 100 and ids[q] == ids[k] } + { q -> k : q - k < 40 }"
STRIDED = "pattern d(ids: int[batch, n]) = causal & { q -> k : ids[q] == ids[k] and (q - k) % 4 == 0 }"


@pytest.mark.parametrize("source", [DOCUMENTS, LOCAL, STRIDED], ids=["documents", "local", "strided"])
def test_sorted_documents_are_planned_as_by_the_planner_that_waits(source: str) -> None:
    """The ids of a tile's ends decide all but the tiles on a border, where cells of both kinds are."""
    artifact = patternc.compile(source, heads=2, backend="triton")._artifact("triton")
    executor, n, n_q = artifact.executor, 500, 372
    ids = torch.stack([torch.arange(n) // 100, (torch.arange(n) > 333).long()])
    declared = executor.pattern.declared(n)
    options = {"n": n, "n_q": n_q, "batch": 2, "device": CPU, "tile": (32, 16)}
    plans = DrawnPlans(executor.masks, 1, "")
    mine = plans.ready(declared, {"ids": ids}, {"ids": ids.dtype}, **options)
    assert isinstance(mine, Ready)
    theirs = ready(executor.masks, kv_heads=1, tensors={"ids": ids}, **options)
    for major in MAJORS:
        assert set(drawn_tables.tiles(mine, major)) == set(drawn_tables.tiles(theirs, major))
    other = plans.ready(declared, {"ids": ids * 0}, {"ids": ids.dtype}, **options)
    assert isinstance(other, Ready)
    assert other.schedule is mine.schedule, "what the length needs is made once"
    assert len(drawn_tables.tiles(other, "by_query")) > len(drawn_tables.tiles(mine, "by_query"))


CASES = {
    "documents": (DOCUMENTS, 2, 1),
    "bag": (LOCAL, 1, 1),
    "longformer": ("std/longformer", 4, 2),
    "heads": (
        "pattern m(ids: int[batch, n], f: bool[n], p: int[batch]) = causal & match h % 2 "
        "{ 0 => { q -> k : ids[q] == ids[k] and q - k < p }, 1 => { q -> k : f[q] or q - k < 3 } }",
        2,
        1,
    ),
}


def values(name: str, n: int, seed: int) -> torch.Tensor:
    """A run-time tensor by its name."""
    g = torch.Generator().manual_seed(seed)
    match name:
        case "ids":
            return torch.sort(torch.randint(0, 4, (2, n), generator=g), 1)[0]
        case "f":
            return torch.rand(n, generator=g) < 0.1
        case "p":
            return torch.tensor([30, 70])
    return torch.rand(2, n, generator=g) < 0.06


def inputs(heads: int, kv_heads: int, n: int, n_q: int) -> tuple[torch.Tensor, ...]:
    """q, k, v, and the incoming gradient."""
    torch.manual_seed(0)
    q = torch.randn(2, heads, n_q, 16, requires_grad=True)
    k, v = (torch.randn(2, kv_heads, n, 16, requires_grad=True) for _ in range(2))
    return q, k, v, torch.randn(2, heads, n_q, 16)


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(name: str) -> None:
    source, heads, kv_heads = CASES[name]
    compiled = patternc.compile(source, heads=heads, kv_heads=kv_heads, backend="triton")
    n, n_q = 90, 70
    q, k, v, d = inputs(heads, kv_heads, n, n_q)
    for seed in (0, 1):  # the second time with tables of the same template
        given = {t.name: values(t.name, n, seed) for t in compiled.program.tensors}
        ordered = [given[t.name] for t in compiled.program.tensors]
        assert compiled._artifact("triton").executor.ready(q, k, v, ordered).drawn is not None
        out = compiled(q, k, v, **given)
        expected = compiled.run("reference", q.double(), k.double(), v.double(), tensors=given)
        torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    found, wanted = (torch.autograd.grad(o, (q, k, v), g) for o, g in ((out, d), (expected, d.double())))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-5, atol=1e-5)


SUMS = "pattern b(x: float[batch, n]) = { q -> k : x[q] < 0.3 * x[k] + 0.1 } + { q -> k : q - k < 5 }"
HUBS = "pattern m(f: bool[n]) = { q -> k : f[q] or f[k] or 0 <= q - k < 3 }"
LONG = {
    "documents": (DOCUMENTS, 1, 1),
    "bag": (SUMS, 1, 1),
    "hubs": (HUBS, 1, 1),
    "longformer": ("std/longformer", 1, 1),
}


@pytest.mark.parametrize("name", LONG)
def test_cut_rows(name: str) -> None:
    """Outputs and gradients of rows that are cut, and of rows beside them that are not."""
    source, heads, kv_heads = LONG[name]
    compiled = patternc.compile(source, heads=heads, kv_heads=kv_heads, backend="triton")
    n, n_q = 122, 90
    q, k, v, d = inputs(heads, kv_heads, n, n_q)
    given = {t.name: long_values(t.name, n) for t in compiled.program.tensors}
    with pieces_of(1):
        plan = compiled._artifact("triton").executor.ready(q, k, v, list(given.values()))
        out = compiled(q, k, v, **given)
        found = torch.autograd.grad(out, (q, k, v), d)
        assert name != "documents" or torch.equal(out, compiled(q, k, v, **given))
    for major in MAJORS:
        assert drawn_tables.cut_rows(plan, major)
    expected = compiled.run("reference", q.double(), k.double(), v.double(), tensors=given)
    wanted = torch.autograd.grad(expected, (q, k, v), d.double())
    for a, b in zip((out, *found), (expected, *wanted), strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-5, atol=1e-5)


def long_values(name: str, n: int) -> torch.Tensor:
    """A run-time tensor by its name: one long document, then short ones; a hub or two."""
    place = torch.arange(n)
    if name == "ids":
        return torch.stack([place * 0, place // 20])
    if name == "x":
        return torch.stack([place * 0.0 - 1, (place % 50 - 25) * 0.1])
    return place == n - 3 if name == "f" else torch.stack([place == n - 1, place % 70 == 40])


@pytest.mark.parametrize("n_q", [1, 200, 640])
def test_rows_are_cut_as_by_the_planner_that_waits(n_q: int) -> None:
    """The same rows, into about as many pieces; none where there are enough of them for all processors."""
    executor = patternc.compile(DOCUMENTS, heads=8, backend="triton")._artifact("triton").executor
    n = 640
    ids = (torch.arange(n) >= 100).long()[None]
    options = {"n": n, "n_q": n_q, "batch": 1, "device": CPU, "tile": (16, 16)}
    mine = DrawnPlans(executor.masks, 8, "").ready(
        executor.pattern.declared(n), {"ids": ids}, {"ids": ids.dtype}, **options
    )
    assert isinstance(mine, Ready)
    theirs = ready(executor.masks, kv_heads=8, tensors={"ids": ids}, **options)
    found, wanted = (drawn_tables.cut_rows(made, "by_query") for made in (mine, theirs))
    assert found.keys() == wanted.keys()
    assert bool(found) == (n_q < n)
    assert all(abs(pieces - wanted[row]) <= 1 for row, pieces in found.items())


@pytest.mark.parametrize("source", [DOCUMENTS, STRIDED, "std/longformer"], ids=["documents", "strided", "longformer"])
def test_a_new_length_has_the_same_kernels(source: str) -> None:
    compiled = patternc.compile(source, heads=2, backend="triton")
    executor = compiled._artifact("triton").executor
    (name,) = (t.name for t in compiled.program.tensors)
    kernels = set()
    for n in (1000, 1024, 2048, 2500):  # 32 tiles of 32 tokens: numbers that are equal at one length only
        given = {name: torch.zeros(1, n, dtype=torch.bool if name == "is_global" else torch.int64)}
        declared = executor.pattern.declared(n)
        types = {name: given[name].dtype}
        made = DrawnPlans(executor.masks, 2, "").ready(
            declared, given, types, n=n, n_q=n, batch=1, device=CPU, tile=(32, 32)
        )
        assert isinstance(made, Ready)
        kernels.add(tuple(launch.kernel for launch in made.drawn.template.looking._launches))
    assert len(kernels) == 1


def test_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = patternc.compile("std/longformer", heads=4, kv_heads=2, backend="triton")
    executor = compiled._artifact("triton").executor
    q = torch.randn(2, 4, 140, 16)
    k = torch.randn(2, 2, 140, 16)
    executor.ready(q, k, k, [values("g", 140, 0)])
    monkeypatch.setattr(Recipe, "run", lambda *_: None)  # the interpreter itself looks at tensors
    flags = values("g", 140, 1)
    with Unwaited():
        made = executor.ready(q, k, k, [flags])
        assert made.tables("by_query")
        assert made.tables("by_key")


def test_what_is_counted_waits() -> None:
    """Selections and covers; and of more candidates than there is room for."""
    top = ir.Top(ir.Const(2), ir.Read("score", (K,)), ir.Where(ir.Const(True)))
    found = made(arranged(top), batch(20, 0), 20, 20, (16, 16))
    assert found == "covers and selections are counted"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_drawn, "MOST_PLACES", 3)
        same = ir.Where(ir.Compare("==", ir.Read("ids", (Q,)), ir.Read("ids", (K,))))
        assert "candidate tiles" in str(made(arranged(same), batch(64, 0), 64, 64, (16, 16)))
