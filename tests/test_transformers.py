"""Models of Hugging Face Transformers under patterns, against the same models under eager attention with a mask."""

import pytest
import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    BertConfig,
    DynamicCache,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
)
from transformers.masking_utils import sdpa_mask
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
)

from patternc.backends.torch_run import Runner
from patternc.integrations.transformers import register


@pytest.fixture(autouse=True)
def _registered():
    register_all()


@pytest.mark.parametrize("config", [BERT, LLAMA], ids=["encoder", "decoder"])
@pytest.mark.parametrize("name", BOTH_WAYS)
def test_it_is_the_eager_model_with_the_mask(config, name):
    rule, causal = BOTH_WAYS[name][1], config is LLAMA
    masks = [kept(rule, layer, N, causal) for layer in range(LAYERS)]
    assert all(1 - mask.float().mean() >= 0.3 for mask in masks)
    assert max(compared(config, name, masks, input_ids=tokens())) < 2e-5


@pytest.mark.parametrize("config", [BERT, LLAMA], ids=["encoder", "decoder"])
@pytest.mark.parametrize("name", BOTH_WAYS)
def test_one_pair_too_many_shows(config, name):
    masks = [kept(BOTH_WAYS[name][1], layer, N, config is LLAMA) for layer in range(LAYERS)]
    masks[1][0, 1, 20, 2 if config is LLAMA else 3] ^= True
    assert min(compared(config, name, masks, input_ids=tokens())) > 1e-4


def test_a_decoder_is_causal_by_the_pattern_itself():
    made = register("patternc_near", BOTH_WAYS["near"][0], w=7)
    attention = made.compiled(HEADS, 2, causal=True)
    assert not attention.mask(N).triu(1).any()
    assert attention.program.tensors == ()
    assert attention.stats(N).density < made.compiled(HEADS, 2).stats(N).density


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("config", [BERT, LLAMA], ids=["encoder", "decoder"])
def test_padding_leaves_positions_where_they_are(config, side):
    keys = torch.arange(N) >= torch.tensor([[6], [0]])
    keys = keys if side == "left" else keys.flip(1)
    masks = [kept(BOTH_WAYS["comb"][1], layer, N, config is LLAMA, keys) for layer in range(LAYERS)]
    inputs = {"input_ids": tokens(), "attention_mask": keys.long()}
    inputs |= {} if config is BERT else {"position_ids": (keys.cumsum(1) - 1).clamp(min=0)}
    assert max(compared(config, "comb", masks, rows=keys, **inputs)) < 2e-5

    other = inputs["input_ids"].masked_fill(~keys, 7)
    found = model(config, "patternc_comb")
    outputs = [found(**{**inputs, "input_ids": ids}).last_hidden_state[keys] for ids in (inputs["input_ids"], other)]
    assert torch.equal(*outputs)


def test_layers_that_attend_alike_share_their_plans():
    for name, alike in (("near", True), ("layered", False)):
        made = register(f"patternc_{name}", BOTH_WAYS[name][0])
        assert (made.compiled(HEADS, layer=0) is made.compiled(HEADS, layer=1)) == alike


def test_the_layers_of_a_padded_batch_share_one_plan(monkeypatch):
    planned, original = [], Runner._make
    monkeypatch.setattr(Runner, "_make", lambda self, *sizes: planned.append(sizes[0]) or original(self, *sizes))
    keys = torch.arange(N) >= torch.tensor([[6], [0]])
    model(BERT, "patternc_near")(tokens(), attention_mask=keys.long())
    assert planned == [N]


def oracle(module, query, key, value, attention_mask, dropout=0.0, scaling=None, **others):
    """Dense attention to the pairs of `near` that Transformers' own mask leaves."""
    key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], dim=1) for t in (key, value))
    score = query @ key.mT * scaling
    back = torch.arange(key.shape[2])[:, None] - torch.arange(key.shape[2])
    score = score.masked_fill(~((abs(back) <= 5) & attention_mask), -torch.inf)
    return (score.softmax(dim=-1).nan_to_num() @ value).transpose(1, 2), None


def oracle_mask(*args, **kwargs):
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})


OTHERS = {
    "gpt2": GPT2Config(
        n_embd=32, n_head=4, n_layer=2, vocab_size=VOCABULARY, initializer_range=0.3, bos_token_id=1, eos_token_id=1
    ),
    "gemma 3": Gemma3TextConfig(**GEMMA, sliding_window=4, query_pre_attn_scalar=7),
    "bert as a decoder": BertConfig(**BERT.to_diff_dict() | {"is_decoder": True}),
    "llama both ways": LlamaConfig(**LLAMA.to_diff_dict() | {"is_causal": False}),
}


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures(name, padded):
    """Sliding layers, other scales, modules that are causal by their configuration."""
    AttentionInterface.register("oracle", oracle)
    AttentionMaskInterface.register("oracle", oracle_mask)
    keys = torch.arange(N) >= torch.tensor([[6 * padded], [0]])
    given = {"input_ids": tokens(), "attention_mask": keys.long(), "use_cache": False}
    found, expected = (
        model(OTHERS[name], kind)(**given).last_hidden_state[keys] for kind in ("patternc_near", "oracle")
    )
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


