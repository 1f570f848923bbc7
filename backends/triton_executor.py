"""A program on tensors: its plans, kept by length, and the passes over them."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import ref

import torch

from patternc import ir
from patternc.backends import triton_eager
from patternc.backends.inputs import check_heads, check_options, check_qkv, check_tensors
from patternc.backends.torch_program import IrPattern
from patternc.backends.triton_module import source
from patternc.backends.triton_op import attention, known
from patternc.backends.triton_plans import Masks, Ready, ready, tile_of, title_of
from patternc.backends.triton_run import Call, backward, forward, usable
from patternc.draws import draw
from patternc.passes.arranged import arranged
from patternc.printer import text

KEPT_PLANS = 8
"""Lengths whose plans are kept."""
KEPT_DRAWN = 4
"""Plans with run-time tensors that wait for their backward pass."""
MOST_CHANNELS = 256
SHOWN_LENGTH = 4096
"""The length at which `source` shows a pattern that admits any."""


@dataclass(frozen=True, eq=False)
class _Seen:
    """Tensors as they were: whether others are the same objects, unchanged."""

    tensors: tuple[ref[torch.Tensor], ...]
    versions: tuple[int, ...]

    @classmethod
    def of(cls, tensors: Sequence[torch.Tensor]) -> _Seen:
        return cls(tuple(ref(t) for t in tensors), tuple(t._version for t in tensors))

    def same(self, tensors: Sequence[torch.Tensor]) -> bool:
        pairs = zip(self.tensors, self.versions, tensors, strict=True)
        return all(seen() is t and version == t._version for seen, version, t in pairs)


class KernelExecutor:
    """One program for so many heads; what the operators of triton_op run."""

    def __init__(self, key: str, program: ir.Program, heads: int, kv_heads: int) -> None:
        self.key, self.kv_heads = key, kv_heads
        self.pattern = IrPattern(program, heads, arranged)
        self.planned = 0
        """How many plans were made."""
        self._kept: OrderedDict[tuple[Any, ...], Ready] = OrderedDict()
        self._drawn: OrderedDict[int, tuple[_Seen, tuple[Any, ...], Ready]] = OrderedDict()

    @cached_property
    def masks(self) -> Masks:
        return Masks.of(self.pattern.arrangement)

    @cached_property
    def title(self) -> str:
        return title_of(self.pattern.program, text(self.pattern.program))

    # -------------------------------------------------------------- the passes

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tensors: Sequence[torch.Tensor], scale: float,
        dropout_p: float, seed: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """See `triton_op.Executor`."""
        with _on(q):
            call = Call(self.ready(q, k, v, tensors).schedule, scale, dropout_p, seed)
            return forward(call, usable(q), usable(k), usable(v))

    def backward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, lse: torch.Tensor,
        d_out: torch.Tensor, d_lse: torch.Tensor | None, tensors: Sequence[torch.Tensor], scale: float,
        dropout_p: float, seed: int, queries: bool, keys: bool,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
        """See `triton_op.Executor`."""
        with _on(q):
            made = self.ready(q, k, v, tensors, again=True).schedule
            if not made.by_query:  # nobody reads anything
                dq, dk, dv = (torch.zeros(t.shape, dtype=t.dtype, device=t.device) for t in (q, k, v))
                return dq, dk, dv
            q, k, v = (usable(t) for t in (q, k, v))
            call = Call(made, scale, dropout_p, seed)
            d_out = usable(d_out.to(q.dtype))
            return backward(call, q, k, v, out.contiguous(), lse.contiguous(), d_out, d_lse, queries=queries, keys=keys)

    # -------------------------------------------------------------- plans

    def ready(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tensors: Sequence[torch.Tensor], again: bool = False
    ) -> Ready:
        """The grids of a call. They are kept if no run-time tensors have a say in them; else for the backward pass,
        which finds the tensors as they were (`again`)."""
        tile = tile_of(max(q.shape[3], v.shape[3]), 8 * q.element_size())
        key = (k.shape[2], q.shape[2], q.shape[0], q.device, tile)
        if not tensors:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = self._make(*key, ())
                while len(self._kept) > KEPT_PLANS:
                    self._kept.popitem(last=False)
            return found
        if again:
            for seen, of, found in self._drawn.values():
                if of == key and seen.same(tensors):
                    return found
        found = self._make(*key, tensors)
        if not any(t.is_inference() for t in tensors):
            self._drawn[self.planned] = _Seen.of(tensors), key, found
            while len(self._drawn) > KEPT_DRAWN:
                self._drawn.popitem(last=False)
        return found

    def _make(
        self, n: int, n_q: int, batch: int, device: torch.device, tile: tuple[int, int], tensors: Sequence[torch.Tensor]
    ) -> Ready:
        self.planned += 1
        names = [t.name for t in self.pattern.program.tensors]
        declared = self.pattern.declared(n)
        given = check_tensors(declared, dict(zip(names, tensors, strict=True)), device, batch)
        return ready(
            self.masks, n=n, n_q=n_q, batch=batch, kv_heads=self.kv_heads, device=device, tensors=given, tile=tile,
            title=self.title,
        )  # fmt: skip


def _on(q: torch.Tensor) -> AbstractContextManager[Any]:
    """Kernels start on the current device."""
    if q.device.type != "cuda" or q.device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(q.device)


def executor(program: ir.Program, heads: int, kv_heads: int) -> KernelExecutor:
    """The one for this program and these heads."""
    check_heads(heads, kv_heads)
    digest = hashlib.sha256(f"{heads} {kv_heads}\n{text(program)}".encode()).hexdigest()
    key = f"{program.name} {digest[:32]}"
    made = known(KernelExecutor(key, program, heads, kv_heads))
    assert isinstance(made, KernelExecutor)
    return made


class TritonArtifact:
    """A program as generated kernels."""

    def __init__(self, program: ir.Program, heads: int, kv_heads: int) -> None:
        self.program, self.heads, self.kv_heads = program, heads, kv_heads
        self.executor = executor(program, heads, kv_heads)
        self._key = self.executor.key
        self._names = tuple(t.name for t in program.tensors)
        if reason := self.executor.masks.refused():
            raise ValueError(f"the triton backend cannot run {program.name}: {reason}")

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
        """Attention of q (B, H, N_q, D), k (B, H_kv, N, D), v (B, H_kv, N, D_v), D and D_v up to 256; see
        `base.Artifact`. A graph of torch.compile or CUDA may hold the call; a CUDA graph drops the same each time."""
        sizes = check_qkv(q, k, v, self.heads, self.kv_heads)
        scale = check_options(scale, dropout_p, sizes.dim)
        if max(sizes.dim, sizes.dim_v) > MOST_CHANNELS:
            found = f"D = {sizes.dim}, D_v = {sizes.dim_v}"
            raise ValueError(f"the triton backend takes head dimensions up to {MOST_CHANNELS}; found {found}")
        if q.dtype == torch.float64:
            raise ValueError("the triton backend takes float16, bfloat16 and float32; found torch.float64")
        if scale <= 0:  # kernels take the greatest score before they scale
            q, scale = q * (-1.0 if scale < 0 else 0.0), -scale or 1.0
        drawn = _seed(seed, dropout_p)
        given = self._in_order(tensors or {}, sizes.n, sizes.batch, q.device)
        if triton_eager.is_plain(q, k, v, *given):
            number = 0 if drawn is None else int(drawn)
            out, lse = triton_eager.attention(self.executor, q, k, v, given, scale, float(dropout_p), number)
        else:
            out, lse = attention(q, k, v, given, self._key, scale, float(dropout_p), drawn)
        return (out, lse) if return_lse else out

    def _in_order(self, tensors: Mapping[str, Any], n: int, batch: int, device: torch.device) -> list[torch.Tensor]:
        """The run-time tensors as the program declares them; those of NumPy are copied, wrong names are an error."""
        if len(tensors) != len(self._names) or not all(
            isinstance(tensors.get(name), torch.Tensor) for name in self._names
        ):
            tensors = check_tensors(self.executor.pattern.declared(n), tensors, device, batch)
        return [tensors[name] for name in self._names]

    @property
    def source(self) -> str:
        """The modules of kernels for 4,096 tokens of half precision and 64 channels, or the n that the pattern's grid
        demands; other lengths have the same ones, unless terms vanish there."""
        grids = [math.prod(int(e.value) for e in g.extents if isinstance(e, ir.Const)) for g in self.program.grids]
        n = grids[0] if grids else SHOWN_LENGTH
        arrays = draw(self.program.tensors, n, heads=self.heads, batch=1)
        tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
        cpu, declared = torch.device("cpu"), self.executor.pattern.declared(n)
        made = ready(
            self.executor.masks, n=n, n_q=n, batch=1, kv_heads=self.kv_heads, device=cpu,
            tensors=check_tensors(declared, tensors, cpu, 1), tile=tile_of(64, 16), title=self.executor.title,
        )  # fmt: skip
        structures = dict.fromkeys(step.structure for step in made.schedule.by_query)
        return "\n\n".join(source(s) for s in structures)


def _seed(seed: int | None, dropout_p: float) -> torch.Tensor | None:
    """The seed of dropout as a number on the CPU; a draw from torch's default generator unless given."""
    if dropout_p == 0:
        return None
    return torch.randint(2**31, ()) if seed is None else torch.tensor(seed)
