"""How the work of a strip is cut into pieces that fit a budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from patternc.backends.torch_places import Picked
from patternc.backends.torch_strips import Strip

SCORES = {"cpu": 1 << 20, "cuda": 1 << 24}
"""Scores that are held at once, at most, by device type; on a CPU they should stay within the caches."""
OTHER_SCORES = 1 << 22
ELEMENTS = 1 << 20
"""Elements of results that are held at once where no scores are, at most, as far as one row allows."""


@dataclass(frozen=True)
class Piece:
    """Some streams of a group, rows of a strip, and queries and keys of each row."""

    streams: slice
    rows: slice
    queries: slice
    keys: slice


def unscored(strip: Strip, streams: int, dim: int) -> Iterator[Piece]:
    """Pieces of whole rows, for a kernel that holds no scores but makes outputs, or gradients of what runs across."""
    down, across = (strip.queries, strip.keys) if strip.by_query else (strip.keys, strip.queries)
    copied = not strip.by_query or isinstance(across, Picked)
    one = (down.slots + 2 * across.slots * copied) * dim
    rows = min(strip.queries.rows, max(1, ELEMENTS // one))
    return _pieces(strip, max(1, ELEMENTS // (one * rows)), rows, strip.queries.slots, strip.keys.slots, streams)


def scored(strip: Strip, streams: int, budget: int) -> Iterator[Piece]:
    """Pieces of at most so many scores."""
    keys = min(strip.keys.slots, max(64, budget // min(strip.queries.slots, 128)))
    queries = min(strip.queries.slots, max(1, budget // keys))
    one = queries * keys
    rows = min(strip.queries.rows, max(1, budget // one))
    return _pieces(strip, max(1, budget // (one * rows)), rows, queries, keys, streams)


def _pieces(strip: Strip, stream_step: int, row_step: int, q_step: int, k_step: int, streams: int) -> Iterator[Piece]:
    for rows in _cuts(strip.queries.rows, row_step):
        for queries in _cuts(strip.queries.slots, q_step):
            for keys in _cuts(strip.keys.slots, k_step):
                for some in _cuts(streams, stream_step):
                    yield Piece(some, rows, queries, keys)


def _cuts(length: int, step: int) -> Iterator[slice]:
    """0 … length in slices of at most `step`, about equally long."""
    step = -(-length // -(-length // step))
    return (slice(i, min(i + step, length)) for i in range(0, length, step))
