"""The tables that kernels of attention read, made by the device for each call: those by query, or those by key.

The schedule of a room (passes/fixed.py) has tables in which every candidate tile is a run; a call's tables lie the same
way, with what was found of the candidates (triton_compaction).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from patternc.analysis.fixed import Candidates
from patternc.backends.triton_chain import KEEPS, READS, WRITES, Link
from patternc.backends.triton_compaction import compact, gather, link
from patternc.backends.triton_cuts import Cutting, cutting
from patternc.backends.triton_launch import Launch, Recipe, Scratch
from patternc.backends.triton_lists import Listings
from patternc.backends.triton_parts import ITEM_COLUMNS
from patternc.backends.triton_schedule import Step
from patternc.backends.triton_static import STATIC
from patternc.backends.triton_structure import tensor_arguments
from patternc.backends.triton_tables import ENDING, Tables, first_token, tile_step
from patternc.passes.fixed import Possible, Room
from patternc.plan import Axis, Plan
from patternc.plan import Launch as Planned

_COMPACT, _LINK, _GATHER = 256, 256, 1024
"""Candidates, tokens and slots that a program takes at a time."""
_ALIGNED = 64
"""Numbers to a multiple of which tables are rounded."""


@dataclass(frozen=True, eq=False)
class Major:
    """The making of the tables by one major."""

    steps: tuple[Step, ...]
    recipe: Recipe
    sizes: Mapping[str, int]
    """The numbers of 32 bits of each table, by the name of the value."""
    parts: Mapping[str, tuple[str, int, int]]
    """Tables that are parts of others, in bytes: of which one, from where on, how many."""

    def run(self, values: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
        """New tables, made of what was found; the device fills them when it comes to it."""
        made = split(self.sizes, device)
        for name, (whole, start, size) in self.parts.items():
            made[name] = made[whole].view(torch.int8)[start : start + size]
        self.recipe.run({**values, **made}, {})
        return made


def split(sizes: Mapping[str, int], device: torch.device) -> dict[str, torch.Tensor]:
    """Tables of so many numbers of 32 bits, in one piece of memory."""
    lengths = [-(-size // _ALIGNED) * _ALIGNED for size in sizes.values()]
    parts = torch.empty(sum(lengths), dtype=torch.int32, device=device).split(lengths)
    return dict(zip(sizes, parts, strict=True))


def worst(rows: Sequence[tuple[Axis, torch.Tensor]], tokens: range) -> tuple[tuple[Link, ...], bool]:
    """For `schedule`: each launch may have to go on from all before it. What it does for a token is not known yet."""
    complete = any(not axis.layout.listed for axis, _ in rows)
    if len(rows) == 1 and complete:
        return (Link(0),), True
    unknown = torch.zeros(tokens.stop, dtype=torch.int8, device=rows[0][1].device)
    return tuple(Link(place, unknown) for place in range(len(rows))), complete


def major(
    name: str, steps: Sequence[Step], made: Room, plan: Plan, lists: Listings, read: Mapping[str, str],
    device: torch.device, processors: int,
) -> Major:  # fmt: skip
    """The making of the tables of the steps `by_query` or `by_key`. `read` has the names of run-time tensors by the
    names of arguments of masks; rows are cut for so many processors."""
    parts = list(_parts(name, made, plan))
    making, sizes, own, first = list[Launch](), dict[str, int](), list[Step](), 0
    for i, one in enumerate(steps):
        room = cutting(one.tables, processors)
        step = _named(one if room is None else replace(one, tables=room.tables), f"{name} {i}", read)
        making.append(_compact(step, parts, f"counts {name}", first, device))
        if room is not None:
            making.append(_cut(room, step, parts, f"counts {name}", first, device))
        if "index" in step.drawn:
            making.append(_gather(step, parts, lists, device))
        sizes |= _sizes(step.tables, step.drawn)
        if step.tables.merge is not None:
            sizes |= _sizes(step.tables.merge, step.drawn_merge)
        own.append(step)
        first += len(step.tables.items)
    sizes[f"counts {name}"] = first
    places: dict[str, tuple[str, int, int]] = {}
    if any(chain for step in own for _, chain in step.parts):
        linking, roles, places = _link(name, own, parts, lists, plan.n, device)
        making.append(linking)
        sizes[f"roles {name}"] = -(-roles * plan.n // 4)
        of_roles = [{"roles": f"roles {name} {i}"} if f"roles {name} {i}" in places else {} for i in range(len(own))]
        own = [replace(step, drawn={**step.drawn, **o}) for step, o in zip(own, of_roles, strict=True)]
    return Major(tuple(own), Recipe(making, Scratch(), device, kept=True), sizes, places)


def _named(step: Step, own: str, read: Mapping[str, str]) -> Step:
    """The step with names for the tables that come with a call."""
    listed = step.structure.listed_queries or step.structure.listed_keys
    cut = step.tables.merge is not None
    names = {table: f"{table} {own}" for table in ("items", "runs", *["index"] * listed, *["followers"] * cut)}
    tensors = {a: f"tensor {read[argument.name]}" for a, argument in tensor_arguments(step.structure)}
    merge = {table: f"{table} of merges {own}" for table in ("items", "followers") if cut}
    return replace(step, drawn={**names, **tensors}, drawn_merge=merge, roles=_union(step))


def _sizes(tables: Tables, names: Mapping[str, str]) -> dict[str, int]:
    """The numbers of 32 bits of the tables of a call."""
    return {names[t]: getattr(tables, t).numel() for t in ("items", "runs", "index", "followers") if t in names}


def _union(step: Step) -> int:
    """What a step may have to do for some token."""
    bits = 0
    for number, chain in step.parts:
        if chain:
            bits |= WRITES | (READS if number != chain[0] else 0) | (KEEPS if number != chain[-1] else 0)
    return bits


# ------------------------------------------------------------------ parts of a schedule


@dataclass(frozen=True, eq=False)
class _Part:
    """A launch, or a term of one: the axis of its rows, and of the candidates in its table of runs the place in
    `found` and whether they follow on the one before."""

    axis: Axis
    launch: Planned
    place: torch.Tensor
    follows: torch.Tensor

    @property
    def row(self) -> int:
        """The batch row."""
        return 0 if self.launch.batch is None else self.launch.batch[0]


def _parts(name: str, made: Room, plan: Plan) -> list[_Part]:
    """Those of a schedule, in its order."""
    known = {(h, p.term): p for p in made.possible for h in p.heads}
    found = []
    for launch in plan.launches:
        b = 0 if launch.batch is None else launch.batch[0]
        terms = [known[launch.heads[0], term.term] for term in launch.terms]
        if name == "by_query":
            pairs = zip(terms, launch.terms, strict=True)
            used = [p if len(term.by_query.first) else replace(p, tiles=_NONE) for p, term in pairs]
            found.append(_Part(launch.queries, launch, *_source([_by_query(p, b) for p in used])))
        else:
            for p, term in zip(terms, launch.terms, strict=True):
                if len(term.by_key.first):
                    found.append(_Part(term.keys, launch, *_source([_by_key(p, b, made.places)])))
    return found


_NONE = Candidates(STATIC.arange(0, 0), STATIC.arange(0, 0))
_Lines = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""Row, tile, whether a lane begins with the tile, and place of candidates."""


