"""The public contract: compile, the compiled object, and what wrong calls are told."""

from __future__ import annotations

import math
import re
import time
from importlib import import_module
from itertools import pairwise

import numpy as np
import pytest
import torch

import patternc
from patternc.analysis.arrays import NUMPY
from patternc.draws import draw
from patternc.statistics import statistics

LOCAL = "pattern local(window: tokens = 4) = { q -> k : 0 <= q - k < window }"
DOCUMENTS = "pattern documents(doc: int[batch, n]) = causal & { q -> k : doc[q] == doc[k] }"


def inputs(b=2, h=4, h_kv=None, n_q=12, n=12, d=8, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    make = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
    return make(b, h, n_q, d), make(b, h_kv or h, n, d), make(b, h_kv or h, n, d)


def test_attention_is_that_of_the_dense_mask():
    attention = patternc.compile(LOCAL, heads=4, window=3)
    q, k, v = inputs()
    mask = attention.mask(12).bool()
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(attention(q, k, v), expected)


def test_grouped_heads_and_fewer_queries():
    attention = patternc.compile(LOCAL, heads=4, kv_heads=2, window=3)
    q, k, v = inputs(h_kv=2, n_q=5)
    mask = attention.mask(12, 5).bool()
    assert mask.shape == (4, 5, 12)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(attention(q, k, v), expected)


def test_lse_and_scale():
    attention = patternc.compile(LOCAL, heads=4, window=3)
    q, k, v = inputs()
    _, lse = attention(q, k, v, scale=0.5, return_lse=True)
    scores = (q @ k.mT * 0.5).masked_fill(~attention.mask(12).bool(), -math.inf)
    torch.testing.assert_close(lse, scores.logsumexp(-1))


def test_the_last_pattern_of_a_file_is_taken_unless_one_is_named():
    source = LOCAL + "\npattern wide() = local(window = 9)"
    assert patternc.compile(source, heads=1).name == "wide"
    assert patternc.compile(source, "local", heads=1, window=2).mask(3).sum() == 5


def test_a_pattern_object_is_a_source():
    library = patternc.load(LOCAL)
    assert list(library) == ["local"]
    assert library["local"].signature == "local(window: tokens = 4)"
    assert patternc.compile(library["local"], heads=1).mask(5).sum() == 14


def test_layers_and_heads_choose():
    source = "pattern p() = match h % 2 { 0 => diagonal, 1 => causal } if layer == 1 else full"
    assert patternc.compile(source, heads=2, layer=0).mask(4).sum() == 32
    assert patternc.compile(source, heads=2, layer=1).mask(4).sum(dim=(1, 2)).tolist() == [4, 10]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"heads": 0}, ValueError, "heads must be at least 1; found 0"),
        ({"heads": 5000}, ValueError, "heads must be at most 4096; found 5000"),
        ({"heads": 2.0}, TypeError, "heads must be an int; found 2.0"),
        ({"heads": 4, "kv_heads": 3}, ValueError, "heads = 4, kv_heads = 3"),
        ({"heads": 4, "layer": -1}, ValueError, "layer must be at least 0"),
        ({"heads": 4, "windo": 3}, TypeError, "did you mean 'window'"),
        ({"heads": 4, "window": -1}, ValueError, "not negative; found -1"),
        ({"heads": 4, "window": 1.5}, TypeError, "window must be tokens, an integer; found 1.5"),
        ({"heads": 4, "window": "3"}, TypeError, "window must be tokens; found '3'"),
        ({"heads": 4, "window": True}, TypeError, "window must be tokens; found True"),
        ({"heads": 4, "window": 2**70}, ValueError, "64 bits"),
        ({"heads": 4, "backend": "torhc"}, ValueError, "did you mean 'torch'"),
    ],
)
def test_wrong_arguments_of_compile(arguments, error, message):
    with pytest.raises(error, match=message):
        patternc.compile(LOCAL, **arguments)


