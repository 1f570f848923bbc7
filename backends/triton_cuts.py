"""Room for pieces of long rows in a grid whose tables the device makes: how long its rows are is known there only.

By the measure of passes/balance.py, a row that exceeds a processor's share of the grid by a piece is cut into equal
pieces, once its candidates are thinned out (`triton_compaction.cut`). The grid has places for as many pieces as there
may be; a program whose place is not needed returns at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from patternc.backends.triton_compaction import cut
from patternc.backends.triton_launch import Launch
from patternc.backends.triton_parts import ITEM_COLUMNS
from patternc.backends.triton_tables import Tables
from patternc.passes.balance import LEAST_PIECE

AMPLE = 4
"""Places that a follower has for pieces, times an equal part of the processors: batch rows are not equally long, and a
place that is not needed costs the start of a program."""
_ANY = 1 << 30
"""More pieces than there are."""
_BLOCK = 1024
"""Rows, or runs, that a program looks at a time."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The items of one launch of a grid."""

    number: int
    first: int
    """Its first item among those with room."""
    rows: int
    spare: int
    """Places for pieces, but for the first of each row, which takes the row's own."""
    times: int
    """Followers that compute it."""
    first_merge: int
    first_piece: int
    """Pieces that followers of earlier parts may have at most."""
    tight: bool
    """Whether rows may be so long that there are not enough places."""

    @property
    def most(self) -> int:
        """Pieces that rows may be cut into, beside one for each."""
        return self.spare if self.tight else _ANY

    @property
    def merges(self) -> int:
        """Rows that may be cut."""
        return min(self.rows, self.spare)

    @property
    def most_pieces(self) -> int:
        """Of all its followers."""
        return self.times * (self.spare + self.merges)


@dataclass(frozen=True, eq=False)
class Cutting:
    """A grid with room for pieces."""

    tables: Tables
    """Followers have the number of their rows, and say in place of the first piece the how manieth of their launch they
    are."""
    parts: tuple[_Part, ...]
    processors: int

    def launch(
        self, names: Mapping[str, str], first_count: int, steps: Sequence[Sequence[int]], slots: int,
        device: torch.device,
    ) -> Launch:  # fmt: skip
        """The launch that cuts rows; `names` are those of its tables, `first_count` is the place of the grid's counts.
        `steps` are the tokens between neighbouring tiles of each term of each launch, `slots` the slots, in 16s."""
        table = lambda lines: torch.tensor(lines, dtype=torch.int32, device=device)
        places = [(p.number, number) for p in self.parts for number in range(max(1, p.spare))]
        bound: dict[str, Any] = {
            "places": table(places),
            "parts": table([(p.first, p.rows, p.most, p.first_merge, p.first_piece) for p in self.parts]),
            "steps": table(steps),
            "times": table([t for p in self.parts for t in [p.times] * p.rows + [0] * p.spare]),
            "followers": self.tables.followers, "owners": len(self.tables.followers),
            "first_count": first_count, "lines": len(self.tables.items), "processors": self.processors,
            "least": LEAST_PIECE, "slots": slots, "columns": ITEM_COLUMNS, "terms": len(steps[0]), "block": _BLOCK,
            "num_warps": 4,
        }  # fmt: skip
        return Launch(cut, len(places), bound, names)


def cutting(tables: Tables, processors: int) -> Cutting | None:
    """The grid with room for pieces; None if its rows are too short or too many for any."""
    parts = _parts(tables, processors)
    if not any(part.spare for part in parts):
        return None
    pieces = min(2 * processors, sum(part.most_pieces for part in parts))  # see `cut`
    merges = max(part.merges for part in parts)
    none = tables.items.new_zeros(sum(part.merges for part in parts), ITEM_COLUMNS)
    followers = _followers(tables, parts)
    merge = replace(tables, followers=followers, items=none, per_follower=merges, early=0)
    items = [
        lines
        for p, own in zip(parts, tables.items.split([part.rows for part in parts]), strict=True)
        for lines in (own, tables.items.new_zeros(p.spare, ITEM_COLUMNS))
    ]
    most = max(part.rows + part.spare for part in parts)
    made = replace(tables, followers=followers, items=torch.cat(items), per_follower=most, pieces=pieces, merge=merge)
    return Cutting(made, tuple(parts), processors)


def _parts(tables: Tables, processors: int) -> list[_Part]:
    followers, candidates = tables.followers.tolist(), tables.items[:, 2].cpu()
    times = Counter(line[2] for line in followers)
    found, first, first_merge, first_piece = list[_Part](), 0, 0, 0
    for number, start, rows in sorted({(line[2], line[3], line[4]) for line in followers}):
        most = _most(candidates[start : start + rows])
        fair = -(-processors // times[number]) if times[number] <= processors else 0
        spare = min(most, fair, AMPLE * processors // len(followers))
        found.append(_Part(number, first, rows, spare, times[number], first_merge, first_piece, spare < most))
        first, first_merge = first + rows + spare, first_merge + found[-1].merges
        first_piece += found[-1].most_pieces
    return found


def _most(candidates: torch.Tensor) -> int:
    """The pieces beside one for each row that rows with so many candidates can be cut into."""
    long = candidates[candidates >= 3 * LEAST_PIECE]
    return int(((long - 1) // (2 * LEAST_PIECE)).sum())


def _followers(tables: Tables, parts: Sequence[_Part]) -> torch.Tensor:
    first = {part.number: part.first for part in parts}
    turns = Counter[int]()
    lines = tables.followers.tolist()
    for line in lines:
        line[3], line[7] = first[line[2]], turns[line[2]]
        turns[line[2]] += 1
    return torch.tensor(lines, dtype=torch.int32, device=tables.followers.device)
