"""Block-sparse attention weights against the dense ones."""

import pytest
import torch
from decoding_cases import HEADS, KV_HEADS, PATTERNS, compiled_of, qkv, tensors_of

from patternc.nn import MultiheadAttention, block_weights
from patternc.nn import dense as dense_attention


def laid_out(sparse, n_q, n):
    """Blocks (…, rows, columns, block, block) as (…, n_q, n), and nothing outside."""
    whole = sparse.to_dense()
    whole = whole.transpose(-3, -2).flatten(-4, -3).flatten(-2)
    assert not whole[..., n_q:, :].any()
    assert not whole[..., n:].any()
    return whole[..., :n_q, :n]


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize(("n_q", "n", "block"), [(45, 45, 8), (17, 45, 16), (1, 33, 64)])
def test_blocks_hold_the_weights(name, n_q, n, block):
    compiled = compiled_of(name)
    q, k, v = (t.requires_grad_() for t in qkv(n_q, n))
    tensors = tensors_of(compiled, n)
    _, lse = compiled(q, k, v, return_lse=True, **tensors)
    found = block_weights(compiled, q, k, lse, block=block, **tensors)
    m = compiled.mask(n, n_q, **tensors).expand(2, HEADS, n_q, n)
    logits = dense_attention.logits(q, k, m)
    expected = dense_attention.weights(logits, lse)
    torch.testing.assert_close(laid_out(found, n_q, n), expected, rtol=1e-9, atol=1e-12)
    kept = torch.nn.functional.pad(m > 0, (0, -n % block, 0, -n_q % block))
    kept = kept.unflatten(3, (-1, block)).unflatten(2, (-1, block)).any(5).any(3)
    assert found._nnz() == int(kept.sum()), "blocks without a cell take no memory"
    direction = torch.randn_like(expected)
    loss = (laid_out(found, n_q, n) * direction).sum(), (expected * direction).sum()
    for a, b in zip(*(torch.autograd.grad(x, (q, k), retain_graph=True) for x in loss), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
    mean = block_weights(compiled, q, k, lse, block=block, average=True, **tensors)
    torch.testing.assert_close(laid_out(mean, n_q, n), expected.mean(dim=1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_multihead_attention_gives_blocks_on_request(average, batched):
    options = {"batch_first": True, "dtype": torch.float64, "pattern": "std/local", "window": 7}
    theirs = MultiheadAttention(32, HEADS, **options)
    ours = MultiheadAttention(32, HEADS, weights_block=8, **options)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 30, 32, dtype=torch.float64)
    padding = torch.arange(30) >= torch.tensor([[21], [30]])
    x, padding = (x, padding) if batched else (x[0], padding[0])
    given = {"key_padding_mask": padding, "is_causal": True, "average_attn_weights": average}
    (out, weights), (expected_out, expected) = ours(x, x, x, **given), theirs(x, x, x, **given)
    torch.testing.assert_close(out, expected_out, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(laid_out(weights, 30, 30), expected, rtol=1e-9, atol=1e-12)
    assert ours(x, x, x, need_weights=False)[1] is None


def test_keys_that_nobody_reads_may_be_anything():
    compiled = compiled_of("window")
    q, k, v = qkv(5, 60)
    _, lse = compiled(q, k, v, return_lse=True)
    expected = block_weights(compiled, q, k, lse, block=8).to_dense()
    k[:, :, :40] = torch.nan
    assert torch.equal(block_weights(compiled, q, k, lse, block=8).to_dense(), expected)


def test_what_cannot_be_had():
    compiled = compiled_of("window")
    q, k, _ = qkv(5, 60)
    with pytest.raises(ValueError, match="block is the side of a block in tokens, 1 to 1024; found 0"):
        block_weights(compiled, q, k, q[..., 0], block=0)
    with pytest.raises(ValueError, match=r"lse must be that of q, \(2, 4, 5\); found \(2, 4, 5, 8\)"):
        block_weights(compiled, q, k, q)
    with pytest.raises(ValueError, match="append keys outside the pattern; weights_block must be None"):
        MultiheadAttention(32, HEADS, add_zero_attn=True, weights_block=8)
    module = MultiheadAttention(32, HEADS, weights_block=8)
    x = torch.randn(5, 2, 32)
    with pytest.raises(ValueError, match="its weights are not block-sparse"):
        module(x, x, x, attn_mask=torch.randn(5, 5))
    assert KV_HEADS < HEADS
