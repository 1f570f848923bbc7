"""MultiheadAttention against torch's own class: on the full pattern, and on patterns written as its masks."""

import copy

import pytest
import torch

import patternc
from patternc.nn import MultiheadAttention
from patternc.nn.restricted import Limit

E, H, B, N = 24, 4, 2, 21
LOCAL = "pattern local(window: tokens = 5) = { q -> k : abs(q - k) <= window }"
EMPTY_ROWS = "pattern few() = { q -> k : q % 3 == 0 and k <= q }"
PRESETS = {
    "local": {"window": 6},
    "dilated": {"block": 3, "rates": [1, 2]},
    "global_local": {"hubs": 2, "window": 4},
    "hierarchical": {"levels": [(2, 4, 2), (8, 16, 2)]},
    "hierarchical_fine": {"levels": [(2, 4, 2), (8, 16, 4)]},
    "hierarchical_long": {"levels": [(4, 6, 4), (8, 16, 4)]},
    "block_dilated": {"block": 6, "parts": [(0, 3, 1), (3, 6, 2)]},
    "longnet": {"levels": [(4, 1), (8, 2), (16, 4)]},
    "ultra_sparse": {"block": 4, "rates": [1, 2]},
    "adaptive": {"block": 4, "one_in": 3},
    "multihead": {"window": 4, "block": 3, "rates": [1, 2]},
}
"""Parameters with which the presets leave gaps at N tokens."""


def pair(pattern: str | None = None, params: dict | None = None, **options):
    """torch's module and ours with the same weights, in float64."""
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(E, H, dtype=torch.float64, **options)
    if theirs.in_proj_bias is not None:
        torch.nn.init.normal_(theirs.in_proj_bias)
    given = {} if pattern is None else {"pattern": pattern}
    ours = MultiheadAttention(E, H, dtype=torch.float64, **options, **given, **(params or {}))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def inputs(n_q=N, n=N, kdim=E, vdim=E, batch_first=True, seed=1):
    draw = torch.Generator().manual_seed(seed)
    shapes = (n_q, E), (n, kdim), (n, vdim)
    made = (torch.randn(B, *shape, generator=draw, dtype=torch.float64) for shape in shapes)
    return [(x if batch_first else x.transpose(0, 1)).requires_grad_() for x in made]


def padding(lengths=(13, N), n=N):
    return torch.arange(n) >= torch.tensor(lengths)[:, None]


def agree(theirs, ours, x, their_masks, our_masks, **options):
    """Outputs, weights and all gradients."""
    results = []
    for module, masks in ((theirs, their_masks), (ours, our_masks)):
        leaves = [*x, *module.parameters()]
        out, weights = module(*x, **masks, **options)
        loss = (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)).sum()
        if weights is not None:
            loss = loss + (weights * torch.linspace(0, 1, weights.numel(), dtype=out.dtype).view(weights.shape)).sum()
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        results.append((out, weights, *gradients))
    for found, expected in zip(results[1], results[0], strict=True):
        if expected is None:
            assert found is None
        else:
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


# ------------------------------------------------------------------ the full pattern


