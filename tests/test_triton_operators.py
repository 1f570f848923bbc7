"""The triton backend as operators of PyTorch, in Triton's interpreter: contracts, graphs, gradients asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from triton_calls import artifact, documents, inputs, results

import patternc
from patternc.backends.triton_op import attention
from patternc.nn import MultiheadAttention, PatternAttention

pytestmark = pytest.mark.usefixtures("small_tiles")


@pytest.mark.parametrize("seed", [None, 5])
def test_the_operators_keep_their_contract(seed: int | None) -> None:
    run, given, doc = documents()
    p, drawn = (0.0, None) if seed is None else (0.3, torch.tensor(seed))
    key = run.executor.key
    torch.library.opcheck(torch.ops.patternc.attention.default, (*given, [doc], key, 0.25, p, drawn))
    plain = [t.detach() for t in given]
    out, lse = attention(*plain, [doc], key, 0.25, p, drawn)
    more = (out, lse, torch.ones_like(out), None if seed else lse, [doc], key, 0.25, p, drawn, True, seed is None)
    torch.library.opcheck(torch.ops.patternc.attention_backward.default, (*plain, *more))


@pytest.mark.parametrize("dropout_p", [0.0, 0.2])
def test_one_graph_under_torch_compile(dropout_p: float) -> None:
    run, given, doc = documents()

    def call(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> Any:
        return run(q * 2, k, v, tensors={"doc": doc}, dropout_p=dropout_p, **options)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    pair = []
    for function in (call, compiled):
        torch.manual_seed(1)
        pair.append(results(function, *given))
    assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))


def test_the_first_call_of_all_may_be_in_a_graph() -> None:
    compiled = patternc.compile("std/local", heads=2, window=7, backend="triton")
    q, k, v = inputs(compiled, 20, 20, 1)
    found = torch.compile(compiled, fullgraph=True, backend="aot_eager")(q, k, v)
    assert torch.equal(found, compiled(q, k, v))


def test_modules_are_one_graph() -> None:
    attention = PatternAttention("std/local", heads=2, window=7, backend="triton")
    multihead = MultiheadAttention(32, 2, pattern="std/local", window=7, backend="triton", batch_first=True)
    q, k, v = inputs(attention.compiled, 20, 20, 1)
    x, padding = torch.randn(2, 20, 32), torch.arange(20) >= torch.tensor([[20], [15]])
    options = {"need_weights": False, "key_padding_mask": padding}
    for module, given, more in ((attention, (q, k, v), {}), (multihead, (x, x, x), options)):
        traced = torch.compile(module, fullgraph=True, backend="aot_eager")
        first = traced(*given, **more)  # nothing was called before
        torch.testing.assert_close(first, module(*given, **more))
    attention.set_params(window=3)
    torch.testing.assert_close(
        torch.compile(attention, fullgraph=True, backend="aot_eager")(q, k, v), attention(q, k, v)
    )


def test_tensors_that_lie_differently_and_one_schedule() -> None:
    compiled = patternc.compile("std/local", heads=2, window=7)
    run = artifact(compiled)
    q, k, v = inputs(compiled, 20, 20, 1)
    expected = results(run, q, k, v)
    for turn in (
        lambda t: t.detach().transpose(1, 2).contiguous().transpose(1, 2),
        lambda t: torch.cat([torch.zeros(1), t.detach().flatten()])[1:].view(t.shape),
        lambda t: t.detach().clone(),
    ):
        given = [turn(t).requires_grad_() for t in (q, k, v)]
        for a, b in zip(results(run, *given), expected, strict=True):
            torch.testing.assert_close(a, b)
    (ready,) = run.executor._kept.values()
    assert len(ready.schedule.recipes) == 2 * 3  # of both passes: side by side, turned, and at odd places


def test_no_gradients_of_gradients() -> None:
    run, given, doc = documents()
    out = run(*given, tensors={"doc": doc})
    (gradient,) = torch.autograd.grad(out.square().sum(), given[0], create_graph=True)
    with pytest.raises(RuntimeError, match="no second-order gradients"):
        gradient.sum().backward()
    out, _ = attention(*given, [doc], run.executor.key, 0.25, 0.0, None)
    (gradient,) = torch.autograd.grad(out.square().sum(), given[0], create_graph=True)
    with pytest.raises(RuntimeError, match="no second-order gradients"):
        gradient.sum().backward()


def test_only_the_gradients_asked_for() -> None:
    run, (q, k, v), doc = documents()
    everything = results(run, q, k, v, tensors={"doc": doc})
    for wanted in (0, 1, 2):
        given = [t if i == wanted else t.detach() for i, t in enumerate((q, k, v))]
        out, lse = run(*given, tensors={"doc": doc}, return_lse=True)
        loss = (out.double() * torch.linspace(-1, 1, out.shape[-1])).sum() + lse.sum()
        (gradient,) = torch.autograd.grad(loss, given[wanted])
        assert torch.equal(gradient, everything[2 + wanted])


def test_nothing_to_compute() -> None:
    run = artifact(patternc.compile("std/local", heads=1, window=5))
    q = torch.randn(0, 1, 9, 16, requires_grad=True)
    out = run(q, q, q)
    assert out.shape == q.shape
    out.sum().backward()
    assert q.grad is not None
