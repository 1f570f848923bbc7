"""Packed sequences against a loop over them."""

from itertools import pairwise

import pytest
import torch
from decoding_cases import HEADS, KV_HEADS, PATTERNS, close, compiled_of
from hypothesis import given, settings
from hypothesis import strategies as st

import patternc
from patternc.backends.torch_passes import counting
from patternc.nn import SelfAttention, attend_packed, packed
from patternc.nn.shifted import packed_program, speaks_of_distances

DIM = 8
IN_A_ROW = {"window", "dilation", "global tokens", "strided", "both ways", "heads", "bag"}
"""Of the patterns of decoding, those that are planned once for all sequences."""


def tokens(total, seed=0, heads=(HEADS, KV_HEADS, KV_HEADS)):
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(total, h, DIM, generator=random, dtype=torch.float64).requires_grad_() for h in heads]


def loop(compiled, q, k, v, stops, **tensors):
    """Every sequence by itself, by the reference."""
    out, lse = [], []
    for a, b in pairwise(stops):
        if b > a:
            x = [t[a:b].transpose(0, 1)[None] for t in (q, k, v)]
            own = {name: t[a:b][None] for name, t in tensors.items()}
            part = compiled.run("reference", *x, return_lse=True, tensors=own)
            out.append(part[0][0].transpose(0, 1))
            lse.append(part[1][0])
    return torch.cat(out), torch.cat(lse, dim=1)


@pytest.mark.parametrize("name", [name for name in PATTERNS if name != "chosen"])
@settings(max_examples=5, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any), seed=st.integers(0, 99))
def test_packed_is_a_loop(name, lengths, seed):
    compiled = compiled_of(name)
    stops = [0, *torch.tensor(lengths).cumsum(0).tolist()]
    x = tokens(stops[-1], seed)
    flags = torch.rand(stops[-1], generator=torch.Generator().manual_seed(seed)) < 0.1
    tensors = {"is_global": flags} if compiled.program.tensors else {}
    found = attend_packed(compiled, *x, torch.tensor(stops), return_lse=True, **tensors)
    expected = loop(compiled, *x, stops, **tensors)
    close(found, expected)
    weight = torch.randn_like(found[0])
    close(*(torch.autograd.grad((out * weight).sum(), x) for out, _ in (found, expected)))
    assert (packed._packed(compiled) is not None) == (name in IN_A_ROW)


def test_it_costs_what_the_sequences_cost():
    """32 sequences in a row: tiles of their own, and next to none between them."""
    compiled = patternc.compile("std/local", heads=1, window=128, backend="torch")
    x = tokens(2048, heads=(1, 1, 1))
    with counting() as tally:
        attend_packed(compiled, *x, list(range(0, 2049, 64))).sum().backward()
    tile = packed._packed(compiled).compiled._artifact("torch").ready(
        2048, 2048, 1, torch.device("cpu"), {"start": torch.arange(0, 2048, 64).repeat_interleave(64)}
    ).plan.tile_q  # fmt: skip
    assert 0 < tally["forward"] == tally["backward"] <= 2048 / tile
    assert tally["forward"] * tile * tile < 2048 * 2048 / 8


def test_more_keys_than_queries():
    compiled = compiled_of("window")
    q, k, v = tokens(20)
    q = q[:9]
    out, lse = attend_packed(compiled, q, k, v, [0, 4, 4, 9], [0, 8, 8, 20], return_lse=True)
    first = compiled(q[None, :4].transpose(1, 2), *(t[None, :8].transpose(1, 2) for t in (k, v)), return_lse=True)
    second = compiled(q[None, 4:].transpose(1, 2), *(t[None, 8:].transpose(1, 2) for t in (k, v)), return_lse=True)
    close((out, lse), (torch.cat([first[0][0], second[0][0]], dim=1).transpose(0, 1),
                       torch.cat([first[1][0], second[1][0]], dim=1)))  # fmt: skip