def test_missing_and_misplaced_parameters():
    with pytest.raises(TypeError, match=r"needs a value for 'w' \(tokens\)"):
        patternc.compile("pattern p(w: tokens) = { q -> k : q < w }", heads=1)
    with pytest.raises(TypeError, match="'doc' of pattern 'documents' is a run-time tensor"):
        patternc.compile(DOCUMENTS, heads=1, doc=torch.zeros(1, 4, dtype=torch.long))


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda q, k, v: (q[0], k, v), ValueError, "four axes"),
        (lambda q, k, v: (q[:, :3], k, v), ValueError, "compiled for H = 4"),
        (lambda q, k, v: (q, k.float(), v), TypeError, "one dtype"),
        (lambda q, k, v: (q.long(), k.long(), v.long()), TypeError, "float"),
        (lambda q, k, v: (q, k[:, :, :0], v[:, :, :0]), ValueError, "at least one"),
        (lambda q, k, v: (q, k[:, :, :5], v[:, :, :5]), ValueError, "n_q"),
        (lambda q, k, v: (q, k, v[:, :, :5]), ValueError, "same heads and length"),
        (lambda q, k, v: (q.numpy(), k, v), TypeError, "Tensor"),
    ],
)
def test_wrong_inputs(backend, change, error, message):
    attention = patternc.compile(LOCAL, heads=4, backend=backend)
    with pytest.raises(error, match=message):
        attention(*change(*inputs()))


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        ({}, TypeError, "doc"),
        ({"dog": torch.zeros(2, 12, dtype=torch.long)}, TypeError, "dog"),
        ({"doc": torch.zeros(12, dtype=torch.long)}, ValueError, r"\(batch, 12\)"),
        ({"doc": torch.zeros(2, 11, dtype=torch.long)}, ValueError, r"\(batch, 12\)"),
        ({"doc": torch.zeros(3, 12, dtype=torch.long)}, ValueError, "batch"),
        ({"doc": torch.zeros(2, 12)}, TypeError, "integers"),
        ({"doc": "ids"}, TypeError, "str"),
    ],
)
def test_wrong_run_time_tensors(backend, tensors, error, message):
    attention = patternc.compile(DOCUMENTS, heads=4, backend=backend)
    with pytest.raises(error, match=message):
        attention(*inputs(), **tensors)


def test_a_run_time_tensor_may_be_called_like_an_option_of_verify():
    attention = patternc.compile("pattern p(seed: int[batch, n]) = { q -> k : seed[q] == seed[k] }", heads=4)
    assert patternc.verify(attention, n=40)
    assert attention(*inputs(), seed=torch.zeros(2, 12, dtype=torch.long)).shape == (2, 4, 12, 8)


def test_a_plan_that_is_kept_does_not_hide_a_wrong_tensor():
    attention = patternc.compile(LOCAL, heads=2)
    attention.plan(12)
    with pytest.raises(TypeError, match="no run-time tensor 'doc'"):
        attention.plan(12, doc=torch.zeros(1, 12, dtype=torch.long))


def test_a_length_that_does_not_fill_the_grid():
    attention = patternc.compile("pattern p(H: int) over (y: H, x: 3) = { q -> k : q.y == k.y }", heads=4, H=5)
    with pytest.raises(patternc.SpatError, match="do not fill the grid of 5 \\* 3 = 15"):
        attention(*inputs())
    assert attention.mask(15).sum() == 4 * 15 * 3


def covered(plan) -> torch.Tensor:
    """Which cells lie in tiles of the plan."""
    cells = torch.zeros(plan.n + 1, plan.n + 1, dtype=torch.bool)  # the last stand for "no token"
    for launch in plan.launches:
        for term in launch.terms:
            runs = term.by_query
            for row, (start, end) in enumerate(pairwise(runs.rows.tolist())):
                q = launch.queries.tokens(row, np.arange(plan.tile_q))
                for first, count in zip(runs.first[start:end].tolist(), runs.count[start:end].tolist(), strict=True):
                    k = term.keys.tokens(first + np.arange(count)[:, None], np.arange(plan.tile_k))
                    cells[q[:, None], k.reshape(-1)] = True
    return cells[:-1, :-1]


