"""Loads of tiles by tensor descriptors, which need fewer registers than pointers: where they can be had, and theirs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch

from patternc.backends.triton_launch import Box
from patternc.backends.triton_tables import Tables

_FIRST = (9, 0)
"""The first compute capability that loads boxes."""
_MOST = 256
"""Elements of a box along an axis."""


@cache
def offered(device: torch.device) -> bool:
    """Whether the device loads boxes by itself."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _FIRST


def layout(tables: Tables, columns: Mapping[str, int], side: str) -> tuple[int, int] | None:
    """Stride and bits of width of a side's layout, if all launches of the grid have the same."""
    found = {(line[columns[f"{side}_stride"]], line[columns[f"{side}_bits"]]) for line in tables.numbers}
    return found.pop() if len(found) == 1 else None


def boxes(
    tensors: Mapping[str, torch.Tensor], tables: Tables, columns: Mapping[str, int], side: str, tile: int, first: int
) -> dict[str, Box]:
    """Descriptors of (batch, head, line, column, channel) for tensors (B, H, N, D) whose row 0 stands at position
    `first`, or none if some tensor cannot be read so."""
    shape = layout(tables, columns, side)
    if shape is None or not all(_fits(t, shape[0], tile >> shape[1], first) for t in tensors.values()):
        return {}
    return {f"{name}_box": _box(name, t, shape[0], shape[1], tile) for name, t in tensors.items()}


def inverse(stride: int) -> dict[str, int]:
    """By what kernels multiply a number below 2^31, and by how many bits they then shift it, to divide it by a stride.

    That is exact: Granlund and Montgomery, "Division by invariant integers using multiplication", 1994. The factor lies
    between 2^31 and 2^32, so that its type is the same for all strides.
    """
    shift = 31 + (stride - 1).bit_length()
    return {"line_inverse": -(-(1 << shift) // stride), "line_shift": shift}


def flat(name: str, count: int, tile: int) -> Box:
    """Of so many elements, of which `tile` neighbouring ones are read at a time."""
    return Box(name, [count], [1], [tile])


def _fits(t: torch.Tensor, stride: int, lines: int, first: int) -> bool:
    """Lines must be whole, and rows start at multiples of 16 bytes."""
    if t.numel() == 0 or t.shape[2] % stride or first % stride or not 0 < lines <= _MOST or t.shape[3] > _MOST:
        return False
    unit = 16 // t.element_size()
    steps = [s for s, size in zip(t.stride()[:3], t.shape[:3], strict=True) if size > 1]
    return t.data_ptr() % 16 == 0 and all(s > 0 and s % unit == 0 for s in steps)


def _box(name: str, t: torch.Tensor, stride: int, bits: int, tile: int) -> Box:
    batch, heads, n, dim = t.shape
    unit = 16 // t.element_size()  # what is passed as the stride of an axis of one
    to_batch, to_head, to_row = (s if size > 1 else unit for s, size in zip(t.stride()[:3], t.shape[:3], strict=True))
    shape, strides = [batch, heads, n // stride, stride, dim], [to_batch, to_head, to_row * stride, to_row, 1]
    block = max(16, 1 << (dim - 1).bit_length())
    return Box(name, shape, strides, [1, 1, tile >> bits, 1 << bits, block])
