"""Masks that Transformers' models and their users pass beside a pattern, and what is refused."""

import pytest
import torch
from transformers import (
    AttentionInterface,
    BartConfig,
    DynamicCache,
    Gemma2Config,
    GptOssConfig,
    MistralConfig,
)
from transformers_models import (
    BERT,
    BOTH_WAYS,
    GEMMA,
    HEADS,
    LAYERS,
    LLAMA,
    VOCABULARY,
    N,
    compared,
    kept,
    model,
    register_all,
    tokens,
    under,
)

import patternc
from patternc.integrations.transformers import register


@pytest.fixture(autouse=True)
def _registered():
    register_all()


def test_a_mask_of_four_axes_decides_about_causality():
    rule = BOTH_WAYS["near"][1]
    pairs = torch.rand(2, 1, N, N, generator=torch.Generator().manual_seed(1)) < 0.8
    pairs |= torch.eye(N, dtype=torch.bool)
    masks = [kept(rule, 0, N, False) & pairs] * LAYERS
    floats = torch.zeros(pairs.shape).masked_fill(~pairs, torch.finfo(torch.float32).min)
    for given in (pairs, floats):
        assert max(compared(LLAMA, "near", masks, input_ids=tokens(), attention_mask=given)) < 2e-5


def test_other_floats_are_added_or_refused():
    bias = torch.randn(2, 1, N, N, generator=torch.Generator().manual_seed(1))
    eager = under(model(BERT, "eager"), [kept(BOTH_WAYS["near"][1], 0, N, False)] * LAYERS)
    for layer in eager.encoder.layer:
        layer.attention.self.register_forward_pre_hook(
            lambda module, args, kwargs: (
                (args, {**kwargs, "attention_mask": kwargs["attention_mask"] + bias})
                if "attention_mask" in kwargs
                else ((args[0], args[1] + bias, *args[2:]), kwargs)
            ),
            with_kwargs=True,
        )
    expected = eager(tokens()).last_hidden_state
    found = model(BERT, "patternc_near")(tokens(), attention_mask=bias).last_hidden_state
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    register("patternc_near", BOTH_WAYS["near"][0], backend="torch")
    with pytest.raises(ValueError, match=r"a mask of floats is added to scores only densely; .* found 'torch'"):
        model(BERT, "patternc_near")(tokens(), attention_mask=bias)


def test_weights_on_request():
    found = model(LLAMA, "patternc_near")(tokens(), output_attentions=True).attentions
    eager = under(model(LLAMA, "eager"), [kept(BOTH_WAYS["near"][1], 0, N, True)] * LAYERS)
    expected = eager(tokens(), output_attentions=True).attentions
    assert len(found) == LAYERS
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_sliding_windows_and_packed_documents_meet_the_pattern():
    config = MistralConfig(**{**LLAMA.to_diff_dict(), "model_type": "mistral", "sliding_window": 4})
    masks = [kept(lambda layer, h, q, k: (abs(q - k) <= 5) & (q - k < 4), 0, N, True)] * LAYERS
    assert max(compared(config, "near", masks, input_ids=tokens())) < 2e-5
    position_ids = torch.cat([torch.arange(10), torch.arange(N - 10)])[None].expand(2, -1)

    def rule(layer, h, q, k):
        return (abs(q - k) <= 5) & ((q < 10) == (k < 10))

    masks = [kept(rule, 0, N, True)] * LAYERS
    assert max(compared(LLAMA, "near", masks, input_ids=tokens(), position_ids=position_ids, use_cache=False)) < 2e-5


# ------------------------------------------------------------------ what is refused


def test_wrong_registrations():
    with pytest.raises(patternc.SpatError, match="std/nothing"):
        register("spat_x", "std/nothing")
    with pytest.raises(TypeError, match="windw"):
        register("spat_x", "std/local", windw=3)
    with pytest.raises(ValueError, match="unknown backend 'tritn'; did you mean 'triton'"):
        register("spat_x", "std/local", backend="tritn")
    with pytest.raises(ValueError, match="takes names with 'sdpa' for its own"):
        register("my_sdpa", "std/local")
    with pytest.raises(ValueError, match="letters, digits and underscores is expected; found 'a/b'"):
        register("a/b", "std/local")
    AttentionInterface.register("somebodys", print)
    with pytest.raises(ValueError, match="another attention implementation 'somebodys'"):
        register("somebodys", "std/local")


def test_heads_that_a_pattern_has_none_for():
    register("patternc_two", "pattern two() = match h { 0 => causal, 1 => full }")
    with pytest.raises(patternc.SpatError, match="h = 2"):
        model(BERT, "patternc_two")(tokens())
    register("patternc_two", patternc.compile("std/local", heads=2))
    with pytest.raises(ValueError, match=r"expected \(heads, kv_heads\) = \(4, 4\); local was compiled for \(2, 2\)"):
        model(BERT, "patternc_two")(tokens())


def test_what_lies_outside_a_pattern_is_refused():
    bart = BartConfig(d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, vocab_size=VOCABULARY)
    with pytest.raises(ValueError, match="is for self-attention; BartConfig has cross-attention as well"):
        model(bart, "patternc_near")(tokens())

    class CrossAttention(torch.nn.Module):
        layer_idx = 0

    q = torch.randn(1, HEADS, N, 8)
    with pytest.raises(ValueError, match="is for self-attention; found CrossAttention"):
        register("patternc_near", BOTH_WAYS["near"][0])(CrossAttention(), q, q, q, None)
    with pytest.raises(ValueError, match="cannot honour 'softcap': scores are capped"):
        model(Gemma2Config(**GEMMA), "patternc_near")(tokens())
    with pytest.raises(ValueError, match="cannot honour 's_aux': attention sinks lie outside the pattern"):
        model(GptOssConfig(**GEMMA, num_local_experts=2, num_experts_per_tok=1), "patternc_near")(tokens())
    llama = model(LLAMA, "patternc_near")
    with pytest.raises(ValueError, match="cannot honour 'cu_seq_lens_q': documents are packed"):
        llama(tokens(), cu_seq_lens_q=torch.tensor([0, N]))
    with pytest.raises(ValueError, match=r"expected a mask of the shape \(2, 4, 24, 24\).*found \(2, 1, 24, 7\)"):
        llama(tokens(), attention_mask=torch.ones(2, 1, N, 7, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"must hold bools or floats; found torch\.int64"):
        llama(tokens(), attention_mask=torch.ones(2, 1, N, N, dtype=torch.int64))
    cache = DynamicCache(config=LLAMA)
    llama(tokens(), past_key_values=cache)
    with pytest.raises(ValueError, match="must have as many queries as keys"):
        llama(tokens(n=1), past_key_values=cache, attention_mask=torch.ones(2, 1, 1, N + 1, dtype=torch.bool))
    mistral = MistralConfig(**{**LLAMA.to_diff_dict(), "model_type": "mistral", "sliding_window": 4})
    with pytest.raises(ValueError, match=r"keys have left a sliding cache.*config.sliding_window = None"):
        model(mistral, "patternc_near", causal_lm=True).generate(tokens(), max_new_tokens=3)


def test_layers_without_a_number():
    made = register("patternc_layered", BOTH_WAYS["layered"][0])
    q = torch.randn(1, HEADS, N, 8)
    nameless = torch.nn.Identity()
    with pytest.raises(ValueError, match="patternc_layered differs by layer, and Identity has no `layer_idx`"):
        made(nameless, q, q, q, None)
    assert register("patternc_near", BOTH_WAYS["near"][0])(nameless, q, q, q, None)[0].shape == (1, N, HEADS, 8)
