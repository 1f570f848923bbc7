"""The flex backend: attention as FlexAttention computes it, and the contract of a backend."""

from __future__ import annotations

from typing import Any

import fifteen
import pytest
import torch
from documents import ROOT, blocks
from drawn import in_torch
from fifteen import ALL, FIRST, Case, tensors_of
from flex_cases import artifact_of

import patternc
from patternc.backends import flex, flex_tables
from patternc.backends.flex import Flex


@pytest.mark.parametrize("n_q", [None, 37, 1])
@pytest.mark.parametrize("case", ALL, ids=str)
def test_every_program(case: Case, n_q: int | None) -> None:
    """Outputs, lse and gradients, in float64 to 1e-10."""
    n = case.length(187)
    report = patternc.verify(
        case.compiled(backend="flex"), n=n, n_q=n_q, dtype=torch.float64, tensors=tensors_of(case, n)
    )
    assert report.backend == "flex"
    assert report, str(report)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["local", "longnet", "documents"])
def test_accuracy(name: str, dtype: torch.dtype) -> None:
    case = FIRST[name]
    report = patternc.verify(case.compiled(backend="flex"), n=150, dtype=dtype)
    assert report, str(report)


@pytest.mark.parametrize("kv_heads", [1, 2, 3])
@pytest.mark.parametrize("name", ["strided", "longnet", "documents"])
def test_groups_of_heads(name: str, kv_heads: int) -> None:
    case = FIRST[name]
    report = patternc.verify(case.compiled(backend="flex", heads=6, kv_heads=kv_heads), n=140, dtype=torch.float64)
    assert report, str(report)


@pytest.mark.parametrize(("n", "n_q"), [(300, 300), (300, 140), (256, 128), (129, 1)])
@pytest.mark.parametrize("name", ["local", "longnet"])
def test_lengths_around_tiles(name: str, n: int, n_q: int) -> None:
    case = FIRST[name]
    report = patternc.verify(case.compiled(backend="flex"), n=n, n_q=n_q, dtype=torch.float64)
    assert report, str(report)


def test_rows_without_keys() -> None:
    run = artifact_of("pattern late() = { q -> k : k + 40 < q }")
    q, k, v = (torch.randn(1, 1, 150, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    out, lse = run(q, k, v, return_lse=True)
    assert not out[:, :, :41].any()
    assert (lse[:, :, :41] == -torch.inf).all()
    assert lse[:, :, 41:].isfinite().all()
    dq, dk, dv = torch.autograd.grad(out.sum(), (q, k, v))
    assert all(d.isfinite().all() for d in (dq, dk, dv))
    assert not dq[:, :, :41].any()


def test_no_batch_rows() -> None:
    run = artifact_of("std/documents", heads=2)
    q, k, v = (torch.zeros(0, 2, 5, dim, requires_grad=True) for dim in (4, 4, 3))
    out, lse = run(q, k, v, return_lse=True, tensors={"doc": torch.zeros(0, 5, dtype=torch.int64)})
    assert (out.shape, lse.shape) == ((0, 2, 5, 3), (0, 2, 5))
    assert [g.shape for g in torch.autograd.grad(out.sum(), (q, k, v))] == [q.shape, k.shape, v.shape]


def test_scale_and_results() -> None:
    run = artifact_of("pattern p() = causal")
    q, k, v = (torch.randn(2, 1, 20, 8) for _ in range(3))
    out = run(q, k, v, scale=0.5)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.5, is_causal=True)
    torch.testing.assert_close(out, expected)
    assert run(q.half(), k.half(), v.half(), return_lse=True)[1].dtype == torch.float32


# ------------------------------------------------------------------ the contract


def test_what_is_supported() -> None:
    program = patternc.compile("std/local", heads=1).program
    assert Flex().supports(program, "cpu", torch.float64) == []
    assert Flex().supports(program, "cuda", torch.bfloat16) == []
    assert "float64" in Flex().supports(program, "cuda", torch.float64)[0]
    assert "mps" in Flex().supports(program, "mps", torch.float32)[0]
    assert "float8" in Flex().supports(program, "cuda", torch.float8_e4m3fn)[0]


def test_it_is_taken_only_if_asked_for() -> None:
    q, k, v = (torch.randn(1, 1, 8, 4) for _ in range(3))
    automatic = patternc.compile("std/local", heads=1)
    assert automatic.backend_for(q) != "flex"
    asked = patternc.compile("std/local", heads=1, backend="flex")
    torch.testing.assert_close(asked(q, k, v), automatic(q, k, v))
    assert asked.report().endswith("backend flex")
    assert "def mask_mod" in (asked.source or "")


def test_wrong_arguments() -> None:
    q, k, v = (torch.randn(1, 1, 8, 4) for _ in range(3))
    run = artifact_of("std/documents")
    doc = torch.zeros(1, 8, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"no dropout.*found 0\.1"):
        run(q, k, v, dropout_p=0.1, tensors={"doc": doc})
    with pytest.raises(ValueError, match="dropout_p is a probability"):
        run(q, k, v, dropout_p=2.0, tensors={"doc": doc})
    with pytest.raises(TypeError, match="needs the run-time tensor doc"):
        run(q, k, v)
    with pytest.raises(TypeError, match="no run-time tensor 'dok'"):
        run(q, k, v, tensors={"doc": doc, "dok": doc})
    with pytest.raises(ValueError, match="n_q = 9, n = 8"):
        run.mods(8, 9, tensors={"doc": doc})
    with pytest.raises(ValueError, match="multiple of kv_heads"):
        Flex().emit(run.program, 3, 2)


def test_selections_of_many_tokens_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex_tables, "MOST_CELLS", 99)
    run = artifact_of("pattern p() = sample(2, of = causal, seed = 1)", heads=2)
    with pytest.raises(ValueError, match=r"a `sample` of 10 × 10 .* too large to be a table .*2 heads"):
        run.mods(10)


