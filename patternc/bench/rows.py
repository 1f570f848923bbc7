"""What is found for a pattern, as figures and as a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BACKWARD_FLOPS = 2.5
"""Of the backward pass, in those of the forward pass: five products of matrices in place of two."""


@dataclass(frozen=True)
class Beside:
    """A peer's time."""

    ms: float
    ratio: float
    """Its time over ours: above 1, ours is faster."""


@dataclass(frozen=True)
class Pass:
    """One direction."""

    ms: float
    tflops: float
    """Useful TFLOP/s: of pairs that the pattern wants alone, 4 · dim operations each, 2.5 times as many backward."""
    roofline: float
    """The same as a share of what a product of large matrices reaches."""
    peers: Mapping[str, Beside]


@dataclass(frozen=True)
class Row:
    """A pattern at one size, beside its peers."""

    pattern: str
    n: int
    """Tokens."""
    head_dim: int
    dtype: str
    backend: str
    wanted: float
    """The share of pairs that the pattern keeps."""
    padding: float | None
    """Pairs computed over pairs wanted; None where the backend has no tiles."""
    forward: Pass
    backward: Pass
    host_us: float
    """Microseconds until a forward call returns, of which the device need not wait for all."""
    repeats: int
    matmul_tflops: float
    """The roofline, measured beside."""
    difference: float | None
    """The largest difference of output and gradients to FlexAttention's, relative to the largest value of each."""
    missing: Mapping[str, str]
    """Peers that could not be measured, and why."""
    waiting: Sequence[str] = ()
    """Contenders whose forward call waits for the device: their time is that of the caller, others' is the device's."""


def direction(ms: Mapping[str, float], flops: float, roofline: float, own: str = "ours") -> Pass:
    """A pass from the milliseconds of all contenders; `flops` are those of wanted pairs, `roofline` TFLOP/s."""
    tflops = flops / ms[own] / 1e9
    peers = {name: Beside(value, value / ms[own]) for name, value in ms.items() if name != own}
    return Pass(ms[own], tflops, tflops / roofline, peers)


def means(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """For each direction, the geometric mean of the ratio to each peer, over the rows that have it."""
    found: dict[str, dict[str, float]] = {}
    for name in ("forward", "backward"):
        passes: list[Pass] = [getattr(row, name) for row in rows]
        peers = dict.fromkeys(peer for one in passes for peer in one.peers)
        found[name] = {
            peer: statistics.geometric_mean(one.peers[peer].ratio for one in passes if peer in one.peers)
            for peer in peers
        }
    return found


def table(rows: Sequence[Row]) -> str:
    """Text, a line for each pattern: forward, then backward; `x peer` is the peer's time over ours."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row.forward.peers))
    one = ["ms", "TFLOP/s", "x roofline", *(f"x {peer}" for peer in peers)]
    head = ["pattern", "wanted", "padding", "fwd", *one, "bwd", *one]
    lines = [head, *([*_start(row), "", *_cells(row.forward, peers), "", *_cells(row.backward, peers)] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]).rstrip() for cells in lines
    )


def _start(row: Row) -> list[str]:
    return [row.pattern, f"{row.wanted:.4f}", "-" if row.padding is None else f"{row.padding:.2f}"]


def _cells(one: Pass, peers: Sequence[str]) -> list[str]:
    beside = [f"{one.peers[peer].ratio:.2f}" if peer in one.peers else "-" for peer in peers]
    return [f"{one.ms:.4g}", f"{one.tflops:.4g}", f"{one.roofline:.3f}", *beside]
