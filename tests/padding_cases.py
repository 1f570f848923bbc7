"""The measured patterns at lengths of 1,024 and 4,096 tokens, with parameters to match, and the natural arms of each.

A tile of 32 × 16 is to them about what one of 128 × 64 is to the patterns at 16,384 tokens. The arms are what a person
would write the pattern as a union (or sum) of; nothing here knows the compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks import suite

Array = np.ndarray
LENGTH = 1024
LONG = 4096
"""The length of the exhaustive search."""
Arms = Callable[[Array, Array], Sequence[Array]]


@dataclass(frozen=True, eq=False)
class Scaled:
    """A case with small parameters. `arms` maps positions of queries (n, 1) and of keys (1, n) to masks that broadcast;
    None if it has one arm. The oracle tries `radices` as strides, besides its own."""

    name: str
    n: int
    params: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Array] = field(default_factory=dict)
    arms: Arms | None = None
    radices: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def case(self) -> suite.Case:
        return next(case for case in suite.CASES if case.name == self.name)

    @property
    def bag(self) -> bool:
        return self.name == "longnet"

    def masks(self, h: int) -> list[Array]:
        """The arms of head h as masks (n, n)."""
        q, k = np.arange(self.n)[:, None], np.arange(self.n)[None]
        if self.name == "longnet":
            levels = [[level] for level in self.params["levels"]]
            return [suite.longnet(q, k, h, levels=level) > 0 for level in levels]
        if self.arms is None:
            return [self.case.multiplicities(self.n, h=h, **self.params, **self.tensors) > 0]
        return [np.broadcast_to(arm, (self.n, self.n)) for arm in self.arms(q, k)]


FLAG = suite.flags(LONG, 0)


def longformer(q: Array, k: Array) -> list[Array]:
    return [np.abs(q - k) <= 64, q < 32, k < 32]


def sinks(q: Array, k: Array) -> list[Array]:
    return [(k <= q) & (q - k < 256), (k <= q) & (k < 16)]


def strided_st(q: Array, k: Array) -> list[Array]:
    return [(k <= q) & (q - k < 32), (k <= q) & ((q - k) % 32 == 0)]


def inblock_dil(q: Array, k: Array) -> list[Array]:
    near = np.abs(q // 64 - k // 64) <= 2
    return [near & (k % 64 < 32), near & (k % 2 == 0)]


def hier(q: Array, k: Array) -> list[Array]:
    return [np.abs(q - k) <= 16, (np.abs(q - k) <= 64) & (k % 4 == 0), k % 16 == 0]


def fixed(q: Array, k: Array) -> list[Array]:
    return [(k <= q) & (q // 32 == k // 32), (k <= q) & (k % 32 >= 30)]


def two_dilations(q: Array, k: Array) -> list[Array]:
    d = np.abs(q - k)
    return [(d <= 64) & (d % 2 == 0), (d <= 256) & (d % 8 == 0)]


def flagged(q: Array, k: Array) -> list[Array]:
    return [np.abs(q - k) <= 64, FLAG[k]]


def block_column(q: Array, k: Array) -> list[Array]:
    return [q // 64 == k // 64, k % 16 == 0]


def scaled(n: int) -> tuple[Scaled, ...]:
    """All patterns at a length, a square of at most LONG tokens."""
    side = math.isqrt(n)
    return (
        Scaled("causal", n),
        Scaled("local_causal", n, {"window": 256}),
        Scaled("longformer", n, {"window": 64, "hubs": 32}, arms=longformer),
        Scaled("dilated_blocks", n, {"block": 16}),
        Scaled("sinks", n, {"window": 256, "first": 16}, arms=sinks),
        Scaled("dilated_window16", n, {"window": 256, "dilation": 4}),
        Scaled("strided_st", n, {"stride": 32}, arms=strided_st),
        Scaled("inblock_dil", n, {"block": 64, "dense": 32}, arms=inblock_dil),
        Scaled("hier", n, {"near": 16, "reach": 64}, arms=hier),
        Scaled("document", n, tensors={"ids": suite.documents(n, 6 * n // LENGTH, 0)}),
        Scaled("longnet", n, {"levels": [(n // 4, 1), (n // 2, 2), (n, 4)]}),
        Scaled("neighborhood13", n, {"H": side, "W": side, "size": 7}),
        Scaled("fixed", n, {"block": 32, "summary": 2}, arms=fixed),
        Scaled("two_dilations", n, {"near": 64, "fine": 2, "far": 256, "coarse": 8}, arms=two_dilations),
        Scaled("comb", n, {"window": 256}),
        Scaled("coprime_axes", n),
        Scaled("coprime_difference", n),
        Scaled("head_dilations", n, {"window": 32}),
        Scaled("flagged", n, {"window": 64}, tensors={"flag": FLAG[:n]}, arms=flagged),
        Scaled("block_column", n, {"block": 64, "stride": 16}, arms=block_column),
        Scaled("strided_heads", n, {"stride": 32}),
    )


SCALED, AT_LENGTH = scaled(LENGTH), scaled(LONG)
