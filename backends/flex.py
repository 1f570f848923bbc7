"""The flex backend: a pattern as a mask_mod, a score_mod and a BlockMask for PyTorch's FlexAttention.

It is a bridge for users of FlexAttention, who may take the three into calls of their own, and a peer to measure
against. The tiles are those of consecutive tokens: FlexAttention knows no other layout.

On CUDA the call is `torch.compile(flex_attention, dynamic=False)`, which compiles anew for every length; on the CPU it
is FlexAttention's eager form, which makes all scores of all heads at once and so suits small lengths only.

What differs from other backends is FlexAttention's own: no dropout; a NaN or infinity in a key that nobody reads spoils
the rows that compute its tile; and the precision is that of its kernels.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Generic, TypeVar

import torch
from torch._higher_order_ops.flex_attention import flex_attention as flex_operator
from torch.nn.attention import flex_attention as flex_module
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from patternc import ir
from patternc.analysis.meanings import Meanings, trivial
from patternc.analysis.planner import plan_of
from patternc.backends import inputs
from patternc.backends.flex_blocks import BLOCK, block_mask
from patternc.backends.flex_generated import Generated, MaskMod
from patternc.backends.torch_arrays import TorchArrays
from patternc.draws import extent
from patternc.specialise import bind

Kept = TypeVar("Kept")
KEPT = 8
"""Lengths whose BlockMasks are kept."""
KEPT_KERNELS = 64
"""Lengths for which generated functions and compiled calls are kept."""
SHOWN_LENGTH = 4096
"""The length at which `source` shows a pattern that admits any."""


@dataclass(frozen=True, eq=False)
class Mods:
    """What FlexAttention is given for one length and device."""

    mask_mod: MaskMod
    """(b, h, q_idx, kv_idx) -> bool; q_idx counts the queries of the call, which are the last n_q positions."""
    score_mod: MaskMod | None
    """(score, b, h, q_idx, kv_idx) -> score + log M; None if M is 0 or 1."""
    block_mask: BlockMask


class FlexArtifact:
    """A program for FlexAttention; the call is that of `base.Artifact`."""

    def __init__(self, program: ir.Program, heads: int, kv_heads: int) -> None:
        inputs.check_heads(heads, kv_heads)
        self.program, self.heads, self.kv_heads = program, heads, kv_heads
        self._sources: _Latest[Generated] = _Latest(KEPT_KERNELS)
        self._kernels: _Latest[Callable[..., Any]] = _Latest(KEPT_KERNELS)
        self._kept: _Latest[Mods] = _Latest(KEPT)

    # ------------------------------------------------------------------ for calls of one's own

    def mods(
        self,
        n: int,
        n_q: int | None = None,
        *,
        device: str | torch.device = "cpu",
        tensors: Mapping[str, Any] | None = None,
    ) -> Mods:
        """mask_mod, score_mod and BlockMask for the last n_q (all, unless given) of n positions, on the device.

        `tensors` are the run-time tensors by name, on that device; their batch axis gives the BlockMask's.
        SpatError if the program does not admit the length, TypeError or ValueError for wrong arguments.
        """
        n_q = n if n_q is None else n_q
        inputs.check_lengths(n, n_q)
        numbered = torch.empty(0, device=device).device  # "cuda" is cuda:0, or another that is current
        return self._mods(n, n_q, None, numbered, tensors or {})

    def mask_mod(self, n: int, n_q: int | None = None, **options: Any) -> MaskMod:
        """The mask_mod alone; see `mods`."""
        return self.mods(n, n_q, **options).mask_mod

    def score_mod(self, n: int, n_q: int | None = None, **options: Any) -> MaskMod | None:
        """The score_mod alone; see `mods`."""
        return self.mods(n, n_q, **options).score_mod

    def block_mask(self, n: int, n_q: int | None = None, **options: Any) -> BlockMask:
        """The BlockMask alone; see `mods`."""
        return self.mods(n, n_q, **options).block_mask

    @property
    def source(self) -> str:
        """The generated functions for n = 4096, or the n that the pattern's grid demands; at other lengths, where
        numbers that follow from n differ, `source_at` shows them."""
        grids = [math.prod(int(e.value) for e in g.extents if isinstance(e, ir.Const)) for g in self.program.grids]
        return self.source_at(grids[0] if grids else SHOWN_LENGTH)

    def source_at(self, n: int, n_q: int | None = None) -> str:
        """The functions for one length, with integer tensors of 64 bits."""
        return self._generated(n, n if n_q is None else n_q, {}).source

    # ------------------------------------------------------------------ the call

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        scale: float | None = None,
        dropout_p: float = 0.0,
        return_lse: bool = False,
        seed: int | None = None,
        tensors: Mapping[str, Any] | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Attention of q (B, H, N_q, D), k (B, H_kv, N, D), v (B, H_kv, N, D_v); see `base.Artifact`."""
        sizes = inputs.check_qkv(q, k, v, self.heads, self.kv_heads)
        scale = inputs.check_options(scale, dropout_p, sizes.dim)
        if dropout_p > 0:
            raise ValueError(f"FlexAttention has no dropout: with backend flex dropout_p is 0; found {dropout_p}")
        mods = self._mods(sizes.n, sizes.n_q, sizes.batch, q.device, tensors or {})
        if not sizes.batch:
            out, lse = _nothing(q, k, v)
        elif q.device.type == "cuda":
            out, lse = self._kernel(sizes, q.dtype)(q, k, v, mods.score_mod, mods.block_mask, scale)
        else:
            out, lse = _eager(q, k, v, mods, scale)
        return (out, lse) if return_lse else out

    def _kernel(self, sizes: inputs.Sizes, dtype: torch.dtype) -> Callable[..., Any]:
        known = self._kernels.get((sizes, dtype))
        return self._kernels.put((sizes, dtype), _compiled() if known is None else known)

    # ------------------------------------------------------------------ what a length needs

    def _mods(self, n: int, n_q: int, batch: int | None, device: torch.device, tensors: Mapping[str, Any]) -> Mods:
        if not tensors and (kept := self._kept.get((n, n_q, device))) is not None:
            return kept
        given = inputs.check_tensors(self._declared(n), tensors, device, batch)
        made = self._make(n, n_q, device, given, {name: _bits(t) for name, t in tensors.items()})
        return made if self.program.tensors else self._kept.put((n, n_q, device), made)

    def _make(
        self, n: int, n_q: int, device: torch.device, tensors: dict[str, torch.Tensor], bits: dict[str, int]
    ) -> Mods:
        home = device if tensors else torch.device("cpu")  # a plan that hangs on no tensor is soon made there
        arrangement = trivial(self.program, self.heads)
        meanings = Meanings(arrangement, n=n, n_q=n_q, tensors=tensors, xp=TorchArrays(home))
        plan = plan_of(meanings, BLOCK, BLOCK)
        mask_mod, score_mod = self._generated(n, n_q, bits).mods(tensors, device)
        batch = 1 if meanings.batch is None else meanings.batch
        return Mods(mask_mod, score_mod, block_mask(plan, mask_mod, device, batch=batch, lists_full=bool(tensors)))

    def _generated(self, n: int, n_q: int, bits: Mapping[str, int]) -> Generated:
        key = (n, n_q, *sorted(bits.items()))
        known = self._sources.get(key)
        if known is None:
            known = Generated(self.program, self.heads, n, n_q, self._declared(n), bits)
        return self._sources.put(key, known)

    def _declared(self, n: int) -> list[inputs.Declared]:
        """The run-time tensors at a length; SpatError if there is no such length."""
        return [
            inputs.Declared(t.name, t.element, tuple(extent(d, n, self.heads) for d in t.dims), t.batched)
            for t in bind(self.program, n).tensors
        ]


