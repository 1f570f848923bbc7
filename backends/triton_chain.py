"""What each of several launches that follow one another does for a token: the first one that has tiles for it starts,
others go on from what earlier ones found, the last one writes the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from patternc.plan import Axis

READS, KEEPS, WRITES = 1, 2, 4
"""Goes on from earlier launches; leaves sums for later ones; writes the result."""


@dataclass(frozen=True, eq=False)
class Link:
    """The part of one launch, or of one term of a launch."""

    place: int
    """In the order of grids: links of one place need not wait for each other."""
    role: torch.Tensor | None = None
    """(n,) int8: what it does for the token at each position; None: it alone computes its tokens, and writes them."""
    used: torch.Tensor | None = None
    """(tile rows,): whether a row has anything to do; None: all have."""


def chain(rows: Sequence[tuple[Axis, torch.Tensor]], tokens: range) -> tuple[tuple[Link, ...], bool]:
    """The links of launches with these rows (an axis, and the number of tiles of each of its rows), in order; and
    whether all of the `tokens` are written."""
    if len(rows) == 1 and not rows[0][0].layout.listed:
        return (Link(0),), True
    held = torch.stack([row_of(axis, tokens, counts.device) for axis, counts in rows])
    filled = torch.stack([(row >= 0) & (c[row.clamp(min=0)] > 0) for row, (_, c) in zip(held, rows, strict=True)])
    idle = (held >= 0) & ~filled.any(0)
    idle &= idle.long().cumsum(0) == 1  # the first that holds a token without any tile writes it
    before = filled.long().cumsum(0) - filled.long()
    after = filled.long().sum(0) - before - filled.long()
    role = READS * (filled & (before > 0)) + KEEPS * (filled & (after > 0)) + WRITES * (filled & (after == 0) | idle)
    complete = bool((held >= 0).any(0).all())
    if bool((role == WRITES).logical_or(held < 0).all()):
        return tuple(Link(0) for _ in rows), complete
    apart = not bool((role & READS).any())
    links = []
    for place, (row, (_, counts)) in enumerate(zip(held, rows, strict=True)):
        used = counts > 0
        used[row[idle[place]]] = True
        full = role.new_zeros(tokens.stop, dtype=torch.int8)
        full[tokens.start :] = role[place].to(torch.int8)
        links.append(Link(0 if apart else place, full, used))
    return tuple(links), complete


def row_of(axis: Axis, tokens: range, device: torch.device) -> torch.Tensor:
    """The tile row of each token, -1 for those that the axis leaves out."""
    if axis.index is None:
        return torch.as_tensor(axis.slots(torch.arange(tokens.start, tokens.stop, device=device))) // axis.tile
    index = torch.as_tensor(axis.index, device=device).long()
    row = torch.full((len(tokens) + 1,), -1, device=device)
    row[index.clamp(max=tokens.stop) - tokens.start] = torch.arange(len(index), device=device) // axis.tile
    return row[:-1]
