"""Multiplicities inside the tiles that need a mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from patternc.backends.torch_schedule import Bucket, Part, Schedule

CELLS_AT_ONCE = 1 << 20
"""Cells in one evaluation of the pattern; its temporaries are 64-bit integers."""
KEPT_BYTES = 1 << 26
"""Masks of a schedule that is used again are kept up to this size, all of them together."""

CellValues = Callable[[torch.Tensor, torch.Tensor, int, int], torch.Tensor]
"""(query positions, key positions, head, batch row) -> M, integers of the broadcast shape of the positions."""


@dataclass(frozen=True, eq=False)
class Mask:
    """What may be read within the masked tiles of R tile rows: (B', U', R, G, rows, columns), where an axis of batch
    rows, key heads or query heads per key head is 1 if all of them read the same."""

    dead: torch.Tensor
    """Cells that nobody reads."""
    dead_columns: torch.Tensor
    """(B', U', R, G, 1, columns): columns that no row of the tile reads."""
    log_m: torch.Tensor | None
    """The logarithm of M, in the dtype of the computation, 0 on dead cells; None if M is 0 or 1."""

    def part(self, batch: slice, kv: slice, columns: slice) -> Mask:
        """The same for some batch rows, key heads and columns."""

        def cut(t: torch.Tensor) -> torch.Tensor:
            return t[batch if t.shape[0] > 1 else slice(None), kv if t.shape[1] > 1 else slice(None), ..., columns]

        return Mask(cut(self.dead), cut(self.dead_columns), None if self.log_m is None else cut(self.log_m))


@dataclass(eq=False)
class Masks:
    """The masks of one schedule. `head_class[h]` and `batch_class[b]` are equal for heads and batch rows on which the
    pattern is the same; `bag` says that M may exceed 1."""

    multiplicity: CellValues
    head_class: Sequence[int]
    batch_class: Sequence[int]
    bag: bool
    keep: bool
    """Whether the schedule is used again."""
    home: torch.device
    """Where multiplicities are evaluated."""
    _kept: dict[tuple[Any, ...], Mask] = field(default_factory=dict)
    _kept_bytes: int = 0

    def of(self, s: Schedule, part: Part, bucket: Bucket, rows: slice, by_query: bool, dtype: torch.dtype) -> Mask:
        """The mask of some rows of a bucket; the rows are queries if `by_query`, else keys."""
        key = (id(part), id(bucket), rows.start, rows.stop, dtype if self.bag else None)
        if key in self._kept:
            return self._kept[key]
        mask = self._evaluate(s, part, bucket, rows, by_query, dtype)
        size = mask.dead.nbytes + (0 if mask.log_m is None else mask.log_m.nbytes)
        if self.keep and self._kept_bytes + size <= KEPT_BYTES:
            self._kept[key] = mask
            self._kept_bytes += size
        return mask

    def _evaluate(
        self, s: Schedule, part: Part, bucket: Bucket, rows: slice, by_query: bool, dtype: torch.dtype
    ) -> Mask:
        inner, outer = (s.tile_q, s.tile_k) if by_query else (s.tile_k, s.tile_q)
        down = _positions(bucket.rows[rows, None].to(self.home) * inner, inner)
        across = _positions(bucket.starts[rows, : bucket.masked].to(self.home), outer)
        step = max(1, CELLS_AT_ONCE // (inner * across.shape[1]))
        pieces = [
            self._cells(s, part, down[i : i + step, :, None], across[i : i + step, None, :], by_query)
            for i in range(0, len(down), step)
        ]
        m = torch.cat(pieces, 2) if len(pieces) > 1 else pieces[0]
        m = m.to(bucket.rows.device)
        dead = m == 0
        log_m = m.clamp(min=1).to(dtype).log() if self.bag else None
        return Mask(dead, dead.all(dim=4, keepdim=True), log_m)

    def _cells(self, s: Schedule, part: Part, down: torch.Tensor, across: torch.Tensor, by_query: bool) -> torch.Tensor:
        """M of cells by batch row and head, 0 outside the sequence: bool, or int64 of a bag."""
        q, k = (down, across) if by_query else (across, down)
        inside = (q < s.n_q) & (k < s.n)
        q, k = q.clamp(max=s.n_q - 1) + (s.n - s.n_q), k.clamp(max=s.n - 1)
        known: dict[tuple[int, int], torch.Tensor] = {}

        def cells(b: int, h: int) -> torch.Tensor:
            at = (self.batch_class[b], self.head_class[h])
            if at not in known:
                m = self.multiplicity(q, k, h, b)
                known[at] = m * inside if self.bag else (m > 0) & inside
            return known[at]

        batch, heads = self._distinct(part)
        return torch.stack(
            [torch.stack([torch.stack([cells(b, h) for h in group], 1) for group in heads]) for b in batch]
        )

    def _distinct(self, part: Part) -> tuple[Sequence[int], Sequence[Sequence[int]]]:
        """The batch rows and heads to evaluate: one, where all are of one class."""
        batch = part.batch[:1] if len({self.batch_class[b] for b in part.batch}) == 1 else part.batch
        groups = [tuple(self.head_class[h] for h in group) for group in part.heads]
        heads = part.heads[:1] if len(set(groups)) == 1 else part.heads
        if all(len(set(group)) == 1 for group in groups):
            heads = tuple(group[:1] for group in heads)
        return batch, heads


def _positions(starts: torch.Tensor, tile: int) -> torch.Tensor:
    """(R, J) first tokens -> (R, J · tile) tokens."""
    return (starts[:, :, None] + torch.arange(tile, device=starts.device)).flatten(1)