def test_lengths_are_kept() -> None:
    run = artifact_of("std/local", window=5)
    assert run.mods(30) is run.mods(30)
    assert run.mods(30) is not run.mods(31)
    first, second = (artifact_of("std/documents") for _ in range(2))
    doc = torch.zeros(1, 6, dtype=torch.int64)
    assert first.mods(6, tensors={"doc": doc}) is not first.mods(6, tensors={"doc": doc})
    assert second.mask_mod(6, tensors={"doc": doc}).__code__ is second.mask_mod(6, tensors={"doc": doc + 1}).__code__


@pytest.mark.parametrize(
    "case", [Case("documents", 2), Case("longnet", 2), Case("adaptive", 2, 0, {"block": 4})], ids=str
)
def test_a_call_is_traced_whole_and_once_for_a_length(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled on CUDA, here without generating code: new run-time tensors compile nothing anew."""
    traced: list[int] = []

    def count(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        traced.append(1)
        return graph.forward

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: compile_(f, backend=count, **options))
    n, compiled = 140, case.compiled(backend="flex")
    run, call = Flex().emit(compiled.program, case.heads, case.heads), flex._compiled()
    q, k, v = (torch.randn(2, case.heads, n, 16) for _ in range(3))
    for step in (1, -1):
        tensors = in_torch({name: t[::step].copy() for name, t in fifteen.tensors_of(case, n).items()})
        mods = run.mods(n, tensors=tensors)
        with torch.no_grad():
            out, lse = call(q, k, v, mods.score_mod, mods.block_mask, 0.25)
        expected = run(q, k, v, scale=0.25, return_lse=True, tensors=tensors)
        torch.testing.assert_close((out, lse), expected)
    assert traced == [1]
    assert flex._compiled().__wrapped__.__code__ is not flex._flex.__code__


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_the_document_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    """And prints what it shows."""
    namespace: dict[str, Any] = {}
    shown = ""
    for block in blocks(ROOT / "docs" / "flex.md"):
        if block.language == "python":
            exec(compile(block.text, block.place, "exec"), namespace)
            shown = capsys.readouterr().out
        else:
            assert block.text.strip() == shown.strip()
