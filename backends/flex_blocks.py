"""A BlockMask from a plan: its lists of tiles are made from the plan's runs, and no dense mask is ever made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask

from patternc.plan import CONSECUTIVE, FULL, Launch, Plan, Runs

BLOCK = 128
"""Queries and keys of a tile. FlexAttention's kernels want a multiple of their own tiles, of which 128 is the largest
that is always allowed."""
WHOLE_CELLS = 1 << 18
"""Lists of up to so many numbers are as wide as there are tiles in a row, so that PyTorch's own functions on a
BlockMask, such as `to_dense`, work; longer ones are as wide as the longest of them."""

_Tiles = tuple[torch.Tensor, torch.Tensor]
"""Row and number of tiles, row by row."""


def block_mask(
    plan: Plan, mask_mod: Callable[..., torch.Tensor], device: torch.device, *, batch: int, lists_full: bool
) -> BlockMask:
    """The BlockMask of a plan of consecutive tiles of BLOCK × BLOCK tokens.

    Its axes of batch rows and heads are 1 where all of them follow one schedule. As in PyTorch, tiles that the end of
    the sequence cuts count as partial. Full tiles are listed if there are any, or if `lists_full`.
    """
    assert plan.tile_q == plan.tile_k == BLOCK, "FlexAttention's tiles"
    kv_partial, kv_full = _lists(plan, device, batch, by_query=True)
    q_partial, q_full = _lists(plan, device, batch, by_query=False)
    if not lists_full and not bool(kv_full[0].any()):
        kv_full = q_full = (None, None)
    return BlockMask(
        seq_lengths=(plan.n_q, plan.n),
        kv_num_blocks=kv_partial[0],
        kv_indices=kv_partial[1],
        full_kv_num_blocks=kv_full[0],
        full_kv_indices=kv_full[1],
        q_num_blocks=q_partial[0],
        q_indices=q_partial[1],
        full_q_num_blocks=q_full[0],
        full_q_indices=q_full[1],
        BLOCK_SIZE=(BLOCK, BLOCK),
        mask_mod=mask_mod,
    )


def _lists(plan: Plan, device: torch.device, batch: int, *, by_query: bool) -> tuple[Any, Any]:
    """For partial and for full tiles, the counts (B, H, rows) and the numbers (B, H, rows, width), as int32."""
    found = [(launch, _tiles(plan, launch, by_query)) for launch in plan.launches]
    rows, columns = (-(-length // BLOCK) for length in ((plan.n_q, plan.n) if by_query else (plan.n, plan.n_q)))
    axes = (
        1 if all(launch.batch is None for launch in plan.launches) else batch,
        1 if all(len(launch.heads) == plan.heads for launch in plan.launches) else plan.heads,
    )
    results = []
    for full in (False, True):
        parts = [(launch, (row[full == kind], tile[full == kind])) for launch, (row, tile, kind) in found]
        counts = [torch.bincount(row, minlength=rows) for _, (row, _) in parts]
        most = max((int(count.max()) for count in counts), default=0)
        width = columns if axes[0] * axes[1] * rows * columns <= WHOLE_CELLS else max(1, most)
        number = torch.zeros((*axes, rows), dtype=torch.int32, device=device)
        index = torch.zeros((*axes, rows, width), dtype=torch.int32, device=device)
        for (launch, tiles), count in zip(parts, counts, strict=True):
            b = list(range(axes[0])) if launch.batch is None else list(launch.batch)
            h = list(launch.heads) if axes[1] > 1 else [0]
            where = torch.tensor(b, device=device)[:, None], torch.tensor(h, device=device)
            number[where] = count.to(device, torch.int32)
            index[where] = _table(tiles, count, width).to(device)
        results.append((number, index))
    return results[0], results[1]


def _table(tiles: _Tiles, count: torch.Tensor, width: int) -> torch.Tensor:
    """(rows, width): the tiles of each row, then zeros."""
    row, tile = tiles
    place = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    table = torch.zeros((len(count), width), dtype=torch.int32, device=row.device)
    table[row, place] = tile.to(torch.int32)
    return table


def _tiles(plan: Plan, launch: Launch, by_query: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Row, number and whether it is full, of the tiles of a launch, row by row and ascending."""
    (term,) = launch.terms
    assert launch.queries.layout == term.keys.layout == CONSECUTIVE, "FlexAttention's tiles are consecutive tokens"
    runs: Runs = term.by_query if by_query else term.by_key
    starts, first, count, kind = (torch.as_tensor(a).long() for a in (runs.rows, runs.first, runs.count, runs.kind))
    run = torch.repeat_interleave(count)
    row_of_run = torch.repeat_interleave(starts.diff())
    row = row_of_run[run]
    tile = first[run] + torch.arange(len(run), device=run.device) - (count.cumsum(0) - count)[run]
    down, across = (plan.n_q, plan.n) if by_query else (plan.n, plan.n_q)
    whole = ((row + 1) * BLOCK <= down) & ((tile + 1) * BLOCK <= across)
    return row, tile, (kind[run] == FULL) & whole
