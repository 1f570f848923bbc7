"""Plans that the device makes by itself: CUDA says whether the host waited for it, and a CUDA graph is replayed with
other tensors."""

from __future__ import annotations

import pytest
import torch
from cuda_graphs import captured

import patternc
from patternc.backends import triton_drawn

N, HEADS, BATCH = 1000, 4, 2
DOCUMENTS = "pattern d(ids: int[batch, n]) = causal & { q -> k : ids[q] == ids[k] }"
STRIDED = "pattern d(ids: int[batch, n]) = causal & { q -> k : ids[q] == ids[k] and (q - k) % 16 == 0 }"
BAG = "pattern b(x: float[batch, n]) = { q -> k : x[q] < 0.3 * x[k] + 0.1 } + { q -> k : q - k < 5 }"
HEADED = (
    "pattern m(ids: int[batch, n], f: bool[n], p: int[batch]) = causal & match h % 2 "
    "{ 0 => { q -> k : ids[q] == ids[k] and q - k < p }, 1 => { q -> k : f[q] or q - k < 3 } }"
)
SOURCES = {"documents": DOCUMENTS, "strided": STRIDED, "bag": BAG, "heads": HEADED, "longformer": "std/longformer"}


def drawn(name, seed):
    """A run-time tensor by its name."""
    g = torch.Generator().manual_seed(seed)
    made = {
        "ids": torch.sort(torch.randint(0, 3 + 5 * seed, (BATCH, N), generator=g), 1)[0],
        "x": torch.randn(BATCH, N, generator=g, dtype=torch.float64).cumsum(1),
        "f": torch.rand(N, generator=g) < 0.1,
        "p": torch.tensor([100, 400]),
        "is_global": torch.rand(BATCH, N, generator=g) < 0.02,
    }
    return made[name].cuda()


def compiled(name):
    return patternc.compile(SOURCES[name], heads=HEADS, kv_heads=2, backend="triton")


def inputs(n_q=N, dim=64):
    torch.manual_seed(0)
    shapes = (BATCH, HEADS, n_q, dim), (BATCH, 2, N, dim), (BATCH, 2, N, dim)
    q, k, v = (torch.randn(s, device="cuda", dtype=torch.bfloat16, requires_grad=True) for s in shapes)
    return q, k, v, torch.randn_like(q)


def both(attention, q, k, v, d, given):
    out = attention(q, k, v, **given)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), d)]


