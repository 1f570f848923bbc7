"""What a backend is given: which tiles of queries and keys to compute, and how.

A plan is made for one length. Its launches share nothing but the inputs; each covers some heads and batch rows and
holds the same work twice: by query tile (for outputs and dq) and by key tile (for dk and dv).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FULL, PARTIAL = 0, 1
"""Kinds of a run. In a full run every cell has the same multiplicity, so no mask is computed; tiles that the end of
the sequence cuts are full too when all their cells inside the sequence are."""

TILE = 128
"""Queries and keys of a tile, unless a backend asks for others."""

Array = Any
"""A one-dimensional integer array of NumPy, or a tensor on the plan's device."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Adjacent tiles, row by row: runs `rows[i]` up to `rows[i + 1]` belong to tile row i, in order of `first`.

    All arrays are int32 or int64; positions and lengths are in tokens of the axis that the runs walk along.
    """

    rows: Array
    """(number of tile rows + 1,): where each row's runs start."""
    first: Array
    """(runs,): the first token of the run, counted from the start of the axis."""
    count: Array
    """(runs,): how many tiles the run has."""
    kind: Array
    """(runs,): FULL or PARTIAL."""
    weight: Array
    """(runs,): the multiplicity of a full run; 0 for a partial one."""


@dataclass(frozen=True, eq=False)
class Launch:
    """One schedule. `heads` and `batch` say who follows it; `batch` is None for "every batch row"."""

    heads: tuple[int, ...]
    batch: tuple[int, ...] | None
    by_query: Runs
    """Tile row i holds queries i·tile_q …, counted from the first query; its runs walk over keys."""
    by_key: Runs
    """Tile row j holds keys j·tile_k …; its runs walk over queries, counted from the first query."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The schedule of one program at one length. Query i stands at position n - n_q + i."""

    n: int
    n_q: int
    heads: int
    tile_q: int
    tile_k: int
    launches: tuple[Launch, ...]
