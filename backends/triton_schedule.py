"""A plan as grids of programs: which launches are computed together, and in what order those of one head follow.

A step is one grid. Launches of equal structure that concern different heads or batch rows share one; the launches of
one head come one after the other, each going on from what the earlier ones found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from patternc.backends.triton_chain import KEEPS, READS, WRITES, Link, chain
from patternc.backends.triton_structure import (
    Argument,
    Mask,
    Structure,
    launch_columns,
    structure_of,
    tensor_arguments,
)
from patternc.backends.triton_tables import Rows, Tables, arrangement, as_long, rows_of, tables
from patternc.plan import CONSECUTIVE, FULL, Axis, Launch, Plan


@dataclass(frozen=True, eq=False)
class BoundMask:
    """The mask function of a term with its values: integers, and tensors with their strides in elements (the batch
    stride, if batched)."""

    mask: Mask
    values: Mapping[str, Any]


Links = Callable[[Sequence[tuple[Axis, torch.Tensor]], range], tuple[tuple[Link, ...], bool]]
"""See `triton_chain.chain`."""
Masks = Callable[[Launch], Sequence[BoundMask]]
"""The masks of a launch, one per term, for tiles of the launch's heads."""


@dataclass(frozen=True, eq=False)
class Step:
    """One grid of a pass."""

    structure: Structure
    term: int
    """The term whose keys are the rows; -1 if rows are queries."""
    tables: Tables
    pointers: Mapping[str, torch.Tensor]
    """Tensors that masks read, under the names that kernels give them."""
    roles: int
    """What it does for some token or other, see triton_chain; 0 if it alone computes its tokens."""
    spread: Tables | None = None
    """Of rows of keys: the tiles of queries, for bringing numbers of queries into the order of slots."""
    in_order: bool = False
    """Slots of queries stand in the order of tokens already."""
    parts: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """What its tables are made of, one after the other: launches, or terms of launches that have tiles, by number among
    all of the plan, each with the numbers of those that follow one another, if it is one of several."""
    drawn: Mapping[str, str] = field(default_factory=dict)
    """Arguments of its kernels that come with each call, with the names of the values."""
    drawn_merge: Mapping[str, str] = field(default_factory=dict)
    """Those of the kernel that merges pieces, where they differ."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """The steps of the passes, in order."""

    n: int
    n_q: int
    by_query: tuple[Step, ...]
    by_key: tuple[Step, ...]
    tile_q: int
    tile_k: int
    queries_complete: bool
    """No step leaves a query out; else results have to be filled before."""
    keys_complete: bool
    recipes: dict[Any, Any] = field(default_factory=dict)
    """The launches of passes on tensors that it was called with, see triton_run."""

    @property
    def few(self) -> bool:
        """Whether it serves many lengths, of which n is the longest; see triton_few."""
        return any(step.tables.turns is not None for step in self.by_query)


@dataclass(frozen=True, eq=False)
class _Part:
    """A launch, or a term of one, with what grids need of it."""

    number: int
    """Among all parts, in the plan's order."""
    launch: Launch
    term: int
    structure: Structure
    masks: Sequence[BoundMask]
    axis: Axis
    """The rows'."""


def schedule(
    plan: Plan, masks: Masks, kv_heads: int, batch: int, device: torch.device, *, title: str = "",
    links: Links = chain,
) -> Schedule:  # fmt: skip
    """The grids of a plan for so many batch rows; `links` says how launches follow one another."""
    bound = [masks(launch) for launch in plan.launches]
    shapes = [_structure(launch, b, title) for launch, b in zip(plan.launches, bound, strict=True)]
    queries = [
        _Part(i, launch, -1, s, b, launch.queries)
        for i, (launch, s, b) in enumerate(zip(plan.launches, shapes, bound, strict=True))
    ]
    keys: list[_Part] = []
    for launch, s, b in zip(plan.launches, shapes, bound, strict=True):
        used = [t for t, term in enumerate(launch.terms) if len(term.by_key.first)]
        keys += [_Part(len(keys) + i, launch, t, s, b, launch.terms[t].keys) for i, t in enumerate(used)]
    group = plan.heads // kv_heads
    by_query, complete_q = _steps(queries, range(plan.n - plan.n_q, plan.n), batch, 1, device, links)
    by_key, complete_k = _steps(keys, range(plan.n), batch, group, device, links)
    return Schedule(plan.n, plan.n_q, by_query, by_key, plan.tile_q, plan.tile_k, complete_q, complete_k)


def _structure(launch: Launch, masks: Sequence[BoundMask], title: str) -> Structure:
    keys = [term.keys.layout for term in launch.terms]
    return structure_of([b.mask for b in masks], [launch.queries.layout], keys, title=title)


def _steps(
    parts: Sequence[_Part], tokens: range, batch: int, group: int, device: torch.device, links_of: Links
) -> tuple[tuple[Step, ...], bool]:
    """The grids over rows of these parts, which hold some of the `tokens`. Heads are followed in groups: one query
    head, or all of a key head's."""
    order: dict[tuple[int, int], list[int]] = {}
    for part in parts:
        for head, b, _ in _followers(part, batch, group):
            order.setdefault((head, b), []).append(part.number)
    links: dict[tuple[int, tuple[int, ...]], Link] = {}
    complete = True
    for numbers in dict.fromkeys(tuple(numbers) for numbers in order.values()):
        made, whole = links_of([(parts[i].axis, _tiles(parts[i], device)) for i in numbers], tokens)
        links.update(((i, numbers), link) for i, link in zip(numbers, made, strict=True))
        complete &= whole
    grids: dict[_Grid, list[_Follower]] = {}
    for part in parts:
        for head, b, members in _followers(part, batch, group):
            numbers = tuple(order[head, b])
            link = links[part.number, numbers]
            key = link.place, link.role is not None, part.structure, part.term
            own = (part.number, numbers if link.role is not None else ())
            grids.setdefault(key, []).append((head, b, own, members))
    return tuple(
        _step(key, grids[key], parts, links, device) for key in sorted(grids, key=lambda key: key[0])
    ), complete


