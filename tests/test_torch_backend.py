"""The torch backend: it executes plans tile by tile, and agrees with dense attention."""

from __future__ import annotations

import itertools
import subprocess
import sys

import fifteen
import pytest
import tile_plans
import torch

import patternc
from patternc.analysis import planner
from patternc.analysis.arrays import NUMPY
from patternc.backends import torch_masks, torch_pieces, torch_run
from patternc.backends.reference import Reference
from patternc.backends.reference import attention as dense
from patternc.backends.torch_arrays import TorchArrays
from patternc.backends.torch_function import attention, computed_in
from patternc.backends.torch_masks import Masks
from patternc.backends.torch_passes import Call, counting
from patternc.backends.torch_schedule import schedule
from patternc.backends.torch_tiles import TorchTiles, TorchTilesArtifact

Tensors = list[torch.Tensor]


def positions(n_q: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(n - n_q, n)[:, None], torch.arange(n)[None, :]


def draw_m(kind: str, heads: int, n_q: int, n: int) -> torch.Tensor:
    """Multiplicities (heads, n_q, n), or with a batch axis of 2."""
    q, k = positions(n_q, n)
    match kind:
        case "window":
            return ((q - k >= 0) & (q - k < 11)).long().expand(heads, n_q, n)
        case "causal":
            return (q >= k).long().expand(heads, n_q, n)
        case "hubs":  # rows with many tiles and rows with few, and full tiles
            return ((q < 5) | (k < 9) | ((q - k).abs() < 3)).long().expand(heads, n_q, n)
        case "heads":  # every head its own, and empty rows
            return torch.stack([((q - k) % (h + 2) == 0) & (k <= q - h) for h in range(heads)]).long()
        case "bag":  # weights above 1, in full tiles too
            return ((q >= k).long() + 2 * (q - k > 12) + (q % 3 == k % 3)).expand(heads, n_q, n)
        case "dots":
            return (torch.rand(heads, n_q, n) < 0.01).long()
        case "documents":
            ids = torch.randint(0, 4, (2, n)).sort(dim=1).values
            same = (ids[:, n - n_q :, None] == ids[:, None, :]) & (q >= k)
            return same.long()[:, None].expand(2, heads, n_q, n)
        case "empty":
            return torch.zeros(heads, n_q, n, dtype=torch.int64)
    raise AssertionError(kind)


KINDS = ("window", "causal", "hubs", "heads", "bag", "dots", "documents", "empty")


def call_of(
    m: torch.Tensor, kv_heads: int, dtype: torch.dtype, tile_q: int = 16, tile_k: int = 8, **options: float
) -> Call:
    """A call that executes a brute-force plan of M."""
    plan = tile_plans.brute_force(m, tile_q, tile_k)
    full = m if m.ndim == 4 else m.expand(2, *m.shape)
    shift = plan.n - plan.n_q
    cells = lambda q, k, head, row: full[row, head][(q - shift).expand(*_shape(q, k)), k.expand(*_shape(q, k))]
    masks = Masks(cells, range(plan.heads), range(2), bool((m > 1).any()), keep=False, home=torch.device("cpu"))
    s = schedule(plan, kv_heads, 2, torch.device("cpu"))
    given = {"scale": 0.3, "dropout_p": 0.0, "seed": 0, **options}
    return Call(s, masks, dtype=computed_in(dtype), **given)


def _shape(q: torch.Tensor, k: torch.Tensor) -> torch.Size:
    return torch.broadcast_shapes(q.shape, k.shape)


def draw(
    heads: int, kv_heads: int, n_q: int, n: int, dtype: torch.dtype = torch.float64, dim: int = 8, dim_v: int = 5
) -> Tensors:
    shapes = ((heads, n_q, dim), (kv_heads, n, dim), (kv_heads, n, dim_v))
    return [torch.randn(2, *shape, dtype=dtype).requires_grad_() for shape in shapes]


def results(function, tensors: Tensors, *, of_lse: bool = True) -> Tensors:
    """Output, lse, dq, dk, dv under a fixed random direction."""
    out, lse = function(*tensors)
    generator = torch.Generator().manual_seed(1)
    loss = (out * torch.randn(out.shape, dtype=torch.float64, generator=generator).to(out.dtype)).sum()
    if of_lse:
        finite = torch.where(lse == -torch.inf, 0, lse)
        loss = loss + (finite * torch.randn(lse.shape, dtype=torch.float64, generator=generator).to(lse.dtype)).sum()
    return [out, lse, *torch.autograd.grad(loss, tensors)]


def assert_accurate(found: Tensors, eager: Tensors, exact: Tensors) -> None:
    """The rule of accuracy: at most twice the error of the eager computation, and a floor for tiny rows."""
    eps = torch.finfo(found[0].dtype).eps
    for name, f, e, x in zip(("out", "lse", "dq", "dk", "dv"), found, eager, exact, strict=True):
        finite = x.isfinite()
        assert torch.equal(f.double()[~finite], x[~finite]), name
        ours, theirs = ((t.double() - x)[finite].abs().max() for t in (f, e))
        assert ours <= 2 * theirs + 4 * eps * x[finite].abs().max(), (name, ours, theirs)


@pytest.mark.parametrize("budget", [1 << 10, 1 << 21])
@pytest.mark.parametrize(("n_q", "n"), [(1, 1), (37, 37), (48, 48), (5, 61), (1, 40)])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_dense_attention(kind: str, n_q: int, n: int, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64 to 1e-10, with all of a row's tiles at once and with few at a time."""
    monkeypatch.setitem(torch_pieces.BUDGET, "cpu", budget)
    torch.manual_seed(n)
    m = draw_m(kind, 4, n_q, n)
    tensors = draw(4, 2, n_q, n)
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
    monkeypatch.setitem(torch_pieces.BUDGET, "cpu", 1 << 13)
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
    by_query, by_key = tile_plans.tiles(tile_plans.brute_force(m, 16, 8), 2)
    assert (counter["forward"], counter["dq"], counter["dkv"]) == (by_query, by_query, by_key)


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


@pytest.mark.parametrize("case", [*fifteen.CASES, *fifteen.ON_GRIDS, *fifteen.HALVED], ids=str)
def test_fifteen_programs(case: fifteen.Case) -> None:
    n = 72 if case in (*fifteen.ON_GRIDS, *fifteen.HALVED) else 150
    text = (fifteen.EXAMPLES / f"{case.name}.spat").read_text()
    program = patternc.compile(text, case.name, heads=case.heads, layer=case.layer, **case.params).program
    given = {name: torch.from_numpy(t) for name, t in fifteen.tensors_of(case, n).items()}
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
    assert tally == dict.fromkeys(("forward", "dq", "dkv"), tile_plans.tiles(plan, 2)[0])


def test_tiles_are_as_large_as_pays() -> None:
    ready = lambda text, **tensors: emit(text).ready(1024, 1024, 1, torch.device("cpu"), tensors).plan.tile_q
    assert ready("pattern p() = causal") == 128
    assert ready("pattern p() = blocks(64) { q -> k : (q - k) % 4 == 0 }") == 64
    assert ready(DOCUMENTS, doc=torch.arange(1024)[None] // 64) == 128


def test_planning_on_tensors_gives_the_plan_of_numpy() -> None:
    for case in fifteen.CASES:
        program = patternc.compile(fifteen.EXAMPLES / f"{case.name}.spat", case.name, heads=case.heads, **case.params)
        given = fifteen.tensors_of(case, 90)
        plans = [
            planner.plan(program.program, heads=case.heads, n=90, tensors=given, tile_q=8, tile_k=16, xp=xp)
            for xp in (NUMPY, TorchArrays("cpu"))
        ]
        assert len(plans[0].launches) == len(plans[1].launches)
        for a, b in zip(plans[0].launches, plans[1].launches, strict=True):
            assert (a.heads, a.batch) == (b.heads, b.batch)
            for name in ("rows", "first", "count", "kind", "weight"):
                assert (getattr(a.by_query, name) == getattr(b.by_query, name).numpy()).all()
                assert (getattr(a.by_key, name) == getattr(b.by_key, name).numpy()).all()


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
