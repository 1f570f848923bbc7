"""Masks between Transformers' models and patterns.

A model has its masks made once a call and hands them to every layer; between the two stands a tensor. Ours holds
uint8, by which it is told from those that users pass, of bools or floats:

- (B, 1, 1, n): 1 for keys that stay; (0, 1, 1, n) if all do;
- (B, 1, N_q, n): 1 for pairs that stay.

n is one beyond the last query's position. A static cache has room for more keys, which are cut off.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.masking_utils import (
    bidirectional_mask_function,
    causal_mask_function,
    prepare_padding_mask,
    sdpa_mask,
)
from transformers.utils.import_utils import is_tracing

from patternc.nn.masks import Masks, Sizes


def mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Any = 0,
    kv_offset: Any = 0,
    mask_function: Any = causal_mask_function,
    attention_mask: torch.Tensor | None = None,
    use_vmap: bool = False,
    device: torch.device | str = "cpu",
    **_: Any,
) -> torch.Tensor | None:
    """What `AttentionMaskInterface` is given; `attention_mask` is bool (B, n), false for padding.

    None where the module itself tells everything: nothing is padded, and the last query is at the last key. Causal and
    bidirectional masks cost a flag for each key; any other (sliding windows, packed documents) one for each pair.
    ValueError if keys have left the cache, or where queries are not the last positions of the keys.
    """
    if int(kv_offset):
        raise ValueError(
            f"the first {int(kv_offset)} keys have left a sliding cache, and patterns count positions from the first: "
            "set `config.sliding_window = None`, or `config.layer_types` to full attention, for the pattern has a "
            "window of its own"
        )
    n = int(q_offset) + q_length
    if n > kv_length or (n < kv_length and mask_function is bidirectional_mask_function):
        raise ValueError(f"the queries must be the last of {kv_length} positions; found {q_length} from {n - q_length}")
    if mask_function is not causal_mask_function and mask_function is not bidirectional_mask_function:
        pairs = sdpa_mask(
            batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, attention_mask,
            allow_is_causal_skip=False, use_vmap=use_vmap, device=device,
        )  # fmt: skip
        assert pairs is not None, "a mask is made where skipping is not allowed"
        return pairs[..., :n].to(torch.uint8)
    kept = prepare_padding_mask(attention_mask, kv_length, kv_offset)
    if kept is not None and (is_tracing(kept) or not bool(kept[:, :n].all())):
        return kept[:, None, None, :n].to(torch.uint8)
    return None if n == kv_length else torch.ones(0, 1, 1, n, dtype=torch.uint8, device=device)


def length(attention_mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor, causal: bool) -> int:
    """The number of keys that count; ValueError if the queries are not the last of them."""
    n_q, n = query.shape[2], key.shape[2]
    if attention_mask is not None and attention_mask.dtype == torch.uint8:
        return attention_mask.shape[-1]
    if n_q != n and (attention_mask is not None or not causal):
        what = "attends both ways" if attention_mask is None else "has a mask of four axes"
        raise ValueError(
            f"attention that {what} must have as many queries as keys, for nothing else says where the queries stand; "
            f"found {n_q} and {n}"
        )
    return n


def read(attention_mask: torch.Tensor | None, causal: bool, sizes: Sizes) -> Masks:
    """The limits and additions that a mask stands for.

    A mask of four axes that the user passes decides about causality too, as everywhere in Transformers: true bools and
    floats of 0 keep a pair, floats up to the dtype's least value take it out, and other floats are added to the
    scores. To know this the values are looked at. TypeError or ValueError for a wrong dtype or shape.
    """
    if attention_mask is None or attention_mask.shape[0] == 0:
        return Masks(causal, None, None, None)
    if attention_mask.dtype == torch.uint8 and attention_mask.shape[2] == 1:
        return Masks(causal, attention_mask[:, 0, 0].bool(), None, None)
    shape = sizes.batch, sizes.heads, sizes.n_q, sizes.n
    _check(attention_mask, shape)
    if not attention_mask.is_floating_point():
        return Masks(False, None, attention_mask.bool().expand(shape), None)
    out = attention_mask <= torch.finfo(attention_mask.dtype).min
    if not attention_mask.requires_grad and bool((out | (attention_mask == 0)).all()):
        return Masks(False, None, ~out.expand(shape), None)
    return Masks(False, None, None, attention_mask.masked_fill(out, -torch.inf))


def _check(given: torch.Tensor, shape: tuple[int, ...]) -> None:
    if given.dtype not in (torch.bool, torch.uint8) and not given.is_floating_point():
        raise TypeError(f"a mask of four axes must hold bools or floats; found {given.dtype}")
    fits = given.ndim == 4 and all(have in (1, want) for have, want in zip(given.shape, shape, strict=True))
    if not fits:
        raise ValueError(f"expected a mask of the shape {shape}, or 1 along some axes; found {tuple(given.shape)}")
