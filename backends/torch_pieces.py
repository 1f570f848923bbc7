"""How the work of a bucket is cut into pieces that fit a budget, and how their inputs are gathered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from patternc.backends.torch_schedule import Bucket, Part, Schedule

BUDGET = {"cpu": 1 << 20, "cuda": 1 << 24}
"""Scores that one piece computes, at most, by device type; on a CPU they should stay within the caches."""
OTHER_BUDGET = 1 << 22


@dataclass(frozen=True)
class Piece:
    """Tile rows `rows` of a bucket, for some of a part's batch rows and key heads."""

    batch: slice
    kv: slice
    rows: slice
    columns: tuple[slice, ...]
    """Tiles of each row, in as many turns as the budget demands."""


def pieces(part: Part, bucket: Bucket, cells: int, budget: int) -> Iterator[tuple[slice, list[Piece]]]:
    """The pieces of a bucket by its rows, where one tile of one query head has `cells` scores.

    All of a row's tiles are computed at once if they fit; heads and batch rows come together as far as they do.
    """
    row_count, tile_count = bucket.starts.shape
    one = cells * part.group
    across = min(tile_count, max(1, budget // one))
    columns = tuple(_cuts(tile_count, across))
    streams = max(1, budget // (one * across))
    kv_step = min(len(part.kv), streams)
    batch_step = min(len(part.batch), max(1, streams // kv_step))
    row_step = max(1, budget // (one * across * kv_step * batch_step))
    for rows in _cuts(row_count, row_step):
        yield (
            rows,
            [
                Piece(batch, kv, rows, columns)
                for batch in _cuts(len(part.batch), batch_step)
                for kv in _cuts(len(part.kv), kv_step)
            ],
        )


def _cuts(length: int, step: int) -> Iterator[slice]:
    """0 … length in slices of at most `step`, about equally long."""
    step = -(-length // -(-length // step))
    return (slice(i, min(i + step, length)) for i in range(0, length, step))


def chosen(t: torch.Tensor, dim: int, indices: Sequence[int]) -> torch.Tensor:
    """The given indices along an axis: a view if they are equally spaced."""
    step = indices[1] - indices[0] if len(indices) > 1 else 1
    if step > 0 and all(b - a == step for a, b in pairwise(indices)):
        return t[(slice(None),) * dim + (slice(indices[0], indices[-1] + 1, step),)]
    return t.index_select(dim, torch.tensor(indices, device=t.device))


def tokens(starts: torch.Tensor, tile: int, length: int) -> torch.Tensor:
    """(R, J) first tokens -> (R · J · tile,) tokens; those beyond the end are the last one."""
    grid = starts[..., None] + torch.arange(tile, device=starts.device)
    return grid.clamp(max=length - 1).flatten()


@dataclass(frozen=True, eq=False)
class Gather:
    """Tiles of the tensors of one piece, in the dtype of the computation.

    Results are (Z, ·, D) with Z = batch rows × key heads × tile rows, and a query side has its group of heads
    one after the other: (Z, group · tokens, D).
    """

    schedule: Schedule
    part: Part
    piece: Piece
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        """Batch rows, key heads, tile rows."""
        rows = self.piece.rows
        return len(self.batch), len(self.kv), rows.stop - rows.start

    @property
    def batch(self) -> Sequence[int]:
        return self.part.batch[self.piece.batch]

    @property
    def kv(self) -> Sequence[int]:
        return self.part.kv[self.piece.kv]

    @property
    def heads(self) -> list[int]:
        return [h for group in self.part.heads[self.piece.kv] for h in group]

    def keys(self, t: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Of t (B, H_kv, N, D) the tokens `at`, R times equally many: (Z, tokens, D)."""
        b, u, r = self.shape
        found = chosen(chosen(t, 0, self.batch), 1, self.kv).index_select(2, at)
        return found.to(self.dtype).reshape(b * u * r, -1, t.shape[3])

    def queries(self, t: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Of t (B, H, N_q, D) the tokens `at`, R times equally many: (Z, group · tokens, D)."""
        b, u, r = self.shape
        found = chosen(chosen(t, 0, self.batch), 1, self.heads).index_select(2, at).to(self.dtype)
        found = found.view(b, u, self.part.group, r, -1, t.shape[3]).transpose(2, 3)
        return found.reshape(b * u * r, -1, t.shape[3])

    def store_queries(self, t: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> None:
        """Write (Z, group · tile, …) into tile rows of t (B, H, T, tile, …)."""
        b, u, r = self.shape
        tile = t.shape[3:]
        values = values.view(b, u, r, self.part.group, *tile).transpose(2, 3).reshape(b, -1, r, *tile)
        t[self._at(self.heads, rows)] = values.to(t.dtype)

    def add_keys(self, t: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> None:
        """Add (Z, tile, D) to tile rows of t (B, H_kv, T, tile, D); the rows are distinct."""
        b, u, r = self.shape
        at = self._at(self.kv, rows)
        t[at] = t[at] + values.view(b, u, r, *t.shape[3:])

    def _at(self, heads: Sequence[int], rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        batch = torch.tensor(self.batch, device=rows.device)
        return batch[:, None, None], torch.tensor(heads, device=rows.device)[:, None], rows
