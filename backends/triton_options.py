"""How kernels are compiled: warps, stages of the loads, registers. By pass, head dimension and bits of the dtype."""

from __future__ import annotations

from dataclasses import dataclass

PASSES = ("forward", "backward_queries", "backward_keys")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a kernel; `registers` limits the registers of a thread, so that more programs share a processor."""

    warps: int = 4
    stages: int = 2
    registers: int | None = None


CAREFUL = Options(8, 1)
"""Of kernels that compute again what is not a number."""


def options(name: str, dim: int, bits: int) -> Options:
    """The options of a pass for a head dimension (rounded up to a power of two). Best on an H200 for 128 channels of 16
    bits and tiles of 64 by 64, by benchmarks/gpu_probe.py."""
    if dim * bits > 128 * 16:
        return Options(8, 2)
    return Options(4, 3 if name == "forward" else 2)
