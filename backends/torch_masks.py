"""What is added to the scores of strips that need a mask: log M, and -inf where M is 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from patternc.backends.torch_places import Places
from patternc.backends.torch_schedule import Part
from patternc.backends.torch_strips import Strip

CELLS_AT_ONCE = 1 << 20
"""Cells in one evaluation of the pattern; its temporaries are 64-bit integers."""
KEPT_BYTES = 1 << 26
"""Masks of a schedule that is used again are kept up to this size, all of them together."""

CellValues = Callable[[int, torch.Tensor, torch.Tensor, int, int], torch.Tensor]
"""(term, query positions, key positions, head, batch row) -> M of the term, integers of the broadcast shape."""


@dataclass(frozen=True, eq=False)
class Mask:
    """`bias` (1, R, queries, keys), where R is 1 if all rows have the same; `empty` (1, R, queries) says which queries
    read nothing, None if each reads something."""

    bias: torch.Tensor
    empty: torch.Tensor | None

    def cut(self, queries: slice, keys: slice) -> Mask:
        """The same for some queries and keys."""
        bias = self.bias[:, :, queries, keys]
        return self if bias.shape == self.bias.shape else _mask(bias)


def _mask(bias: torch.Tensor) -> Mask:
    empty = bias.amax(3) == -torch.inf
    return Mask(bias, empty if bool(empty.any()) else None)


@dataclass(eq=False)
class Masks:
    """The masks of one schedule."""

    multiplicity: CellValues
    keep: bool
    """Whether the schedule is used again."""
    home: torch.device
    """Where multiplicities are evaluated."""
    first: int
    """The position of the first query."""
    _kept: dict[tuple[Any, ...], Mask] = field(default_factory=dict)
    _last: dict[tuple[int, int], Mask] = field(default_factory=dict)
    _kept_bytes: int = 0

    def of(self, part: Part, strip: Strip, rows: slice, dtype: torch.dtype, device: torch.device) -> Mask:
        """The mask of some rows of a strip that needs one."""
        key = (id(part), id(strip), rows.start, rows.stop, dtype)
        if key in self._kept:
            return self._kept[key]
        mask = _mask(self.evaluate(part, strip, rows, dtype).to(device))
        if self.keep:
            mask = self._keep(key, mask)
        return mask

    def _keep(self, key: tuple[Any, ...], mask: Mask) -> Mask:
        """Keeps a mask while there is room; that of the rows before it in its place, if they are equal."""
        last = self._last.get(key[:2])
        if last is not None and last.bias.dtype == mask.bias.dtype and torch.equal(last.bias, mask.bias):
            self._kept[key] = last
            return last
        if self._kept_bytes + mask.bias.nbytes <= KEPT_BYTES:
            self._kept[key] = self._last[key[:2]] = mask
            self._kept_bytes += mask.bias.nbytes
        return mask

    def evaluate(self, part: Part, strip: Strip, rows: slice, dtype: torch.dtype) -> torch.Tensor:
        """(1, R, queries, keys)"""
        slots = strip.queries.slots * strip.keys.slots
        step = max(1, CELLS_AT_ONCE // slots)
        pieces: list[torch.Tensor] = []
        for start in range(rows.start, rows.stop, step):
            some = slice(start, min(start + step, rows.stop))
            piece = self._cells(part, strip, some, dtype)
            if bool((piece == piece[:1]).all()):
                piece = piece[:1]
            pieces.append(piece if len(piece) > 1 else piece.expand(some.stop - some.start, -1, -1))
        if all(torch.equal(p[0], pieces[0][0]) and p.stride(0) == 0 for p in pieces):
            return pieces[0][None, :1]
        return torch.cat(pieces)[None]

    def _cells(self, part: Part, strip: Strip, rows: slice, dtype: torch.dtype) -> torch.Tensor:
        """(R, queries, keys): the logarithms of M."""
        q = _tokens(strip.queries, rows, self.home)[:, :, None] + self.first
        k = _tokens(strip.keys, rows, self.home)[:, None, :]
        along = 2 if strip.by_query else 1
        result = torch.zeros(rows.stop - rows.start, q.shape[1], k.shape[2], dtype=dtype, device=self.home)
        if strip.log_weights is not None:
            logs = strip.log_weights.to(self.home, dtype)
            result += logs[:, None] if along == 1 else logs
        if strip.partial is not None:
            at = strip.partial.nonzero().flatten().to(self.home)
            q, k = (q, k.index_select(2, at)) if along == 2 else (q.index_select(1, at), k)
            m = self.multiplicity(strip.term, q, k, part.head, part.row)
            result.index_copy_(along, at, m.to(dtype).log())
        return result


def _tokens(places: Places, rows: slice, device: torch.device) -> torch.Tensor:
    return places.cut(rows, slice(0, places.slots)).tokens(device)
