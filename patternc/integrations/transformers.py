"""Patterns as attention implementations of Hugging Face Transformers.

from patternc.integrations import transformers as integration

integration.register("spat_local", "std/local", window=256)
model = AutoModelForCausalLM.from_config(config, attn_implementation="spat_local")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from patternc import ir
from patternc.arguments import arguments
from patternc.backends import base
from patternc.compiler import Compiled, constant
from patternc.elaborate import elaborate
from patternc.integrations import transformers_masks as masks
from patternc.library import Pattern, load
from patternc.nn import dense
from patternc.nn.held import Held, hold
from patternc.nn.masked import Masked
from patternc.nn.masks import Sizes
from patternc.nn.restricted import Limit
from patternc.rewrite import walk

__all__ = ["Registered", "register"]

Tensors = Callable[[int, int, torch.device], torch.Tensor]
"""(batch, n, device) -> a run-time tensor for so many rows of n tokens."""

_TAKEN = ("sdpa", "flash", "flex_attention", "eager", "paged")
"""Words by which Transformers recognises its own implementations, wherever in a name they stand."""
_REFUSED = {
    "position_bias": "a position bias is added to the scores",
    "softcap": "scores are capped",
    "s_aux": "attention sinks lie outside the pattern",
    "sinks": "attention sinks lie outside the pattern",
    "head_mask": "heads are masked",
    "cache": "keys lie in pages",
    "cu_seq_lens_q": "documents are packed into a row without a mask",
}
"""Arguments that models hand to attention, which change what is computed; None is as if they were not there."""


def register(
    name: str,
    source: str | Path | Pattern | Compiled,
    pattern: str | None = None,
    *,
    backend: str = "auto",
    tensors: Mapping[str, Tensors] | None = None,
    **params: Any,
) -> Registered:
    """Makes a pattern an attention implementation: `from_config(config, attn_implementation=name)`.

    `source`, `pattern`, `backend` and `params` are as in `patternc.compile`; heads, key heads and `layer` are those of
    the module that attends. Where that module is causal, so is the pattern: only its pairs with k <= q count. Run-time
    tensors come with the model's call, by their names, or from the functions in `tensors`, which get (batch, n, device)
    and are asked for every call; `generate` passes no others on.

    A name may be registered again, and then stands for the new pattern everywhere. SpatError for what is wrong with the
    program, TypeError and ValueError for the arguments; what shows with the heads only, at the model's first call.
    """
    _check_name(name)
    if backend != "auto" and backend not in base.names():
        raise ValueError(base.unknown("backend", backend, ["auto", *base.names()]))
    if not isinstance(source, Compiled):
        source = source if isinstance(source, Pattern) else load(source).choose(pattern)
        arguments(source.definition, params)
    made = Registered(name, source, backend, dict(tensors or {}), dict(params))
    AttentionInterface.register(name, made)
    AttentionMaskInterface.register(name, masks.mask)
    return made


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"a name of letters, digits and underscores is expected; found {name!r}")
    if word := next((word for word in _TAKEN if word in name), None):
        raise ValueError(f"Transformers takes names with {word!r} for its own implementations; found {name!r}")
    known = AttentionInterface().get(name)
    if known is not None and not isinstance(known, Registered):
        raise ValueError(f"there is another attention implementation {name!r}, which is not patternc's")


@dataclass(frozen=True, eq=False)
class Registered:
    """A pattern under its name; called by the attention modules of models."""

    name: str
    source: Pattern | Compiled
    backend: str
    tensors: Mapping[str, Tensors]
    params: Mapping[str, Any]
    _layers: dict[tuple[int, int, int], Held] = field(default_factory=dict, repr=False)
    _held: dict[tuple[int, ir.Program], Held] = field(default_factory=dict, repr=False)

    def compiled(self, heads: int, kv_heads: int | None = None, layer: int = 0, *, causal: bool = False) -> Compiled:
        """What modules with these heads in this layer attend by: `.mask(n)`, `.stats(n)`, `.explain(n)`."""
        held = self._of(heads, heads if kv_heads is None else kv_heads, layer)
        return held.restricted(frozenset([Limit.CAUSAL] if causal else [])).compiled

    def _of(self, heads: int, kv_heads: int, layer: int, layers: int = 0) -> Held:
        """The pattern in one layer of so many, or more."""
        self._make(heads, kv_heads, max(layers, layer + 1))
        return self._layers[heads, kv_heads, layer]

    @constant
    def _make(self, heads: int, kv_heads: int, layers: int) -> bool:
        """Compiles the pattern for all layers at once: while torch.compile traces, it takes what it has seen of a
        dictionary as all there is. Layers that attend alike share one, and with it their plans."""
        for layer in range(layers):
            key = heads, kv_heads, layer
            if key not in self._layers:
                compiled = isinstance(self.source, Compiled)
                options: dict[str, Any] = {} if compiled else {"layer": layer, "backend": self.backend}
                held = hold(self.source, heads=heads, kv_heads=kv_heads, params=self.params, **options)
                self._layers[key] = self._held.setdefault((kv_heads, held.compiled.program), held)
        return True

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        is_causal: bool | None = None,
        **others: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What Transformers asks of an implementation: query (B, H, N_q, D), key (B, H_kv, N, D) and value to the
        output (B, N_q, H, D), and with `output_attentions=True` in the model's call the weights (B, H, N_q, N)."""
        self._check(module, others)
        causal = _causal(module, is_causal)
        n = masks.length(attention_mask, query, key, causal)
        key, value = key[:, :, :n], value[:, :, :n]
        sizes = Sizes(query.shape[0], query.shape[1], query.shape[2], n, True)
        held = self._of(query.shape[1], key.shape[1], *self._layer(module))
        tensors = self._tensors(held.compiled, others, sizes, query.device)
        masked = Masked(held, masks.read(attention_mask, causal, sizes), tensors, sizes, scaling)
        out, lse = masked.attention(query, key, value, dropout)
        weights = dense.weights(masked.logits(query, key), lse) if others.get("output_attentions") else None
        return out.transpose(1, 2).contiguous(), None if weights is None else weights.to(query.dtype)

    def _layer(self, module: torch.nn.Module) -> tuple[int, int]:
        """The module's number in the model, and how many there are; (0, 1) where it makes no difference."""
        layer = getattr(module, "layer_idx", None)
        if isinstance(self.source, Compiled):
            return 0, 1
        if layer is None and self._reads_layer:
            raise ValueError(f"{self.name} differs by layer, and {type(module).__name__} has no `layer_idx`")
        layers = getattr(getattr(module, "config", None), "num_hidden_layers", None)
        return (0, 1) if layer is None else (int(layer), int(layers or 0))

    @cached_property
    def _reads_layer(self) -> bool:
        """Whether a pattern may differ by layer."""
        assert isinstance(self.source, Pattern), "a compiled pattern has its layer"
        values = arguments(self.source.definition, self.params)
        nodes = walk(elaborate(self.source.definition, values))
        return any(isinstance(node, ir.Var) and node.name == "layer" for node in nodes)

    def _tensors(self, compiled: Compiled, given: Mapping[str, Any], sizes: Sizes, device: torch.device) -> Any:
        """The run-time tensors; what is missing is left to the call to refuse."""
        found: dict[str, Any] = {}
        for name in (tensor.name for tensor in compiled.program.tensors):
            if given.get(name) is not None:
                found[name] = given[name]
            elif name in self.tensors:
                found[name] = self.tensors[name](sizes.batch, sizes.n, device)
        return found

    def _check(self, module: torch.nn.Module, others: Mapping[str, Any]) -> None:
        """Refuses what would be computed wrongly."""
        config = getattr(module, "config", None)
        if getattr(config, "is_encoder_decoder", False) or getattr(config, "add_cross_attention", False):
            raise ValueError(f"{self.name} is for self-attention; {type(config).__name__} has cross-attention as well")
        if getattr(module, "is_cross_attention", False) or "CrossAttention" in type(module).__name__:
            raise ValueError(f"{self.name} is for self-attention; found {type(module).__name__}")
        for name, reason in _REFUSED.items():
            if others.get(name) is not None:
                raise ValueError(f"{self.name} cannot honour {name!r}: {reason}")


def _causal(module: torch.nn.Module, is_causal: bool | None) -> bool:
    """As Transformers decides it: the argument, else the module's attribute; `config.is_causal = False` makes its masks
    look both ways."""
    if is_causal is not None:
        return bool(is_causal)
    return (
        bool(getattr(module, "is_causal", True))
        and getattr(getattr(module, "config", None), "is_causal", True) is not False
    )