@pytest.mark.parametrize(
    "source",
    [
        DOCUMENTS,
        "pattern p(w: float[batch, n, n]) = causal & top(2, by = w[q, k], of = { q -> k : q - k < 40 })",
        "pattern p(g: bool[n], m: int[batch]) = { q -> k : q - k < 9 or g[q] and k < m } & cover(4) { q -> k : g[k] }",
        "pattern p(s: float[heads, n]) = { q -> k : s[h, q] > 0.5 or abs(q - k) < 3 } - diagonal",
    ],
)
def test_a_plan_without_run_time_tensors_keeps_what_they_might(source):
    attention = patternc.compile(source, heads=2)
    tensors = draw(attention.program.tensors, 300, heads=2, batch=1, seed=3)
    mask = attention.mask(300, **tensors).reshape(-1, 300, 300).amax(0)
    assert mask.any()
    assert not (mask.bool() & ~covered(attention.plan(300))).any()
    with pytest.raises(TypeError, match="run-time tensors are missing"):
        attention.stats(300)


def test_a_plan_without_run_time_tensors_follows_the_static_part():
    plan = patternc.compile(DOCUMENTS, heads=2).plan(1024)
    (launch,) = plan.launches
    (term,) = launch.terms
    assert term.by_query.count.sum() == 2 * 8 * 9 / 2, "causal tiles only, 128 queries by 64 keys"
    assert launch.batch is None


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("local", {"window": 100}), ("global_local", {"hubs": 9, "window": 60}), ("strided", {"l": 16}),
        ("longnet", {"levels": [(64, 1), (128, 2)]}), ("bigbird", {"block": 16}), ("documents", {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("n_q", [300, 77])
def test_statistics_count_exactly(name, options, n_q):
    attention = patternc.compile(f"std/{name}", heads=4, **options)
    tensors = draw(attention.program.tensors, 300, heads=4, batch=2)
    mask = attention.mask(300, n_q, **tensors)
    found = attention.stats(300, n_q, **tensors)
    assert found.wanted_pairs == (mask > 0).sum()
    assert found.density == pytest.approx((mask > 0).double().mean().item())
    plan = attention.plan(300, n_q, **tensors)
    rows = mask.shape[0] if mask.ndim == 4 else 1
    tiles = sum(
        int(term.by_query.count.sum()) * len(x.heads) * (rows if x.batch is None else len(x.batch))
        for x in plan.launches
        for term in x.terms
    )
    assert found.full_tiles + found.partial_tiles == tiles
    assert found.computed_pairs == tiles * 128 * 64
    assert found.padding == found.computed_pairs / found.wanted_pairs
    assert found.exact
    assert found.imbalance >= 1
    about = statistics(plan, attention._planned(300, n_q, tensors).meanings, NUMPY, most=1 << 12)
    assert not about.exact
    assert about.computed_pairs == found.computed_pairs


def test_explain_tells_estimates_from_counts():
    attention = patternc.compile("std/bigbird", heads=2)
    assert re.search(r"^pairs +[\d,]+ wanted", attention.explain(512), re.MULTILINE)
    told = re.search(r"^pairs +≈ [\d,]+ wanted \(density ≈ ([\d.]+)\)", attention.explain(8192), re.MULTILINE)
    assert float(told[1]) == pytest.approx(attention.stats(8192).density, rel=0.05)


def test_tiles_and_objectives_of_a_plan():
    attention = patternc.compile("std/strided", heads=2)
    plan = attention.plan(700, tile=(16, 32), objective="padding")
    assert (plan.tile_q, plan.tile_k) == (16, 32)
    assert plan is attention.plan(700, tile=[16, 32], objective="padding")
    assert plan is not attention.plan(700, tile=(16, 32))
    assert attention.stats(700, tile=(16, 32)).computed_pairs % (16 * 32) == 0
    assert "16 queries x 32 keys" in attention.explain(700, tile=(16, 32))
    with pytest.raises(TypeError, match="tile must be two ints, queries and keys; found 64"):
        attention.plan(700, tile=64)
    with pytest.raises(TypeError, match="two ints"):
        attention.stats(700, tile=(64, 64.0))
    with pytest.raises(ValueError, match=r"1 to 1024; found \(0, 64\)"):
        attention.explain(700, tile=(0, 64))
    with pytest.raises(ValueError, match="unknown objective 'tyme'; did you mean 'time'"):
        attention.plan(700, objective="tyme")


def test_a_new_length_runs_no_pass_of_compiling_and_a_known_one_nothing(monkeypatch):
    attention = patternc.compile("std/strided", heads=2)
    first = attention.plan(600)
    monkeypatch.setattr(import_module("patternc.passes.arranged"), "arranged_with_story", None)
    assert attention.plan(601).n == 601
    assert attention.plan(601, 77).n_q == 77
    took = []
    for _ in range(200):
        start = time.perf_counter()
        again = attention.plan(600)
        took.append(time.perf_counter() - start)
    assert again is first
    assert min(took) < 50e-6


def test_bags_are_counted_once_over_their_terms():
    text = "pattern p() = { q -> k : q % 8 == 0 and k % 8 == 0 } + { q -> k : abs(q - k) < 9 }"
    attention = patternc.compile(text, heads=2)
    assert attention.stats(900).wanted_pairs == (attention.mask(900) > 0).sum()


def test_kernels_are_preferred_on_cuda_devices(monkeypatch):
    pytest.importorskip("triton")
    backend = import_module("patternc.backends.triton_backend")
    monkeypatch.setattr(backend, "device_reasons", lambda _: [])
    monkeypatch.setattr(backend, "interpreting", lambda: False)
    attention = patternc.compile(LOCAL, heads=4)
    assert attention._choose("cuda", torch.bfloat16, 64) == "triton"
    assert attention._choose("cuda", torch.bfloat16, 320) == "torch"
    assert attention._choose("cuda", torch.float64, 64) == "torch"
    assert attention._choose("cpu", torch.float32, 64) == "torch"  # even where kernels are interpreted
    assert attention._choose("mps", torch.float32, 64) == "torch"
    last = patternc.compile("pattern last() = { q -> k : q - k < 12345678901 } if h == 3 else causal", heads=4)
    assert last._choose("cuda", torch.bfloat16, 64) == "torch"  # kernels do not have the number of the last head


def test_the_choice_of_backend_is_reported():
    attention = patternc.compile(LOCAL, heads=4)
    assert "not called yet" in attention.report()
    attention(*inputs())
    assert attention.report() == "local on cpu float64: backend torch"


def test_module():
    module = patternc.compile(DOCUMENTS, heads=4, kv_heads=2).module(embed_dim=32)
    x = torch.randn(2, 10, 32, requires_grad=True)
    doc = torch.tensor([[0] * 5 + [1] * 5] * 2)
    out = module(x, doc=doc)
    assert out.shape == x.shape
    out[:, 5:].sum().backward()
    assert not x.grad[:, :5].any(), "the second document does not see the first"
    assert x.grad[:, 5:].any()
    with pytest.raises(ValueError, match="multiple of the 4 heads; found 30"):
        patternc.compile(DOCUMENTS, heads=4).module(embed_dim=30)


def test_public_names():
    assert set(patternc.__all__) <= set(dir(patternc))
    for name in patternc.__all__:
        assert callable(getattr(patternc, name))
    assert patternc.check is getattr(__import__("patternc"), "check")  # noqa: B009
    with pytest.raises(AttributeError, match="no attribute 'chekc'"):
        _ = patternc.chekc