def _by_query(possible: Possible, b: int) -> _Lines:
    row, column = (torch.as_tensor(a) for a in (possible.tiles.row, possible.tiles.column))
    place = possible.start + b * len(row) + torch.arange(len(row))
    return row, column, column % possible.area.keys.per_lane == 0, place


def _by_key(possible: Possible, b: int, places: int) -> _Lines:
    row, column, _, place = _by_query(possible, b)
    begins = row % possible.area.queries.per_lane == 0
    order = torch.argsort(column, stable=True)
    return column[order], row[order], begins[order], place[order] + places


def _source(terms: Sequence[_Lines]) -> tuple[torch.Tensor, torch.Tensor]:
    """Places, and which follow on the one before, row by row and then term by term."""
    row, tile, begins, place = (torch.cat(parts) for parts in zip(*terms, strict=True))
    term = torch.cat([torch.full_like(t[0], i) for i, t in enumerate(terms)])
    order = torch.argsort(row, stable=True)
    row, tile, term, begins, place = (a[order] for a in (row, tile, term, begins, place))
    follows = torch.zeros_like(row)
    follows[1:] = (row[1:] == row[:-1]) & (term[1:] == term[:-1]) & (tile[1:] == tile[:-1] + 1) & ~begins[1:]
    return place, follows


# ------------------------------------------------------------------ launches


def _compact(step: Step, parts: Sequence[_Part], counts: str, first: int, device: torch.device) -> Launch:
    """The launch that makes items and runs; `first` is the place of the step's counts."""
    used = [parts[number] for number, _ in step.parts]
    candidates = step.tables.runs.clone()
    size = len(candidates) - ENDING
    candidates[:size, 1] = torch.cat([part.follows for part in used]).to(device)
    candidates[:size, 2] &= ~1
    candidates[:size, 3] = torch.cat([part.place for part in used]).to(device)
    bound: dict[str, Any] = {
        "candidates": candidates, "rows": step.tables.items, "size": size, "first_count": first,
        "columns": ITEM_COLUMNS, "ending": ENDING, "block": _COMPACT, "num_warps": 4,
    }  # fmt: skip
    own = {table: step.drawn[table] for table in ("items", "runs")}
    return Launch(compact, len(step.tables.items), bound, {"found": "found", "counts": counts, **own})


