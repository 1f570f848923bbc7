"""The patterns that are measured: the suite, and others that the compiler was not tuned for.

Each is a program in suite/ or patterns/, whose parameters have the suite's values as defaults, and a formula in NumPy
of its multiplicities that knows nothing of the compiler. A formula takes query positions (…, 1), key positions (1, …)
and the head, the program's parameters by name, and run-time tensors of one row by name.
"""

# ruff: noqa: N803 (parameters bear the names of the programs' parameters)

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray
HERE = Path(__file__).parent
LENGTH = 16384
"""The length at which the suite is measured, in tokens."""
DOCUMENTS = 24
AT_ONCE = 1 << 24
"""Cells that are evaluated at once."""


@dataclass(frozen=True, eq=False)
class Case:
    """A pattern of the suite, or another one."""

    name: str
    formula: Callable[..., Array]
    kinds: int = 1
    """How many kinds of heads it has: head h is of the kind h % kinds."""
    draw: Callable[[int, int], Mapping[str, Array]] | None = None
    """Its run-time tensors at a length, by a seed."""
    folder: str = "suite"

    @property
    def path(self) -> Path:
        return HERE / self.folder / f"{self.name}.spat"

    def tensors(self, n: int, seed: int = 0) -> dict[str, Array]:
        return {} if self.draw is None else dict(self.draw(n, seed))

    def multiplicities(self, n: int, n_q: int | None = None, *, h: int = 0, **named: Any) -> Array:
        """M (n_q, n) of one head as int8, for the last n_q of n positions."""
        n_q = n if n_q is None else n_q
        out = np.empty((n_q, n), np.int8)
        for rows, q, k in _strips(n, n_q):
            out[rows] = self.formula(q, k, h, **named)
        return out

    def wanted(self, n: int, heads: int | None = None, **named: Any) -> int:
        """Pairs with M > 0, over all heads (one of each kind unless given)."""
        heads = self.kinds if heads is None else heads
        counts = [
            sum(int(np.count_nonzero(self.formula(q, k, h, **named))) for _, q, k in _strips(n, n))
            for h in range(min(heads, self.kinds))
        ]
        return sum(counts[h % self.kinds] for h in range(heads))