# ------------------------------------------------------------------ decoding


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("chunks", [[N - 3, 1, 1, 1], [7, 9, 8]], ids=["token by token", "chunked prefill"])
def test_a_cache_gives_what_the_whole_gives(chunks, padded):
    ids, llama = tokens(), model(LLAMA, "patternc_layered")
    keys = torch.arange(N) >= torch.tensor([[5 * padded], [0]])
    positions = (keys.cumsum(1) - 1).clamp(min=0)
    whole = llama(input_ids=ids, attention_mask=keys.long(), position_ids=positions).last_hidden_state
    cache, parts, start = DynamicCache(config=LLAMA), [], 0
    for count in chunks:
        rows = slice(start, start + count)
        given = {"attention_mask": keys[:, : rows.stop].long(), "position_ids": positions[:, rows]}
        parts.append(llama(input_ids=ids[:, rows], past_key_values=cache, **given).last_hidden_state)
        start += count
    torch.testing.assert_close(torch.cat(parts, dim=1)[keys], whole[keys], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_generation_with_a_cache_is_generation_without(cache):
    ids = tokens(n=10)
    ids[0, :4] = 0
    given = {"attention_mask": (ids != 0).long(), "max_new_tokens": 8, "do_sample": False}
    llama = model(LLAMA, "patternc_near", causal_lm=True)
    plain = llama.generate(ids, use_cache=False, **given)
    assert torch.equal(llama.generate(ids, cache_implementation=cache, **given), plain)
    everything = model(LLAMA, "eager", causal_lm=True)
    assert not torch.equal(everything.generate(ids, **given), plain)


def test_generation_without_padding_in_a_static_cache():
    given = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    llama = model(LLAMA, "patternc_near", causal_lm=True)
    plain = llama.generate(tokens(n=9), use_cache=False, **given)
    assert torch.equal(llama.generate(tokens(n=9), cache_implementation="static", **given), plain)


# ------------------------------------------------------------------ run-time tensors


def test_run_time_tensors_come_with_the_call_or_from_a_function():
    flags = torch.zeros(2, N, dtype=torch.bool)
    flags[:, [0, 11]] = True
    register("patternc_longformer", "std/longformer", w=2, dilation=[1, 2])

    def rule(layer, h, q, k):
        d = 1 + h % 2
        return ((q - k) % d == 0) & (abs(q - k) <= 2 * d) | flags[0][q] | flags[0][k]

    masks = [kept(rule, layer, N, False) for layer in range(LAYERS)]
    assert masks[0].float().mean() < 0.7
    assert max(compared(BERT, "longformer", masks, input_ids=tokens(), is_global=flags)) < 2e-5
    with pytest.raises(TypeError, match="needs the run-time tensor is_global"):
        model(BERT, "patternc_longformer")(tokens())
    register("patternc_longformer", "std/longformer", w=2, dilation=[1, 2], tensors={"is_global": first_and_eleventh})
    assert max(compared(BERT, "longformer", masks, input_ids=tokens())) < 2e-5


def first_and_eleventh(batch, n, device):
    positions = torch.arange(n, device=device)
    return ((positions == 0) | (positions == 11)).expand(batch, n)


def test_functions_follow_a_generation():
    register("patternc_longformer", "std/longformer", w=2, tensors={"is_global": first_and_eleventh})
    llama = model(LLAMA, "patternc_longformer", causal_lm=True)
    given = {"max_new_tokens": 6, "do_sample": False}
    assert torch.equal(llama.generate(tokens(n=9), **given), llama.generate(tokens(n=9), use_cache=False, **given))


def test_training_with_checkpoints_and_dropout():
    config = LlamaConfig(**{**LLAMA.to_diff_dict(), "attention_dropout": 0.3})
    gradients = []
    for checkpointing in (False, True):
        llama = model(config, "patternc_near").train()
        if checkpointing:
            llama.activation_checkpointing_enable()
        torch.manual_seed(3)
        llama(tokens(), use_cache=False).last_hidden_state.square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in llama.parameters()]))
    torch.testing.assert_close(*gradients)
    assert not torch.equal(llama(tokens()).last_hidden_state, llama(tokens()).last_hidden_state)


@pytest.mark.parametrize(("config", "padded"), [(BERT, False), (LLAMA, True)], ids=["encoder", "padded decoder"])
def test_a_model_is_one_graph(config, padded):
    torch.compiler.reset()
    keys = torch.arange(N) >= torch.tensor([[6 * padded], [0]])
    given = {"attention_mask": keys.long()} if padded else {}
    given |= {"use_cache": False} if config is LLAMA else {}
    plain = model(config, "patternc_layered")
    compiled = torch.compile(plain, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(tokens(), **given).last_hidden_state, plain(tokens(), **given).last_hidden_state
    )


def test_a_model_is_exported():
    plain = model(BERT, "patternc_layered")
    exported = torch.export.export(plain, (tokens(),)).module()
    assert torch.equal(exported(tokens()).last_hidden_state, plain(tokens()).last_hidden_state)


def test_automatic_casts():
    llama = model(LLAMA, "patternc_near")
    expected = llama(tokens()).last_hidden_state
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = llama(tokens()).last_hidden_state
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.05)


def test_other_ways_to_choose_an_implementation(tmp_path):
    llama = model(LLAMA, "patternc_near")
    expected = llama(tokens()).last_hidden_state
    llama.save_pretrained(tmp_path)
    assert torch.equal(llama.from_pretrained(tmp_path, attn_implementation="patternc_near")(tokens())[0], expected)
    llama = model(LLAMA, "eager")
    llama.set_attn_implementation("patternc_near")
    assert torch.equal(llama(tokens()).last_hidden_state, expected)
