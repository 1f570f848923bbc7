"""Keys and values in pages: the same as in one piece."""

import pytest
import torch
from decoding_cases import DIM, HEADS, KV_HEADS, PATTERNS, close, compiled_of, qkv, reference, tensors_of
from hypothesis import given, settings
from hypothesis import strategies as st

from patternc.nn import PagedCache, attend_paged


def in_pages(t, lengths, page_size, pages, seed=0):
    """(B, H, N, D) in shuffled pages, with NaN wherever no token is; and the table."""
    random = torch.Generator().manual_seed(seed)
    free = torch.randperm(pages, generator=random).tolist()
    pool = t.new_full((pages, page_size, t.shape[1], t.shape[3]), torch.nan)
    table = torch.full((len(lengths), max(-(-n // page_size) for n in lengths) + 1), -1)
    for b, n in enumerate(lengths):
        for j in range(-(-n // page_size)):
            table[b, j] = free.pop()
            part = t[b, :, j * page_size : min(n, (j + 1) * page_size)].transpose(0, 1)
            pool[table[b, j], : len(part)] = part
    return pool, table


@pytest.mark.parametrize("name", PATTERNS)
@settings(max_examples=4, deadline=None)
@given(data=st.data(), page_size=st.sampled_from([1, 4, 16]), n_q=st.integers(1, 9), seed=st.integers(0, 99))
def test_pages_are_one_piece(name, data, page_size, n_q, seed):
    compiled = compiled_of(name)
    lengths = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=4))
    counts = [data.draw(st.integers(0, n_q)) for _ in lengths]
    batch, most = len(lengths), max(max(lengths), 1)
    q, k, v = qkv(n_q, most, batch, seed)
    tensors = tensors_of(compiled, most, batch, seed)
    pools = [in_pages(t, lengths, page_size, 200, seed) for t in (k, v)]
    out, lse = attend_paged(compiled, q, pools[0][0], pools[1][0], pools[0][1], lengths, query_lengths=counts,
                            return_lse=True, **(tensors if max(lengths) else {}))  # fmt: skip
    for b, n in enumerate(lengths):
        count = min(n, counts[b])
        assert not out[b, :, : n_q - count].any()
        assert (lse[b, :, : n_q - count] == -torch.inf).all()
        if count:
            own = {t.name: cut(tensors[t.name], t, b, n, compiled) for t in compiled.program.tensors}
            x = q[b : b + 1, :, n_q - count :], k[b : b + 1, :, :n], v[b : b + 1, :, :n]
            expected = reference(compiled, *x, tensors=own)
            close((out[b, :, n_q - count :], lse[b, :, n_q - count :]), [t[0] for t in expected])


def cut(tensor, declared, b, n, compiled):
    from patternc.draws import extent
    from patternc.specialise import specialise

    own = tensor[b : b + 1] if declared.batched else tensor
    dims = [extent(specialise(dim, {"n": n, "heads": HEADS}), n, HEADS) for dim in declared.dims]
    return own[(*([slice(None)] if declared.batched else []), *(slice(d) for d in dims))]


@pytest.mark.parametrize("n_q", [1, 2, 7, 16, 17, 64, 128])
def test_any_number_of_queries(n_q):
    compiled = compiled_of("window")
    lengths = [140, 128]
    q, k, v = qkv(n_q, 140)
    pools = [in_pages(t, lengths, 16, 20) for t in (k, v)]
    out = attend_paged(compiled, q, pools[0][0], pools[1][0], pools[0][1], torch.tensor(lengths))
    for b, n in enumerate(lengths):
        whole = compiled(q[b : b + 1], k[b : b + 1, :, :n], v[b : b + 1, :, :n])
        torch.testing.assert_close(out[b : b + 1], whole, rtol=1e-9, atol=1e-10)


def test_pages_that_nobody_wants_are_not_read():
    compiled = compiled_of("window")  # 9 keys: of 100 tokens in pages of 8, those of the last three pages
    q, k, v = qkv(1, 100)
    pools = [in_pages(t, [100, 100], 8, 40) for t in (k, v)]
    expected = attend_paged(compiled, q, pools[0][0], pools[1][0], pools[0][1], [100, 100])
    table = pools[0][1].clone()
    table[:, : 91 // 8] = 10**6  # given back to the pool
    assert torch.equal(attend_paged(compiled, q, pools[0][0], pools[1][0], table, [100, 100]), expected)


def test_pages_have_gradients():
    compiled = compiled_of("dilation")
    lengths = [23, 30]
    q, k, v = (t.requires_grad_() for t in qkv(3, 30))
    pools = [in_pages(t, lengths, 4, 20) for t in (k, v)]
    attend_paged(compiled, q, pools[0][0], pools[1][0], pools[0][1], lengths).sum().backward()
    found = [t.grad.clone() for t in (q, k, v)]
    for t in (q, k, v):
        t.grad = None
    sum(
        compiled(q[b : b + 1], k[b : b + 1, :, :n], v[b : b + 1, :, :n]).sum() for b, n in enumerate(lengths)
    ).backward()
    close(found, [t.grad for t in (q, k, v)])


def test_a_paged_cache_grows_and_ends_sequences():
    compiled = compiled_of("strided")
    cache = PagedCache(2, 9, 4, KV_HEADS, DIM, dtype=torch.float64)
    q, k, v = qkv(12, 12)
    cache.attend(compiled, *(t[:, :, :8] for t in (q, k, v)), counts=[8, 3])  # the second has the last three of eight
    out = cache.attend(compiled, *(t[:, :, 8:12] for t in (q, k, v)), counts=[4, 1])
    assert cache.lengths == [12, 4]
    torch.testing.assert_close(out[0], compiled(q, k, v)[0, :, 8:], rtol=1e-9, atol=1e-10)
    order = [5, 6, 7, 11]
    torch.testing.assert_close(out[1, :, -1:], compiled(*(t[1:, :, order] for t in (q, k, v)))[0, :, -1:])
    assert not out[1, :, :-1].any()
    with pytest.raises(ValueError, match="6 more pages are needed; the pool has 5 left"):
        cache.append(k, v)
    cache.clear(0)
    assert (cache.lengths, cache.page_table[0].max()) == ([0, 4], -1)
    cache.append(k, v)
    assert cache.lengths == [12, 16]


def test_wrong_arguments_of_pages():
    compiled = compiled_of("window")
    q, k, _ = qkv(1, 8)
    pool, table = in_pages(k, [8, 8], 4, 4)
    call = lambda **change: attend_paged(compiled, **{
        "q": q, "key_pages": pool, "value_pages": pool, "page_table": table, "lengths": [8, 8], **change,
    })  # fmt: skip
    with pytest.raises(ValueError, match=r"with H = 4, H_kv = 2; found q \(2, 2, 1, 8\)"):
        call(q=q[:, :2])
    with pytest.raises(TypeError, match="key_pages must be a tensor of floats with four axes"):
        call(key_pages=pool.long())
    with pytest.raises(TypeError, match=r"value_pages must be torch.float64 on cpu, like q; found torch.float32"):
        call(value_pages=pool.float())
    with pytest.raises(TypeError, match="page_table must be a tensor of integers"):
        call(page_table=table.double())
    with pytest.raises(ValueError, match=r"page_table must be \(2, M\) on cpu; found \(1, 3\)"):
        call(page_table=table[:1])
    with pytest.raises(ValueError, match=r"lengths must be 0 to 12; found \[8, 13\]"):
        call(lengths=[8, 13])
    with pytest.raises(TypeError, match="lengths must be 2 integers"):
        call(lengths=[8])
    with pytest.raises(ValueError, match=r"query_lengths must be 0 to 1; found \[2, 0\]"):
        call(query_lengths=[2, 0])
    with pytest.raises(TypeError, match="the pattern has no run-time tensor 'is_hub'"):
        call(is_hub=q)
    with pytest.raises(ValueError, match="page_table must hold 0 to 3 for pages whose tokens the pattern wants"):
        call(page_table=torch.where(table == table[1, 1], -1, table))
