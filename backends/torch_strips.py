"""Tile rows that are computed alike, as strips: one batched product each.

The tiles of a row are split into strips where that lets tensors be read through views: neighbouring tiles of one lane
stand at equal distances, and so do the rows of a schedule that moves along with its row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from patternc.backends.torch_places import Affine, Picked, Places
from patternc.plan import FULL, Axis

MANY_FULL = 16
"""Full tiles of a row from which they are computed apart from partial ones. A mask that says nothing costs a
small part of a tile, a merge about as much as a tile."""
NOWHERE = 1 << 62
LONG = 2
"""Average length of a row's stretches of neighbouring tiles, in tile heights, from which each is a strip of its own: a
gathered key is copied, a further strip's outputs are merged."""


@dataclass(frozen=True, eq=False)
class Strip:
    """R rows, each with some queries and some keys, all of one term. `partial` and weights belong to the side along
    which several tiles stand: the keys if `by_query`, else the queries."""

    term: int
    queries: Places
    keys: Places
    by_query: bool
    tiles: int
    """Tiles of the plan in it."""
    rows: tuple[int, ...]
    """The tile rows."""
    partial: torch.Tensor | None
    """(slots,): which slots belong to partial tiles; None if none does."""
    log_weights: torch.Tensor | None
    """(slots,): logarithms of the full tiles' multiplicities; None if they are all `log_weight`."""
    log_weight: float

    @property
    def masked(self) -> bool:
        return self.partial is not None or self.log_weights is not None


@dataclass(frozen=True, eq=False)
class Side:
    """The tiles of an axis."""

    axis: Axis
    table: torch.Tensor
    """(tiles, tile): tokens, counted from the first of the tensor; -1 in slots without one. On the CPU."""
    home: torch.Tensor
    """The same on the device."""

    @cached_property
    def pattern(self) -> torch.Tensor:
        """(tiles,): equal where the same slots hold a token."""
        return (self.table >= 0).unique(dim=0, return_inverse=True)[1]

    @property
    def step(self) -> int | None:
        """The distance of neighbouring tokens of a tile, if it is always the same."""
        layout = self.axis.layout
        if self.axis.index is not None:
            return None
        if layout.width in (self.axis.tile, layout.stride):
            return 1
        return layout.stride if layout.width == 1 else None

    @property
    def even(self) -> bool:
        """Whether that is also the distance from one tile of a lane to the next."""
        return self.step is not None and self.axis.layout.width in (1, self.axis.layout.stride)

    @cached_property
    def first(self) -> torch.Tensor:
        """(tiles,): the first token of each tile; NOWHERE if it has none."""
        return torch.where(self.table >= 0, self.table, NOWHERE).amin(1)

    @cached_property
    def size(self) -> torch.Tensor:
        """(tiles,): how many tokens each tile holds."""
        return (self.table >= 0).sum(1)


def side_of(axis: Axis, device: torch.device) -> Side:
    """The tiles of an axis of the plan."""
    if axis.index is not None:
        axis = replace(axis, index=torch.as_tensor(axis.index).cpu().long())
    tokens = axis.tokens(torch.arange(axis.tiles)[:, None], torch.arange(axis.tile))
    table = torch.where(tokens == axis.stop, -1, tokens - axis.start)
    return Side(axis, table, table.to(device))


# ------------------------------------------------------------------ tiles, one by one


@dataclass(frozen=True, eq=False)
class _Tiles:
    """Tiles by strip row: `start[i]` up to `start[i] + count[i]` belong to strip row i of tile row `row[i]`."""

    row: torch.Tensor
    place: torch.Tensor
    """Which of its tile row's strip rows it is."""
    start: torch.Tensor
    count: torch.Tensor
    tile: torch.Tensor
    weight: torch.Tensor
    """A full tile's multiplicity; 0 of a partial one."""