def test_self_attention_takes_packed_sequences():
    module = SelfAttention("std/local", 32, heads=HEADS, kv_heads=KV_HEADS, window=5).double()
    x = torch.randn(20, 32, dtype=torch.float64)
    out = module(x, cu_seqlens=torch.tensor([0, 7, 20]))
    torch.testing.assert_close(out[:7], module(x[None, :7])[0], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(out[7:], module(x[None, 7:])[0], rtol=1e-9, atol=1e-10)
    with pytest.raises(ValueError, match="packed sequences take neither a cache nor padding"):
        module(x, cu_seqlens=torch.tensor([0, 20]), key_padding_mask=torch.zeros(1, 20, dtype=torch.bool))


def test_nothing_at_all():
    compiled = compiled_of("window")
    out, lse = attend_packed(compiled, *tokens(0), [0, 0, 0], return_lse=True)
    assert (out.shape, lse.shape) == ((0, HEADS, DIM), (HEADS, 0))


def test_distances_stay_as_they_are():
    window = patternc.compile("std/local", heads=1, window=7).program
    assert speaks_of_distances(window)
    assert window.pattern in packed_program(window)[0].pattern.args
    blocks = patternc.compile("std/presets/dilated", heads=1).program
    assert not speaks_of_distances(blocks)
    assert packed_program(blocks) is not None


def test_names_do_not_clash():
    text = "pattern p(start: bool[batch, n]) = { q -> k : q - k < 5 and k <= q or start[k] }"
    compiled = patternc.compile(text, heads=HEADS, kv_heads=KV_HEADS)
    x, flags = tokens(30), torch.arange(30) % 7 == 0
    found = attend_packed(compiled, *x, [0, 13, 30], return_lse=True, start=flags)
    close(found, loop(compiled, *x, [0, 13, 30], start=flags))


def test_other_tensors():
    text = "pattern p(score: float[batch, n, n]) = top(3, by = score[q, k], of = causal)"
    compiled = patternc.compile(text, heads=HEADS, kv_heads=KV_HEADS)
    with pytest.raises(ValueError, match="tensor 'score' has n in its dimensions, and cannot be packed"):
        attend_packed(compiled, *tokens(9), [0, 4, 9], score=torch.zeros(2, 9, 9))
    text = "pattern p(width: int[batch, heads]) = { q -> k : 0 <= q - k < width[h] }"
    compiled = patternc.compile(text, heads=HEADS, kv_heads=KV_HEADS)
    x, width = tokens(9), torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])
    found = attend_packed(compiled, *x, [0, 4, 9], width=width)
    for s, (a, b) in enumerate([(0, 4), (4, 9)]):
        own = compiled(*(t[None, a:b].transpose(1, 2) for t in x), width=width[s : s + 1])
        torch.testing.assert_close(found[a:b], own[0].transpose(0, 1), rtol=1e-9, atol=1e-10)


def test_wrong_arguments():
    compiled = compiled_of("window")
    x = tokens(9)
    with pytest.raises(ValueError, match=r"cu_seqlens must ascend from 0 to the 9 tokens; found \[0, 5, 4, 9\]"):
        attend_packed(compiled, *x, [0, 5, 4, 9])
    with pytest.raises(TypeError, match="cu_seqlens must hold integers"):
        attend_packed(compiled, *x, [0, 4.5, 9])
    with pytest.raises(ValueError, match=r"q must be a tensor \(tokens, heads, channels\); found \(1, 9, 4, 8\)"):
        attend_packed(compiled, x[0][None], *x[1:], [0, 9])
    with pytest.raises(ValueError, match="found q, k and v with \\(4, 4, 4\\) heads"):
        attend_packed(compiled, x[0], x[0], x[0], [0, 9])
    with pytest.raises(ValueError, match="no sequence more queries than keys"):
        attend_packed(compiled, *x, [0, 5, 9], [0, 4, 9])
    with pytest.raises(ValueError, match="tensor 'is_global' must be packed like the keys, \\(9,\\)"):
        attend_packed(compiled_of("global tokens"), *x, [0, 9], is_global=torch.zeros(1, 9, dtype=torch.bool))
