"""Attention to a paged KV cache: of each sequence only the tokens are gathered that the pattern wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from patternc.analysis.row_keys import RowKeys, Rows
from patternc.backends.inputs import FLOATS, check_options, check_tensors
from patternc.backends.torch_function import computed_in
from patternc.backends.torch_program import IrPattern
from patternc.backends.torch_rows import MOST_SCORES, HeadGroup, attention, chosen, group, joined
from patternc.compiler import Compiled

_ROWS: WeakKeyDictionary[Compiled, Rows] = WeakKeyDictionary()
"""The rows of patterns that were asked for, with what is known of them."""

Results = tuple[torch.Tensor, torch.Tensor]
Counts = torch.Tensor | Sequence[int]


@torch.compiler.disable
def attend_paged(
    compiled: Compiled,
    q: torch.Tensor,
    key_pages: torch.Tensor,
    value_pages: torch.Tensor,
    page_table: torch.Tensor,
    lengths: Counts,
    *,
    query_lengths: Counts | None = None,
    scale: float | None = None,
    return_lse: bool = False,
    **runtime_tensors: Any,
) -> torch.Tensor | Results:
    """The last queries of sequences of different lengths, whose keys and values lie in pages.

    - q (B, H, N_q, D); the output is (B, H, N_q, D_v), and with `return_lse` there is lse (B, H, N_q).
    - key_pages (pages, page_size, H_kv, D) and value_pages (pages, page_size, H_kv, D_v): token t of sequence b is
      slot t % page_size of page page_table[b, t // page_size]. page_table (B, M) holds integers; those of pages of
      which the pattern wants no token are not read, nor are these pages.
    - lengths (B,): the tokens of each sequence, with those of its queries; M · page_size at most.
    - query_lengths (B,): sequence b has the last query_lengths[b] of the N_q rows of q, all unless given. Its last
      row stands at position lengths[b] − 1. A row without a position gives 0 and −inf.
    - A run-time tensor has the shape that the longest of the sequences demands; each reads the first entries.

    It is computed by operations of torch on the device of q, whatever the backend, and differentiable. It needs memory
    for N_q scores of every key that one of a sequence's queries wants. TypeError and ValueError for wrong arguments,
    SpatError for a length that the program does not admit.
    """
    call = _Call.read(compiled, q, key_pages, value_pages, page_table, lengths, query_lengths, scale)
    out, lse = call.attention(_arrays(compiled, runtime_tensors, call))
    return (out, lse) if return_lse else out


@dataclass(frozen=True, eq=False)
class _Want:
    """What one sequence wants: for each class of heads, the keys of its queries."""

    row: int
    """The sequence's number in the batch."""
    count: int
    """Its queries: the last rows of q."""
    classes: tuple[RowKeys, ...]

    @property
    def heads(self) -> tuple[tuple[int, ...], ...]:
        return tuple(own.heads for own in self.classes)


@dataclass(frozen=True, eq=False)
class _Call:
    compiled: Compiled
    q: torch.Tensor
    keys: torch.Tensor
    """(pages · page_size, H_kv, D)"""
    values: torch.Tensor
    table: torch.Tensor
    page_size: int
    lengths: list[int]
    counts: list[int]
    """Queries of each sequence that have a position."""
    scale: float

    @staticmethod
    def read(
        compiled: Compiled, q: torch.Tensor, key_pages: torch.Tensor, value_pages: torch.Tensor,
        page_table: torch.Tensor, lengths: Counts, query_lengths: Counts | None, scale: float | None,
    ) -> _Call:  # fmt: skip
        _check(compiled, q, key_pages, value_pages, page_table)
        batch, n_q = q.shape[0], q.shape[2]
        found = _counts("lengths", lengths, batch, page_table.shape[1] * key_pages.shape[1])
        asked = [n_q] * batch if query_lengths is None else _counts("query_lengths", query_lengths, batch, n_q)
        counts = [min(pair) for pair in zip(found, asked, strict=True)]
        scale = check_options(scale, 0.0, q.shape[3])
        keys, values = (pages.reshape(-1, *pages.shape[2:]) for pages in (key_pages, value_pages))
        return _Call(compiled, q, keys, values, page_table, key_pages.shape[1], found, counts, scale)

    def attention(self, arrays: Mapping[str, np.ndarray]) -> Results:
        """Sequences whose heads fall into the same classes are computed together."""
        together: dict[tuple[tuple[int, ...], ...], list[_Want]] = {}
        for want in self._wants(arrays):
            together.setdefault(want.heads, []).append(want)
        shape = self.q.shape[:3]
        out = self.q.new_zeros(*shape, self.values.shape[2])
        lse = self.q.new_full(shape, -torch.inf, dtype=computed_in(self.q.dtype))
        with torch.autocast(self.q.device.type, enabled=False):
            for wants in together.values():
                for some in _within_memory(wants, shape):
                    at = torch.tensor([want.row for want in some], device=self.q.device)
                    own_out, own_lse = self._computed(some)
                    out, lse = out.index_copy(0, at, own_out), lse.index_copy(0, at, own_lse)
        return out, lse

    def _wants(self, arrays: Mapping[str, np.ndarray]) -> list[_Want]:
        rows = _ROWS.setdefault(self.compiled, Rows(self.compiled.program, self.compiled.heads))
        found = []
        for b, (n, count) in enumerate(zip(self.lengths, self.counts, strict=True)):
            if count:
                own = {tensor.name: _first(arrays[tensor.name], tensor, b, n) for tensor in self._declared(n)}
                [(_, classes)] = rows.wanted(n, count, own)
                found.append(_Want(b, count, tuple(classes)))
        return found

    def _declared(self, n: int) -> Any:
        return (
            IrPattern(self.compiled.program, self.compiled.heads).declared(n) if self.compiled.program.tensors else ()
        )

    def _computed(self, wants: list[_Want]) -> Results:
        """Output and lse of some sequences, in their order."""
        q = self.q[[want.row for want in wants]]
        parts = []
        for i, heads in enumerate(wants[0].heads):
            own = group(heads, self.compiled.heads // self.compiled.kv_heads)
            k, v, bias = self._gathered([(want.row, want.count, want.classes[i]) for want in wants], own)
            parts.append((heads, attention(chosen(q, heads), k, v, bias, self.scale)))
        return joined(parts, self.compiled.heads)

    def _gathered(
        self, wanted: list[tuple[int, int, RowKeys]], heads: HeadGroup
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Keys and values (S, G, K, D) of sequences that want up to K keys, and log M (S, 1, 1, N_q, K)."""
        most = max(len(own.keys) for _, _, own in wanted)
        keys = np.zeros((len(wanted), most), dtype=np.int64)
        m = np.zeros((len(wanted), 1, 1, self.q.shape[2], most), dtype=np.int64)
        for i, (_, count, own) in enumerate(wanted):
            keys[i, : len(own.keys)] = own.keys
            m[i, 0, 0, m.shape[3] - count :, : len(own.keys)] = 1 if own.multiplicity is None else own.multiplicity
        device = self.q.device
        there = torch.tensor([len(own.keys) for _, _, own in wanted], device=device)[:, None] > torch.arange(
            most, device=device
        )
        at = self._slots([row for row, _, _ in wanted], torch.from_numpy(keys).to(device), there)
        bias = None if bool((m == 1).all()) else torch.from_numpy(m).to(device, computed_in(self.q.dtype)).log()
        return _heads_of(self.keys, at, there, heads), _heads_of(self.values, at, there, heads), bias

    def _slots(self, rows: list[int], keys: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """(S, K): where the tokens lie; 0 for those that are not there."""
        table = self.table[rows].to(torch.int64)
        page = table.gather(1, keys // self.page_size)
        pages = len(self.keys) // self.page_size
        if bool((there & ((page < 0) | (page >= pages))).any()):
            raise ValueError(f"page_table must hold 0 to {pages - 1} for pages whose tokens the pattern wants")
        return torch.where(there, page * self.page_size + keys % self.page_size, 0)


def _heads_of(tokens: torch.Tensor, at: torch.Tensor, there: torch.Tensor, heads: HeadGroup) -> torch.Tensor:
    """(tokens, H_kv, D) to (S, G, K, D), with zeros for what is not there, for a page may hold anything."""
    if heads.kv_heads == tuple(range(tokens.shape[1])):
        found = tokens[at]
    else:
        found = tokens[at[..., None], torch.tensor(heads.kv_heads, device=tokens.device)]
    if not bool(there.all()):
        found[~there] = 0
    return found.transpose(1, 2).contiguous()  # in this order products take a sixth of the time on a CPU


def _within_memory(wants: list[_Want], shape: torch.Size) -> list[list[_Want]]:
    """Sequences in parts whose scores fit; one at least."""
    heads, n_q = shape[1:3]
    parts: list[list[_Want]] = [[]]
    widest = 1
    for want in wants:
        widest = max([widest, *(len(own.keys) for own in want.classes)])
        if parts[-1] and (len(parts[-1]) + 1) * heads * n_q * widest > MOST_SCORES:
            parts.append([])
        parts[-1].append(want)
    return parts


# ------------------------------------------------------------------ arguments


def _check(
    compiled: Compiled, q: torch.Tensor, key_pages: torch.Tensor, value_pages: torch.Tensor, page_table: torch.Tensor
) -> None:
    for name, t in (("q", q), ("key_pages", key_pages), ("value_pages", value_pages)):
        if not isinstance(t, torch.Tensor) or t.dtype not in FLOATS or t.ndim != 4:
            found = f"{t.dtype} {tuple(t.shape)}" if isinstance(t, torch.Tensor) else type(t).__name__
            raise TypeError(f"{name} must be a tensor of floats with four axes; found {found}")
        if t.dtype != q.dtype or t.device != q.device:
            raise TypeError(f"{name} must be {q.dtype} on {q.device}, like q; found {t.dtype} on {t.device}")
    if not isinstance(page_table, torch.Tensor) or page_table.is_floating_point() or page_table.ndim != 2:
        raise TypeError("page_table must be a tensor of integers, (B, M)")
    wanted = f"H = {compiled.heads}, H_kv = {compiled.kv_heads}"
    shapes = f"found q {tuple(q.shape)}, key_pages {tuple(key_pages.shape)}, value_pages {tuple(value_pages.shape)}"
    same = key_pages.shape[:3] == value_pages.shape[:3] and q.shape[3] == key_pages.shape[3]
    if not same or (q.shape[1], key_pages.shape[2]) != (compiled.heads, compiled.kv_heads) or not q.shape[2]:
        raise ValueError(
            f"expected q (B, H, N_q, D), key_pages (pages, page_size, H_kv, D), value_pages (pages, page_size, H_kv, "
            f"D_v) with {wanted}; {shapes}"
        )
    if page_table.shape[0] != q.shape[0] or page_table.device != q.device:
        raise ValueError(f"page_table must be ({q.shape[0]}, M) on {q.device}; found {tuple(page_table.shape)} "
                         f"on {page_table.device}")  # fmt: skip


def _counts(name: str, given: Counts, batch: int, most: int) -> list[int]:
    """Plain integers, one for each sequence."""
    found = given.tolist() if isinstance(given, torch.Tensor) else list(given)
    if len(found) != batch or any(isinstance(x, bool) or not isinstance(x, int) for x in found):
        raise TypeError(f"{name} must be {batch} integers, one for each sequence; found {given!r}")
    if any(not 0 <= x <= most for x in found):
        raise ValueError(f"{name} must be 0 to {most}; found {found}")
    return found


def _arrays(compiled: Compiled, tensors: Mapping[str, Any], call: _Call) -> dict[str, np.ndarray]:
    """The run-time tensors, as the longest sequence demands them."""
    n = max(call.lengths, default=0)
    declared = IrPattern(compiled.program, compiled.heads).declared(n) if n else []
    checked = check_tensors(declared, tensors, call.q.device, call.q.shape[0]) if n else {}
    return {name: t.cpu().numpy() for name, t in checked.items()}


def _first(array: np.ndarray, declared: Any, b: int, n: int) -> np.ndarray:
    """What sequence b of n tokens reads of a tensor; with a batch axis of 1, if there is one."""
    own = array[b : b + 1] if declared.batched else array
    lead = (slice(None),) if declared.batched else ()
    return own[(*lead, *(slice(0, extent) for extent in declared.dims))]
