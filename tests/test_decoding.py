"""Decoding: a few queries at the end of many positions, caches in one piece, padding."""

import time

import pytest
import torch
from decoding_cases import (
    DIM,
    HEADS,
    KV_HEADS,
    PATTERNS,
    close,
    compiled_of,
    qkv,
    reference,
    tensors_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import patternc
from patternc.analysis import row_keys
from patternc.backends import torch_rows
from patternc.backends.reference_attention import attention
from patternc.nn import KVCache, PagedCache, PatternAttention, SelfAttention, key_padding_mask

# ------------------------------------------------------------------ rows without a plan


@pytest.mark.parametrize("name", PATTERNS)
@settings(max_examples=6, deadline=None)
@given(n=st.integers(2, 90), data=st.data())
def test_a_few_queries_are_the_last_rows(name, n, data):
    compiled = compiled_of(name)
    n_q = data.draw(st.integers(1, min(n - 1, torch_rows.FEW_QUERIES)))
    x, tensors = [t.requires_grad_() for t in qkv(n_q, n)], tensors_of(compiled, n)
    found = compiled(*x, return_lse=True, **tensors)
    expected = reference(compiled, *x, tensors=tensors)
    close(found, expected)
    weight = torch.randn_like(found[0])
    finite = expected[1] > -torch.inf
    losses = [(out * weight).sum() + lse[finite].sum() for out, lse in (found, expected)]
    close(*(torch.autograd.grad(loss, x) for loss in losses))


def test_a_few_queries_of_many_positions_have_no_plan(monkeypatch):
    compiled = compiled_of("window", backend="torch")
    monkeypatch.setattr(type(compiled._artifact("torch")), "ready", None)
    compiled(*qkv(1, 50))
    with pytest.raises(TypeError):
        compiled(*qkv(17, 50))


def test_tokens_come_without_planning_anew():
    compiled = patternc.compile("std/local", heads=2, window=64)
    k = torch.randn(1, 2, 2100, 16)
    q = torch.randn(1, 2, 1, 16)
    compiled(q, k[:, :, :2000], k[:, :, :2000])
    begin = time.process_time()
    for n in range(2001, 2101):
        compiled(q, k[:, :, :n], k[:, :, :n])
    assert time.process_time() - begin < 0.5, "a plan takes 10 ms and more"


def test_many_keys_are_found_by_tiles(monkeypatch):
    monkeypatch.setattr(row_keys, "FEW_KEYS", 30)
    monkeypatch.setattr(row_keys, "AT_ONCE", 8)
    for name in ("window", "dilation", "both ways", "bag", "heads"):
        compiled = compiled_of(name)
        for n_q, n in ((1, 100), (1, 101), (5, 103), (16, 200)):
            x = qkv(n_q, n)
            close(compiled(*x, return_lse=True), reference(compiled, *x, tensors={}))


def test_memory_is_bounded_by_batch_rows(monkeypatch):
    monkeypatch.setattr(torch_rows, "MOST_SCORES", HEADS * 3 * 9)
    x = qkv(3, 60, batch=5)
    compiled = compiled_of("window")
    close(compiled(*x, return_lse=True), reference(compiled, *x, tensors={}))


def test_keys_that_nobody_reads_may_be_anything():
    compiled = compiled_of("window")
    q, k, v = qkv(3, 60)
    out = compiled(q, k, v)
    k[:, :, :40], v[:, :, :40] = torch.nan, torch.inf
    assert torch.equal(compiled(q, k, v), out)


def test_half_precision_is_computed_in_single():
    compiled = compiled_of("dilation")
    q, k, v = (t.to(torch.bfloat16) for t in qkv(2, 70))
    out, lse = compiled(q, k, v, return_lse=True)
    assert (out.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
    exact = compiled(*(t.double() for t in (q, k, v)))
    torch.testing.assert_close(out.double(), exact, rtol=1e-2, atol=1e-2)


def test_what_comes_later_changes_nothing_before():
    """For a few queries, forward and gradient: keys behind a query have no say."""
    compiled = compiled_of("strided")
    q, k, v = qkv(4, 40)
    other = [torch.cat([t[:, :, :38], torch.randn_like(t[:, :, 38:])], dim=2).requires_grad_() for t in (k, v)]
    torch.testing.assert_close(compiled(q, *other)[:, :, :2], compiled(q, k, v)[:, :, :2], rtol=0, atol=0)
    gradients = torch.autograd.grad(compiled(q, *other)[:, :, :2].sum(), other)
    assert all(not g[:, :, 38:].any() for g in gradients)


def test_a_length_that_the_program_does_not_admit():
    text = "pattern grid(H: int = 4) over (y: H, x: H) = { q -> k : q.y == k.y }"
    grid = patternc.compile(text, heads=HEADS, kv_heads=KV_HEADS)
    with pytest.raises(patternc.SpatError):
        grid(*qkv(1, 17))
    x = qkv(1, 16)
    close(grid(*x, return_lse=True), reference(grid, *x, tensors={}))


# ------------------------------------------------------------------ a cache in one piece


@pytest.mark.parametrize("name", ["window", "dilation", "strided", "bag", "heads"])
def test_token_by_token_is_the_whole(name):
    compiled = compiled_of(name)
    q, k, v = qkv(50, 50)
    whole = compiled(q, k, v)
    cache = KVCache(2, KV_HEADS, 50, DIM, dtype=torch.float64)
    steps = [slice(0, 20), *(slice(i, i + 1) for i in range(20, 30)), slice(30, 37), slice(37, 50)]
    parts = [cache.attend(compiled, *(t[:, :, step] for t in (q, k, v))) for step in steps]
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, rtol=1e-9, atol=1e-10)
    assert cache.length == 50
    with pytest.raises(ValueError, match="the cache holds 50 tokens; found 50 and 1 more"):
        cache.append(k[:, :, :1], v[:, :, :1])


def test_global_tokens_are_known_as_they_come():
    """A pattern of a run-time tensor, cut to what a decoder may see."""
    text = """
pattern hubs(is_hub: bool[batch, n]) = causal & { q -> k : q - k < 4 or is_hub[k] }
"""
    compiled = patternc.compile(text, heads=HEADS, kv_heads=KV_HEADS)
    q, k, v = qkv(30, 30)
    flags = torch.rand(2, 30) < 0.2
    whole = compiled(q, k, v, is_hub=flags)
    cache = KVCache(2, KV_HEADS, 30, DIM, dtype=torch.float64)
    parts = [
        cache.attend(compiled, *(t[:, :, i : i + 1] for t in (q, k, v)), is_hub=flags[:, : i + 1]) for i in range(30)
    ]
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("paged", [False, True])
def test_a_module_takes_a_cache(paged):
    torch.manual_seed(0)
    module = SelfAttention(patternc.compile("std/local", heads=HEADS, kv_heads=KV_HEADS, window=5), 32).double()
    x = torch.randn(2, 20, 32, dtype=torch.float64)
    cache = PagedCache(2, 12, 4, KV_HEADS, DIM, dtype=torch.float64) if paged else None
    cache = cache or KVCache(2, KV_HEADS, 20, DIM, dtype=torch.float64)
    with torch.no_grad():
        parts = [module(x[:, step], cache=cache) for step in (slice(0, 12), *(slice(i, i + 1) for i in range(12, 20)))]
        torch.testing.assert_close(torch.cat(parts, dim=1), module(x), rtol=1e-9, atol=1e-10)


# ------------------------------------------------------------------ padding


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["window", "dilation", "both ways", "strided", "global tokens"])
def test_padded_keys_are_removed(name, side):
    """Against the dense computation under the mask without the padded keys."""
    compiled = compiled_of(name)
    module = PatternAttention(compiled, heads=HEADS, kv_heads=KV_HEADS)
    q, k, v = (t.requires_grad_() for t in qkv(30, 30))
    tensors = tensors_of(compiled, 30)
    attention_mask = torch.ones(2, 30, dtype=torch.int64)
    attention_mask[0, slice(0, 9) if side == "left" else slice(21, 30)] = 0
    padding = key_padding_mask(attention_mask)
    m = compiled.mask(30, **tensors).expand(2, HEADS, 30, 30)
    for n_q in (30, 3):
        x = q[:, :, 30 - n_q :], k, v
        found = module(*x, return_lse=True, key_padding_mask=padding, **tensors)
        gradients = torch.autograd.grad(found[0].square().sum(), x)
        for b in range(2):
            kept = ~padding[b]
            own = [t[b : b + 1].detach() for t in x]
            x_b = [own[0].requires_grad_(), *(t[:, :, kept].requires_grad_() for t in own[1:])]
            expected = attention(*x_b, m[b : b + 1, :, 30 - n_q :, kept], DIM**-0.5)
            close([t[b : b + 1] for t in found], expected)
            dense = torch.autograd.grad(expected[0].square().sum(), x_b)
            close([gradients[0][b : b + 1], *(g[b : b + 1, :, kept] for g in gradients[1:])], dense)
            assert not any(g[b, :, ~kept].any() for g in gradients[1:])


