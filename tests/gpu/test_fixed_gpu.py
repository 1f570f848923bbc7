"""Plans that the device makes by itself: CUDA says whether the host waited for it, and a CUDA graph is replayed with
other tensors."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

import patternc  # noqa: E402
from patternc.backends import triton_drawn  # noqa: E402

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
@pytest.mark.parametrize("name", SOURCES)
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
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            both(attention, q, k, v, d, given)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        held = both(attention, q, k, v, d, given)
    for seed in (1, 2, 0):
        given[tensor].copy_(drawn(tensor, seed))
        graph.replay()
        now = both(attention, q, k, v, d, {tensor: drawn(tensor, seed)})
        assert all(torch.equal(a, b) for a, b in zip(held, now, strict=True))


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
        items = made.tables("by_query")[step.drawn["items"]][: room.numel()].view_as(room) if step.drawn else room
        for first, count in step.tables.followers[:, 3:5].tolist():
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
