"""The tables that kernels read, made from a plan: int32 tensors on its device, row by row as named in triton_parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from patternc.backends.triton_parts import FOLLOWER_COLUMNS, ITEM_COLUMNS
from patternc.plan import FULL, Axis, Runs, Work

ENDING = 2
"""Lines after the last run, for loops read the next run ahead."""
LONG = 2
"""Times the mean tiles of an item, for those that start early."""


@dataclass(frozen=True, eq=False)
class Tables:
    """The work of one grid: `programs` programs, `per_follower` for each row of `followers`."""

    followers: torch.Tensor
    """(followers, 8): head, batch row, launch, first item, items, first member, one past the last member, first
    piece."""
    items: torch.Tensor
    """(items, 9): first token of the row's tile; first run, number of tiles, first token, tiles left in the first run,
    its code, first slot in 16s; how many of the tiles, the last ones, are full tiles of the main term; and the number
    of the piece, counted from the follower's first, or -1 for a whole row. Of a merge: first token, first piece,
    pieces."""
    runs: torch.Tensor
    """(runs + 2, 5): first token of the first tile, number of tiles, 2 · term + partial, bits of log₂ multiplicity,
    first slot in 16s."""
    launches: torch.Tensor
    """(launches, columns): the launches' numbers."""
    roles: torch.Tensor
    """(launches, n) int8: what each launch does for the token at each position; see triton_chain."""
    index: torch.Tensor
    """The lists of all listed axes, one after the other."""
    members: torch.Tensor
    """Query heads, by key head: of grids over keys."""
    per_follower: int
    tiles: float = 0.0
    """Of an item, on average."""
    early: int = 0
    """So many items of each follower start before all others."""
    numbers: tuple[tuple[int, ...], ...] = ()
    """The launches' numbers once more."""
    pieces: int = 0
    """Of all followers together."""
    merge: Tables | None = None
    """The rows that are cut, if there are any; there always is one in grids with turns, maybe without programs."""
    turns: torch.Tensor | None = None
    """(launches · queries, 3), where each query of a call has its programs: of the row that holds it, the number of the
    first item, how many items, and the last query before it that the row holds too, or -1. Queries are the last ones of
    the schedule's. See triton_few."""
    longest: int = 0
    """The items of the longest row, in grids with turns."""
    beside: int = 1
    """So many query heads of a key head, rounded up to a power of two, lie side by side in a tile, in grids with turns;
    followers are then the first ones."""

    @property
    def programs(self) -> int:
        return len(self.followers) * self.per_follower


@dataclass(frozen=True, eq=False)
class Rows:
    """The work of one launch: the columns of items and runs, with runs counted from 0."""

    items: torch.Tensor
    """The heaviest first."""
    cost: torch.Tensor
    """(items,): their tiles."""
    runs: torch.Tensor
    cuts: torch.Tensor
    """(cut rows, 9): the items of the merge."""
    pieces: int


def as_long(array: Any, device: torch.device) -> torch.Tensor:
    return torch.as_tensor(array, device=device).long()


def first_token(axis: Axis, tile: torch.Tensor) -> torch.Tensor:
    """The token in the first slot of each tile, were the axis unbounded; of a listed axis, the place of the slot in the
    list."""
    if axis.index is not None:
        return tile * axis.tile
    line = axis.first_line + tile % axis.per_lane * axis.depth
    return line * axis.layout.stride + tile // axis.per_lane * axis.layout.width


def _ragged(axis: Axis, tile: torch.Tensor) -> torch.Tensor:
    """Whether some slots of the tile hold no token."""
    if axis.index is not None:
        return as_long(axis.index, tile.device)[tile * axis.tile + axis.tile - 1] >= axis.stop
    stride, width = axis.layout.stride, axis.layout.width
    first = first_token(axis, tile)
    last = first + (axis.depth - 1) * stride + width - 1
    return (first < axis.start) | (last >= axis.stop) | _narrow(axis, tile)