def test_padding_of_self_attention():
    module = SelfAttention("std/local", 32, heads=HEADS, kv_heads=KV_HEADS, window=5).double()
    x = torch.randn(1, 12, 32, dtype=torch.float64)
    padding = torch.arange(12)[None] < 4
    whole = module(x, key_padding_mask=padding)
    torch.testing.assert_close(module(x[:, 4:]), whole[:, 4:], rtol=1e-9, atol=1e-10)
    with pytest.raises(ValueError, match="a paged cache takes neither dropout nor padding"):
        module(x, key_padding_mask=padding, cache=PagedCache(1, 3, 4, KV_HEADS, DIM))


def test_attention_masks_are_read():
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    expected = torch.tensor([[False, False, True], [True, False, False]])
    for form in (mask, mask.bool(), mask.float()):
        assert torch.equal(key_padding_mask(form), expected)
    with pytest.raises(ValueError, match="found other values"):
        key_padding_mask(mask * 2)
    with pytest.raises(TypeError, match=r"an attention mask is a tensor \(B, N\); found \(3,\)"):
        key_padding_mask(mask[0])
    with pytest.raises(TypeError, match=r"key_padding_mask must hold bools, true for padding; found torch.int64"):
        PatternAttention("std/local", heads=HEADS, kv_heads=KV_HEADS)(*qkv(3, 3), key_padding_mask=mask)
    with pytest.raises(ValueError, match=r"key_padding_mask must have shape \(2, 4\); found \(2, 3\)"):
        PatternAttention("std/local", heads=HEADS, kv_heads=KV_HEADS)(*qkv(4, 4), key_padding_mask=expected)


def test_self_attention_takes_any_source():
    module = SelfAttention("std/local", 32, heads=HEADS, window=5)
    assert module.params == {"window": 5}
    module.set_params(window=3)
    assert torch.equal(module.compiled.mask(9), patternc.compile("std/local", heads=HEADS, window=3).mask(9))
    with pytest.raises(TypeError, match="heads must be given"):
        SelfAttention("std/local", 32)
