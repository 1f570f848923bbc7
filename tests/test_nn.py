"""Modules around patterns: layouts, copies, parameters that change, causality, automatic casts, checkpoints."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

import patternc
from patternc.draws import draw
from patternc.nn import MultiheadAttention, PatternAttention, ProgressiveSparsity, SelfAttention

N = 40
HUBS = """
pattern hubs(window: tokens = 4, is_hub: bool[batch, n]) = { q -> k : abs(q - k) <= window or is_hub[k] }
"""
CAUSAL = {
    "std/local": {"window": 7},
    "std/strided": {"l": 6},
    "std/longnet": {"levels": [(8, 1), (16, 2)]},
    "std/documents": {},
    "std/adaptive": {"block": 4, "keep": 1},
    "std/presets/longnet": {"levels": [(4, 1), (16, 4)]},
    "std/presets/adaptive": {"block": 4, "one_in": 2},
}


def qkv(heads=4, kv_heads=None, n=N, dim=8, seed=0):
    draw = torch.Generator().manual_seed(seed)
    shapes = [(2, h, n, dim) for h in (heads, kv_heads or heads, kv_heads or heads)]
    return [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]


# ------------------------------------------------------------------ PatternAttention


def test_it_is_the_compiled_call():
    hub = torch.zeros(2, N, dtype=torch.bool)
    hub[:, 3] = True
    module = PatternAttention(HUBS, heads=4, kv_heads=2, window=5)
    q, k, v = qkv(kv_heads=2)
    out, lse = module(q, k, v, scale=0.3, return_lse=True, is_hub=hub)
    expected = patternc.compile(HUBS, heads=4, kv_heads=2, window=5)(q, k, v, scale=0.3, return_lse=True, is_hub=hub)
    assert torch.equal(out, expected[0])
    assert torch.equal(lse, expected[1])
    torch.testing.assert_close(module(q[:, :, -1:], k, v, scale=0.3, is_hub=hub), out[:, :, -1:])


def test_layouts_differ_by_a_transpose_only():
    first = PatternAttention("std/local", heads=4, window=9)
    second = PatternAttention("std/local", heads=4, window=9, layout="bnhd")
    q, k, v = qkv()
    out, lse = first(q, k, v, return_lse=True)
    turned = [t.transpose(1, 2).contiguous().requires_grad_() for t in (q, k, v)]
    other, other_lse = second(*turned, return_lse=True)
    assert torch.equal(other.transpose(1, 2), out)
    assert torch.equal(other_lse, lse)
    other.sum().backward()
    assert all(t.grad.shape == t.shape for t in turned)


def test_dropout_is_for_training():
    module = PatternAttention("std/local", heads=4, window=9, dropout=0.5)
    q, k, v = qkv()
    assert not torch.equal(module(q, k, v), module(q, k, v))
    module.eval()
    assert torch.equal(module(q, k, v), patternc.compile("std/local", heads=4, window=9)(q, k, v))


def test_a_compiled_pattern_is_a_source():
    compiled = patternc.compile("std/local", heads=4, kv_heads=2, window=9)
    module = PatternAttention(compiled, heads=4, kv_heads=2)
    assert module.compiled is compiled
    with pytest.raises(ValueError, match=r"expected \(heads, kv_heads\) = \(2, 2\); local was compiled for \(4, 2\)"):
        PatternAttention(compiled, heads=2)
    with pytest.raises(ValueError, match="local is compiled: it takes no parameters; found window"):
        PatternAttention(compiled, heads=4, window=3)
    with pytest.raises(ValueError, match="its parameters are fixed; found window"):
        module.set_params(window=3)


def test_wrong_options():
    with pytest.raises(ValueError, match="unknown layout 'bhn'; did you mean 'bhnd'"):
        PatternAttention("std/local", heads=4, layout="bhn")
    with pytest.raises(ValueError, match="dropout is a probability; found 2"):
        PatternAttention("std/local", heads=4, dropout=2)
    with pytest.raises(TypeError, match=r"q must be a torch.Tensor; found int"):
        PatternAttention("std/local", heads=4, layout="bnhd")(1, 2, 3)


def test_parameters_change_without_a_new_module():
    module = PatternAttention("std/local", heads=4, window=9)
    q, k, v = qkv()
    before = module.compiled
    module.set_params(window=9)
    assert module.compiled is before
    module.set_params(window=3)
    assert module.params == {"window": 3}
    assert torch.equal(module(q, k, v), patternc.compile("std/local", heads=4, window=3)(q, k, v))
    with pytest.raises(ValueError, match="not negative"):
        module.set_params(window=-1)
    assert module.params == {"window": 3}
    assert "window=3" in repr(module)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_and_pickles(again):
    module = PatternAttention("std/local", heads=4, window=9, layout="bnhd")
    other = again(module)
    q = qkv()[0].transpose(1, 2)
    assert torch.equal(module(q, q, q), other(q, q, q))
    other.set_params(window=1)
    assert module.params == {"window": 9}


def test_state_dicts_hold_weights_only():
    assert dict(PatternAttention("std/local", heads=2).state_dict()) == {}
    for make in (
        lambda: MultiheadAttention(16, 2, pattern="std/local", window=5),
        lambda: SelfAttention(patternc.compile("std/local", heads=2, window=5), 16),
    ):
        first, second = make(), make()
        second.load_state_dict(first.state_dict())
        x = torch.randn(2, N, 16)
        assert torch.equal(*(m(x, x, x)[0] if isinstance(m, MultiheadAttention) else m(x) for m in (first, second)))


# ------------------------------------------------------------------ causality


def tensors_of(compiled, n, seed):
    drawn = draw(compiled.program.tensors, n, heads=compiled.heads, batch=2, seed=seed)
    return {name: torch.from_numpy(array) for name, array in drawn.items()}


@pytest.mark.parametrize("source", sorted(CAUSAL))
@settings(max_examples=6, deadline=None)
@given(n=st.integers(2, N), seed=st.integers(0, 99), data=st.data())
def test_what_comes_later_changes_nothing_before(source, n, seed, data):
    module = PatternAttention(source, heads=4, **CAUSAL[source])
    t = data.draw(st.integers(1, n - 1))
    tensors = tensors_of(module.compiled, n, seed)
    x = [y.requires_grad_() for y in qkv(n=n, seed=seed)]
    other = [torch.cat([a[:, :, :t], b[:, :, t:]], dim=2) for a, b in zip(x, qkv(n=n, seed=seed + 1), strict=True)]
    out = module(*x, **tensors)
    torch.testing.assert_close(module(*other, **tensors)[:, :, :t], out[:, :, :t], rtol=1e-12, atol=1e-12)
    gradients = torch.autograd.grad(out[:, :, :t].sum(), x)
    assert not any(gradient[:, :, t:].any() for gradient in gradients)


@settings(max_examples=10, deadline=None)
@given(n=st.integers(2, N), seed=st.integers(0, 99), data=st.data())
@pytest.mark.parametrize("pattern", ["std/presets/multihead", "std/presets/hierarchical", "std/presets/ultra_sparse"])
def test_is_causal_makes_a_pattern_causal(pattern, n, seed, data):
    small = {"multihead": {"window": 6, "block": 3}, "hierarchical": {"levels": [(4, 8, 4)]},
             "ultra_sparse": {"block": 4, "rates": [1, 2]}}[pattern.rpartition("/")[2]]  # fmt: skip
    torch.manual_seed(seed)
    module = MultiheadAttention(16, 4, batch_first=True, pattern=pattern, dtype=torch.float64, **small)
    t = data.draw(st.integers(1, n - 1))
    x = torch.randn(2, n, 16, dtype=torch.float64, requires_grad=True)
    other = torch.cat([x[:, :t], torch.randn(2, n - t, 16, dtype=torch.float64)], dim=1)
    out, weights = module(x, x, x, is_causal=True)
    torch.testing.assert_close(module(other, other, other, is_causal=True)[0][:, :t], out[:, :t])
    assert not weights.triu(1).any()
    assert not torch.autograd.grad(out[:, :t].sum(), x)[0][:, t:].any()


# ------------------------------------------------------------------ among PyTorch's tools


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_activation_checkpoints_give_the_same_gradients_with_dropout(backend):
    module = PatternAttention("std/local", heads=4, window=9, dropout=0.3, backend=backend)
    gradients = []
    for run in (module, lambda *x: checkpoint(module, *x, use_reentrant=False)):
        torch.manual_seed(5)
        x = [t.requires_grad_() for t in qkv()]
        gradients.append(torch.autograd.grad(run(*x).square().sum(), x))
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


def test_a_compiled_model_breaks_its_graph_at_the_pattern():
    model = MultiheadAttention(16, 2, batch_first=True, pattern=HUBS, dtype=torch.float64)
    x = qkv(1, dim=16)[0][:, 0]
    padded = torch.arange(N) >= 30
    arguments = {"key_padding_mask": padded.expand(2, N), "is_hub": torch.zeros(2, N, dtype=torch.bool)}
    compiled = torch.compile(model, backend="eager")
    for found, expected in zip(compiled(x, x, x, **arguments), model(x, x, x, **arguments), strict=True):
        torch.testing.assert_close(found, expected)


def test_half_precision_inputs_under_autocast():
    module = PatternAttention("std/local", heads=4, window=9)
    q, k, v = (t.bfloat16() for t in qkv())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(q, k, v)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, module(q, k, v))


# ------------------------------------------------------------------ ProgressiveSparsity


def two_layers():
    return torch.nn.Sequential(
        PatternAttention("std/local", heads=4, window=100),
        MultiheadAttention(16, 4, pattern="std/presets/local"),
        PatternAttention("std/strided", heads=4),
    )


def test_a_schedule_leads_from_start_to_end():
    model = two_layers()
    schedule = ProgressiveSparsity(model, over="window", start=100, end=20, steps=4)
    seen = [[model[0].params["window"], model[1].params["window"]]]
    for _ in range(5):
        schedule.step()
        seen.append([model[0].params["window"], model[1].params["window"]])
    assert seen == [[w, w] for w in (100, 80, 60, 40, 20, 20)]
    assert model[2].params == {}
    q, k, v = qkv()
    assert torch.equal(model[0](q, k, v), patternc.compile("std/local", heads=4, window=20)(q, k, v))


@settings(max_examples=60, deadline=None)
@given(start=st.integers(0, 300), end=st.integers(0, 300), steps=st.integers(1, 40), multiple=st.integers(1, 64))
def test_values_go_one_way_by_multiples(start, end, steps, multiple):
    module = torch.nn.Sequential(PatternAttention("std/local", heads=1))
    schedule = ProgressiveSparsity(module, start=start, end=end, steps=steps, multiple=multiple)
    values = [schedule.value]
    for _ in range(steps):
        schedule.step()
        values.append(schedule.value)
    assert (values[0], values[-1]) == (start, end)
    assert values == sorted(values, reverse=start > end)
    assert all(v % multiple == 0 or v in (start, end) for v in values)
    assert all(abs(v - (start + (end - start) * i / steps)) <= multiple / 2 for i, v in enumerate(values))


def test_a_schedule_is_taken_up_where_it_stood():
    first = ProgressiveSparsity(two_layers(), start=100, end=20, steps=4)
    first.step()
    first.step()
    model = two_layers()
    second = ProgressiveSparsity(model, start=100, end=20, steps=4)
    second.load_state_dict(first.state_dict())
    assert second.value == model[0].params["window"] == 60
    with pytest.raises(ValueError, match="expected a count of 0 to 1 steps; found 2"):
        ProgressiveSparsity(model, start=100, end=20, steps=1).load_state_dict(first.state_dict())


def test_a_schedule_needs_a_pattern_with_the_parameter():
    with pytest.raises(ValueError, match="unknown parameter 'windw'; did you mean 'window'"):
        ProgressiveSparsity(two_layers(), over="windw", start=1, end=2, steps=3)
    with pytest.raises(ValueError, match="there are: none"):
        ProgressiveSparsity(torch.nn.Linear(2, 2), start=1, end=2, steps=3)
    with pytest.raises(ValueError, match="steps must be at least 1; found 0"):
        ProgressiveSparsity(two_layers(), start=1, end=2, steps=0)


def test_an_infinite_parameter_may_be_given():
    module = PatternAttention("std/local", heads=1, window=math.inf)
    assert int(module.compiled.mask(5).sum()) == 15
