"""Calls on a CUDA device that is not the current one, and on two at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from cuda_graphs import captured

import patternc
from patternc.draws import draw

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="these tests need two CUDA devices")

DEVICES = ("cuda:1", "cuda:0")
N, HEADS, BATCH = 1500, 4, 2
SOURCES: dict[str, tuple[str, dict[str, Any]]] = {
    "window": ("std/local", {"window": 200}),
    "heads": ("pattern p() = causal & { q -> k : q - k < 96 if h % 2 == 0 else (q - k) % 32 == 0 }", {}),
    "hubs": ("pattern p() = { q -> k : abs(q - k) <= 64 or q < 40 or k < 70 or k % 16 == 3 }", {}),
    "documents": ("std/documents", {}),
    "adaptive": ("std/adaptive", {"block": 50, "keep": 3}),
}
"""Run-time tensors are planned by the device; selections wait for it."""


def compiled(name: str) -> patternc.Compiled:
    source, params = SOURCES[name]
    return patternc.compile(source, heads=HEADS, kv_heads=2, backend="triton", **params)


def tensors_of(attention: patternc.Compiled, device: str) -> dict[str, torch.Tensor]:
    found = draw(attention.program.tensors, N, heads=HEADS, batch=BATCH)
    return {name: torch.as_tensor(array, device=device) for name, array in found.items()}


def results(
    attention: Any, device: str, n_q: int = N, dropout_p: float = 0.1, **tensors: torch.Tensor
) -> list[torch.Tensor]:
    """Output, lse and gradients, on the CPU."""
    g = torch.Generator().manual_seed(1)
    if dropout_p:
        torch.manual_seed(5)
    shapes = [(BATCH, heads, m, 64) for heads, m in ((HEADS, n_q), (2, N), (2, N), (HEADS, n_q))]
    *x, direction = (torch.randn(shape, generator=g).to(device, torch.bfloat16) for shape in shapes)
    x = [t.requires_grad_() for t in x]
    out, lse = attention(*x, return_lse=True, dropout_p=dropout_p, **tensors)
    found = [out.detach(), lse.detach(), *torch.autograd.grad(out, x, direction)]
    assert {str(t.device) for t in found} == {device}
    return [t.cpu() for t in found]


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("n_q", [N, 1])
def test_every_device_gives_the_same_bits(name: str, n_q: int) -> None:
    """Through Triton first, then by addresses, which are those of a device; in turns."""
    attention = compiled(name)
    first, *others = (
        results(attention, device, n_q, **tensors_of(attention, device)) for _ in range(3) for device in DEVICES
    )
    assert torch.cuda.current_device() == 0
    for found in others:
        assert all(torch.equal(a, b) for a, b in zip(found, first, strict=True))


@pytest.mark.parametrize("name", ["hubs", "documents"])
def test_a_thread_for_each_device(name: str) -> None:
    attention = compiled(name)

    def calls(device: str) -> list[list[torch.Tensor]]:
        return [results(attention, device, dropout_p=0.0, **tensors_of(attention, device)) for _ in range(5)]

    with ThreadPoolExecutor(len(DEVICES)) as pool:
        first, *others = [found for of_device in pool.map(calls, DEVICES) for found in of_device]
    for found in others:
        assert all(torch.equal(a, b) for a, b in zip(found, first, strict=True))


def test_a_graph_of_torch_on_the_other_device() -> None:
    attention = compiled("window")
    traced = torch.compile(attention, fullgraph=True, backend="aot_eager")
    for device in DEVICES:
        found, expected = results(traced, device), results(attention, device)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_cuda_graph_on_the_other_device() -> None:
    attention = compiled("documents")
    with torch.cuda.device(1):
        q, k, v = (torch.randn(BATCH, heads, N, 64, device="cuda", dtype=torch.bfloat16) for heads in (HEADS, 2, 2))
        tensors = tensors_of(attention, "cuda")
        replay, held = captured(lambda: attention(q, k, v, **tensors))
        q.mul_(2)
        replay()
        assert torch.equal(held, attention(q, k, v, **tensors))


def test_a_call_takes_one_device() -> None:
    q, k, v = (torch.randn(1, heads, 64, 64, device="cuda:0") for heads in (HEADS, 2, 2))
    with pytest.raises(ValueError, match="q, k and v must be on one device; found cuda:0, cuda:1, cuda:0"):
        compiled("window")(q, k.to("cuda:1"), v)