def _narrow(axis: Axis, tile: torch.Tensor) -> torch.Tensor:
    """Whether the tile's lane has fewer columns than its width."""
    return (tile // axis.per_lane + 1) * axis.layout.width > axis.layout.stride


def _term_runs(runs: Runs, axis: Axis, term: int, device: torch.device) -> torch.Tensor:
    """(runs, 6): row, first token, tiles, code, log₂ multiplicity and first slot in 16s. The ends of full runs that
    slots without a token make ragged become partial runs."""
    rows, first, count, kind, weight = (
        as_long(a, device) for a in (runs.rows, runs.first, runs.count, runs.kind, runs.weight)
    )
    row = torch.repeat_interleave(torch.arange(len(rows) - 1, device=device), rows.diff())
    full = (kind == FULL) & ~_narrow(axis, first) if axis.index is None else kind == FULL
    head = (full & _ragged(axis, first)).long()
    tail = (full & _ragged(axis, first + count - 1)).long() * (count > head)
    counts = torch.stack([head, count - head - tail, tail], 1)
    firsts = first[:, None] + counts.cumsum(1) - counts
    partial = torch.stack([torch.ones_like(full), ~full, torch.ones_like(full)], 1)
    weights = torch.where(partial, 0.0, weight.clamp(min=1)[:, None].float().log2())
    bits = weights.float().view(torch.int32).long()
    table = torch.stack(
        [
            row[:, None].expand_as(counts),
            first_token(axis, firsts),
            counts,
            2 * term + partial.long(),
            bits,
            firsts * axis.tile // 16,
        ],
        2,
    )
    return table[counts > 0]


def rows_of(
    sides: Sequence[tuple[int, Runs, Axis]], row_axis: Axis, work: Work | None, main: int | None,
    used: torch.Tensor | None, device: torch.device,
) -> Rows:  # fmt: skip
    """The work of a launch whose tile rows lie on `row_axis`: `sides` are terms with their runs and the axis that these
    walk over. Full tiles of the `main` term come last in each row; rows that are not `used` are left out."""
    table = torch.cat([_term_runs(runs, axis, term, device) for term, runs, axis in sides])
    last = torch.zeros_like(table[:, 0]) if main is None else (table[:, 3] == 2 * main).long()
    order = torch.argsort(2 * table[:, 0] + last, stable=True)
    table, last = table[order], last[order]
    steps = torch.tensor([[tile_step(axis), axis.tile // 16] for _, _, axis in sides], device=device)
    number = len(sides[0][1].rows) - 1
    items, row, start, cost = _items(table, last, steps[table[:, 3] // 2 - sides[0][0]], number, work, device)
    items[:, 0] = first_token(row_axis, row)
    cuts, pieces = items[:0], 0
    if work is not None:
        cuts, pieces = _pieces(items, row, start, number)
    order = torch.argsort(cost, descending=True, stable=True)
    if used is not None:
        order = order[used[row[order]]]
    return Rows(items[order], cost[order], table[:, 1:], cuts, pieces)


def tile_step(axis: Axis) -> int:
    """The distance between the first tokens of neighbouring tiles."""
    return axis.tile if axis.index is not None else axis.depth * axis.layout.stride


def _pieces(items: torch.Tensor, row: torch.Tensor, start: torch.Tensor, rows: int) -> tuple[torch.Tensor, int]:
    """Number the items that are parts of rows, row by row in order of `start`; the merge's items, and how many pieces
    there are."""
    counts = torch.bincount(row, minlength=rows)
    order = torch.argsort(start, stable=True)
    order = order[torch.argsort(row[order], stable=True)]
    order = order[counts[row[order]] > 1]
    items[order, -1] = torch.arange(len(order), device=row.device)
    first = order[start[order] == 0]
    cuts = items.new_zeros(len(first), ITEM_COLUMNS)
    cuts[:, 0], cuts[:, 1], cuts[:, 2] = items[first, 0], items[first, -1], counts[row[first]]
    return cuts, len(order)


def _items(
    table: torch.Tensor, last: torch.Tensor, step: torch.Tensor, rows: int, work: Work | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The columns of items but for the rows' tokens and the numbers of pieces; and of each item its row, the first of
    the row's tiles that belongs to it, and how many do. `last` says which runs come last in their rows."""
    count = table[:, 2]
    none = torch.zeros(rows, dtype=torch.long, device=device)
    of_row, of_last = (none.index_add(0, table[:, 0], tiles) for tiles in (count, count * last))
    if work is None:
        row, start, stop = torch.arange(rows, device=device), none, of_row
    else:
        row, start, stop = (as_long(a, device) for a in (work.row, work.start, work.stop))
    items = row.new_zeros(len(row), ITEM_COLUMNS)
    items[:, -1] = -1
    if len(table):
        ends = count.cumsum(0)
        place = (of_row.cumsum(0) - of_row)[row] + start
        run = torch.searchsorted(ends, place, right=True).clamp(max=len(table) - 1)
        skip = place - (ends - count)[run]
        first = table[run][:, [1, 5]] + skip[:, None] * step[run]
        main = torch.minimum(stop - start, (stop - (of_row - of_last)[row]).clamp(min=0))
        columns = [run, stop - start, first[:, 0], count[run] - skip, table[run, 3], first[:, 1], main]
        items[:, 1:8] = torch.stack(columns, 1)
    return items, row, start, stop - start


def tables(
    rows: Sequence[Rows],
    followers: Sequence[tuple[int, int, int, tuple[int, ...]]],
    launches: Sequence[Sequence[int]],
    roles: Sequence[torch.Tensor],
    index: Sequence[torch.Tensor],
    device: torch.device,
) -> Tables:
    """The tables of a grid. `rows[i]`, `launches[i]` and, if there are any, `roles[i]` belong to its launch i;
    followers are (head, batch row, launch, members)."""
    run_shift = 0
    items, runs = [], []
    for part in rows:
        shifted = part.items.clone()
        shifted[:, 1] += run_shift
        items.append(shifted)
        runs.append(part.runs)
        run_shift += len(part.runs)
    members = [head for _, _, _, heads in followers for head in heads]
    small: dict[str, Any] = {"dtype": torch.int32, "device": device}
    ending = torch.zeros(ENDING, 5, dtype=torch.long, device=device)
    shared = (
        torch.cat([*runs, ending]).int(),
        torch.tensor(launches, **small).reshape(len(launches), -1),
        torch.stack(list(roles)) if roles else torch.zeros(1, dtype=torch.int8, device=device),
        torch.cat([i.to(device).int() for i in index]) if index else torch.zeros(1, **small),
        torch.tensor(members or [0], **small),
    )
    pieces = sum(rows[launch].pieces for _, _, launch, _ in followers)
    numbers = tuple(tuple(line) for line in launches)
    merge = _grid(rows, [part.cuts for part in rows], followers, shared, numbers, 0, None) if pieces else None
    cost = [(int(part.cost.sum()), len(part.cost)) for part in rows]
    tiles, count = (sum(cost[launch][i] for _, _, launch, _ in followers) for i in (0, 1))
    mean = tiles / max(1, count)
    # The last follower's long items would run on when all else is done, were they started in their turn.
    early = max(int((part.cost > LONG * mean).sum()) for part in rows) if len(followers) > 1 else 0
    return replace(_grid(rows, items, followers, shared, numbers, pieces, merge), tiles=mean, early=early)


def arrangement(axes: Sequence[Axis], followers: Sequence[tuple[int, int, int]], made: Tables) -> Tables:
    """A grid over all tiles of queries of the followers (head, batch row, launch): items are first token and first slot
    in 16s."""
    device = made.items.device
    items = []
    for axis in axes:
        tile = torch.arange(axis.tiles, device=device)
        table = tile.new_zeros(axis.tiles, ITEM_COLUMNS)
        table[:, 0], table[:, 1] = first_token(axis, tile), tile * axis.tile // 16
        items.append(table)
    ends = torch.tensor([0, *map(len, items)]).cumsum(0).tolist()
    lines = [[h, b, la, ends[la], len(items[la]), 0, 0, 0] for h, b, la in followers]
    table = torch.tensor(lines, dtype=torch.int32, device=device)
    return replace(made, followers=table, items=torch.cat(items).int(), per_follower=max(map(len, items)), early=0)


_Shared = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""Runs, launches, roles, index and members."""


def _grid(
    rows: Sequence[Rows], items: Sequence[torch.Tensor], followers: Sequence[tuple[int, int, int, tuple[int, ...]]],
    shared: _Shared, numbers: tuple[tuple[int, ...], ...], pieces: int, merge: Tables | None,
) -> Tables:  # fmt: skip
    """A grid over these items, or over the merges of their pieces."""
    ends = torch.tensor([0, *map(len, items)]).cumsum(0).tolist()
    lines, member, piece = [], 0, 0
    for head, batch, launch, heads in followers:
        lines.append([head, batch, launch, ends[launch], len(items[launch]), member, member + len(heads), piece])
        member += len(heads)
        piece += rows[launch].pieces
    assert all(len(line) == FOLLOWER_COLUMNS for line in lines)
    table = torch.tensor(lines, dtype=torch.int32, device=items[0].device)
    return Tables(table, torch.cat(list(items)).int(), *shared, max(map(len, items)), 0.0, 0, numbers, pieces, merge)
