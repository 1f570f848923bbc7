"""Plans by brute force from dense multiplicities under given layouts, and masks that read them from memory."""

from __future__ import annotations

from dataclasses import replace

import torch
from layout_plans import grid, term_tiles

from patternc.backends.triton_schedule import BoundMask
from patternc.backends.triton_structure import Argument, Mask
from patternc.plan import Axis, Launch, Plan, Runs, Work

TABLE = """
@triton.jit
def MASK(q, k, n, h, m):
    inside = (q >= 0) & (q < n) & (k < n)
    return tl.load(m + (h * n + q) * n + k, mask=inside, other=0){}
"""


def dense(m: torch.Tensor, bag: bool) -> BoundMask:
    """The mask of multiplicities (heads, n, n), or (B, heads, n, n)."""
    argument = Argument("m", "tensor", batched=m.ndim == 4)
    return BoundMask(Mask(TABLE.format("" if bag else " > 0"), (argument,), bag), {"m": m.int().contiguous()})


def launch(heads, batch, queries: Axis, terms: list[tuple[torch.Tensor, Axis]]) -> Launch:
    """The tiles of terms of multiplicities (n, n) in positions, and their axes of keys."""
    found = [term_tiles(i, grid(m[queries.start :], queries, keys), queries, keys) for i, (m, keys) in enumerate(terms)]
    return Launch(heads, batch, queries, tuple(found))


def plan(n: int, n_q: int, heads: int, tile_q: int, tile_k: int, launches: list[Launch]) -> Plan:
    return Plan(n, n_q, heads, tile_q, tile_k, tuple(launches))


def cut(plan: Plan, length: int) -> Plan:
    """The plan with its rows cut into pieces of so many tiles."""
    launches = []
    for la in plan.launches:
        by_key = tuple(_work([t.by_key], length) for t in la.terms)
        launches.append(replace(la, by_query=_work([t.by_query for t in la.terms], length), by_key=by_key))
    return replace(plan, launches=tuple(launches))


def _work(tables: list[Runs], length: int) -> Work:
    items = []
    for row in range(len(tables[0].rows) - 1):
        tiles = sum(int(t.count[t.rows[row] : t.rows[row + 1]].sum()) for t in tables)
        items += [(row, start, min(start + length, tiles)) for start in range(0, max(1, tiles), length)]
    items.sort(key=lambda item: item[1] - item[2])
    return Work(*(torch.tensor(column, dtype=torch.int32) for column in zip(*items, strict=True)))
