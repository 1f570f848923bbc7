"""A program on tensors: its plans, kept by length, and the passes over them.

This is the same for a program in memory and for a saved module, which carries this file.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import ref

import torch

from patternc.backends.inputs import Declared, check_options, check_qkv, check_tensors
from patternc.backends.torch_run import Pattern
from patternc.backends.triton_adapter import interpreting
from patternc.backends.triton_eager import is_plain, plain_attention
from patternc.backends.triton_few import few_ready, longest_of, suits
from patternc.backends.triton_known import Known, KnownFew, aligned_all, call_key, few_key
from patternc.backends.triton_op import as_tensor, attention
from patternc.backends.triton_options import Form
from patternc.backends.triton_plans import Masks, Ready, ready, tile_of
from patternc.backends.triton_run import Call, backward, forward, forward_few, usable

KEPT_PLANS = 8
"""Lengths whose plans are kept."""
KEPT_DRAWN = 4
"""Plans with run-time tensors that wait for their backward pass."""
MOST_CHANNELS = 256
_HERE = nullcontext()


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


Tuned = Callable[[torch.device, int, int], Form | None]
"""What was tuned for a device, the larger head dimension and the bits of the dtype; None where the usual is best."""


class Enqueued(Protocol):
    """Plans of run-time tensors that nothing waits for; see triton_drawn."""

    def ready(
        self, declared: Sequence[Declared], tensors: Mapping[str, torch.Tensor], types: Mapping[str, torch.dtype], *,
        n: int, n_q: int, batch: int, device: torch.device, tile: tuple[int, int],
    ) -> Ready | str:  # fmt: skip
        """The grids of a call, or why it has to wait."""


class KernelExecutor:
    """One program for so many heads; what the operators of triton_op run."""

    def __init__(
        self, key: str, pattern: Pattern, masks: Masks, kv_heads: int, title: str = "", tuned: Tuned | None = None,
        enqueued: Enqueued | None = None, steady: bool = False,
    ) -> None:  # fmt: skip
        self.key, self.pattern, self.masks, self.kv_heads, self.title = key, pattern, masks, kv_heads, title
        self.steady = steady
        """Whether the program keeps the same pairs at all lengths, and reads no tensors; see triton_few."""
        self._tuned, self._enqueued = tuned, enqueued
        self._forms: dict[tuple[torch.device, int, int], Form] = {}
        self.planned = 0
        """How many plans were made."""
        self._declared: dict[int, list[Declared]] = {}
        self._kept: OrderedDict[tuple[Any, ...], Ready] = OrderedDict()
        self._few: OrderedDict[tuple[Any, ...], Ready | None] = OrderedDict()
        self._drawn: OrderedDict[int, tuple[_Seen, tuple[Any, ...], Ready]] = OrderedDict()

    # -------------------------------------------------------------- the passes

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tensors: Sequence[torch.Tensor], scale: float,
        dropout_p: float, seed: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """See `triton_op.Executor`."""
        with _on(q):
            few = self.few(q, k, v)
            if few is not None:
                call = Call(few.schedule, 1.0, dropout_p, options=self.form(q, v).options)
                return forward_few(call, usable(q), usable(k), usable(v), scale, seed)
            made = self.ready(q, k, v, tensors)
            call = Call(made.schedule, scale, dropout_p, seed, options=self.form(q, v).options)
            return forward(call, usable(q), usable(k), usable(v), made.tables("by_query"))

    def backward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, lse: torch.Tensor,
        d_out: torch.Tensor, d_lse: torch.Tensor | None, tensors: Sequence[torch.Tensor], scale: float,
        dropout_p: float, seed: int, queries: bool, keys: bool,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
        """See `triton_op.Executor`."""
        with _on(q):
            made = self.ready(q, k, v, tensors, again=True)
            if not made.schedule.by_query:  # nobody reads anything
                dq, dk, dv = (torch.zeros(t.shape, dtype=t.dtype, device=t.device) for t in (q, k, v))
                return dq, dk, dv
            q, k, v = (usable(t) for t in (q, k, v))
            call = Call(made.schedule, scale, dropout_p, seed, options=self.form(q, v).options)
            d_out = usable(d_out.to(q.dtype))
            tables = {**(made.tables("by_query") if queries else {}), **(made.tables("by_key") if keys else {})}
            return backward(
                call, q, k, v, out.contiguous(), lse.contiguous(), d_out, d_lse, queries=queries, keys=keys,
                tables=tables,
            )  # fmt: skip

    # -------------------------------------------------------------- plans

    def form(self, q: torch.Tensor, v: torch.Tensor) -> Form:
        """How kernels for tensors like these run."""
        dim, bits = max(q.shape[3], v.shape[3]), 8 * q.element_size()
        key = q.device, dim, bits
        found = self._forms.get(key)
        if found is None:
            tuned = None if self._tuned is None else self._tuned(*key)
            found = self._forms[key] = tuned or Form(tile_of(dim, bits))
        return found

    def ready(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tensors: Sequence[torch.Tensor], again: bool = False
    ) -> Ready:
        """The grids of a call. They are kept if no run-time tensors have a say in them; else for the backward pass,
        which finds the tensors as they were (`again`)."""
        tile = self.form(q, v).tile
        key = (k.shape[2], q.shape[2], q.shape[0], q.device, tile)
        if not tensors:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = self._make(*key, ())
                while len(self._kept) > KEPT_PLANS:
                    self._kept.popitem(last=False)
            return found
        if again and not _capturing(q):
            for seen, of, found in self._drawn.values():
                if of == key and seen.same(tensors):
                    return found
        found = self._make(*key, tensors)
        if not any(t.is_inference() for t in tensors) and not _capturing(q):
            self._drawn[self.planned] = _Seen.of(tensors), key, found
            while len(self._drawn) > KEPT_DRAWN:
                self._drawn.popitem(last=False)
        return found

    def few(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Ready | None:
        """The grids of a call of a few queries, which serve other lengths too; None for other calls, and for programs
        that do not admit the longest of these lengths. They compute the forward pass alone."""
        n, n_q = k.shape[2], q.shape[2]
        if not self.steady or not suits(n, n_q):
            return None
        tile = self.form(q, v).tile
        key = (longest_of(n), n_q, q.shape[0], q.device, tile)
        if key in self._few:
            return self._few[key]
        found = self._few[key] = self._make_few(*key)
        while len(self._few) > KEPT_PLANS:
            self._few.popitem(last=False)
        return found

    def _make_few(self, n: int, n_q: int, batch: int, device: torch.device, tile: tuple[int, int]) -> Ready | None:
        shapes: dict[str, Any] = {"n": n, "n_q": n_q, "batch": batch, "device": device, "tile": tile}
        try:
            made = few_ready(self.masks, kv_heads=self.kv_heads, title=self.title, **shapes)
        except ValueError:  # its integers may overflow at a length beyond that of the call
            return None
        self.planned += 1
        return made

    def _declared_at(self, n: int) -> list[Declared]:
        """The run-time tensors at a length; to find them takes longer than to enqueue a plan."""
        if n not in self._declared:
            if len(self._declared) >= KEPT_PLANS:
                self._declared.clear()
            self._declared[n] = self.pattern.declared(n)
        return self._declared[n]

    def _make(
        self, n: int, n_q: int, batch: int, device: torch.device, tile: tuple[int, int], tensors: Sequence[torch.Tensor]
    ) -> Ready:
        self.planned += 1
        declared = self._declared_at(n)
        given = {d.name: tensor for d, tensor in zip(declared, tensors, strict=True)}
        types = {name: tensor.dtype for name, tensor in given.items()}
        given = check_tensors(declared, given, device, batch)
        if tensors and self._enqueued is not None:
            shapes: dict[str, Any] = {"n": n, "n_q": n_q, "batch": batch, "device": device, "tile": tile}
            made = self._enqueued.ready(declared, given, types, **shapes)
            if not isinstance(made, str):
                return made
        return ready(
            self.masks, n=n, n_q=n_q, batch=batch, kv_heads=self.kv_heads, device=device, tensors=given, tile=tile,
            title=self.title,
        )  # fmt: skip


def _capturing(q: torch.Tensor) -> bool:
    """Whether a CUDA graph is being captured: what its kernels leave is there only after a replay."""
    return q.is_cuda and torch.cuda.is_current_stream_capturing()


def _on(q: torch.Tensor) -> AbstractContextManager[Any]:
    """Kernels start on the current device."""
    if not q.is_cuda or q.get_device() == torch.cuda.current_device():
        return _HERE
    return torch.cuda.device(q.device)


class KernelAttention:
    """Attention by an executor; `names` are the run-time tensors."""

    def __init__(self, executor: KernelExecutor, names: Sequence[str]) -> None:
        self.executor, self.heads, self.kv_heads = executor, executor.pattern.heads, executor.kv_heads
        self._key, self._names, self._handle = executor.key, tuple(names), as_tensor(executor.key)
        self._known: dict[tuple[Any, ...], Known | KnownFew] = {}
        self.changing = False
        """Whether it stands in for another pattern, in graphs of torch.compile that were made for that one."""

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
        alone = not tensors and not self._names and is_plain(q, k, v)
        result = self._again(q, k, v, scale, dropout_p, seed) if alone else None
        if result is not None:
            return result if return_lse else result[0]
        sizes = check_qkv(q, k, v, self.heads, self.kv_heads)
        scale = check_options(scale, dropout_p, sizes.dim)
        if max(sizes.dim, sizes.dim_v) > MOST_CHANNELS:
            found = f"D = {sizes.dim}, D_v = {sizes.dim_v}"
            raise ValueError(f"the triton backend takes head dimensions up to {MOST_CHANNELS}; found {found}")
        if q.dtype == torch.float64:
            raise ValueError("the triton backend takes float16, bfloat16 and float32; found torch.float64")
        if q.dtype == torch.bfloat16 and not torch.compiler.is_compiling() and interpreting():
            raise ValueError("Triton's interpreter has no products of bfloat16")
        if scale <= 0:  # kernels take the greatest score before they scale
            q, scale = q * (-1.0 if scale < 0 else 0.0), -scale or 1.0
        drawn = _seed(seed, dropout_p)
        given = self._in_order(tensors or {}, sizes.n, sizes.batch, q.device)
        if is_plain(q, k, v, *given):
            number = 0 if drawn is None else int(drawn)
            out, lse = plain_attention(self.executor, q, k, v, given, scale, float(dropout_p), number)
            if alone:
                self._remember(q, k, v, dropout_p)
        else:
            key, given = ("", [*given, self._handle]) if self.changing else (self._key, given)
            out, lse = attention(q, k, v, given, key, scale, float(dropout_p), drawn)
        return (out, lse) if return_lse else out

    def _again(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None, dropout_p: float, seed: int | None
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """A call like one that is known, if it is one."""
        if type(dropout_p) is not float or not (scale is None or (type(scale) is float and 0 < scale < math.inf)):
            return None
        known = self._known.get(self._key_of(q, k, v, dropout_p))
        if known is None or not aligned_all(q, k, v) or _on(q) is not _HERE:
            return None
        drawn = _seed(seed, dropout_p)
        number = 0 if drawn is None else int(drawn)
        return plain_attention(known, q, k, v, (), known.scale if scale is None else scale, dropout_p, number)

    def _remember(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout_p: float) -> None:
        """So that such calls are known."""
        if not aligned_all(q, k, v) or any(t.stride(-1) != 1 for t in (q, k, v)) or _on(q) is not _HERE:
            return
        if len(self._known) >= KEPT_PLANS:
            self._known.clear()
        few = self.executor.few(q, k, v)
        made = self.executor.ready(q, k, v, ()) if few is None else few
        call = Call(made.schedule, 1.0, float(dropout_p), options=self.executor.form(q, v).options)
        if few is None:
            self._known[call_key(q, k, v, call.dropout_p)] = Known(self.executor, call, q, k, v)
        else:
            self._known[self._key_of(q, k, v, call.dropout_p)] = KnownFew(self.executor, call, q)

    def _key_of(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout_p: float) -> tuple[Any, ...]:
        """What the call has in common with others."""
        few = few_key(q, k, v, dropout_p) if self.executor.steady else None
        return call_key(q, k, v, dropout_p) if few is None else few

    def _in_order(self, tensors: Mapping[str, Any], n: int, batch: int, device: torch.device) -> list[torch.Tensor]:
        """The run-time tensors as the program declares them; those of NumPy are copied, wrong names are an error."""
        if not tensors and not self._names:
            return []
        if len(tensors) != len(self._names) or not all(
            isinstance(tensors.get(name), torch.Tensor) for name in self._names
        ):
            tensors = check_tensors(self.executor.pattern.declared(n), tensors, device, batch)
        return [tensors[name] for name in self._names]


def _seed(seed: int | None, dropout_p: float) -> torch.Tensor | None:
    """The seed of dropout as a number on the CPU; a draw from torch's default generator unless given."""
    if dropout_p == 0:
        return None
    return torch.randint(2**31, ()) if seed is None else torch.tensor(seed)
