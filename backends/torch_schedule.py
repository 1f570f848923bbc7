"""A plan, arranged for batched matrix products: tile rows with equally many tiles are computed together.

Everything here is small integer tables; saved modules carry this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from patternc.plan import FULL


@dataclass(frozen=True, eq=False)
class Bucket:
    """R tile rows of one axis with J tiles each on the other axis, of which the first `masked` need a mask: their
    multiplicities differ, or the sequence ends inside them."""

    rows: torch.Tensor
    """(R,): tile rows, ascending."""
    starts: torch.Tensor
    """(R, J): the first token of each tile, counted from the start of the other axis."""
    masked: int
    log_weights: torch.Tensor | None
    """(R, J): the logarithm of each full tile's multiplicity; None if all are 1."""


@dataclass(frozen=True, eq=False)
class Part:
    """Heads and batch rows that follow one schedule: `heads[u]` are the query heads that read key head `kv[u]`."""

    batch: tuple[int, ...]
    kv: tuple[int, ...]
    heads: tuple[tuple[int, ...], ...]
    by_query: tuple[Bucket, ...]
    by_key: tuple[Bucket, ...]

    @property
    def group(self) -> int:
        """Query heads per key head."""
        return len(self.heads[0])


@dataclass(frozen=True, eq=False)
class Schedule:
    """All parts of a plan, for one batch size."""

    n: int
    n_q: int
    tile_q: int
    tile_k: int
    parts: tuple[Part, ...]


def schedule(plan: Any, kv_heads: int, batch: int, device: torch.device) -> Schedule:
    """The schedule of a plan (see plan.py) on the device."""
    parts: list[Part] = []
    for launch in plan.launches:
        by_query = buckets(launch.by_query, plan.tile_k, plan.n, device)
        by_key = buckets(launch.by_key, plan.tile_q, plan.n_q, device)
        rows = tuple(range(batch)) if launch.batch is None else launch.batch
        groups = _by_key_head(launch.heads, plan.heads // kv_heads)
        parts += [Part(rows, kv, heads, by_query, by_key) for kv, heads in groups if rows]
    return Schedule(plan.n, plan.n_q, plan.tile_q, plan.tile_k, tuple(parts))


def _by_key_head(heads: Sequence[int], group: int) -> Iterator[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]]:
    """The query heads of a launch by the key head that they read; key heads that serve equally many come together."""
    readers: dict[int, list[int]] = {}
    for head in sorted(heads):
        readers.setdefault(head // group, []).append(head)
    for size in sorted({len(r) for r in readers.values()}):
        kv = tuple(u for u, r in readers.items() if len(r) == size)
        yield kv, tuple(tuple(readers[u]) for u in kv)


def buckets(runs: Any, tile: int, length: int, device: torch.device) -> tuple[Bucket, ...]:
    """The tile rows of `runs`, whose tiles of `tile` tokens lie on an axis of `length` tokens, by their counts."""
    row, start, masked, weight = _tiles(runs, tile, length)
    order = torch.argsort(row * 2 + ~masked, stable=True)
    row, start, masked, weight = row[order], start[order], masked[order], weight[order]
    rows = len(runs.rows) - 1
    count = torch.bincount(row, minlength=rows)
    partial = torch.bincount(row[masked], minlength=rows)
    first = count.cumsum(0) - count
    result = []
    for shape in torch.stack([count, partial], 1).unique(dim=0).tolist():
        if shape[0]:
            same = ((count == shape[0]) & (partial == shape[1])).nonzero().flatten()
            at = first[same, None] + torch.arange(shape[0])
            result.append(_bucket(same, start[at], shape[1], weight[at], device))
    return tuple(result)


def _bucket(
    rows: torch.Tensor, starts: torch.Tensor, masked: int, weights: torch.Tensor, device: torch.device
) -> Bucket:
    weights = weights.clone()
    weights[:, :masked] = 1  # a mask says all there is to say
    exact = torch.float32 if device.type == "mps" else torch.float64  # which mps does not have
    logs = weights.double().log().to(device, exact) if bool((weights != 1).any()) else None
    return Bucket(rows.to(device), starts.to(device), masked, logs)


def _tiles(runs: Any, tile: int, length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Row, first token, whether a mask is needed, and multiplicity of every tile: on the CPU."""
    rows, first, count, kind, weight = (
        torch.as_tensor(a).cpu().long() for a in (runs.rows, runs.first, runs.count, runs.kind, runs.weight)
    )
    row_of_run = torch.repeat_interleave(torch.arange(len(rows) - 1), rows.diff())
    run = torch.repeat_interleave(torch.arange(len(first)), count)
    offset = torch.arange(len(run)) - (count.cumsum(0) - count)[run]
    start = first[run] + offset * tile
    masked = (kind[run] != FULL) | (start + tile > length)
    return row_of_run[run], start, masked, weight[run]
