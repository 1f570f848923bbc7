"""The torch backend: it executes plans tile by tile, and agrees with dense attention."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import fields

import fifteen
import layout_plans
import pytest
import torch
from drawn import in_torch
from executed import KINDS, Tensors, call_of, draw, draw_m, results

import patternc
from patternc.analysis import planner
from patternc.analysis.arrays import NUMPY
from patternc.backends import torch_masks, torch_passes, torch_pieces, torch_run
from patternc.backends.reference import Reference
from patternc.backends.reference import attention as dense
from patternc.backends.torch_arrays import TorchArrays
from patternc.backends.torch_function import attention, computed_in
from patternc.backends.torch_passes import counting
from patternc.backends.torch_tiles import TorchTiles, TorchTilesArtifact
from patternc.plan import Launch, Runs


def assert_accurate(found: Tensors, eager: Tensors, exact: Tensors) -> None:
    """The rule of accuracy: at most twice the error of the eager computation, and a floor for tiny rows."""
    eps = torch.finfo(found[0].dtype).eps
    for name, f, e, x in zip(("out", "lse", "dq", "dk", "dv"), found, eager, exact, strict=True):
        finite = x.isfinite()
        assert torch.equal(f.double()[~finite], x[~finite]), name
        ours, theirs = ((t.double() - x)[finite].abs().max() for t in (f, e))
        assert ours <= 2 * theirs + 4 * eps * x[finite].abs().max(), (name, ours, theirs)


@pytest.fixture(params=["fused", "few", "many"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By PyTorch's fused kernel, or by plain products with few or many scores at a time."""
    monkeypatch.setattr(torch_pieces, "ELEMENTS", 1 << 9)
    if request.param != "fused":
        monkeypatch.setattr(torch_passes, "fused_works", lambda dtype: False)
        monkeypatch.setitem(torch_pieces.SCORES, "cpu", 1 << (10 if request.param == "few" else 21))


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize(("n_q", "n"), [(1, 1), (37, 37), (48, 48), (5, 61), (1, 40)])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_dense_attention(kind: str, n_q: int, n: int) -> None:
    """In float64 to 1e-10."""
    torch.manual_seed(n)
    m = draw_m(kind, 4, n_q, n)
    tensors = draw(4, 2, n_q, n, dim_v=8)
    found = results(lambda *t: attention(call_of(m, 2, torch.float64), *t), tensors)
    expected = results(lambda *t: dense(*t, m, 0.3), tensors)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", ["hubs", "bag"])
