"""Attention inside each of several sequences that are packed one after the other, without padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import torch

from patternc import ir
from patternc.compiler import Compiled
from patternc.nn.held import attend
from patternc.nn.shifted import packed_program, speaks_of_distances
from patternc.plan import CONSECUTIVE
from patternc.rewrite import walk

_PACKED: WeakKeyDictionary[Compiled, Packed | None] = WeakKeyDictionary()
"""Of each pattern, the one over sequences in a row; None, if they are computed one by one."""

Offsets = torch.Tensor | Sequence[int]


@dataclass(frozen=True, eq=False)
class Packed:
    """A pattern over sequences in a row, and the name of the tensor that says where they start."""

    compiled: Compiled
    start: str


@torch.compiler.disable
def attend_packed(
    compiled: Compiled,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: Offsets,
    cu_seqlens_k: Offsets | None = None,
    *,
    scale: float | None = None,
    dropout_p: float = 0.0,
    return_lse: bool = False,
    **runtime_tensors: Any,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Attention of S sequences that lie one after the other: each by itself, as if it stood alone from position 0 on.

    - q (total_q, H, D), k (total_k, H_kv, D), v (total_k, H_kv, D_v), as in variable-length flash attention; the output
      is (total_q, H, D_v), and with `return_lse` there is lse (H, total_q).
    - cu_seqlens (S + 1,) integers, ascending from 0 to total_q: sequence s has the queries cu_seqlens[s] up to
      cu_seqlens[s + 1]; it may be empty. cu_seqlens_k says the same of keys, if they are more than the queries, which
      are then a sequence's last positions.
    - A run-time tensor declared `[batch, n]` is packed in the same way, (total_k,). One that has n in other dimensions
      cannot be; any other is as in a call, with an entry of the batch axis for each sequence.

    A pattern that knows nothing of the sequence's length is planned once for the row, with the tiles of its sequences
    alone. Others are computed sequence by sequence, and so are those whose layouts hang on where a sequence starts.
    TypeError and ValueError for wrong arguments.
    """
    call = _Call.read(compiled, q, k, v, cu_seqlens, cu_seqlens_k)
    options = {"scale": scale, "dropout_p": dropout_p}
    if not call.stops_q[-1]:
        out, lse = q.new_zeros(0, q.shape[1], v.shape[2]), q.new_zeros(q.shape[1], 0)
    elif call.stops_q == call.stops_k and (packed := _packed(compiled)) is not None:
        out, lse = call.in_a_row(packed, runtime_tensors, options)
    else:
        out, lse = call.one_by_one(compiled, runtime_tensors, options)
    return (out, lse) if return_lse else out


def _packed(compiled: Compiled) -> Packed | None:
    if compiled not in _PACKED:
        _PACKED[compiled] = _pack(compiled)
    return _PACKED[compiled]


def _pack(compiled: Compiled) -> Packed | None:
    found = packed_program(compiled.program)
    if found is None or not (speaks_of_distances(compiled.program) or _consecutive(compiled)):
        return None
    c = compiled
    return Packed(Compiled(c.pattern, found[0], c.heads, c.kv_heads, c.layer, c.backend), found[1])


def _consecutive(compiled: Compiled) -> bool:
    """Whether the pattern takes tokens in their order."""
    terms = (term for own in compiled.arrangement().classes for term in own.terms)
    return all(layout == CONSECUTIVE for term in terms for layout in (term.queries, term.keys))


