"""The fewest tiles that any layout needs, found by trying them all on dense masks; nothing here knows the compiler.

A layout (stride, width) reads token = stride · line + column; a tile of t tokens takes `width` neighbouring columns, a
power of two, on t / width successive lines. A list reads the tokens that take part at all, in order. A mask is an array
of truth values (queries, keys), a slot of a tile that holds no token wants nothing, and every tile that holds a wanted
pair counts whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

Array = np.ndarray
MOST_SLOTS = 4
"""Layouts that need more slots than so many times the tokens are left out: most of each of their tiles is empty."""
SMALL_STRIDES = range(1, 17)
_ONES = np.array([value.bit_count() for value in range(256)], np.uint8)


def strides(n: int, radices: Sequence[int] = ()) -> list[int]:
    """All small ones, the divisors of n, and the radices given."""
    return sorted({*SMALL_STRIDES, *radices, *(s for s in range(1, n + 1) if n % s == 0)})


def order(n: int, tile: int, stride: int, width: int) -> Array:
    """(tiles, tile): the token in each slot of the layout, n where there is none."""
    lines, depth = -(-n // stride), tile // width
    per_lane, lanes = -(-lines // depth), -(-stride // width)
    token = np.full((per_lane * depth, lanes * width), n)
    token.reshape(-1, lanes * width)[:lines, :stride] = np.minimum(
        np.arange(lines)[:, None] * stride + np.arange(stride), n
    )
    boxes = token.reshape(per_lane, depth, lanes, width).transpose(2, 0, 1, 3)
    return boxes.reshape(lanes * per_lane, tile)


def listing(tokens: Array, n: int, tile: int) -> Array:
    """(tiles, tile): the tokens given, in order, then n."""
    slots = np.full(-(-max(len(tokens), 1) // tile) * tile, n)
    slots[: len(tokens)] = tokens
    return slots.reshape(-1, tile)


Layout = tuple[int, int] | str


@cache
def layouts(n: int, tile: int, radices: tuple[int, ...] = ()) -> dict[Layout, Array]:
    """All layouts (stride, width) that are tried, with their orders; of those of one order, the first."""
    found: dict[Layout, Array] = {}
    known: set[bytes] = set()
    for stride in strides(n, radices):
        for width in (1 << e for e in range(tile.bit_length())):
            if width <= min(tile, stride) and tile % width == 0:
                slots = order(n, tile, stride, width)
                if slots.size <= MOST_SLOTS * n and slots.tobytes() not in known:
                    known.add(slots.tobytes())
                    found[stride, width] = slots
    return found


@dataclass(frozen=True)
class Best:
    """The fewest tiles of one mask, and the layouts of queries and of keys that reach it."""

    tiles: int
    queries: Layout
    keys: Layout


@dataclass(frozen=True, eq=False)
class Side:
    """A layout of one side of a mask."""

    name: Layout
    slots: Array
    touched: Array
    """(tiles, words): of each tile, bit by bit, the tokens of the other side that a token of it is wanted with."""
    least: int
    """No layout of the other side makes fewer tiles: each holds so many of these bits at most as it has tokens."""


def best_pair(mask: Array, tile_q: int, tile_k: int, radices: tuple[int, ...] = ()) -> Best:
    """The best of all pairs of a layout of queries with a layout of keys. Pairs that cannot be better than what is
    found already, by what either side needs at least, are not counted out."""
    n_q, _ = mask.shape
    if not mask.any():
        return Best(0, (1, 1), (1, 1))
    of_queries, of_keys = _sides(mask, tile_q, tile_k, radices), _sides(mask.T, tile_k, tile_q, radices)
    best = Best(mask.size, (1, 1), (1, 1))
    for keys in of_keys:
        if max(keys.least, of_queries[0].least) >= best.tiles:
            break
        by_query = _packed(np.unpackbits(keys.touched.view(np.uint8), axis=1, count=n_q).T)
        for queries in of_queries:
            if queries.least >= best.tiles:
                break
            tiles = int(_count(_any(by_query, queries.slots)).sum())
            if tiles < best.tiles:
                best = Best(tiles, queries.name, keys.name)
    return best


def _sides(mask: Array, tile: int, across: int, radices: tuple[int, ...]) -> list[Side]:
    """The layouts of the rows of a mask, by what they need at least; tiles have `across` tokens of the other side."""
    rows = _packed(mask)
    every = {**layouts(len(mask), tile, radices), "listed": listing(np.flatnonzero(mask.any(1)), len(mask), tile)}
    found = []
    for name, slots in every.items():
        touched = _any(rows, slots)
        found.append(Side(name, slots, touched, int((-(-_count(touched) // across)).sum())))
    return sorted(found, key=lambda side: side.least)


def tiles_of(mask: Array, queries: Array, keys: Array) -> int:
    """The tiles that one pair of orders needs."""
    padded = np.pad(mask != 0, ((0, 1), (0, 1)))
    cells = padded[queries[:, None, :, None], keys[None, :, None, :]]
    return int(cells.any(axis=(2, 3)).sum())


def _packed(mask: Array) -> Array:
    """(rows + 1, words): the bits of each row, and a last row without any."""
    bits = np.packbits(mask, axis=1)
    out = np.zeros((mask.shape[0] + 1, -(-bits.shape[1] // 8) * 8), np.uint8)
    out[:-1, : bits.shape[1]] = bits
    return out.view(np.uint64)


def _any(rows: Array, slots: Array) -> Array:
    """(tiles, words): the bits that any row of a tile has."""
    out = rows[slots[:, 0]]
    for i in range(1, slots.shape[1]):
        out |= rows[slots[:, i]]
    return out


def _count(words: Array) -> Array:
    """(rows,): how many bits are set in each row."""
    return _ONES[words.view(np.uint8)].sum(axis=1, dtype=np.int64)


# ------------------------------------------------------------------ several terms


def ordered_partitions(items: frozenset[int]) -> Iterator[tuple[frozenset[int], ...]]:
    """All ways to put the items into groups, one after another."""
    if not items:
        yield ()
        return
    for first in _subsets(items):
        for rest in ordered_partitions(items - first):
            yield (first, *rest)


def _subsets(items: frozenset[int]) -> Iterator[frozenset[int]]:
    """Those that are not empty."""
    listed = sorted(items)
    for chosen in range(1, 1 << len(listed)):
        yield frozenset(item for i, item in enumerate(listed) if chosen >> i & 1)


@dataclass(frozen=True)
class Split:
    """The fewest tiles of a union or sum of arms, and the groups of arms that share a pair of layouts."""

    tiles: int
    groups: tuple[tuple[tuple[int, ...], Best], ...]


def best_split(
    arms: Sequence[Array], tile_q: int, tile_k: int, radices: tuple[int, ...] = (), *, bag: bool = False
) -> Split:
    """Every assignment of arms to pairs of layouts. Of a set, each group leaves out what those before it hold; the arms
    of a bag are added, so nothing is left out."""
    found: dict[tuple[frozenset[int], frozenset[int]], Best] = {}

    def of(group: frozenset[int], before: frozenset[int]) -> Best:
        key = group, frozenset() if bag else before
        if key not in found:
            found[key] = best_pair(_union(arms, group) & ~_union(arms, key[1]), tile_q, tile_k, radices)
        return found[key]

    def split(groups: tuple[frozenset[int], ...]) -> Split:
        before = [frozenset[int]().union(*groups[:i]) for i in range(len(groups))]
        parts = [(tuple(sorted(group)), of(group, b)) for group, b in zip(groups, before, strict=True)]
        return Split(sum(part.tiles for _, part in parts), tuple(parts))

    return min((split(groups) for groups in ordered_partitions(frozenset(range(len(arms))))), key=lambda s: s.tiles)


def _union(arms: Sequence[Array], chosen: frozenset[int]) -> Array:
    out = np.zeros(arms[0].shape, bool)
    for i in chosen:
        out |= arms[i]
    return out