def _cut(room: Cutting, step: Step, parts: Sequence[_Part], counts: str, first: int, device: torch.device) -> Launch:
    """The launch that cuts rows."""
    axes = [_walked(parts[number].launch, step) for number, _ in step.parts]
    own, merge = step.drawn, step.drawn_merge
    names = {
        "items": own["items"], "runs": own["runs"], "held": own["followers"], "merges": merge["items"],
        "merged": merge["followers"], "counts": counts,
    }  # fmt: skip
    return room.launch(names, first, [[tile_step(a) for a in of] for of in axes], axes[0][0].tile // 16, device)


def _walked(launch: Planned, step: Step) -> list[Axis]:
    """The axes that the tiles of rows lie on, by term."""
    return [term.keys for term in launch.terms] if step.term < 0 else [launch.queries for _ in launch.terms]


def _gather(step: Step, parts: Sequence[_Part], lists: Listings, device: torch.device) -> Launch:
    """The launch that makes the lists of a step's axes."""
    places = []
    for number, _ in step.parts:
        launch, s = parts[number].launch, step.structure
        axes = [launch.queries] * s.listed_queries + [term.keys for term in launch.terms] * s.listed_keys
        places += [_slots(axis, parts[number].row, lists) for axis in axes]
    table = torch.cat(places).int().to(device)
    bound = {"places": table, "size": len(table), "block": _GATHER, "num_warps": 4}
    return Launch(gather, -(-len(table) // _GATHER), bound, {"lists": "lists", "index": step.drawn["index"]})


def _slots(axis: Axis, b: int, lists: Listings) -> torch.Tensor:
    """For each slot its place among the lists of a call, or -1 - token."""
    index = torch.as_tensor(axis.index).long()
    one = lists.by_index.get(id(axis.index))
    if one is None:
        return -1 - index
    return one.first + (b if one.rows > 1 else 0) * one.room + torch.arange(one.room)


def _link(
    name: str, steps: Sequence[Step], parts: Sequence[_Part], lists: Listings, n: int, device: torch.device
) -> tuple[Launch, int, dict[str, tuple[str, int, int]]]:
    """The launch that says what each step does for each token; rows of the table of roles; the tables of the steps in
    it."""
    chains: dict[tuple[int, ...], dict[int, list[int]]] = {}
    held, places, line, first = list[torch.Tensor](), {}, 0, 0
    for i, step in enumerate(steps):
        if step.parts[0][1]:
            places[f"roles {name} {i}"] = (f"roles {name}", line * n, len(step.parts) * n)
        for at, (number, chain) in enumerate(step.parts):
            if not chain:
                continue
            start, count = _items(step, at)
            here = _holder(parts[number], lists, step.tables.items[start : start + count, 0].cpu(), n)
            if isinstance(here, torch.Tensor):
                held.append(torch.where(here < 0, here, here + first + start))
                where = [(len(held) - 1) * n, 0, 0]
            else:
                where = [here[0], first + start, here[1]]
            chains.setdefault(chain, {})[number] = [line, *where]
            line += 1
        first += len(step.tables.items)
    ends, links = list[list[int]](), list[list[int]]()
    for chain, found in chains.items():
        ends.append([len(links), len(chain)])
        links += [found[number] for number in chain]
    table = torch.cat(held) if held else torch.zeros(1)
    blocks = -(-n // _LINK)
    bound = {
        "chains": torch.tensor(ends, dtype=torch.int32, device=device),
        "links": torch.tensor(links, dtype=torch.int32, device=device),
        "held": table.int().to(device), "n": n, "blocks": blocks, "block": _LINK, "num_warps": 4,
    }  # fmt: skip
    values = {"ranks": "ranks", "counts": f"counts {name}", "roles": f"roles {name} all"}
    places[f"roles {name} all"] = (f"roles {name}", 0, line * n)
    return Launch(link, len(ends) * blocks, bound, values), line, places


def _items(step: Step, at: int) -> tuple[int, int]:
    """The first item of a part of a step, and how many it has."""
    followers = step.tables.followers
    line = followers[followers[:, 2] == at][0].tolist()
    return line[3], line[4]


def _holder(part: _Part, lists: Listings, first: torch.Tensor, n: int) -> torch.Tensor | tuple[int, int]:
    """The item that computes each position, or -1; of a list, where the ranks of positions lie, and its tile. `first`
    are the first tokens of items."""
    axis = part.axis
    one = None if axis.index is None else lists.by_index.get(id(axis.index))
    if one is not None:
        assert bool((first[1:] > first[:-1]).all()), "all rows of a list have as many candidates"
        return one.rank + (part.row if one.rows > 1 else 0) * n, axis.tile
    order = torch.argsort(first)
    row = torch.searchsorted(first[order], first_token(axis, torch.arange(axis.tiles)))
    held = torch.full((n,), -1)
    tokens = torch.arange(axis.start, n)
    slots = torch.as_tensor(axis.slots(tokens)) if axis.index is None else _spot(axis, tokens)
    held[axis.start :] = order[row[slots // axis.tile]]
    return held


def _spot(axis: Axis, tokens: torch.Tensor) -> torch.Tensor:
    """The slots of all tokens of an axis that was made a list."""
    index = torch.as_tensor(axis.index).long()
    slots = torch.zeros(axis.stop + 1, dtype=torch.long)
    slots[index] = torch.arange(len(index))
    return slots[tokens]
