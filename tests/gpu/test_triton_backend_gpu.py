"""The triton backend on a CUDA device: accuracy, the same bits each time, graphs, and new lengths."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from cuda_graphs import captured
from fifteen import CASES, EXAMPLES

import patternc
from patternc.backends.triton_executor import KEPT_PLANS
from patternc.draws import draw
from patternc.nn import MultiheadAttention, PatternAttention

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32


@dataclass(frozen=True, eq=False)
class Case:
    """One call of one program. `dim` are the channels of queries and keys; dim_v = dim."""

    source: str
    n: int
    n_q: int | None = None
    heads: int = 4
    kv_heads: int = 4
    batch: int = 1
    dim: int = 64
    dtype: Any = BF16
    params: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        shape = f"n{self.n}-nq{self.n_q or self.n}-h{self.heads}of{self.kv_heads}-b{self.batch}-d{self.dim}-{dtype}"
        name = self.source.split("(")[0].removeprefix("pattern ")
        return f"{Path(name).stem}-{shape}"

    def compiled(self) -> patternc.Compiled:
        return patternc.compile(self.source, heads=self.heads, kv_heads=self.kv_heads, backend="triton", **self.params)


DILATED = "pattern dilated() = { q -> k : abs(q - k) <= 512 and (q - k) % 8 == 0 }"
HUBS = "pattern hubs() = { q -> k : abs(q - k) <= 64 or q < 40 or k < 70 or k % 16 == 3 }"
BAG = "pattern bag() = causal & ({ q -> k : q // 256 == k // 256 } + { q -> k : (q - k) % 4 == 0 })"
DOCUMENTS = "pattern documents(doc: int[batch, n]) = causal & { q -> k : doc[q] == doc[k] }"
STRIDED = (
    "pattern strided() = causal & match h % 2 { 0 => { q -> k : q - k < 96 }, 1 => { q -> k : (q - k) % 32 == 0 } }"
)
KINDS = [
    Case(DILATED, 2048, dim=128),
    Case(HUBS, 1777, 1500, heads=8, kv_heads=2, batch=2),
    Case(BAG, 1025, heads=6, kv_heads=3),
    Case(STRIDED, 1111, 600, heads=8, kv_heads=1, dtype=F16),
]
"""Together they start every kernel of attention."""
ACCURACY = [
    *(Case("std/local", 1000, dim=dim, params={"window": 200}) for dim in (16, 32, 64, 80, 128, 192, 256)),
    Case("std/local", 1000, dim=64, dtype=F16, params={"window": 200}),
    Case("std/local", 1000, dim=128, dtype=F16, params={"window": 200}),
    *(Case("std/local", 500, dim=dim, dtype=F32, params={"window": 200}) for dim in (64, 128, 256)),
    Case(DILATED, 1999, dim=64, dtype=F16),
    Case(HUBS, 1024, dim=128),
    Case(DOCUMENTS, 1300, batch=2),
    Case(DOCUMENTS, 700, 1, heads=8, kv_heads=1, batch=2, dim=128),
    Case("std/local", 4097, 1, heads=8, kv_heads=2, dim=128, params={"window": 1024}),
]


FIRST = [case for i, case in enumerate(CASES) if case.name not in {c.name for c in CASES[:i]}]
SOME = [
    Case(
        str(EXAMPLES / f"{case.name}.spat"), 311, heads=case.heads, kv_heads=case.heads, batch=2, dim=32,
        params={**case.params, "layer": case.layer},
    )
    for case in FIRST
]  # fmt: skip


def marked(case: Case) -> Any:
    """As a parameter of a test that memcheck.py runs."""
    return pytest.param(case, marks=pytest.mark.memcheck)


def tensors_of(attention: patternc.Compiled, n: int, batch: int) -> dict[str, Any]:
    drawn = draw(attention.program.tensors, n, heads=attention.heads, batch=batch)
    return {name: torch.as_tensor(array, device="cuda") for name, array in drawn.items()}


def inputs(case: Case) -> list[Any]:
    torch.manual_seed(0)
    shapes = [(case.heads, case.n_q or case.n), (case.kv_heads, case.n), (case.kv_heads, case.n)]
    return [
        torch.randn(case.batch, h, m, case.dim, device="cuda", dtype=case.dtype, requires_grad=True) for h, m in shapes
    ]


@pytest.mark.parametrize(
    "case", [*(pytest.param(c, marks=pytest.mark.memcheck) for c in KINDS), *ACCURACY, *SOME], ids=str
)
def test_accuracy(case: Case) -> None:
    report = patternc.verify(
        case.compiled(), n=case.n, n_q=case.n_q, batch=case.batch, head_dim=case.dim, dtype=case.dtype, device="cuda"
    )
    assert report.backend == "triton"
    assert report, str(report)


@pytest.mark.parametrize("case", [ACCURACY[2], marked(KINDS[1])], ids=str)
def test_same_bits(case: Case) -> None:
    attention = case.compiled()
    q, k, v = inputs(case)
    moved = [t.detach().clone().requires_grad_() for t in (q, k, v)]  # kernels are started again by addresses
    runs = []
    for given in ((q, k, v), moved, (q, k, v), moved):
        torch.manual_seed(1)
        out, lse = attention(*given, dropout_p=0.1, return_lse=True)
        runs.append((out, lse, *torch.autograd.grad(out.square().sum(), given)))
    for again in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], again, strict=True))


@pytest.mark.memcheck
def test_tensors_at_odd_places_and_with_other_strides() -> None:
    attention = Case("std/local", 300, dim=64, params={"window": 100}).compiled()
    case = Case("std/local", 300, dim=64, dtype=F32)
    q, k, v = inputs(case)
    expected = attention(q, k, v)
    for turn in (
        lambda t: t,
        lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
        lambda t: t.transpose(1, 2).contiguous().transpose(1, 2),
        lambda t: torch.nn.functional.pad(t, (0, 3))[..., :64],
    ):
        for _ in range(2):
            torch.testing.assert_close(attention(*(turn(t) for t in (q, k, v))), expected, rtol=1e-5, atol=1e-5)


def test_two_streams_and_two_threads() -> None:
    case = Case(HUBS, 1024, dim=128)
    attention = case.compiled()
    given = [[t.detach() * i for t in inputs(case)] for i in (1, 2)]
    expected = [attention(*tensors) for tensors in given]
    torch.cuda.synchronize()

    def call(i: int) -> list[Any]:
        with torch.cuda.stream(torch.cuda.Stream()):
            found = [attention(*given[i]) for _ in range(20)]
            torch.cuda.current_stream().synchronize()
        return found

    with ThreadPoolExecutor(2) as pool:
        for i, found in enumerate(pool.map(call, (0, 1))):
            assert all(torch.equal(out, expected[i]) for out in found)


@pytest.mark.memcheck
@pytest.mark.parametrize("spoilt", [float("nan"), float("inf")])
def test_what_nobody_reads_may_hold_anything(spoilt: float) -> None:
    gaps = "pattern gaps() = { q -> k : 0 <= q - k < 100 and k % 64 < 50 }"
    attention = Case(gaps, 700, dim=64).compiled()
    q, k, v = inputs(Case(gaps, 700, dim=64))
    unread = (torch.arange(700, device="cuda") % 64 >= 50)[:, None]
    results = []
    for filler in (0.0, spoilt, spoilt, 0.0):  # once through the JIT, then by addresses
        given = [q, *(t.detach().masked_fill(unread, filler).requires_grad_() for t in (k, v))]
        out = attention(*given)
        results.append((out, *torch.autograd.grad(out.square().sum(), given)))
    for found in results[1:]:
        assert all(t.isfinite().all() for t in found)
        for a, b in zip(found, results[0], strict=True):
            torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2)
    assert all(torch.equal(a, b) for a, b in zip(results[1], results[2], strict=True))


@pytest.mark.parametrize("source", ["std/local", DOCUMENTS], ids=["static", "run-time"])
def test_one_graph_under_torch_compile(source: str) -> None:
    case = Case(source, 900, dim=64)
    attention = case.compiled()
    tensors = tensors_of(attention, case.n, case.batch)
    q, k, v = inputs(case)

    def call(q: Any, k: Any, v: Any) -> Any:
        return attention(q * 2, k, v, **tensors).float().square().mean()

    found = torch.compile(call, fullgraph=True)(q, k, v)  # nothing was called before
    expected = call(q, k, v)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    for a, b in zip(*(torch.autograd.grad(x, (q, k, v)) for x in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=1e-5)


def test_compiled_to_cuda_graphs() -> None:
    case = Case(HUBS, 1024, dim=128)
    attention = case.compiled()

    def call(q: Any, k: Any, v: Any) -> Any:
        return attention(q * 2, k, v).float().square().mean()

    compiled = torch.compile(call, fullgraph=True, mode="reduce-overhead")
    for _ in range(4):
        q, k, v = (torch.randn_like(t).requires_grad_() for t in inputs(case))
        found = compiled(q, k, v)
        gradients = [t.clone() for t in torch.autograd.grad(found, (q, k, v))]
        expected = call(q, k, v)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
        for a, b in zip(gradients, torch.autograd.grad(expected, (q, k, v)), strict=True):
            torch.testing.assert_close(a, b, rtol=2e-2, atol=1e-5)


def test_modules_are_one_graph() -> None:
    x = torch.randn(2, 200, 256, device="cuda", dtype=BF16)
    padding = torch.arange(200, device="cuda") >= torch.tensor([[200], [150]], device="cuda")
    multihead = MultiheadAttention(256, 4, pattern="std/local", window=50, batch_first=True).to("cuda", BF16)
    attention = PatternAttention("std/local", heads=4, window=50)
    q, k, v = (t.detach() for t in inputs(Case("std/local", 200)))
    options = {"need_weights": False, "key_padding_mask": padding}
    for module, given, more in ((attention, (q, k, v), {}), (multihead, (x, x, x), options)):
        first = torch.compile(module, fullgraph=True)(*given, **more)
        out, expected = (found[0] if isinstance(found, tuple) else found for found in (first, module(*given, **more)))
        torch.testing.assert_close(out, expected, rtol=2e-2, atol=2e-2)


def test_it_is_taken_unless_another_is_asked_for() -> None:
    attention = patternc.compile("std/local", heads=4, window=50)
    q, k, v = inputs(Case("std/local", 200))
    attention(q, k, v)
    wide = torch.zeros(1, 4, 20, 300, device="cuda", dtype=BF16)
    attention(wide, wide, wide)
    assert "cuda bfloat16: backend triton" in attention.report()
    assert "cuda bfloat16 with 300 channels: backend torch" in attention.report()
    assert "def forward" in (attention.source or "")


def test_the_operators_keep_their_contract() -> None:
    case = Case("std/local", 300, dim=64, params={"window": 100})
    attention = case.compiled()
    q, k, v = inputs(case)
    attention(q, k, v)
    key = attention._artifact("triton").executor.key
    torch.library.opcheck(torch.ops.patternc.attention.default, (q, k, v, [], key, 0.125, 0.0, None))


def test_a_cuda_graph() -> None:
    case = Case(HUBS, 1024, dim=128)
    attention = case.compiled()
    q, k, v = inputs(case)

    def step() -> tuple[Any, ...]:
        out = attention(q, k, v)
        return (out, *torch.autograd.grad(out, (q, k, v), out))

    replay, held = captured(step)
    with torch.no_grad():
        for t in (q, k, v):
            t.copy_(torch.randn_like(t))
    replay()
    for a, b in zip(held, step(), strict=True):
        assert torch.equal(a, b)
    expected = [t.clone() for t in held]
    for n in range(100, 100 + 2 * KEPT_PLANS):  # the plan that the graph uses is not among those kept any more
        attention(*(t[:, :, :n] for t in (q, k, v)))
    garbage = [torch.full((1 << size,), 7, dtype=torch.int32, device="cuda") for size in range(4, 20)]
    replay()
    assert all(torch.equal(a, b) for a, b in zip(held, expected, strict=True))
    del garbage


def test_a_new_length_compiles_nothing() -> None:
    from triton.runtime.jit import JITFunction

    case = Case(STRIDED, 1111, 600, heads=8, kv_heads=1, dtype=F16)
    attention = case.compiled()

    def run(n: int, n_q: int) -> None:
        q = torch.randn(1, 8, n_q, 64, device="cuda", dtype=F16, requires_grad=True)
        k, v = (torch.randn(1, 1, n, 64, device="cuda", dtype=F16, requires_grad=True) for _ in range(2))
        attention(q, k, v).sum().backward()

    run(1111, 600)
    run(1024, 1024)  # kernels come in two forms: for whole lines of a layout, and for any length
    made: list[Any] = []
    original = JITFunction._do_compile

    def counted(*args: Any, **kwargs: Any) -> Any:
        made.append(args[0])
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JITFunction, "_do_compile", counted)
        for n, n_q in ((1112, 600), (2048, 2048), (1999, 777), (5000, 5000)):
            run(n, n_q)
    assert [function.fn.__name__ for function in made] == []


def test_ten_million_tokens() -> None:
    n, heads, window = 10_000_000, 8, 1024
    attention = patternc.compile("std/local", heads=heads, window=window, backend="triton")
    q, k, v = (torch.randn(1, heads, n, 64, device="cuda", dtype=BF16) for _ in range(3))
    out, lse = attention(q, k, v, return_lse=True)
    for at in (0, 700, 1_234_567, n - 1):  # single rows, against dense attention over their windows
        keys = slice(max(0, at - window + 1), at + 1)
        row, log = (t[:, :, at].double() for t in (out, lse))
        score = (k[:, :, keys].double() @ q[:, :, at, :, None].double())[..., 0] / 8
        exact = (score.softmax(-1)[:, :, None] @ v[:, :, keys].double())[:, :, 0]
        torch.testing.assert_close(row, exact, rtol=0, atol=8e-3 * float(exact.abs().max()))
        torch.testing.assert_close(log, score.logsumexp(-1), rtol=1e-4, atol=1e-4)