_Grid = tuple[int, bool, Structure, int]
"""Its place in the order, whether it is chained, its structure and term."""
_Own = tuple[int, tuple[int, ...]]
"""A part, and the parts of its chain if it has any."""
_Follower = tuple[int, int, _Own, tuple[int, ...]]
"""Head, batch row, part, members."""


def _step(
    key: _Grid, followers: Sequence[_Follower], parts: Sequence[_Part],
    links: Mapping[tuple[int, tuple[int, ...]], Link], device: torch.device,
) -> Step:  # fmt: skip
    place, chained, structure, term = key
    if place % 2:  # what the grid before has left last is still in the cache
        followers = followers[::-1]
    used = sorted({own for _, _, own, _ in followers})
    here = {own: i for i, own in enumerate(used)}
    local = [parts[number] for number, _ in used]
    rows = [_rows(part, links[own].used if chained else None, device) for part, own in zip(local, used, strict=True)]
    roles = [role for own in used if chained and (role := links[own].role) is not None]
    lines, index = _launch_lines(local)
    table = tables(rows, [(h, b, here[own], m) for h, b, own, m in followers], lines, roles, index, device)
    spread = None
    if term >= 0:
        readers = [(h, b, here[own]) for _, b, own, members in followers for h in members]
        spread = arrangement([part.launch.queries for part in local], readers, table)
    union = sum(bit for bit in (READS, KEEPS, WRITES) if any(bool((role & bit).any()) for role in roles))
    in_order = all(part.launch.queries.layout == CONSECUTIVE for part in local)
    return Step(structure, term, table, _pointers(local[0]), union, spread, in_order, tuple(used))


def _tiles(part: _Part, device: torch.device) -> torch.Tensor:
    """The tiles of each row, and 0 for one row more."""
    terms = part.launch.terms
    sides = [term.by_query for term in terms] if part.term < 0 else [terms[part.term].by_key]
    counts = torch.zeros(len(sides[0].rows), dtype=torch.long, device=device)
    for runs in sides:
        rows = as_long(runs.rows, device)
        row = torch.repeat_interleave(torch.arange(len(rows) - 1, device=device), rows.diff())
        counts.index_add_(0, row, as_long(runs.count, device))
    return counts


def _followers(part: _Part, batch: int, group: int) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """(head, batch row, members): of rows of queries one query head each, of rows of keys a key head with its query
    heads."""
    rows = range(batch) if part.launch.batch is None else part.launch.batch
    readers: dict[int, list[int]] = {}
    for head in sorted(part.launch.heads):
        readers.setdefault(head if part.term < 0 else head // group, []).append(head)
    for b in rows:
        for head, members in readers.items():
            yield head, b, tuple(members)


def _rows(part: _Part, used: torch.Tensor | None, device: torch.device) -> Rows:
    launch = part.launch
    if part.term < 0:
        sides = [(t, term.by_query, term.keys) for t, term in enumerate(launch.terms)]
        return rows_of(sides, launch.queries, launch.by_query, _main(launch), used, device)
    term = launch.terms[part.term]
    work = None if launch.by_key is None else launch.by_key[part.term]
    return rows_of([(part.term, term.by_key, launch.queries)], term.keys, work, None, used, device)


def _main(launch: Launch) -> int | None:
    """Of several terms that with the most full tiles."""
    if len(launch.terms) == 1:
        return None
    full = [int((term.by_query.count * (term.by_query.kind == FULL)).sum()) for term in launch.terms]
    return full.index(max(full))


def _launch_lines(parts: Sequence[_Part]) -> tuple[list[list[int]], list[torch.Tensor]]:
    """The launches' numbers, and the lists of their axes, of which the numbers hold the places."""
    lines, index, place = [], [], 0
    for part in parts:
        values: dict[str, int] = {}
        axes = {"q": part.launch.queries, **{f"k{t}": term.keys for t, term in enumerate(part.launch.terms)}}
        for side, axis in axes.items():
            values[f"{side}_stride"] = axis.layout.stride
            values[f"{side}_bits"] = axis.layout.width.bit_length() - 1
            values[f"{side}_index"] = place
            listed = part.structure.listed_queries if side == "q" else part.structure.listed_keys
            if listed:
                index.append(_list(axis))
                place += len(index[-1])
        main = _main(part.launch) or 0
        values |= {f"main_{name}": values[f"k{main}_{name}"] for name in ("stride", "bits", "index")}
        for t, bound in enumerate(part.masks):
            values |= {f"mask{t}_{a.name}": int(bound.values[a.name]) for a in bound.mask.arguments if a.kind == "int"}
        lines.append([values[name] for name in launch_columns(part.structure)])
    return lines, index


def _list(axis: Axis) -> torch.Tensor:
    assert axis.index is not None, "terms of one launch are all listed or none is"
    return as_long(axis.index, torch.device("cpu") if not isinstance(axis.index, torch.Tensor) else axis.index.device)


def _pointers(part: _Part) -> dict[str, torch.Tensor]:
    tensors: list[tuple[str, Argument]] = tensor_arguments(part.structure)
    values = {f"mask{t}_{name}": v for t, bound in enumerate(part.masks) for name, v in bound.values.items()}
    return {name: values[name] for name, _ in tensors}
