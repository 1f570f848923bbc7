"""Who is measured: a compiled pattern, and other attention on the same inputs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from patternc.backends.flex import Flex
from patternc.compiler import Compiled

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
PEERS = ("dense", "causal", "flex", "flash")
"""dense and causal: scaled_dot_product_attention without a mask, and with is_causal; flex: FlexAttention under the
pattern's mask; flash: the same with BACKEND="FLASH"."""
FLASH_PACKAGE = "flash_attn.cute"


@dataclass(frozen=True)
class Contender:
    """Attention under a name."""

    name: str
    attention: Attention
    """(B, H, N, D), (B, H_kv, N, D), (B, H_kv, N, D) -> (B, H, N, D)."""


@dataclass(frozen=True)
class Size:
    """What is measured on: (batch, heads, n, dim) of a dtype on a device."""

    n: int
    dim: int
    dtype: torch.dtype
    device: torch.device
    batch: int = 1


def inputs(heads: int, kv_heads: int, size: Size, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """q, k, v and the gradient of the output, normal random numbers."""
    generator = torch.Generator(size.device).manual_seed(seed)
    draw = partial(torch.randn, device=size.device, dtype=size.dtype, generator=generator)
    return tuple(draw(size.batch, h, size.n, size.dim) for h in (heads, kv_heads, kv_heads, heads))


def ours(compiled: Compiled, tensors: Mapping[str, Any], name: str = "ours") -> Contender:
    """The compiled pattern. With run-time tensors, each call plans."""
    return Contender(name, _without_lse(partial(compiled, **tensors)))


def _without_lse(call: Callable[..., torch.Tensor | tuple[torch.Tensor, torch.Tensor]]) -> Attention:
    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = call(q, k, v)
        assert isinstance(out, torch.Tensor), "no lse was asked for"
        return out

    return attention


def peer(name: str, compiled: Compiled, size: Size, tensors: Mapping[str, Any]) -> Contender | str:
    """One of PEERS for a pattern, or why it is not there.

    SpatError if the program does not admit the length.
    """
    grouped = compiled.kv_heads < compiled.heads
    if name in ("dense", "causal"):
        return dense(name, grouped=grouped)
    if name == "flash" and (reason := no_flash(size.device)):
        return reason
    artifact = Flex().emit(compiled.program, compiled.heads, compiled.kv_heads)
    if size.device.type != "cuda":
        return Contender(name, _without_lse(partial(artifact, tensors=tensors)))
    mods = artifact.mods(size.n, device=size.device, tensors=tensors)
    return flex(name, mods.block_mask, mods.score_mod, grouped=grouped)


def resolved(
    names: Sequence[str], compiled: Compiled, size: Size, tensors: Mapping[str, Any]
) -> tuple[list[Contender], dict[str, str]]:
    """The peers of these names for a pattern that are there, and why others are not."""
    made = {name: peer(name, compiled, size, tensors) for name in names}
    there = [one for one in made.values() if isinstance(one, Contender)]
    return there, {name: one for name, one in made.items() if isinstance(one, str)}


def dense(name: str, *, grouped: bool) -> Contender:
    """PyTorch's attention without a mask, or causal."""
    call = partial(scaled_dot_product_attention, is_causal=name == "causal", enable_gqa=grouped)
    return Contender(name, call)


def flex(
    name: str, block_mask: BlockMask, score_mod: Callable[..., torch.Tensor] | None = None, *, grouped: bool = False
) -> Contender:
    """FlexAttention, compiled for one length, under a mask that was made before; "flash" takes BACKEND="FLASH"."""
    options: dict[str, Any] = {"block_mask": block_mask, "score_mod": score_mod, "enable_gqa": grouped}
    if name == "flash":
        options["kernel_options"] = {"BACKEND": "FLASH"}
    return Contender(name, partial(torch.compile(flex_attention, dynamic=False), **options))


def no_flash(device: torch.device) -> str | None:
    """Why FlexAttention's FLASH backend is not there, if it is not."""
    if device.type != "cuda":
        return "it runs on CUDA devices"
    return None if installed(FLASH_PACKAGE) else "not installed"


def installed(module: str) -> bool:
    """Whether a module can be found; its parents are imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def known(names: Sequence[str]) -> tuple[str, ...]:
    """Names of peers, checked; ValueError for another."""
    for name in names:
        if name not in PEERS:
            raise ValueError(f"unknown peer {name!r} (there are: {', '.join(PEERS)})")
    return tuple(dict.fromkeys(names))
