"""Decoding on a CUDA device by the triton backend: token by token and in chunks, against the reference in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from triton.runtime.jit import JITFunction

import patternc
from patternc.backends.triton_few import longest_of, stretch_of
from patternc.draws import draw
from patternc.nn import KVCache, SelfAttention

BF16, F32 = torch.bfloat16, torch.float32
HEADS, KV_HEADS, DIM, BATCH = 8, 2, 64, 2
BOTH_WAYS = "pattern both() = { q -> k : abs(q - k) < 40 or k % 16 == 3 or k < 5 or q % 50 == 0 }"
COLUMNS = "pattern columns() = causal & ({ q -> k : q - k < 50 } | { q -> k : (q - k) % 32 == 0 })"
PATTERNS: dict[str, tuple[str, dict[str, Any]]] = {
    "causal": ("pattern p() = causal", {}),
    "local": ("std/local", {"window": 100}),
    "strided": ("std/strided", {"l": 24}),
    "columns": (COLUMNS, {}),
    "longnet": ("std/longnet", {"levels": [(64, 1), (128, 2), (512, 4)]}),
    "both ways": (BOTH_WAYS, {}),
    "bigbird": ("std/bigbird", {"block": 16}),
    "longformer": ("std/longformer", {"w": 30, "dilation": [1, 1, 2, 4]}),
}
STEADY = ["causal", "local", "strided", "columns", "longnet", "both ways"]
"""Those of which one plan serves many lengths; the others are planned for each."""
PROMPT, TOKENS = (600, 410, 12), 6
"""Chunks of the prompt, and tokens after it; together they cross from one stretch of lengths into the next."""


def compiled_of(name: str) -> patternc.Compiled:
    source, params = PATTERNS[name]
    return patternc.compile(source, heads=HEADS, kv_heads=KV_HEADS, backend="triton", **params)


def inputs(n: int, dtype: torch.dtype, batch: int = BATCH, dim: int = DIM) -> list[torch.Tensor]:
    torch.manual_seed(n)
    return [torch.randn(batch, h, n, dim, device="cuda", dtype=dtype) for h in (HEADS, KV_HEADS, KV_HEADS)]


def tensors_of(compiled: patternc.Compiled, n: int) -> dict[str, torch.Tensor]:
    drawn = draw(compiled.program.tensors, n, heads=HEADS, batch=BATCH)
    return {name: torch.as_tensor(array, device="cuda") for name, array in drawn.items()}


def close(found: Any, expected: Any, dtype: torch.dtype) -> None:
    """Output and lse as near as `patternc.verify` asks for them."""
    out, lse = found
    exact, exact_lse = (t.double() for t in expected)
    tolerance = 8e-3 if dtype == BF16 else 2e-5
    assert float((out.double() - exact).abs().max()) <= tolerance * float(exact.abs().max())
    torch.testing.assert_close(lse.double(), exact_lse, rtol=1e-4, atol=1e-4)


def reference(compiled: patternc.Compiled, *x: torch.Tensor, **tensors: torch.Tensor) -> Any:
    return compiled.run("reference", *(t.double() for t in x), return_lse=True, tensors=tensors)


# ------------------------------------------------------------------ right


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, BF16) for name in PATTERNS), *((name, F32) for name in ("local", "columns"))], ids=str
)
def test_token_by_token_and_in_chunks(name: str, dtype: torch.dtype) -> None:
    compiled = compiled_of(name)
    n = sum(PROMPT) + TOKENS
    x, cache = inputs(n, dtype), KVCache(BATCH, KV_HEADS, n, DIM, device="cuda", dtype=dtype)
    for count in (*PROMPT, *([1] * TOKENS)):
        here = slice(cache.length, cache.length + count)
        tensors = tensors_of(compiled, here.stop)
        found = cache.attend(compiled, *(t[:, :, here] for t in x), return_lse=True, **tensors)
        expected = reference(compiled, x[0][:, :, here], *(t[:, :, : here.stop] for t in x[1:]), **tensors)
        close(found, expected, dtype)
    assert longest_of(sum(PROMPT)) < n
    assert bool(compiled._artifact("triton").executor._few) == (name in STEADY)


@pytest.mark.parametrize("name", ["causal", pytest.param("columns", marks=pytest.mark.memcheck), "strided", "local"])
def test_many_keys(name: str) -> None:
    """Rows are cut, and their pieces merged; keys lie in a cache with room for more, and in one without."""
    compiled = compiled_of(name)
    q, k, v = inputs(70_001, BF16, batch=1)
    for n, n_q in ((70_001, 1), (69_990, 5), (69_900, 16)):
        given = q[:, :, :n_q], k[:, :, :n], v[:, :, :n]
        found = compiled(*given, return_lse=True)
        close(found, reference(compiled, *given), BF16)
        alone = compiled(*(t.contiguous() for t in given), return_lse=True)
        assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True))


@pytest.mark.parametrize("name", ["columns", "longnet"])
def test_gradients_and_the_same_output_with_them(name: str) -> None:
    compiled = compiled_of(name)
    q, k, v = inputs(333, F32)
    given = [t.requires_grad_() for t in (q[:, :, :4].clone(), k, v)]
    out = compiled(*given)
    with torch.no_grad():
        assert torch.equal(compiled(*given), out)
    wide = [t.detach().double().requires_grad_() for t in given]
    exact = compiled.run("reference", *wide, tensors={})
    weight = torch.randn_like(out)
    gradients = torch.autograd.grad((out * weight).sum(), given)
    for a, b in zip(gradients, torch.autograd.grad((exact * weight).sum(), wide), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf")])
def test_what_nobody_reads_may_hold_anything(spoilt: float) -> None:
    """Keys that the window has left, and those of the cache behind the last token."""
    compiled = compiled_of("local")
    q, k, v = inputs(600, BF16)
    expected = compiled(q[:, :, :3], k[:, :, :500], v[:, :, :500])
    for t in (k, v):
        t[:, :, :398] = spoilt
        t[:, :, 500:] = spoilt
    for _ in range(2):
        found = compiled(q[:, :, :3], k[:, :, :500], v[:, :, :500])
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


# ------------------------------------------------------------------ the same, and without compiling


@pytest.mark.parametrize("name", ["columns", "longnet", "both ways"])
def test_same_bits_whatever_was_decoded_before(name: str) -> None:
    q, k, v = inputs(2100, BF16)
    found = []
    for lengths in ((1400,), (1025, 1390, 2048, 1400), (900, 2049, 1400, 1026, 1400)):
        compiled = patternc.compile(PATTERNS[name][0], heads=HEADS, kv_heads=KV_HEADS, **PATTERNS[name][1])
        executor = compiled._artifact("triton").executor
        executor._few.clear()
        for n in lengths:
            out = compiled(q[:, :, :1], k[:, :, :n], v[:, :, :n], return_lse=True)
            found += [out] if n == 1400 else []
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("name", STEADY)
def test_new_lengths_compile_nothing(name: str) -> None:
    compiled = compiled_of(name)
    q, k, v = inputs(2050, BF16)
    executor = compiled._artifact("triton").executor
    compiled(q[:, :, :1], k[:, :, :1025], v[:, :, :1025])
    made: list[Any] = []
    original, planned = JITFunction._do_compile, executor.planned

    def counted(*args: Any, **kwargs: Any) -> Any:
        made.append(args[0])
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JITFunction, "_do_compile", counted)
        for n in range(1026, 1026 + stretch_of(1025)):
            compiled(q[:, :, :1], k[:, :, :n], v[:, :, :n])
    assert [function.fn.__name__ for function in made] == []
    assert executor.planned == planned + 1  # for the next stretch


def test_a_cuda_graph_of_a_step() -> None:
    compiled = compiled_of("columns")
    q, k, v = inputs(400, BF16)
    step = lambda: compiled(q[:, :, :1], k[:, :, :390], v[:, :, :390])
    expected = step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    q.mul_(2)
    compiled(q[:, :, :1], k[:, :, :395], v[:, :, :395])
    graph.replay()
    assert torch.equal(captured, step())
    assert not torch.equal(captured, expected)


def test_one_graph_under_torch_compile() -> None:
    layer = SelfAttention("std/local", 512, heads=8, kv_heads=2, window=50).to("cuda", BF16).eval()
    x = torch.randn(2, 40, 512, device="cuda", dtype=BF16)
    attend = torch.compile(lambda q, k, v: layer.compiled(q, k, v), fullgraph=True)
    with torch.no_grad():
        cache = KVCache(2, 2, 40, DIM, device="cuda", dtype=BF16)
        steps = [layer(x[:, :30], cache=cache), *(layer(x[:, t : t + 1], cache=cache) for t in range(30, 40))]
        torch.testing.assert_close(torch.cat(steps, dim=1), layer(x), rtol=2e-2, atol=2e-2)
        q, k, v = inputs(200, BF16)
        for n in (150, 151, 160):
            given = q[:, :, :1], k[:, :, :n], v[:, :, :n]
            assert torch.equal(attend(*given), layer.compiled(*given))
