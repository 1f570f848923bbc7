"""A few queries at the end of many positions, as decoding has them: one plan serves a stretch of successive lengths.

That needs a *steady* program: the pairs that it keeps do not hang on the length. It is planned for the longest length
of its stretch, with the last queries of all its lengths. A call computes its own ones: each of its queries starts as
many programs as the longest row has pieces, and finds in a table, the *turns*, which items of work make up its row.
Masks leave out the keys that a call does not have, so where a tile may hold such keys it is partial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from patternc.backends.torch_arrays import TorchArrays
from patternc.backends.triton_chain import row_of
from patternc.backends.triton_launch import apart
from patternc.backends.triton_mask_tables import MOST_KEYS
from patternc.backends.triton_parts import TURN_COLUMNS
from patternc.backends.triton_plans import AT_ONCE, Bound, Masks, Ready, grids, moved, processors
from patternc.backends.triton_schedule import Step
from patternc.backends.triton_tables import Tables, as_long, first_token
from patternc.passes.balance import LEAST_PIECE, followers, row_costs, stages
from patternc.passes.merge import merge
from patternc.passes.tiles import tiles
from patternc.plan import FULL, PARTIAL, Axis, Launch, Plan, Runs, TermTiles, Work

FEW_QUERIES = 16
"""Up to so many queries of more positions are computed by such plans."""
LEAST, MOST = 128, 1024
"""Lengths of a stretch. A plan for more takes about as long; but short sequences would be planned for many keys that
they do not have."""
SMALL, SMALL_AT_ONCE = 16, 3
"""Slots of the tiles of queries where they hold all of a call's, and programs of such tiles that an H200's processor
runs at a time: they wait for memory, and three have more of it on the way than one or two with larger tiles."""
_HOST = torch.device("cpu")


def stretch_of(n: int) -> int:
    """How many lengths the stretch of a length has, an eighth of the next power of two: it ends at a multiple."""
    return min(MOST, max(LEAST, (1 << (n - 1).bit_length()) // 8))


def longest_of(n: int) -> int:
    """The longest length of the stretch of a length."""
    stretch = stretch_of(n)
    return -(-n // stretch) * stretch


def suits(n: int, n_q: int) -> bool:
    """Whether a call of a steady program is one of a few queries."""
    return n_q <= FEW_QUERIES and n_q < n and longest_of(n) <= MOST_KEYS


def few_ready(
    masks: Masks, *, n: int, n_q: int, batch: int, kv_heads: int, device: torch.device, tile: tuple[int, int],
    title: str = "",
) -> Ready:  # fmt: skip
    """The grids by which calls of n_q queries at all lengths of the stretch up to n are computed, forward alone. The
    schedule's n and n_q are those of the stretch; its tiles of queries may be smaller than asked for. ValueError as
    `triton_plans.ready`."""
    return apart(lambda: _few_ready(masks, n, n_q, batch, kv_heads, device, tile, title), device)


def _few_ready(
    masks: Masks, n: int, n_q: int, batch: int, kv_heads: int, device: torch.device, tile: tuple[int, int], title: str
) -> Ready:
    xp = TorchArrays(_HOST)
    stretch = stretch_of(n)
    meanings = masks.meanings(n, min(n, stretch - 1 + n_q), {}, xp)
    calls = _Calls(n_q, meanings.heads // kv_heads, batch, tile[0])
    plan = _forward_only(merge(tiles(meanings, calls.tile_q, tile[1]), xp), n - stretch)
    bound = Bound(masks, meanings, batch, {}, _HOST)
    plan = _cut(bound.completed(plan), calls, SMALL_AT_ONCE * processors(device) // AT_ONCE, xp)
    made = grids(bound, plan, kv_heads=kv_heads, batch=batch, device=_HOST, title=title)
    steps = tuple(_by_turns(step, plan, calls) for step in made.schedule.by_query)
    return replace(made, schedule=moved(replace(made.schedule, by_query=steps), device))


@dataclass(frozen=True)
class _Calls:
    """What the calls of a plan have in common."""

    n_q: int
    group: int
    """Query heads of a key head."""
    batch: int
    usual: int
    """Slots of the tiles of queries of other calls."""

    @property
    def members(self) -> int:
        """The group as a power of two."""
        return 1 << (self.group - 1).bit_length()

    @property
    def tile_q(self) -> int:
        return min(SMALL, self.usual) if self.members * self.n_q <= SMALL else self.usual

    def beside(self, launch: Launch) -> int:
        """See `Tables.beside`: all heads of the key heads have to follow the launch, and a tile to hold their
        queries."""
        first = {head // self.group * self.group for head in launch.heads}
        whole = all(head + i in launch.heads for head in first for i in range(self.group))
        return self.members if whole and self.members * self.n_q <= self.tile_q else 1

    def followers(self, launch: Launch) -> int:
        """Who computes the launch: heads, or groups of heads side by side, in each batch row."""
        heads = followers(launch) // (self.group if self.beside(launch) > 1 else 1)
        return heads * (self.batch if launch.batch is None else 1)


# ------------------------------------------------------------------ keys that a call may not have


def _forward_only(plan: Plan, there: int) -> Plan:
    """The plan without its tables by keys. Tiles of keys are full only as far as every call has them: those up to the
    first query of the row, for a call that computes the row has that, and those up to position `there`."""
    launches = []
    for launch in plan.launches:
        last = _first_queries(launch.queries).clamp(min=there)
        terms = (replace(t, by_query=_partial_after(t.by_query, t.keys, last)) for t in launch.terms)
        launches.append(replace(launch, terms=tuple(map(_without_keys, terms))))
    return replace(plan, launches=tuple(launches))


def _without_keys(term: TermTiles) -> TermTiles:
    none = torch.zeros(0, dtype=torch.int32)
    return replace(term, by_key=Runs(torch.zeros(1, dtype=torch.int32), none, none, none, none))


def _first_queries(axis: Axis) -> torch.Tensor:
    """(tile rows,): the first position that each holds; the axis's end if it holds none."""
    rows, slots = torch.arange(axis.tiles)[:, None], torch.arange(axis.tile)
    return torch.as_tensor(axis.tokens(rows, slots)).long().amin(1)


