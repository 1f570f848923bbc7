"""How kernels are compiled: warps, stages of the loads, registers. By pass, head dimension and bits of the dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PASSES = ("forward", "backward_queries", "backward_keys")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a kernel; `registers` limits the registers of a thread, so that more programs share a processor."""

    warps: int = 4
    stages: int = 2
    registers: int | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """How the kernels of a program run on a device."""

    tile: tuple[int, int]
    """Queries and keys of a tile."""
    options: Mapping[str, Options] = field(default_factory=dict)
    """By pass; those left out are the usual ones."""


CAREFUL = Options(8, 1)
"""Of kernels that compute again what is not a number."""


SHORT = 10
"""Tiles of an item, on average, up to which loads ahead gain less than a third program on a processor."""


def options(name: str, dim: int, bits: int, chained: bool = False, tiles: float = SHORT + 1) -> Options:
    """The options of a pass for a head dimension (rounded up to a power of two), on a grid with so many `tiles` in an
    item, which is `chained` to others or not: those alone may change with the length. Best on an H200 for 128 channels
    of 16 bits and tiles of 64 by 64."""
    if dim * bits > 128 * 16:
        return Options(8, 2)
    if name != "forward":
        return Options(4, 2)
    return Options(4, 1, 168) if chained and tiles <= SHORT and dim == 128 else Options(4, 3)