def _strips(n: int, n_q: int) -> Iterator[tuple[slice, Array, Array]]:
    """The rows of n_q queries, some at a time, with the positions of queries and keys."""
    k, height = np.arange(n, dtype=np.int32)[None], max(AT_ONCE // n, 1)
    for row in range(0, n_q, height):
        rows = slice(row, min(row + height, n_q))
        yield rows, np.arange(n - n_q + rows.start, n - n_q + rows.stop, dtype=np.int32)[:, None], k


# ------------------------------------------------------------------ the suite


def causal(q: Array, k: Array, h: int = 0) -> Array:
    return k <= q


def local_causal(q: Array, k: Array, h: int = 0, *, window: int = 1024) -> Array:
    return (k <= q) & (k > q - window)


def longformer(q: Array, k: Array, h: int = 0, *, window: int = 256, hubs: int = 128) -> Array:
    return (np.abs(q - k) <= window) | (q < hubs) | (k < hubs)


def dilated_blocks(q: Array, k: Array, h: int = 0, *, block: int = 64, rates: Sequence[int] = (1, 2, 4, 8)) -> Array:
    seen = np.zeros(max(rates) + 1, bool)
    seen[[0, *rates]] = True
    distance = np.abs(q // block - k // block)
    return seen[np.minimum(distance, len(seen) - 1)] & (distance < len(seen))


def sinks(q: Array, k: Array, h: int = 0, *, window: int = 2048, first: int = 64) -> Array:
    return (k <= q) & ((k > q - window) | (k < first))


def dilated_window16(q: Array, k: Array, h: int = 0, *, window: int = 4096, dilation: int = 16) -> Array:
    return (np.abs(q - k) <= window) & (q % dilation == k % dilation)


def strided_st(q: Array, k: Array, h: int = 0, *, stride: int = 128) -> Array:
    return (k <= q) & ((k > q - stride) | (q % stride == k % stride))


def inblock_dil(q: Array, k: Array, h: int = 0, *, block: int = 256, near: int = 2, dense: int = 128) -> Array:
    return (np.abs(q // block - k // block) <= near) & ((k % block < dense) | (k % 2 == 0))


def hier(q: Array, k: Array, h: int = 0, *, near: int = 64, reach: int = 256, mid: int = 4, far: int = 16) -> Array:
    distance = np.abs(q - k)
    return (distance <= near) | ((distance <= reach) & (k % mid == 0)) | (k % far == 0)


def document(q: Array, k: Array, h: int = 0, *, ids: Array) -> Array:
    return (k <= q) & (ids[q] == ids[k])


def longnet(
    q: Array,
    k: Array,
    h: int = 0,
    *,
    levels: Sequence[tuple[int, int]] = ((2048, 1), (4096, 2), (8192, 4)),
) -> Array:
    def branch(w: int, r: int) -> Array:
        return (q // w == k // w) & (q % w % r == h % r) & (k % w % r == h % r)

    return np.sum([branch(w, r) for w, r in levels], axis=0, dtype=np.int8) * (k <= q)


def documents(n: int, count: int, seed: int) -> Array:
    """Ids (n,) of `count` packed documents, 0 … count - 1 in order, whose lengths lie within a tenth of n / count."""
    lengths = np.random.default_rng(seed).uniform(0.9, 1.1, count)
    ends = np.round(np.cumsum(lengths) / lengths.sum() * n).astype(np.int64)
    return np.searchsorted(ends, np.arange(n), side="right").astype(np.int64)


SUITE = (
    Case("causal", causal),
    Case("local_causal", local_causal),
    Case("longformer", longformer),
    Case("dilated_blocks", dilated_blocks),
    Case("sinks", sinks),
    Case("dilated_window16", dilated_window16),
    Case("strided_st", strided_st),
    Case("inblock_dil", inblock_dil),
    Case("hier", hier),
    Case("document", document, draw=lambda n, seed: {"ids": documents(n, DOCUMENTS, seed)}),
    Case("longnet", longnet, kinds=4),
)

# ------------------------------------------------------------------ others


def neighborhood13(q: Array, k: Array, h: int = 0, *, H: int = 128, W: int = 128, size: int = 13) -> Array:
    def sees(a: Array, b: Array, extent: int) -> Array:
        """Coordinates in the window of `size` around a, moved inwards where it would stick out."""
        start = np.clip(a - size // 2, 0, extent - size)
        return (b >= start) & (b < start + size)

    return sees(q // W, k // W, H) & sees(q % W, k % W, W)


def fixed(q: Array, k: Array, h: int = 0, *, block: int = 128, summary: int = 8) -> Array:
    return (k <= q) & ((q // block == k // block) | (k % block >= block - summary))


def two_dilations(
    q: Array, k: Array, h: int = 0, *, near: int = 512, fine: int = 4, far: int = 4096, coarse: int = 32
) -> Array:
    distance = np.abs(q - k)
    return ((distance <= near) & (distance % fine == 0)) | ((distance <= far) & (distance % coarse == 0))


def comb(q: Array, k: Array, h: int = 0, *, window: int = 2048, pitch: int = 8, tooth: int = 2) -> Array:
    return (np.abs(q - k) <= window) & (k % pitch < tooth)


def coprime_axes(q: Array, k: Array, h: int = 0, *, a: int = 3, b: int = 5) -> Array:
    return (q % a == 0) & (k % b == 0)


def coprime_difference(q: Array, k: Array, h: int = 0, *, a: int = 3, b: int = 5) -> Array:
    return (q % (a * b)) == (k % (a * b))


def head_dilations(
    q: Array, k: Array, h: int = 0, *, window: int = 256, dilation: Sequence[int] = (1, 2, 4, 8)
) -> Array:
    d = dilation[h % len(dilation)]
    return (np.abs(q - k) <= window * d) & (q % d == k % d)


def flagged(q: Array, k: Array, h: int = 0, *, window: int = 256, flag: Array) -> Array:
    return (np.abs(q - k) <= window) | flag[k]


def block_column(q: Array, k: Array, h: int = 0, *, block: int = 256, stride: int = 64) -> Array:
    return (q // block == k // block) | (k % stride == 0)


def strided_heads(q: Array, k: Array, h: int = 0, *, stride: int = 128) -> Array:
    return (k <= q) & ((q % stride == k % stride) if h % 2 else (k > q - stride))


def flags(n: int, seed: int) -> Array:
    """(n,) truth values, one in 64 true in the mean."""
    return np.random.default_rng(seed).random(n) < 1 / 64


OTHERS = (
    Case("neighborhood13", neighborhood13, folder="patterns"),
    Case("fixed", fixed, folder="patterns"),
    Case("two_dilations", two_dilations, folder="patterns"),
    Case("comb", comb, folder="patterns"),
    Case("coprime_axes", coprime_axes, folder="patterns"),
    Case("coprime_difference", coprime_difference, folder="patterns"),
    Case("head_dilations", head_dilations, kinds=4, folder="patterns"),
    Case("flagged", flagged, draw=lambda n, seed: {"flag": flags(n, seed)}, folder="patterns"),
    Case("block_column", block_column, folder="patterns"),
    Case("strided_heads", strided_heads, kinds=2, folder="patterns"),
)
CASES = SUITE + OTHERS
