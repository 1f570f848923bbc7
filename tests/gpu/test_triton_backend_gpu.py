"""The triton backend on a CUDA device: accuracy, the same bits each time, graphs, and new lengths."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)
pytest.importorskip("triton")

from fifteen import CASES, EXAMPLES  # noqa: E402

import patternc  # noqa: E402
from patternc.draws import draw  # noqa: E402

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
ACCURACY = [
    *(Case("std/local", 1000, dim=dim, params={"window": 200}) for dim in (16, 32, 64, 80, 128, 192, 256)),
    Case("std/local", 1000, dim=64, dtype=F16, params={"window": 200}),
    Case("std/local", 1000, dim=128, dtype=F16, params={"window": 200}),
    *(Case("std/local", 500, dim=dim, dtype=F32, params={"window": 200}) for dim in (64, 128, 256)),
    Case(DILATED, 2048, dim=128),
    Case(DILATED, 1999, dim=64, dtype=F16),
    Case(HUBS, 1777, 1500, heads=8, kv_heads=2, batch=2),
    Case(HUBS, 1024, dim=128),
    Case(BAG, 1025, heads=6, kv_heads=3),
    Case(DOCUMENTS, 1300, batch=2),
    Case(DOCUMENTS, 700, 1, heads=8, kv_heads=1, batch=2, dim=128),
    Case(STRIDED, 1111, 600, heads=8, kv_heads=1, dtype=F16),
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


def tensors_of(attention: patternc.Compiled, n: int, batch: int) -> dict[str, Any]:
    drawn = draw(attention.program.tensors, n, heads=attention.heads, batch=batch)
    return {name: torch.as_tensor(array, device="cuda") for name, array in drawn.items()}


def inputs(case: Case) -> list[Any]:
    torch.manual_seed(0)
    shapes = [(case.heads, case.n_q or case.n), (case.kv_heads, case.n), (case.kv_heads, case.n)]
    return [
        torch.randn(case.batch, h, m, case.dim, device="cuda", dtype=case.dtype, requires_grad=True) for h, m in shapes
    ]


def warm(case: Case) -> None:
    """Compiles the kernels of a case into the cache on disk."""
    attention = case.compiled()
    q, k, v = inputs(case)
    out, lse = attention(q, k, v, return_lse=True, **tensors_of(attention, case.n, case.batch))
    torch.autograd.grad(out.sum() + lse.where(lse.isfinite(), 0).sum(), (q, k, v))


@pytest.fixture(scope="module", autouse=True)
def _compiled_beforehand() -> None:
    with ProcessPoolExecutor(12, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(warm, case) for case in (*ACCURACY, *SOME)]:
            done.exception()  # the tests say what is wrong


@pytest.mark.parametrize("case", [*ACCURACY, *SOME], ids=str)
def test_accuracy(case: Case) -> None:
    report = patternc.verify(
        case.compiled(), n=case.n, n_q=case.n_q, batch=case.batch, head_dim=case.dim, dtype=case.dtype, device="cuda"
    )
    assert report.backend == "triton"
    assert report, str(report)


@pytest.mark.parametrize("case", [ACCURACY[2], Case(HUBS, 1777, 1500, heads=8, kv_heads=2, batch=2)], ids=str)
def test_same_bits(case: Case) -> None:
    attention = case.compiled()
    q, k, v = inputs(case)
    runs = []
    for _ in range(4):
        torch.manual_seed(1)
        out, lse = attention(q, k, v, dropout_p=0.1, return_lse=True)
        runs.append((out, lse, *torch.autograd.grad(out.square().sum(), (q, k, v))))
    for again in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], again, strict=True))


@pytest.mark.parametrize("source", ["std/local", DOCUMENTS], ids=["static", "run-time"])
def test_one_graph_under_torch_compile(source: str) -> None:
    case = Case(source, 900, dim=64)
    attention = case.compiled()
    tensors = tensors_of(attention, case.n, case.batch)
    q, k, v = inputs(case)
    attention(q, k, v, **tensors)

    def call(q: Any, k: Any, v: Any) -> Any:
        return attention(q * 2, k, v, **tensors).float().square().mean()

    expected, found = call(q, k, v), torch.compile(call, fullgraph=True)(q, k, v)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    for a, b in zip(*(torch.autograd.grad(x, (q, k, v)) for x in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=1e-5)


def test_the_operators_keep_their_contract() -> None:
    case = Case("std/local", 300, dim=64, params={"window": 100})
    attention = case.compiled()
    q, k, v = inputs(case)
    attention(q, k, v)
    key = attention._artifact("triton").executor.key  # type: ignore[attr-defined]
    torch.library.opcheck(torch.ops.patternc.attention.default, (q, k, v, [], key, 0.125, 0.0, None))


def test_a_cuda_graph() -> None:
    case = Case(HUBS, 1024, dim=128)
    attention = case.compiled()
    q, k, v = inputs(case)

    def step() -> tuple[Any, ...]:
        out = attention(q, k, v)
        return (out, *torch.autograd.grad(out, (q, k, v), out))

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for t in (q, k, v):
            t.copy_(torch.randn_like(t))
    graph.replay()
    for a, b in zip(captured, step(), strict=True):
        assert torch.equal(a, b)


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