class _Latest(Generic[Kept]):
    """What was made for the last few keys."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._items: OrderedDict[Any, Kept] = OrderedDict()

    def get(self, key: Any) -> Kept | None:
        if key in self._items:
            self._items.move_to_end(key)
        return self._items.get(key)

    def put(self, key: Any, item: Kept) -> Kept:
        self._items[key] = item
        while len(self._items) > self.most:
            self._items.popitem(last=False)
        return item


def _bits(tensor: Any) -> int:
    """32 if the elements of a tensor or array are integers that 32 bits hold."""
    name = str(tensor.dtype).removeprefix("torch.")
    return 32 if name in ("int8", "int16", "int32", "uint8", "uint16") else 64


# ------------------------------------------------------------------ FlexAttention


def _flex(q: Any, k: Any, v: Any, score_mod: MaskMod | None, blocks: BlockMask, scale: float) -> Any:
    options: dict[str, Any] = {"score_mod": score_mod, "block_mask": blocks, "scale": scale, "enable_gqa": True}
    group = q.shape[1] // k.shape[1]
    if group > 1 and (group & (group - 1) or q.shape[2] > 1):  # the kernel for few queries takes few such groups
        options["kernel_options"] = {"FORCE_USE_FLEX_ATTENTION": True}
    if hasattr(flex_module, "AuxRequest"):
        out, more = flex_attention(q, k, v, return_aux=flex_module.AuxRequest(lse=True), **options)
        return out, more.lse
    return flex_attention(q, k, v, return_lse=True, **options)


def _compiled() -> Callable[..., Any]:
    """A compiled call with a code object of its own: torch.compile counts recompilations by code object, and past eight
    of them it would fall back to the eager form, with all scores at once."""
    own = FunctionType(_flex.__code__.replace(), _flex.__globals__, _flex.__name__)
    compiled: Callable[..., Any] = torch.compile(own, dynamic=False, fullgraph=True)
    return compiled


def _eager(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mods: Mods, scale: float) -> Any:
    """The operator behind `flex_attention`, called without the latter, which refuses gradients on the CPU though the
    operator has them there."""
    options = {"OUTPUT_LOGSUMEXP": True, "OUTPUT_MAX": False}
    score_mod = mods.score_mod or _unchanged
    out, lse, *_ = flex_operator(q, k, v, score_mod, mods.block_mask.as_tuple(), scale, options)
    return out, lse * math.log(2)


def _nothing(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The results of no batch rows, which FlexAttention refuses; gradients flow through them all the same."""
    lse = q.sum(dim=-1) + k.sum() + v.sum()
    out = lse[..., None].expand(*lse.shape, v.shape[-1])
    return out, lse.to(torch.promote_types(q.dtype, torch.float32))


def _unchanged(score: torch.Tensor, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> torch.Tensor:
    return score


class Flex:
    """FlexAttention under a BlockMask made from the plan."""

    name = "flex"
    most_channels = math.inf

    def supports(self, program: ir.Program, device: str, dtype: torch.dtype) -> list[str]:
        if dtype not in inputs.FLOATS:
            return [f"{dtype} is not a floating-point type of attention"]
        if device not in ("cpu", "cuda"):
            return [f"it runs on cpu and cuda, not on {device}"]
        if device == "cuda" and dtype == torch.float64:
            return ["FlexAttention's kernels do not compute in float64"]
        return []

    def emit(self, program: ir.Program, heads: int, kv_heads: int) -> FlexArtifact:
        return FlexArtifact(program, heads, kv_heads)