def _listed(runs: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Row, number and weight of every tile, in order."""
    rows, first, count, kind, weight = (
        torch.as_tensor(a).cpu().long() for a in (runs.rows, runs.first, runs.count, runs.kind, runs.weight)
    )
    row_of_run = torch.repeat_interleave(torch.arange(len(rows) - 1), rows.diff())
    run = torch.repeat_interleave(torch.arange(len(first)), count)
    tile = first[run] + torch.arange(len(run)) - (count.cumsum(0) - count)[run]
    return row_of_run[run], tile, torch.where(kind == FULL, weight, 0)[run]


def _per(keys: torch.Tensor, values: torch.Tensor, size: int) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.int64).index_add_(0, keys, values.long())


def _strip_rows(runs: Any, down: Side, across: Side) -> _Tiles:
    """The tiles of each row, split into those of each strip."""
    row, tile, weight = _listed(runs)
    held = (down.first[row] < NOWHERE) & (across.first[tile] < NOWHERE)
    row, tile, weight = row[held], tile[held], weight[held]
    full = weight > 0
    rows = down.axis.tiles
    partials, fulls = _per(row, ~full, rows), _per(row, full, rows)
    apart = (partials == 0) | (fulls >= MANY_FULL)
    group = torch.where(full & apart[row], weight, 0)
    order = torch.argsort(tile, stable=True)
    for key in (group, row):
        order = order[torch.argsort(key[order], stable=True)]
    row, tile, weight, group = row[order], tile[order], weight[order], group[order]
    new = torch.ones_like(row, dtype=torch.bool)
    new[1:] = (row.diff() != 0) | (group.diff() != 0)
    gap = ~new
    gap[1:] &= (tile.diff() != 1) | ((tile // across.axis.per_lane).diff() != 0)
    gap &= torch.tensor(across.even)
    strip = new.cumsum(0) - 1
    size = int(new.sum())
    stretches = 1 + _per(strip, gap, size)
    length = _per(strip, torch.ones_like(strip), size) * across.axis.tile
    new |= gap & (length >= stretches * LONG * down.axis.tile)[strip]
    start = new.nonzero().flatten()
    count = torch.cat([start, torch.tensor([len(row)])]).diff()
    own = row[start]
    place = torch.arange(len(own)) - torch.searchsorted(own, own)
    return _Tiles(own, place, start, count, tile, weight)


# ------------------------------------------------------------------ rows that are alike


def strips(runs: Any, down: Side, across: Side, term: int, *, by_query: bool) -> tuple[Strip, ...]:
    """The strips of a term's tiles; rows are tiles of `down`, and runs walk over `across`."""
    t = _strip_rows(runs, down, across)
    made = [
        _strip(t, at, tiles, weight, down, across, term, by_query)
        for count in t.count.unique().tolist()
        for at, tiles, weight in _alike(t, (t.count == count).nonzero().flatten(), count, down, across)
    ]
    return tuple(sorted(made, key=lambda s: (s.rows[0], s.tiles)))


def _alike(
    t: _Tiles, at: torch.Tensor, count: int, down: Side, across: Side
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Groups of strip rows with `count` tiles each that make one strip: their numbers, tiles and weights (R, J)."""
    index = t.start[at][:, None] + torch.arange(count)
    tile, weight = t.tile[index], t.weight[index]
    pattern = across.pattern[tile]
    whole = _unbroken(tile, across)
    loose = ~whole  # in gathered rows tiles may stand in any order: those that are alike side by side
    key = weight * (int(across.pattern.max()) + 1) + pattern
    order = torch.argsort(torch.where(loose[:, None], key, 0), dim=1, stable=True)
    tile, weight, pattern = (a.gather(1, order) for a in (tile, weight, pattern))
    alike = torch.cat([whole[:, None], t.place[at][:, None], down.pattern[t.row[at]][:, None], pattern, weight], 1)
    _, group = alike.unique(dim=0, return_inverse=True)
    order = torch.argsort(group, stable=True)
    for members in order.split(torch.bincount(group).tolist()):
        steps = [down.first[t.row[at[members]]]] if down.step else []
        steps += [across.first[tile[members, 0]]] if bool(whole[members[0]]) else []
        for part in _evenly(members, steps):
            yield at[part], tile[part], weight[part]


def _unbroken(tile: torch.Tensor, across: Side) -> torch.Tensor:
    """(R,): whether the tokens of a row's tiles (R, J) stand at equal distances."""
    if tile.shape[1] == 1:
        return torch.full((len(tile),), across.step is not None)
    lane = tile // across.axis.per_lane
    return ((tile.diff(dim=1) == 1) & (lane.diff(dim=1) == 0)).all(1) & across.even


def _evenly(members: torch.Tensor, positions: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The members in stretches along which all positions go up in equal steps, in the better of two orders."""
    if not positions:
        return [members]
    orders = [torch.arange(len(members)), torch.argsort(positions[0], stable=True)]
    cuts = [_cuts([p[order] for p in positions]) for order in orders]
    best = min(range(2), key=lambda i: len(cuts[i]))
    return [members[orders[best]][a:b] for a, b in cuts[best]]


def _cuts(positions: Sequence[torch.Tensor]) -> list[tuple[int, int]]:
    steps = torch.stack([p.diff() for p in positions], 1).tolist()
    cuts, start, length = [], 0, len(positions[0])
    while start < length:
        stop = start + 1
        while stop < length and steps[stop - 1] == steps[start] and min(steps[start]) >= 0:
            stop += 1
        cuts.append((start, stop))
        start = stop
    return cuts


# ------------------------------------------------------------------ one strip


def _strip(
    t: _Tiles,
    at: torch.Tensor,
    tiles: torch.Tensor,
    weight: torch.Tensor,
    down: Side,
    across: Side,
    term: int,
    by_query: bool,
) -> Strip:
    rows = t.row[at]
    weights = weight[0]
    partial, levels = weights == 0, weights[weights > 0].unique()
    own, walked = _places(down, rows[:, None]), _places(across, tiles)
    if not bool(partial.any()):
        own, walked = _joined(own, walked)
    one = len(levels) == 1 and not bool(partial.any())
    of_slot = across.size[tiles[0]]
    logs = weights.clamp(min=1).double().log().repeat_interleave(of_slot)
    return Strip(
        term,
        *((own, walked) if by_query else (walked, own)),
        by_query,
        tiles=tiles.numel(),
        rows=tuple(rows.tolist()),
        partial=partial.repeat_interleave(of_slot) if bool(partial.any()) else None,
        log_weights=logs if not one and bool((levels > 1).any()) else None,
        log_weight=math.log(int(levels[0])) if one else 0.0,
    )


def _places(side: Side, tiles: torch.Tensor) -> Places:
    """The tokens of tiles (R, J), whose rows are alike and evenly spaced if the first is."""
    if side.step and bool(_unbroken(tiles[:1], side)[0]):
        start = side.first[tiles[:2, 0]].tolist()
        step = start[1] - start[0] if len(start) > 1 else 0
        return Affine(start[0], step, side.step, len(tiles), int(side.size[tiles[0]].sum()))
    home, kept = side.home.device, (side.table[tiles[0]].flatten() >= 0).nonzero().flatten()
    return Picked(side.home, tiles.to(home), kept.to(home))


def _joined(own: Places, walked: Places) -> tuple[Places, Places]:
    """Rows that walk over the same tokens, as one row if they lie one after the other."""
    match own, walked:
        case Affine(), Affine(row_step=0) if own.row_step == own.slots * own.slot_step:
            slots = own.rows * own.slots
            return replace(own, rows=1, slots=slots, row_step=0), replace(walked, rows=1)
    return own, walked


def scores(strip: Strip) -> int:
    """Pairs of slots of one head."""
    return math.prod((strip.queries.rows, strip.queries.slots, strip.keys.slots))
