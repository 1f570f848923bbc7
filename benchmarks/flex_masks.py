"""The suite's patterns as a user of FlexAttention writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

MaskMod = Callable[[Any, Any, Any, Any], torch.Tensor]


def causal(b: Any, h: Any, q: Any, k: Any) -> torch.Tensor:
    return q >= k


def local_causal(b: Any, h: Any, q: Any, k: Any) -> torch.Tensor:
    return (q >= k) & (q - k < 1024)


def longformer(b: Any, h: Any, q: Any, k: Any) -> torch.Tensor:
    return ((q - k).abs() <= 256) | (q < 128) | (k < 128)


def dilated_blocks(b: Any, h: Any, q: Any, k: Any) -> torch.Tensor:
    distance = (q // 64 - k // 64).abs()
    return (distance <= 2) | (distance == 4) | (distance == 8)


def sinks(b: Any, h: Any, q: Any, k: Any) -> torch.Tensor:
    return (q >= k) & ((q - k < 2048) | (k < 64))


def dilated_window16(b: Any, h: Any, q: Any, k: Any) -> torch.Tensor:
    return ((q - k).abs() <= 4096) & (q % 16 == k % 16)


def strided_st(b: Any, h: Any, q: Any, k: Any) -> torch.Tensor:
    return (q >= k) & ((q - k < 128) | (q % 128 == k % 128))


def inblock_dil(b: Any, h: Any, q: Any, k: Any) -> torch.Tensor:
    return ((q // 256 - k // 256).abs() <= 2) & ((k % 256 < 128) | (k % 2 == 0))


def hier(b: Any, h: Any, q: Any, k: Any) -> torch.Tensor:
    distance = (q - k).abs()
    return (distance <= 64) | ((distance <= 256) & (k % 4 == 0)) | (k % 16 == 0)


def document(ids: torch.Tensor) -> MaskMod:
    """Causal attention within the documents of (n,) ids."""

    def mask_mod(b: Any, h: Any, q: Any, k: Any) -> torch.Tensor:
        return (q >= k) & (ids[q] == ids[k])

    return mask_mod


_FIXED: dict[str, MaskMod] = {
    f.__name__: f
    for f in (causal, local_causal, longformer, dilated_blocks, sinks, dilated_window16, strided_st, inblock_dil, hier)
}


def mask_mod(name: str, tensors: Mapping[str, torch.Tensor]) -> MaskMod | None:
    """The mask of a pattern of the suite; None for longnet, which no mask says: it counts keys several times."""
    return document(tensors["ids"].int()) if name == "document" else _FIXED.get(name)
