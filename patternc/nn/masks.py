"""The masks that torch.nn.MultiheadAttention takes, read as limits of a pattern and additions to its scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch


def key_padding_mask(attention_mask: torch.Tensor) -> torch.Tensor:
    """An attention mask (B, N) that is 1 or true for tokens and 0 or false for padding, at whichever end, as what the
    modules of `patternc.nn` and torch take: bool (B, N), true for padding. TypeError or ValueError for anything
    else."""
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim != 2:
        found = tuple(getattr(attention_mask, "shape", ())) or type(attention_mask).__name__
        raise TypeError(f"an attention mask is a tensor (B, N); found {found}")
    tokens = attention_mask == 1
    if attention_mask.dtype != torch.bool and not bool((tokens | (attention_mask == 0)).all()):
        raise ValueError("an attention mask (B, N) holds 1 for tokens and 0 for padding; found other values")
    return ~tokens


def kept_keys(mask: torch.Tensor, batch: int, n: int) -> torch.Tensor:
    """The keys that a bool key_padding_mask (B, N) leaves; TypeError or ValueError for another dtype or shape."""
    if mask.dtype != torch.bool:
        raise TypeError(f"key_padding_mask must hold bools, true for padding; found {mask.dtype}")
    _check(mask, "key_padding_mask", [(batch, n)])
    return ~mask


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one call: batch rows, heads, L queries, S keys; `batched` if the caller's tensors have a batch axis."""

    batch: int
    heads: int
    n_q: int
    n: int
    batched: bool


@dataclass(frozen=True, eq=False)
class Masks:
    """What masks leave of the pairs, and what they add to scores."""

    causal: bool
    keys: torch.Tensor | None
    """bool (B, S): true for keys that stay."""
    pairs: torch.Tensor | None
    """bool (L, S) or (B, H, L, S): true for pairs that stay."""
    bias: torch.Tensor | None
    """Floats that broadcast to (B, H, L, S)."""


def read(key_padding_mask: torch.Tensor | None, attn_mask: torch.Tensor | None, is_causal: bool, sizes: Sizes) -> Masks:
    """Masks as torch gives them: a true key or pair is left out, a float is added to the score.

    A float mask that holds only 0 and −inf, and needs no gradient, leaves out what has −inf; to know this its values
    are looked at. With `is_causal` the attention mask is taken to be the causal one, and not read. TypeError or
    ValueError for a wrong dtype or shape.
    """
    _check(key_padding_mask, "key_padding_mask", [_keys_shape(sizes)])
    _check(attn_mask, "attn_mask", _pairs_shapes(sizes))
    keys, keys_bias = _split(key_padding_mask)
    pairs, pairs_bias = _split(None if is_causal else attn_mask)
    per_head = sizes.batch, sizes.heads, sizes.n_q, sizes.n
    if keys is not None:
        keys = keys.view(sizes.batch, sizes.n)
    if keys_bias is not None:
        keys_bias = keys_bias.view(sizes.batch, 1, 1, sizes.n)
    if pairs is not None and pairs.ndim == 3:
        pairs = pairs.reshape(per_head)
    if pairs_bias is not None and pairs_bias.ndim == 3:
        pairs_bias = pairs_bias.reshape(per_head)
    return Masks(is_causal, keys, pairs, _sum(keys_bias, pairs_bias))


def _keys_shape(sizes: Sizes) -> tuple[int, ...]:
    return (sizes.batch, sizes.n) if sizes.batched else (sizes.n,)


def _pairs_shapes(sizes: Sizes) -> list[tuple[int, ...]]:
    return [(sizes.n_q, sizes.n), (sizes.batch * sizes.heads, sizes.n_q, sizes.n)]


def _check(mask: torch.Tensor | None, name: str, shapes: list[tuple[int, ...]]) -> None:
    if mask is None:
        return
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise TypeError(f"{name} must hold bools or floats; found {mask.dtype}")
    if not any(mask.shape == shape for shape in shapes):  # `in` does not see that symbols of a graph are equal
        expected = " or ".join(map(str, shapes))
        raise ValueError(f"{name} must have shape {expected}; found {tuple(mask.shape)}")


def _split(mask: torch.Tensor | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """A mask as what stays, or as what is added."""
    if mask is None:
        return None, None
    if mask.dtype == torch.bool:
        return ~mask, None
    if not mask.requires_grad and bool(((mask == 0) | (mask == -torch.inf)).all()):
        return mask == 0, None
    return None, mask


def _sum(a: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor | None:
    return b if a is None else a if b is None else a + b