@pytest.mark.parametrize("options", [
    {}, {"batch_first": True}, {"bias": False, "kdim": 10, "vdim": 14}, {"batch_first": True, "add_bias_kv": True},
    {"add_zero_attn": True}, {"add_bias_kv": True, "add_zero_attn": True, "kdim": 7},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("mask", ["none", "padding", "pairs", "pairs of heads", "floats", "padding and floats"])
def test_the_full_pattern_is_torchs_attention(options, mask):
    theirs, ours = pair(**options)
    x = inputs(kdim=options.get("kdim", E), vdim=options.get("vdim", E), batch_first=options.get("batch_first", False))
    draw = torch.Generator().manual_seed(2)
    pairs = torch.rand(N, N, generator=draw) < 0.3
    pairs[:, 0] = False  # no row is empty
    masks = {
        "none": {},
        "padding": {"key_padding_mask": padding()},
        "pairs": {"attn_mask": pairs},
        "pairs of heads": {"attn_mask": pairs.expand(B * H, N, N) ^ (torch.arange(B * H)[:, None, None] % 2 > 0)},
        "floats": {"attn_mask": torch.randn(N, N, generator=draw, dtype=torch.float64)},
        "padding and floats": {
            "attn_mask": torch.randn(B * H, N, N, generator=draw, dtype=torch.float64),
            "key_padding_mask": torch.zeros(B, N, dtype=torch.float64).masked_fill(padding(), -torch.inf),
        },
    }[mask]
    agree(theirs, ours, x, masks, masks, average_attn_weights=mask != "pairs")
    agree(theirs, ours, x, masks, masks, need_weights=False)


@pytest.mark.parametrize(("n_q", "n"), [(5, N), (N + 4, N)])
def test_cross_attention(n_q, n):
    theirs, ours = pair(batch_first=True)
    x = inputs(n_q, n)
    draw = torch.Generator().manual_seed(3)
    pairs = torch.rand(n_q, n, generator=draw) < 0.3
    pairs[:, 0] = False
    for masks in ({}, {"attn_mask": pairs}, {"key_padding_mask": padding()},
                  {"attn_mask": torch.randn(n_q, n, generator=draw, dtype=torch.float64)}):  # fmt: skip
        agree(theirs, ours, x, masks, masks)


def test_inputs_without_a_batch_axis():
    theirs, ours = pair(batch_first=True)
    x = [t[0].detach().requires_grad_() for t in inputs()]
    for masks in ({}, {"key_padding_mask": padding()[0]}, {"attn_mask": torch.ones(H, N, N, dtype=torch.bool).triu(1)}):
        agree(theirs, ours, x, masks, masks)
        agree(theirs, ours, x, masks, masks, average_attn_weights=False)


def test_a_mask_of_floats_may_be_learned():
    gradients = []
    for module in pair(batch_first=True):
        bias = torch.zeros(N, N, dtype=torch.float64, requires_grad=True)
        out, weights = module(*inputs(), attn_mask=bias)
        gradients.append(torch.autograd.grad(out.square().sum() + weights.square().sum(), bias)[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-10)
    assert gradients[0].any()


def test_is_causal_is_the_causal_mask():
    theirs, ours = pair(batch_first=True)
    causal = torch.ones(N, N, dtype=torch.bool).triu(1)
    floats = torch.nn.Transformer.generate_square_subsequent_mask(N, dtype=torch.float64)
    agree(theirs, ours, inputs(), {"attn_mask": causal}, {"is_causal": True})
    agree(theirs, ours, inputs(), {"attn_mask": floats, "is_causal": True}, {"attn_mask": floats, "is_causal": True})


# ------------------------------------------------------------------ patterns


def as_mask(m: torch.Tensor) -> torch.Tensor:
    """M (heads, n_q, n) or (B, heads, n_q, n) as an additive mask of torch, (B · heads, n_q, n)."""
    m = m.expand(B, *m.shape[-3:]).double()
    return m.log().flatten(0, 1)


@pytest.mark.parametrize("name", sorted(patternc.presets()))
def test_a_preset_is_torchs_attention_with_its_mask(name):
    theirs, ours = pair(f"std/presets/{name}", PRESETS[name], batch_first=True)
    blocks = -(-N // 4)
    draw = torch.Generator().manual_seed(4)
    tensors = {"score": torch.randn(B, H, blocks, blocks, generator=draw)} if name == "adaptive" else {}
    m = ours.compiled.mask(N, **tensors)
    assert 0 < (m > 0).double().mean() < 0.95
    agree(theirs, ours, inputs(), {"attn_mask": as_mask(m)}, tensors)


@pytest.mark.parametrize("pattern", [LOCAL, "std/presets/longnet"])
@pytest.mark.parametrize("extra", [{}, {"add_bias_kv": True, "add_zero_attn": True}], ids=["plain", "appended"])
def test_masks_meet_the_pattern(pattern, extra):
    theirs, ours = pair(pattern, {} if pattern is LOCAL else PRESETS["longnet"], batch_first=True, **extra)
    m = as_mask(ours.compiled.mask(N))
    draw = torch.Generator().manual_seed(5)
    pairs = (torch.rand(N, N, generator=draw) < 0.3).fill_diagonal_(False)
    padded = padding((N - 3, N)) & ~torch.eye(N, dtype=torch.bool)[0]
    floats = torch.randn(B * H, N, N, generator=draw, dtype=torch.float64)
    empty = torch.zeros_like(m).masked_fill(padded.repeat_interleave(H, 0)[:, None, :], -torch.inf)
    agree(theirs, ours, inputs(), {"attn_mask": m.masked_fill(pairs, -torch.inf)}, {"attn_mask": pairs})
    agree(theirs, ours, inputs(), {"attn_mask": m + floats}, {"attn_mask": floats})
    ours_only = {"key_padding_mask": padded, "attn_mask": pairs}
    both = (m + empty).masked_fill(pairs, -torch.inf)
    rows = torch.isfinite(both).any(dim=-1).view(B, H, N).all(dim=1)
    found, expected = ours(*inputs(), **ours_only)[0], theirs(*inputs(), attn_mask=both)[0]
    torch.testing.assert_close(found[rows], expected[rows], rtol=1e-9, atol=1e-10)
    assert found.isfinite().all()


def test_queries_are_the_last_positions():
    _, ours = pair(LOCAL, batch_first=True)
    x = inputs()[0]
    whole, weights = ours(x, x, x)
    last, last_weights = ours(x[:, -6:], x, x)
    torch.testing.assert_close(last, whole[:, -6:])
    torch.testing.assert_close(last_weights, weights[:, -6:])
    pairs = torch.rand(N, N, generator=torch.Generator().manual_seed(6)) < 0.2
    torch.testing.assert_close(
        ours(x[:, -6:], x, x, attn_mask=pairs[-6:])[0], ours(x, x, x, attn_mask=pairs)[0][:, -6:]
    )
    causal = ours(x[:, -6:], x, x, is_causal=True)[0]
    torch.testing.assert_close(causal, ours(x, x, x, is_causal=True)[0][:, -6:])


def test_rows_without_keys_are_zeros():
    _, ours = pair(EMPTY_ROWS, batch_first=True)
    x = inputs()[0]
    everything = torch.ones(B, N, dtype=torch.bool)
    for masks in ({}, {"key_padding_mask": everything}, {"attn_mask": torch.full((N, N), -torch.inf)},
                  {"attn_mask": torch.full((N, N), 0.5).index_fill(0, torch.tensor([0, 1]), -torch.inf)}):  # fmt: skip
        out, weights = ours(x, x, x, **masks)
        rows = weights.sum(dim=-1)
        torch.testing.assert_close(rows, (rows > 0.5).double())
        assert not rows[:, 1].any()
        torch.testing.assert_close(out[:, 1], ours.out_proj.bias.expand(B, E))
        gradients = torch.autograd.grad(out.sum() + weights.square().sum(), [x, *ours.parameters()])
        assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("added", [None, torch.float64])
def test_padding_may_hold_anything(added):
    _, ours = pair(LOCAL, batch_first=True)
    x = inputs()[0].detach()
    ruined = x.masked_fill(padding()[..., None], torch.nan)
    masks = {"key_padding_mask": padding()}
    if added:
        floats = torch.randn(N, N, generator=torch.Generator().manual_seed(7), dtype=added)
        masks = {"key_padding_mask": torch.zeros(B, N).masked_fill(padding(), -torch.inf), "attn_mask": floats}
    out, weights = ours(x, ruined, ruined, **masks)
    expected, expected_weights = ours(x, x, x, **masks)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(weights, expected_weights)
    assert not weights.masked_select(padding()[:, None, :].expand(weights.shape)).any()


def test_limits_run_on_the_backend_of_the_pattern():
    _, ours = pair(LOCAL, batch_first=True)
    x = inputs()[0]
    floats = torch.zeros(B, N).masked_fill(padding(), -torch.inf)  # as encoder layers of torch hand padding on
    ours(x, x, x, key_padding_mask=floats, attn_mask=torch.zeros(N, N, dtype=torch.bool), is_causal=False)
    limited = ours._held.restricted(frozenset({Limit.KEYS, Limit.PAIRS})).compiled
    assert "backend torch" in limited.report()
    ours(x, x, x, is_causal=True, attn_mask=torch.ones(N, N, dtype=torch.bool).triu(1))
    assert frozenset({Limit.CAUSAL, Limit.PAIRS}) not in ours._held._restricted
    causal = ours._held.restricted(frozenset({Limit.CAUSAL})).compiled
    assert causal.stats(N).wanted_pairs < ours.compiled.stats(N).wanted_pairs


def test_tensors_of_the_pattern_keep_their_names():
    text = "pattern mine(kept_keys: bool[batch, n]) = { q -> k : kept_keys[k] }"
    theirs, ours = pair(text, batch_first=True)
    other = padding((N, N - 5))
    both = (padding() | other).repeat_interleave(H, 0)[:, None, :].expand(-1, N, -1)
    agree(theirs, ours, inputs(), {"attn_mask": both}, {"key_padding_mask": padding(), "kept_keys": ~other})


# ------------------------------------------------------------------ as a module


def test_state_dicts_load_both_ways():
    for options in ({}, {"kdim": 5, "add_bias_kv": True}, {"bias": False}):
        theirs, ours = pair(LOCAL, **options)
        theirs.load_state_dict(ours.state_dict())
        assert list(ours.state_dict()) == list(theirs.state_dict())


def test_dropout_leaves_the_weights_alone_and_follows_the_seed():
    _, ours = pair(LOCAL, batch_first=True, dropout=0.5, add_zero_attn=True)
    x = inputs()[0]
    still, weights = ours.eval()(x, x, x)
    ours.train()
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        results.append(ours(x, x, x))
    assert torch.equal(results[0][0], results[1][0])
    assert not torch.allclose(results[0][0], still)
    torch.testing.assert_close(results[0][1], weights)


@pytest.mark.parametrize("padded", [False, True])
def test_an_encoder_of_torch_follows_the_pattern_in_evaluation(padded):
    """Its layers have a fused path around the attention module."""
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(E, H, 32, batch_first=True)
    attention = MultiheadAttention(E, H, batch_first=True, pattern="std/local", window=2)
    layer.self_attn = attention
    encoder = torch.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
    assert encoder.layers[0].self_attn.compiled is attention.compiled
    x = torch.randn(B, N, E)
    changed = x.clone()
    changed[:, 10] += 1
    mask = padding((13, N)) if padded else None
    with torch.no_grad():
        a, b = (encoder(t, src_key_padding_mask=mask) for t in (x, changed))
    moved = ((a - b).abs().amax(dim=-1) > 1e-6).any(dim=0)
    assert moved.nonzero().flatten().tolist() == [10, 11]


def test_copies_share_the_compiled_pattern():
    _, ours = pair(LOCAL)
    assert copy.deepcopy(ours).compiled is ours.compiled


def test_half_precision_under_autocast():
    torch.manual_seed(0)
    ours = MultiheadAttention(E, H, batch_first=True, pattern=LOCAL, add_bias_kv=True)
    x = torch.randn(B, N, E)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, weights = ours(x, x, x, key_padding_mask=padding())
    expected, expected_weights = ours(x, x, x, key_padding_mask=padding())
    assert out.dtype == weights.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)
    torch.testing.assert_close(weights.float(), expected_weights, rtol=0.05, atol=0.02)
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in ours.parameters())


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(("masks", "error", "words"), [
    ({"key_padding_mask": torch.zeros(B, N + 1, dtype=torch.bool)}, ValueError, "key_padding_mask must have shape"),
    ({"key_padding_mask": torch.zeros(B, N, dtype=torch.int)}, TypeError, "bools or floats; found torch.int32"),
    ({"attn_mask": torch.zeros(B, N, N, dtype=torch.bool)}, ValueError, rf"\({N}, {N}\) or \({B * H}, {N}, {N}\)"),
])  # fmt: skip
def test_wrong_masks(masks, error, words):
    _, ours = pair(LOCAL, batch_first=True)
    with pytest.raises(error, match=words):
        ours(*inputs(), **masks)


def test_more_queries_than_keys_need_the_full_pattern():
    _, ours = pair(LOCAL, batch_first=True)
    with pytest.raises(ValueError, match=f"pattern local needs L <= S; found L = {N}, S = {N - 1}"):
        ours(*inputs(N, N - 1))
    _, full = pair(batch_first=True)
    with pytest.raises(ValueError, match=f"is_causal needs L <= S; found L = {N}, S = {N - 1}"):
        full(*inputs(N, N - 1), is_causal=True)


def test_a_named_backend_refuses_what_is_computed_densely():
    _, ours = pair(LOCAL, {"backend": "torch"}, batch_first=True)
    floats = torch.ones(N, N, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"a mask of floats is added to scores only densely.*found 'torch'"):
        ours(*inputs(), attn_mask=floats)
    ours(*inputs(), attn_mask=floats.log())  # only zeros: nothing is added
    with pytest.raises(ValueError, match="more queries than keys"):
        pair(None, {"backend": "torch"}, batch_first=True)[1](*inputs(N + 1, N))


def test_wrong_inputs_and_arguments():
    _, ours = pair(LOCAL, batch_first=True)
    query, key, value = inputs()
    for wrong in ((query, key[0], value), (query, key, value[:, 1:]), (query[:1], key, value)):
        with pytest.raises(ValueError, match=r"expected query \(N, L, E\), key .*; found "):
            ours(*wrong)
    with pytest.raises(TypeError, match="no parameter 'windw'; did you mean 'window'"):
        MultiheadAttention(E, H, pattern=LOCAL, windw=3)
    with pytest.raises(TypeError, match="no run-time tensor"):
        ours(*inputs(), doc=torch.zeros(B, N, dtype=torch.int64))
    nested = torch.nested.nested_tensor([torch.zeros(3, E), torch.zeros(4, E)], layout=torch.jagged)
    with pytest.raises(TypeError, match="nested"):
        ours(nested, nested, nested)
