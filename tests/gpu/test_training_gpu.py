"""Training on a CUDA device under torch.compile, against the same model with a dense mask; and dilation inside blocks
against whole blocks."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional

import patternc
from patternc.nn import PatternAttention

WORDS, PERIOD, WINDOW, LENGTH, WIDTH, HEADS, STEPS = 32, 40, 48, 512, 128, 2, 120
TOLERANCE = {torch.float32: 0.001, torch.bfloat16: 0.02}
"""The greatest difference of two losses of one step, in nats, of some 3.5 at the start."""


class Dense(torch.nn.Module):
    """A causal window by a mask of all pairs."""

    def forward(self, q: Any, k: Any, v: Any) -> Any:
        i = torch.arange(q.shape[2], device=q.device)
        back = i[:, None] - i
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=(back >= 0) & (back < WINDOW))


class Block(torch.nn.Module):
    def __init__(self, attention: torch.nn.Module) -> None:
        super().__init__()
        self.attention = attention
        self.first, self.second = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.qkv, self.out = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.up, self.down = torch.nn.Linear(WIDTH, 2 * WIDTH), torch.nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Any) -> Any:
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.qkv(self.first(x)).chunk(3, dim=-1))
        x = x + self.out(self.attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.second(x))))


class Decoder(torch.nn.Module):
    """Two layers; positions by sines, so that a distance is soon learnt."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(WORDS, WIDTH)
        self.blocks = torch.nn.Sequential(Block(attention()), Block(attention()))
        self.out = torch.nn.Linear(WIDTH, WORDS)
        angles = torch.arange(LENGTH)[:, None] * torch.exp(-math.log(1000) * torch.arange(0, WIDTH, 2) / WIDTH)
        self.register_buffer("positions", torch.cat([angles.sin(), angles.cos()], dim=1))

    def forward(self, tokens: Any) -> Any:
        return self.out(self.blocks(self.words(tokens) + self.positions))


def losses(attention: Any, dtype: Any, *, compiled: bool) -> list[float]:
    """The curve of a decoder that learns to repeat what stood PERIOD tokens before, from fixed seeds."""
    torch.manual_seed(0)
    decoder = Decoder(attention).cuda()
    model = torch.compile(decoder, fullgraph=True) if compiled else decoder
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=2e-3)
    draw, found = torch.Generator().manual_seed(1), []
    for _ in range(STEPS):
        phrase = torch.randint(WORDS, (16, PERIOD), generator=draw)
        tokens = phrase.repeat(1, LENGTH // PERIOD + 2)[:, : LENGTH + 1].cuda()
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            logits = model(tokens[:, :-1])
            loss = functional.cross_entropy(logits[:, PERIOD:].flatten(0, 1).float(), tokens[:, PERIOD + 1 :].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(loss.detach())
    return [float(loss) for loss in found]


def window(width: int) -> Any:
    return lambda: PatternAttention("std/local", heads=HEADS, backend="triton", window=width)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_compiled_decoder_follows_the_dense_model(dtype):
    ours = losses(window(WINDOW), dtype, compiled=True)
    dense = losses(Dense, dtype, compiled=False)
    apart = [abs(a - b) for a, b in zip(ours, dense, strict=True)]
    print(f"{dtype}: losses {[round(x, 3) for x in ours[::10]]}, at most {max(apart):.2g} apart")
    assert dense[0] > 3.3
    assert max(ours[-1], dense[-1]) < 0.1
    assert max(apart) < TOLERANCE[dtype]


def test_a_window_that_is_too_narrow_leaves_the_curve():
    """Two layers of 17 tokens do not reach back 40."""
    assert losses(window(17), torch.bfloat16, compiled=True)[-1] > 2


def test_a_schedule_under_torch_compile():
    """One graph before the pattern changes, and one for all patterns after that."""
    module, counter = window(26)(), CompileCounterWithBackend("inductor")
    compiled = torch.compile(lambda q: module(q, 2 * q, q.sin()), fullgraph=True, backend=counter)
    shape = (2, HEADS, LENGTH, 64)
    for width in range(26, 4, -2):
        module.set_params(window=width)
        q = torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        found = compiled(q)
        expected = window(width)()(q, 2 * q, q.sin())
        torch.testing.assert_close(found, expected)
        gradients = [torch.autograd.grad(out.sum(), q)[0] for out in (found, expected)]
        torch.testing.assert_close(*gradients, atol=0.05, rtol=0.05)  # a graph rounds less often
    assert counter.frame_count == 2


def test_a_module_in_a_cuda_graph():
    """Forward and backward passes are captured once, and replayed on other inputs."""
    module = window(WINDOW)()

    def inputs() -> list[Any]:
        shape = (2, HEADS, LENGTH, 64)
        return [torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]

    graphed = torch.cuda.make_graphed_callables(module, tuple(inputs()))
    for _ in range(3):
        given = inputs()
        out = graphed(*given)
        found = [out.clone(), *(g.clone() for g in torch.autograd.grad(out.sum(), given))]
        out = window(WINDOW)()(*given)
        expected = [out, *torch.autograd.grad(out.sum(), given)]
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# ------------------------------------------------------------------ dilation inside blocks

WHOLE = "pattern whole(block: tokens = 256) = blocks(block) { q -> k : abs(q - k) <= 1 }"


def milliseconds(calls: list[Any], rounds: int = 40) -> list[float]:
    """The median time of each call; they take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds + 5):
        for call, taken in zip(calls, times, strict=True):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(2_000_000)  # the host is ahead when the clock starts
            start.record()
            call()
            end.record()
            end.synchronize()
            if turn >= 5:
                taken.append(start.elapsed_time(end))
    return [statistics.median(taken) for taken in times]


@pytest.mark.parametrize("passes", ["forward", "both"])
def test_dilation_inside_blocks_beats_whole_blocks(passes):
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 16, 16_384, 128, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    sources = ("std/presets/block_dilated", WHOLE)
    attentions = [patternc.compile(source, heads=16, backend="triton") for source in sources]
    assert attentions[0].stats(16_384).wanted_pairs * 4 == attentions[1].stats(16_384).wanted_pairs * 3
    if passes == "both":
        for t in (q, k, v):
            t.requires_grad_()

    def call(attention: Any) -> Any:
        def run() -> None:
            out = attention(q, k, v)
            if passes == "both":
                torch.autograd.grad(out, (q, k, v), out.detach())

        return run

    dilated, whole = milliseconds([call(attention) for attention in attentions])
    print(f"{passes}: dilated {dilated:.3f} ms, whole blocks {whole:.3f} ms, {whole / dilated:.2f} times as fast")
    assert dilated < 0.95 * whole