def test_accuracy(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    m = draw_m(kind, 4, 90, 100)
    tensors = draw(4, 4, 90, 100, dtype)
    exact = results(lambda *t: dense(*t, m, 0.3), [t.detach().double().requires_grad_() for t in tensors])
    eager = results(lambda *t: dense(*t, m, 0.3), tensors)
    found = results(lambda *t: attention(call_of(m, 4, dtype), *t), tensors)
    assert [t.dtype for t in found] == [dtype, computed_in(dtype), dtype, dtype, dtype]
    assert_accurate(found, eager, exact)


@pytest.mark.parametrize("kv_heads", [1, 2, 3, 6])
def test_groups_of_heads(kv_heads: int) -> None:
    """Heads of one schedule may read key heads unevenly."""
    torch.manual_seed(0)
    m = draw_m("window", 6, 30, 30).clone()
    m[[0, 3, 4]] = draw_m("causal", 1, 30, 30)
    tensors = draw(6, kv_heads, 30, 30)
    found = results(lambda *t: attention(call_of(m, kv_heads, torch.float64), *t), tensors)
    for f, e in zip(found, results(lambda *t: dense(*t, m, 0.3), tensors), strict=True):
        torch.testing.assert_close(f, e, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["window", "heads", "bag"])
def test_strides(kind: str) -> None:
    torch.manual_seed(0)
    m = draw_m(kind, 4, 33, 33)
    plain = draw(4, 2, 33, 33)
    strided = [t.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for t in plain]
    first = results(lambda *t: attention(call_of(m, 2, torch.float64), *t), plain)
    second = results(lambda *t: attention(call_of(m, 2, torch.float64), *t), strided)
    for f, e in zip(first, second, strict=True):
        assert torch.equal(f, e)


@pytest.mark.parametrize("kind", ["window", "dots", "documents", "hubs"])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_dropout_is_that_of_the_reference(kind: str, kv_heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(torch_pieces.SCORES, "cpu", 1 << 13)
    torch.manual_seed(0)
    m = draw_m(kind, 4, 30, 45)
    tensors = draw(4, kv_heads, 30, 45)
    found = results(lambda *t: attention(call_of(m, kv_heads, torch.float64, dropout_p=0.4, seed=9), *t), tensors)
    expected = results(lambda *t: dense(*t, m, 0.3, 0.4, 9), tensors)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["heads", "dots", "documents", "bag"])
def test_what_nobody_reads_changes_nothing(kind: str, bad: float) -> None:
    torch.manual_seed(0)
    m = draw_m(kind, 4, 40, 40).clone()
    m[..., 17] = 0
    m[..., 30:34] = 0
    m[..., 21, :] = 0
    tensors = draw(4, 2, 40, 40)
    spoilt = [t.detach().clone() for t in tensors]
    reads = (m > 0).any(-2)
    unread = ~reads.expand(2, *reads.shape[-2:]).view(2, 2, 2, 40).any(2)
    empty = ~(m > 0).any(-1).expand(2, 4, 40)
    spoilt[0][empty] = bad
    spoilt[1][unread] = bad
    spoilt[2][unread] = bad
    call = call_of(m, 2, torch.float64)
    first = results(lambda *t: attention(call, *t), tensors)
    second = results(lambda *t: attention(call, *t), [t.requires_grad_() for t in spoilt])
    for f, e in zip(first, second, strict=True):
        assert torch.equal(f, e)


def test_same_inputs_same_bits() -> None:
    torch.manual_seed(0)
    m = draw_m("dots", 4, 200, 200)
    tensors = draw(4, 1, 200, 200, torch.float32)
    first, second = (results(lambda *t: attention(call_of(m, 1, torch.float32), *t), tensors) for _ in range(2))
    for f, e in zip(first, second, strict=True):
        assert torch.equal(f, e)


@pytest.mark.parametrize("kind", KINDS)
def test_executes_the_tiles_of_the_plan(kind: str) -> None:
    torch.manual_seed(0)
    m = draw_m(kind, 4, 50, 70)
    with counting() as counter:
        results(lambda *t: attention(call_of(m, 2, torch.float64), *t), draw(4, 2, 50, 70))
    by_query, by_key = layout_plans.tiles(layout_plans.plain(m, 16, 8), 2)
    assert counter == {"forward": by_query, "backward": by_key}


@pytest.mark.parametrize(("of_out", "of_lse"), list(itertools.product([False, True], repeat=2)))
def test_gradients_of_one_result(of_out: bool, of_lse: bool) -> None:
    torch.manual_seed(0)
    m = draw_m("window", 2, 20, 20)
    tensors = draw(2, 2, 20, 20)
    both = attention(call_of(m, 2, torch.float64), *tensors)
    expected = dense(*tensors, m, 0.3)
    wanted = [i for i, use in enumerate((of_out, of_lse)) if use]
    if wanted:
        found = torch.autograd.grad(sum(both[i].sum() for i in wanted), tensors, allow_unused=True)
        right = torch.autograd.grad(sum(expected[i].sum() for i in wanted), tensors, allow_unused=True)
        for f, e in zip(found, right, strict=True):
            torch.testing.assert_close(f, torch.zeros_like(f) if e is None else e, rtol=1e-10, atol=1e-12)


def test_second_order_gradients_are_refused() -> None:
    tensors = draw(1, 1, 8, 8)
    out, _ = attention(call_of(draw_m("causal", 1, 8, 8), 1, torch.float64), *tensors)
    (dq,) = torch.autograd.grad(out.sum(), tensors[0], create_graph=True)
    with pytest.raises(RuntimeError, match="no second-order gradients"):
        dq.sum().backward()


# ------------------------------------------------------------------ from a program to results


def emit(text: str, heads: int = 2, kv_heads: int | None = None, **params: object) -> TorchTilesArtifact:
    return TorchTiles().emit(patternc.compile(text, heads=heads, **params).program, heads, kv_heads or heads)


LOCAL = "pattern local(window: tokens) = { q -> k : 0 <= q - k < window }"
DOCUMENTS = "pattern documents(doc: int[batch, n]) = causal & { q -> k : doc[q] == doc[k] }"


@pytest.mark.parametrize("case", fifteen.ALL, ids=str)
def test_fifteen_programs(case: fifteen.Case) -> None:
    n = case.length(150)
    program = case.compiled().program
    given = in_torch(fifteen.tensors_of(case, n))
    for n_q in (n, 67):
        tensors = draw(case.heads, 1, n_q, n)
        artifacts = [kind.emit(program, case.heads, 1) for kind in (TorchTiles(), Reference())]
        both = [results(lambda *t, a=a: a(*t, return_lse=True, tensors=given), tensors) for a in artifacts]
        for f, e in zip(*both, strict=True):
            torch.testing.assert_close(f, e, rtol=1e-10, atol=1e-12)


def test_plans_are_kept_and_forgotten() -> None:
    artifact = emit(LOCAL, window=5)
    device = torch.device("cpu")
    first = artifact.ready(20, 20, 2, device, {})
    assert artifact.ready(20, 20, 2, device, {}) is first
    for n in range(21, 21 + torch_run.KEPT_PLANS):
        artifact.ready(n, n, 2, device, {})
    assert artifact.ready(20, 20, 2, device, {}) is not first


def test_plans_of_run_time_tensors_are_made_anew() -> None:
    artifact = emit(DOCUMENTS)
    tensors = draw(2, 2, 20, 20)
    for split in (5, 13):
        doc = (torch.arange(20) >= split).long().expand(2, 20)
        m = artifact(*tensors, tensors={"doc": doc})
        expected = Reference().emit(artifact.program, 2, 2)(*tensors, tensors={"doc": doc})
        torch.testing.assert_close(m, expected, rtol=1e-10, atol=1e-12)


def test_a_batch_of_none() -> None:
    q, k, v = (torch.randn(0, 2, 9, 4, requires_grad=True) for _ in range(3))
    for artifact, tensors in ((emit(LOCAL, window=5), {}), (emit(DOCUMENTS), {"doc": torch.zeros(0, 9).long()})):
        out, lse = artifact(q, k, v, return_lse=True, tensors=tensors)
        assert (out.shape, lse.shape) == ((0, 2, 9, 4), (0, 2, 9))
        assert [g.shape for g in torch.autograd.grad(out.sum(), (q, k, v))] == [q.shape] * 3


def test_kept_masks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    tensors = draw(2, 1, 200, 200, torch.float32)
    artifact = emit("pattern p() = causal + { q -> k : (q - k) % 3 == h }", kv_heads=1)
    once, again = (results(lambda *t: artifact(*t, return_lse=True), tensors) for _ in range(2))
    monkeypatch.setattr(torch_masks, "KEPT_BYTES", 0)
    fresh = emit("pattern p() = causal + { q -> k : (q - k) % 3 == h }", kv_heads=1)
    never = results(lambda *t: fresh(*t, return_lse=True), tensors)
    for a, b, c in zip(once, again, never, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_executes_the_tiles_that_the_planner_keeps() -> None:
    artifact = emit(LOCAL, window=100)
    with counting() as tally:
        results(lambda *t: artifact(*t, return_lse=True), draw(2, 2, 300, 400))
    plan = artifact.ready(400, 300, 2, torch.device("cpu"), {}).plan
    assert tally == dict.fromkeys(("forward", "backward"), layout_plans.tiles(plan, 2)[0])


def test_tiles_are_as_large_as_pays() -> None:
    ready = lambda text, **tensors: emit(text).ready(1024, 1024, 1, torch.device("cpu"), tensors).plan.tile_q
    assert ready("pattern p() = causal") == 128
    assert ready("pattern p() = blocks(64) { q -> k : (q - k) % 4 == 0 }") == 64
    assert ready(DOCUMENTS, doc=torch.arange(1024)[None] // 64) == 128


def test_planning_on_tensors_gives_the_plan_of_numpy() -> None:
    for case in fifteen.CASES:
        program = case.compiled()
        given = fifteen.tensors_of(case, 90)
        plans = [
            planner.plan(program.program, heads=case.heads, n=90, tensors=given, tile_q=8, tile_k=16, xp=xp)
            for xp in (NUMPY, TorchArrays("cpu"))
        ]
        assert len(plans[0].launches) == len(plans[1].launches)
        for a, b in zip(plans[0].launches, plans[1].launches, strict=True):
            assert (a.heads, a.batch) == (b.heads, b.batch)
            for x, y in zip(tables(a), tables(b), strict=True):
                assert all((getattr(x, f.name) == getattr(y, f.name).numpy()).all() for f in fields(Runs))


def tables(launch: Launch) -> list[Runs]:
    return [runs for term in launch.terms for runs in (term.by_query, term.by_key)]


def test_autocast_does_not_lower_the_precision() -> None:
    torch.manual_seed(0)
    tensors = draw(2, 2, 40, 40, torch.float32)
    artifact = emit(LOCAL, window=9)
    plain = results(lambda *t: artifact(*t, return_lse=True), tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = results(lambda *t: artifact(*t, return_lse=True), tensors)
    for f, e in zip(inside, plain, strict=True):
        assert torch.equal(f, e)


LONG = """
import resource, torch, patternc
torch.set_num_threads(1)
n = 131072
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
attention = patternc.compile("std/local", heads=1, backend="torch", window=1024)
small = [torch.randn(1, 1, 300, 64, requires_grad=True) for _ in range(3)]
attention(*small).sum().backward()
tensors = [torch.randn(1, 1, n, 64, requires_grad=True) for _ in range(3)]
before = peak()
out = attention(*tensors)
out.backward(torch.ones_like(out))
outputs = sum(t.nbytes for t in (out, *(t.grad for t in tensors))) / 2**20
print(peak() - before - outputs)
"""


def test_memory_at_131072_tokens() -> None:
    """Forward and backward need at most 512 MiB beside inputs and outputs (the gradient given is counted as ours)."""
    done = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=True)
    assert float(done.stdout) <= 512
