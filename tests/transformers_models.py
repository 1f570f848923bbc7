"""Small models of Hugging Face Transformers, patterns with rules written by hand, and comparisons of the two.

The rules are functions of layer, head, query and key.
"""

import copy

import torch
from transformers import AutoModel, AutoModelForCausalLM, BertConfig, LlamaConfig

from patternc.integrations.transformers import register

N, VOCABULARY, HEADS, LAYERS = 24, 40, 4, 2
BOTH_WAYS = {
    "near": ("pattern near(w: tokens = 5) = { q -> k : abs(q - k) <= w }", lambda layer, h, q, k: abs(q - k) <= 5),
    "comb": (
        "pattern comb() = match h % 2 { 0 => { q -> k : (q - k) % 3 == 0 }, 1 => { q -> k : abs(q - k) < 4 } }",
        lambda layer, h, q, k: torch.where(h % 2 == 0, (q - k) % 3 == 0, abs(q - k) < 4),
    ),
    "layered": (
        "pattern layered() = { q -> k : abs(q - k) < 3 } if layer == 0 else { q -> k : (q + k) % 2 == 0 }",
        lambda layer, h, q, k: (abs(q - k) < 3 if layer == 0 else (q + k) % 2 == 0).expand(HEADS, -1, -1),
    ),
}
SMALL = {"hidden_size": 32, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY}
SMALL["initializer_range"] = 0.3  # so that scores differ
GEMMA = {**SMALL, "intermediate_size": 32, "num_key_value_heads": 2, "head_dim": 16}
BERT = BertConfig(**SMALL, intermediate_size=32, max_position_embeddings=64)
LLAMA = LlamaConfig(**SMALL, intermediate_size=32, num_key_value_heads=2, pad_token_id=0, eos_token_id=None)


def model(config, attention, seed=0, causal_lm=False):
    torch.manual_seed(seed)
    kind = AutoModelForCausalLM if causal_lm else AutoModel
    return kind.from_config(copy.deepcopy(config), attn_implementation=attention).eval()


def tokens(batch=2, n=N):
    return torch.randint(1, VOCABULARY, (batch, n), generator=torch.Generator().manual_seed(5))


def kept(rule, layer, n, causal, keys=None):
    """The pairs that the pattern keeps (B or 1, heads, n, n)."""
    h, q, k = torch.meshgrid(torch.arange(HEADS), torch.arange(n), torch.arange(n), indexing="ij")
    pairs = (rule(layer, h, q, k) & ((k <= q) if causal else True))[None]
    return pairs if keys is None else pairs & keys[:, None, None, :]


def under(eager, masks):
    """The eager model with a mask of pairs for each layer."""
    layers = eager.encoder.layer if hasattr(eager, "encoder") else eager.layers

    def place(mask):
        added = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)

        def before(module, args, kwargs):
            if "attention_mask" in kwargs:
                return args, {**kwargs, "attention_mask": added}
            return (args[0], added, *args[2:]), kwargs

        return before

    for layer, mask in zip(layers, masks, strict=True):
        layer.register_forward_pre_hook(place(mask), with_kwargs=True)
    return eager


def compared(config, name, masks, rows=None, **inputs):
    """The greatest difference of outputs, and of gradients, relative to the greatest value."""
    found, expected = (model(config, "patternc_" + name), under(model(config, "eager"), masks))
    rows = torch.ones(inputs["input_ids"].shape, dtype=torch.bool) if rows is None else rows
    outputs, gradients = [], []
    for each in (found, expected):
        out = each(**inputs).last_hidden_state[rows]
        (out * torch.linspace(-1, 1, out.shape[-1])).sum().backward()
        outputs.append(out)
        gradients.append(torch.cat([p.grad.flatten() for p in each.parameters() if p.grad is not None]))
    return [float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in (outputs, gradients)]


def register_all():
    """Makes the patterns known as patternc_<name>."""
    for name, (text, _) in BOTH_WAYS.items():
        register(f"patternc_{name}", text)