def _partial_after(runs: Runs, keys: Axis, last: torch.Tensor) -> Runs:
    """Full tiles that hold a key after the position `last` (tile rows,) of their row, as partial ones."""
    rows, first, count, kind, weight = (
        as_long(a, _HOST) for a in (runs.rows, runs.first, runs.count, runs.kind, runs.weight)
    )
    row = torch.repeat_interleave(torch.arange(len(rows) - 1), rows.diff())
    kept = (_tiles_up_to(keys, first, last[row]) - first).clamp(min=0)
    kept = torch.where(kind == FULL, torch.minimum(kept, count), 0)
    if bool(((kind == FULL) <= (kept == count)).all()):
        return runs
    counts = torch.stack([kept, count - kept], 1)
    there = counts > 0
    kinds = torch.stack([kind, torch.full_like(kind, PARTIAL)], 1)
    weights = torch.stack([weight, torch.zeros_like(weight)], 1)
    firsts = torch.stack([first, first + kept], 1)
    ends = torch.zeros(len(rows), dtype=torch.long)
    ends[1:] = torch.bincount(row.repeat_interleave(there.sum(1)), minlength=len(rows) - 1).cumsum(0)
    return Runs(ends, firsts[there], counts[there], kinds[there], weights[there])


def _tiles_up_to(axis: Axis, tile: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """The number of the first tile, in the lane of `tile`, that holds a position after `last`."""
    if axis.index is not None:
        ends = as_long(axis.index, _HOST)[axis.tile - 1 :: axis.tile].contiguous()
        return torch.searchsorted(ends, last, right=True)
    stride, width = axis.layout.stride, axis.layout.width
    lane = tile // axis.per_lane
    column = ((lane + 1) * width).clamp(max=stride) - 1
    lines = torch.div(last - column, stride, rounding_mode="floor") + 1
    return lane * axis.per_lane + torch.div(lines, axis.depth, rounding_mode="floor").clamp(0, axis.per_lane)


# ------------------------------------------------------------------ shares


def _cut(plan: Plan, calls: _Calls, processors: int, xp: TorchArrays) -> Plan:
    """The plan with rows cut so that the last call of the stretch keeps all processors busy."""
    made = list(plan.launches)
    for stage in stages(plan.launches):
        costs = {i: row_costs([term.by_query for term in made[i].terms], xp) for i in stage}
        total = sum(_cost_of_last(made[i], costs[i], plan, calls.n_q) * calls.followers(made[i]) for i in stage)
        share = max(2 * LEAST_PIECE, -(-total // processors))
        for i in stage:
            made[i] = replace(made[i], by_query=_pieces(costs[i], share), by_key=None)
    return replace(plan, launches=tuple(made))


def _pieces(cost: torch.Tensor, share: int) -> Work | None:
    """The rows of a launch in equal pieces of up to a share; None if all are whole."""
    if not len(cost) or int(cost.max()) < share + LEAST_PIECE:
        return None
    counts = (-(-cost // share)).clamp(min=1)
    row = torch.arange(len(cost)).repeat_interleave(counts)
    piece = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
    return Work(row, cost[row] * piece // counts[row], cost[row] * (piece + 1) // counts[row])


def _cost_of_last(launch: Launch, cost: torch.Tensor, plan: Plan, n_q: int) -> int:
    """The tiles of the rows that the last queries are in."""
    rows = row_of(launch.queries, range(plan.n - plan.n_q, plan.n), _HOST)[-n_q:]
    return int(cost[rows[rows >= 0].unique()].sum())


# ------------------------------------------------------------------ turns


def _by_turns(step: Step, plan: Plan, calls: _Calls) -> Step:
    """The step for a few queries of a call: see `Tables.turns`."""
    launches = [plan.launches[number] for number, _ in step.parts]
    beside, group = min(map(calls.beside, launches)), calls.group
    axes, span = [launch.queries for launch in launches], range(plan.n - plan.n_q, plan.n)
    tables = _turned(_side_by_side(step.tables, beside, group), axes, span)
    per_follower = calls.n_q * tables.longest
    tables = replace(tables, per_follower=per_follower, early=0, pieces=per_follower * len(tables.followers))
    if tables.merge is None:  # its kernel is compiled with the others, for longer lengths
        return replace(step, tables=replace(tables, merge=replace(tables, per_follower=0)))
    merged = _turned(_side_by_side(tables.merge, beside, group), axes, span)
    merged = replace(merged, longest=tables.longest, per_follower=calls.n_q)
    return replace(step, tables=replace(tables, merge=merged))


def _side_by_side(made: Tables, beside: int, group: int) -> Tables:
    """The tables with the first head of each group in the place of all of them."""
    if beside == 1:
        return made
    return replace(made, beside=beside, followers=made.followers[made.followers[:, 0] % group == 0])


def _turned(made: Tables, axes: Sequence[Axis], span: range) -> Tables:
    """The tables with the items of each row side by side, and with the turns of the launches, which have these axes of
    queries, for the queries of the span."""
    lines = {launch: (first, count) for launch, first, count in made.followers[:, 2:5].tolist()}
    items, turns, longest = made.items.clone(), [], 1
    for i, axis in enumerate(axes):
        first, count = lines[i]
        own = made.items[first : first + count]
        own = own[torch.argsort(own[:, 8], stable=True)]
        own = own[torch.argsort(own[:, 0], stable=True)]
        items[first : first + count] = own
        starts, counts = torch.unique_consecutive(own[:, 0].long(), return_counts=True)
        longest = max(longest, int(counts.max())) if count else longest
        turns.append(_turns(axis, span, starts, counts, first))
    return replace(made, items=items, turns=torch.cat(turns).int(), longest=longest)


def _turns(axis: Axis, span: range, starts: torch.Tensor, counts: torch.Tensor, first: int) -> torch.Tensor:
    """(span, 3) of one launch: `starts` are the first tokens of the rows that it has items of, ascending, `counts` the
    items of each, the first of which is number `first`."""
    row = row_of(axis, span, _HOST)
    turns = torch.zeros(len(span), TURN_COLUMNS, dtype=torch.long)
    turns[:, 2] = _earlier(row, span)
    if not len(starts):
        return turns
    token = first_token(axis, row.clamp(min=0))
    at = torch.searchsorted(starts, token).clamp(max=len(starts) - 1)
    found = (row >= 0) & (starts[at] == token)
    turns[:, 0] = torch.where(found, first + (counts.cumsum(0) - counts)[at], -1)
    turns[:, 1] = counts[at] * found
    return turns


def _earlier(row: torch.Tensor, span: range) -> torch.Tensor:
    """(span,): the last position before each query that is in the same row; -1 if there is none."""
    order = torch.argsort(row, stable=True)
    found = torch.full_like(row, -1)
    same = row[order][1:] == row[order][:-1]
    found[order[1:]] = torch.where(same, order[:-1] + span.start, -1)
    return found
