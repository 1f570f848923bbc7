"""The hash by which `sample` ranks keys, in plain Python."""

from __future__ import annotations


def mix(x: int) -> int:
    """The mixing function of `sample`, on 32 bits (language.md §4, Selection)."""
    x ^= x >> 16
    x = x * 0x7FEB352D & 0xFFFFFFFF
    x ^= x >> 15
    x = x * 0x846CA68B & 0xFFFFFFFF
    return x ^ x >> 16


def hash_cell(seed: int, *coordinates: int) -> int:
    """The rank of a cell in a sample; `coordinates` are h, q, k."""
    x = mix(seed + 0x9E3779B9 & 0xFFFFFFFF)
    for c in coordinates:
        x = mix((x ^ c) & 0xFFFFFFFF)
    return x