@pytest.mark.parametrize("n_q", [N, 300])
@pytest.mark.parametrize("name", [*list(SOURCES)[:-1], pytest.param("longformer", marks=pytest.mark.memcheck)])
def test_nothing_waits_and_all_is_right(name, n_q):
    attention = compiled(name)
    q, k, v, d = inputs(n_q)
    names = [t.name for t in attention.program.tensors]
    both(attention, q, k, v, d, {name: drawn(name, 0) for name in names})
    given = {name: drawn(name, 1) for name in names}
    assert attention._artifact("triton").executor.ready(q, k, v, list(given.values())).drawn is not None
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = both(attention, q, k, v, d, given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    double = [t.detach().double().requires_grad_() for t in (q, k, v)]
    out = attention.run("reference", *double, tensors=given)
    for a, b in zip(found, [out, *torch.autograd.grad(out, double, d.double())], strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-2, atol=4e-2)
    again = both(attention, q, k, v, d, given)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize("name", ["documents", "longformer"])
def test_a_graph_follows_its_tensors(name):
    attention = compiled(name)
    q, k, v, d = inputs()
    (tensor,) = (t.name for t in attention.program.tensors)
    given = {tensor: drawn(tensor, 0)}
    replay, held = captured(lambda: both(attention, q, k, v, d, given))
    for seed in (1, 2, 0):
        given[tensor].copy_(drawn(tensor, seed))
        replay()
        now = both(attention, q, k, v, d, {tensor: drawn(tensor, seed)})
        assert all(torch.equal(a, b) for a, b in zip(held, now, strict=True))


LONG = 16384
FEW = {"documents": DOCUMENTS, "bag": BAG, "longformer": "std/longformer"}


def long_drawn(name, share):
    """A run-time tensor of LONG tokens, of which the last ones, a share, are read by all queries that are among the
    last ones, or which has so many hubs."""
    place = torch.arange(LONG)
    if name == "ids":
        return (place >= LONG * (1 - share)).long().expand(BATCH, LONG).contiguous().cuda()
    if name == "x":
        return torch.where(place >= LONG * (1 - share), -1.0, -9.0).double().expand(BATCH, LONG).contiguous().cuda()
    return (
        (place % (LONG // 4) == (LONG - 1 if share > 0.5 else 77) % (LONG // 4)).expand(BATCH, LONG).contiguous().cuda()
    )


def cut_rows(made, major):
    """How many rows are cut, over all steps."""
    steps = [step for step in getattr(made.schedule, major) if step.drawn_merge]
    lines = [made.tables(major)[step.drawn_merge["followers"]].view(-1, 8) for step in steps]
    return sum(int(t[: len(s.tables.followers), 4].sum()) for s, t in zip(steps, lines, strict=True))


def few_inputs(n_q):
    """The last queries of LONG tokens, and the incoming gradient."""
    torch.manual_seed(0)
    shapes = (BATCH, HEADS, n_q, 64), (BATCH, 2, LONG, 64), (BATCH, 2, LONG, 64)
    q, k, v = (torch.randn(s, device="cuda", dtype=torch.bfloat16, requires_grad=True) for s in shapes)
    return q, k, v, torch.randn_like(q)


@pytest.mark.parametrize("n_q", [1, 200])
@pytest.mark.parametrize("name", [pytest.param("documents", marks=pytest.mark.memcheck), "bag", "longformer"])
def test_long_rows_are_cut(name, n_q):
    """Of decoding, and of a chunk."""
    attention = patternc.compile(FEW[name], heads=HEADS, kv_heads=2, backend="triton")
    q, k, v, d = few_inputs(n_q)
    (tensor,) = (t.name for t in attention.program.tensors)
    cut = []
    for share in (1.0, 0.01):
        given = {tensor: long_drawn(tensor, share)}
        made = attention._artifact("triton").executor.ready(q, k, v, list(given.values()))
        cut.append(cut_rows(made, "by_query"))
        found = both(attention, q, k, v, d, given)
        double = [t.detach().double().requires_grad_() for t in (q, k, v)]
        out = attention.run("torch", *double, tensors=given)
        for a, b in zip(found, [out, *torch.autograd.grad(out, double, d.double())], strict=True):
            torch.testing.assert_close(a.double(), b, rtol=2e-2, atol=4e-2)
    assert cut[0] > cut[1]


@pytest.mark.parametrize("n_q", [1, 200])
@pytest.mark.parametrize("name", FEW)
def test_a_graph_follows_tensors_that_cut_other_rows(name, n_q):
    attention = patternc.compile(FEW[name], heads=HEADS, kv_heads=2, backend="triton")
    q, k, v, d = few_inputs(n_q)
    (tensor,) = (t.name for t in attention.program.tensors)
    given = {tensor: long_drawn(tensor, 1.0)}
    replay, held = captured(lambda: both(attention, q, k, v, d, given))
    for share in (1.0, 0.5, 0.01):
        now = {tensor: long_drawn(tensor, share)}
        given[tensor].copy_(now[tensor])
        replay()
        assert all(torch.equal(a, b) for a, b in zip(held, both(attention, q, k, v, d, now), strict=True))


def test_under_torch_compile():
    attention = compiled("documents")
    q, k, v, d = inputs()
    traced = torch.compile(lambda q, k, v, ids: attention(q, k, v, ids=ids), fullgraph=True)
    for seed in (0, 1):
        ids = drawn("ids", seed)
        out = traced(q, k, v, ids)
        found = [out.detach(), *torch.autograd.grad(out, (q, k, v), d)]
        assert all(torch.equal(a, b) for a, b in zip(found, both(attention, q, k, v, d, {"ids": ids}), strict=True))


def counted(made):
    """The tiles that programs by query compute, over all heads and batch rows."""
    total = 0
    for step in made.schedule.by_query:
        room = step.tables.items
        items, followers = (
            made.tables("by_query")[step.drawn[name]][: table.numel()].view_as(table) if name in step.drawn else table
            for name, table in (("items", room), ("followers", step.tables.followers))
        )
        for first, count in followers[:, 3:5].tolist():
            total += int(items[first : first + count, 2].sum())
    return total


@pytest.mark.parametrize("name", ["documents", "strided"])
def test_as_fast_a_plan_as_the_planner_that_waits(name, monkeypatch):
    """The outputs of both planners agree, and so do the numbers of tiles of sorted documents."""
    attention = compiled(name)
    q, k, v, d = inputs()
    given = {"ids": drawn("ids", 1)}
    found = both(attention, q, k, v, d, given)
    executor = attention._artifact("triton").executor
    mine = executor.ready(q, k, v, list(given.values()))
    tiles = counted(mine)
    monkeypatch.setattr(triton_drawn, "enqueued", lambda device: False)
    theirs = executor.ready(q, k, v, list(given.values()))
    assert theirs.drawn is None
    assert tiles == counted(theirs)
    for a, b in zip(found, both(attention, q, k, v, d, given), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2)