@dataclass(frozen=True, eq=False)
class _Call:
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    stops_q: list[int]
    """Where sequences end, after a first 0."""
    stops_k: list[int]

    @staticmethod
    def read(
        compiled: Compiled, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_q: Offsets, cu_k: Offsets | None
    ) -> _Call:
        for name, t in (("q", q), ("k", k), ("v", v)):
            if not isinstance(t, torch.Tensor) or t.ndim != 3:
                found = tuple(t.shape) if isinstance(t, torch.Tensor) else type(t).__name__
                raise ValueError(f"{name} must be a tensor (tokens, heads, channels); found {found}")
        heads = (q.shape[1], k.shape[1], v.shape[1])
        if heads != (compiled.heads, compiled.kv_heads, compiled.kv_heads):
            raise ValueError(f"the pattern was compiled for H = {compiled.heads} and H_kv = {compiled.kv_heads}; "
                             f"found q, k and v with {heads} heads")  # fmt: skip
        stops_q = _stops("cu_seqlens", cu_q, q.shape[0])
        stops_k = _stops("cu_seqlens" if cu_k is None else "cu_seqlens_k", cu_q if cu_k is None else cu_k, k.shape[0])
        if len(stops_q) != len(stops_k) or any(
            b - a > d - c for (a, b), (c, d) in zip(pairwise(stops_q), pairwise(stops_k), strict=True)
        ):
            demand = "cu_seqlens_k must have as many entries, and no sequence more queries than keys"
            raise ValueError(f"queries are the last of a sequence: {demand}; found {stops_q} and {stops_k}")
        return _Call(q, k, v, stops_q, stops_k)

    def in_a_row(
        self, packed: Packed, tensors: Mapping[str, Any], options: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        stops = torch.tensor(self.stops_q, device=self.q.device)
        starts = torch.repeat_interleave(stops[:-1], stops.diff())
        given = {name: _row(name, value, self.stops_k[-1])[None] for name, value in tensors.items()}
        q, k, v = (t.transpose(0, 1)[None] for t in (self.q, self.k, self.v))
        out, lse = attend(packed.compiled, q, k, v, return_lse=True, **options, **given, **{packed.start: starts})
        return out[0].transpose(0, 1), lse[0]

    def one_by_one(
        self, compiled: Compiled, tensors: Mapping[str, Any], options: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        found = []
        bounds = zip(pairwise(self.stops_q), pairwise(self.stops_k), strict=True)
        declared = {tensor.name: tensor for tensor in compiled.program.tensors}
        for s, ((a, b), (c, d)) in enumerate(bounds):
            if b > a:
                q, k, v = (t.transpose(0, 1)[None] for t in (self.q[a:b], self.k[c:d], self.v[c:d]))
                own = {
                    name: _own(declared.get(name), name, value, s, slice(c, d), self.stops_k[-1])
                    for name, value in tensors.items()
                }
                found.append(attend(compiled, q, k, v, return_lse=True, **options, **own))
        out = torch.cat([part[0].transpose(0, 1) for part, _ in found])
        return out, torch.cat([part[0] for _, part in found], dim=1)


def _own(declared: ir.Tensor | None, name: str, value: Any, s: int, keys: slice, total: int) -> Any:
    """What a sequence reads of a run-time tensor; one that is not declared is left to the call to refuse."""
    if declared is None:
        return value
    if declared.batched and declared.dims == (ir.Var("n"),):
        return _row(name, value, total)[None, keys]
    if any(isinstance(node, ir.Var) and node.name == "n" for dim in declared.dims for node in walk(dim)):
        raise ValueError(f"tensor {name!r} has n in its dimensions, and cannot be packed; only {name}[batch, n] can")
    return value[s : s + 1] if declared.batched else value


def _row(name: str, value: Any, total: int) -> Any:
    """A tensor over the tokens of all sequences."""
    if tuple(value.shape) != (total,):
        raise ValueError(f"tensor {name!r} must be packed like the keys, ({total},); found {tuple(value.shape)}")
    return value


def _stops(name: str, given: Offsets, total: int) -> list[int]:
    found = given.tolist() if isinstance(given, torch.Tensor) else list(given)
    if any(isinstance(x, bool) or not isinstance(x, int) for x in found):
        raise TypeError(f"{name} must hold integers; found {given!r}")
    if len(found) < 1 or found[0] != 0 or found[-1] != total or any(a > b for a, b in pairwise(found)):
        raise ValueError(f"{name} must ascend from 0 to the {total} tokens; found {found}")
    return found
