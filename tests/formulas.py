"""The multiplicities of the fifteen programs, written from their meaning in NumPy; nothing here knows the compiler.

Every function has the program's name and returns M (heads, n_q, n) as int64, with a batch axis in front when it reads
a batched tensor. `n_q` queries stand at the last positions; parameters go by the program's names, tensors too.
"""

# ruff: noqa: N803 (parameters bear the names of the programs' parameters)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.int64]
Level = tuple[int, float, int]


def positions(n: int, n_q: int | None) -> tuple[Mask, Mask]:
    """Query positions (n_q, 1) and key positions (1, n)."""
    n_q = n if n_q is None else n_q
    return np.arange(n - n_q, n)[:, None], np.arange(n)[None, :]


def every_head(cells: NDArray[Any], heads: int) -> Mask:
    """(…, n_q, n) of one head as (…, heads, n_q, n)."""
    return np.repeat(cells.astype(np.int64)[..., None, :, :], heads, axis=-3)


def per_head(cells: Sequence[NDArray[Any]]) -> Mask:
    """One (…, n_q, n) per head as (…, heads, n_q, n)."""
    return np.stack([c.astype(np.int64) for c in cells], axis=-3)


def spread(blocks: NDArray[Any], block: int, n: int, n_q: int | None) -> NDArray[Any]:
    """A relation of blocks (…, rows, columns) read on the tokens in them, (…, n_q, n)."""
    q, k = positions(n, n_q)
    return blocks[..., q // block, k // block]


def causal(n: int, n_q: int | None) -> NDArray[np.bool_]:
    q, k = positions(n, n_q)
    return k <= q


# ------------------------------------------------------------------ windows, hubs and blocks


def local(n: int, n_q: int | None = None, *, heads: int = 1, layer: int = 0, window: float = 4096) -> Mask:
    q, k = positions(n, n_q)
    return every_head((k <= q) & (k > q - window), heads)


def global_local(
    n: int, n_q: int | None = None, *, heads: int = 1, layer: int = 0, hubs: int = 128, window: int = 512
) -> Mask:
    q, k = positions(n, n_q)
    half = window // 2
    near = (k >= q - half) & (k <= q + half)
    return every_head(near | (q < hubs) | (k < hubs), heads)


def dilated_sparse(
    n: int,
    n_q: int | None = None,
    *,
    heads: int = 1,
    layer: int = 0,
    block: int = 64,
    rates: Sequence[int] = (1, 2, 4, 8),
) -> Mask:
    q, k = positions(n, n_q)
    return every_head(np.isin(np.abs(q // block - k // block), [0, *rates]), heads)


def hierarchical(
    n: int,
    n_q: int | None = None,
    *,
    heads: int = 1,
    layer: int = 0,
    levels: Sequence[Level] = ((64, 256, 64), (256, 1024, 64), (1024, float("inf"), 64)),
) -> Mask:
    q, k = positions(n, n)
    united = np.zeros((n, n), bool)
    for stride, window, block in levels:
        wanted = (q % stride == 0) & (np.abs(q - k) <= (window if window == np.inf else window // 2))
        for row in range(0, n, block):
            for column in range(0, n, block):
                box = slice(row, row + block), slice(column, column + block)
                united[box] |= wanted[box].any()
    return every_head(united[n - (n if n_q is None else n_q) :], heads)


def longnet(
    n: int,
    n_q: int | None = None,
    *,
    heads: int = 1,
    layer: int = 0,
    levels: Sequence[tuple[int, int]] = ((2048, 1), (4096, 2), (8192, 4)),
) -> Mask:
    q, k = positions(n, n_q)

    def branch(h: int, w: int, r: int) -> NDArray[np.bool_]:
        """Inside its segment of w tokens, the head keeps the tokens of one residue mod r."""
        chosen = np.array([i % w % r == h % r for i in range(n)])
        return (q // w == k // w) & chosen[q] & chosen[k]

    return per_head(
        [causal(n, n_q) * sum((branch(h, w, r).astype(int) for w, r in levels), np.zeros(1, int)) for h in range(heads)]
    )


def block_dilated(
    n: int,
    n_q: int | None = None,
    *,
    heads: int = 1,
    layer: int = 0,
    block: int = 256,
    near: int = 1,
    parts: Sequence[tuple[int, int, int]] = ((0, 128, 1), (128, 256, 2)),
) -> Mask:
    q, k = positions(n, n_q)
    kept = np.zeros(block, bool)
    for lo, hi, r in parts:
        kept[lo:hi:r] = True
    return every_head((np.abs(q // block - k // block) <= near) & kept[k % block], heads)


def longformer(
    n: int,
    n_q: int | None = None,
    *,
    is_global: NDArray[np.bool_],
    heads: int = 1,
    layer: int = 0,
    w: int = 256,
    dilation: Sequence[int] = (1, 1, 1, 1, 1, 1, 2, 2),
) -> Mask:
    q, k = positions(n, n_q)
    hub = is_global[:, q] | is_global[:, k]  # (B, n_q, n)

    def band(d: int) -> NDArray[np.bool_]:
        return np.isin(k - q, d * np.arange(-w, w + 1))

    return per_head([band(dilation[h % len(dilation)]) | hub for h in range(heads)])


# ------------------------------------------------------------------ selections

_WORD = 0xFFFFFFFF


def mix(x: int) -> int:
    x ^= x >> 16
    x = x * 0x7FEB352D & _WORD
    x ^= x >> 15
    x = x * 0x846CA68B & _WORD
    return x ^ x >> 16


def rank(seed: int, h: int, q: int, k: int) -> int:
    """The counter hash of `sample`; the largest wins."""
    x = mix(seed + 0x9E3779B9 & _WORD)
    for c in (h, q, k):
        x = mix(x ^ c)
    return x


def bigbird(
    n: int,
    n_q: int | None = None,
    *,
    heads: int = 1,
    layer: int = 0,
    block: int = 64,
    r: int = 3,
    seed: int = 0,
) -> Mask:
    last = (n - 1) // block

    def row(h: int, q: int) -> list[bool]:
        kept = [abs(q - k) <= 1 or q in (0, last) or k in (0, last) for k in range(last + 1)]
        rest = [k for k in range(last + 1) if not kept[k]]
        drawn = sorted(rest, key=lambda k: (-rank(seed, h, q, k), k))[:r]
        return [kept[k] or k in drawn for k in range(last + 1)]

    heads_blocks = [np.array([row(h, q) for q in range(last + 1)]) for h in range(heads)]
    return per_head([spread(blocks, block, n, n_q) for blocks in heads_blocks])


def adaptive(
    n: int,
    n_q: int | None = None,
    *,
    score: NDArray[np.floating],
    heads: int = 1,
    layer: int = 0,
    block: int = 64,
    keep: int = 8,
) -> Mask:
    batch, _, count, _ = score.shape
    chosen = np.zeros((batch, heads, count, count), bool)
    for b, h, q in np.ndindex(batch, heads, count):
        past = [k for k in range(q) if not np.isnan(score[b, h, q, k])]
        best = sorted(past, key=lambda k: (-score[b, h, q, k], k))[:keep]
        chosen[b, h, q, [q, *best]] = True
    return (spread(chosen, block, n, n_q) & causal(n, n_q)).astype(np.int64)


# ------------------------------------------------------------------ strides, grids and run-time ids


def strided(n: int, n_q: int | None = None, *, heads: int = 1, layer: int = 0, l: int = 128) -> Mask:  # noqa: E741
    q, k = positions(n, n_q)
    arms = [(k <= q) & (k > q - l), (k <= q) & (q % l == k % l)]
    return per_head([arms[h % 2] for h in range(heads)])


def butterfly(n: int, n_q: int | None = None, *, heads: int = 1, layer: int = 0, block: int = 64) -> Mask:
    q, k = positions(n, n_q)
    flipped = np.bitwise_xor(q // block, k // block)
    return every_head(flipped & (flipped - 1) == 0, heads)  # at most one bit differs


def neighborhood(
    n: int,
    n_q: int | None = None,
    *,
    H: int,
    W: int,
    heads: int = 1,
    layer: int = 0,
    size: int = 7,
) -> Mask:
    def axis(extent: int) -> NDArray[np.bool_]:
        """Which coordinates see which: `size` around the query, moved inwards where they would stick out."""
        seen = np.zeros((extent, extent), bool)
        for at in range(extent):
            start = max(0, min(at - size // 2, extent - size))
            seen[at, start : start + size] = True
        return seen

    grid = np.einsum("ab,cd->acbd", axis(H), axis(W)).reshape(H * W, H * W)
    return every_head(grid[n - (n if n_q is None else n_q) :], heads)


def documents(n: int, n_q: int | None = None, *, doc: NDArray[np.integer], heads: int = 1, layer: int = 0) -> Mask:
    q, k = positions(n, n_q)
    return every_head(causal(n, n_q) & (doc[:, q] == doc[:, k]), heads)


def gemma(n: int, n_q: int | None = None, *, heads: int = 1, layer: int = 0, window: float = 1024) -> Mask:
    if layer % 6 == 5:
        return every_head(causal(n, n_q), heads)
    return local(n, n_q, heads=heads, window=window)


def block_diffusion(n: int, n_q: int | None = None, *, m: int, B: int, heads: int = 1, layer: int = 0) -> Mask:
    part = np.arange(n) % m // B
    noisy_part = [part[i] if i < m else None for i in range(n)]
    clean_part = [part[i] if i >= m else None for i in range(n)]

    def attends(i: int, j: int) -> bool:
        """Noised blocks see themselves and the clean blocks before them; clean blocks see clean blocks up to theirs."""
        match noisy_part[i], noisy_part[j]:
            case None, None:
                return clean_part[j] <= clean_part[i]
            case None, _:
                return False
            case own, None:
                return clean_part[j] < own
            case own, other:
                return own == other

    rows = range(n - (n if n_q is None else n_q), n)
    return every_head(np.array([[attends(i, j) for j in range(n)] for i in rows]), heads)
