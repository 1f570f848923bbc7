"""Axes of drawn layouts, and what their tiles hold, written down token by token."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from patternc.analysis.arrays import NUMPY
from patternc.analysis.axes import axis_of
from patternc.plan import CONSECUTIVE, LISTED, Axis, Layout

STRIDES = (*range(1, 10), 16)
WIDTHS = (1, 2, 4, 8)
TILES = (4, 5, 16, 128)
NOBODY = -1
"""In place of a position: a slot that holds no token."""


def filled(axis: Axis) -> list[list[int]]:
    """The positions in the slots of every tile, from the words of plan.py: lane by lane, and in it line by line."""
    layout, tile = axis.layout, axis.tile
    if layout.listed:
        index = [int(x) for x in axis.index]
        slots = [x if x < axis.stop else NOBODY for x in index]
        return [slots[i : i + tile] for i in range(0, len(slots), tile)]
    lines = range(axis.start // layout.stride, (axis.stop - 1) // layout.stride + 1)
    depth, found = tile // layout.width, []
    for left in range(0, layout.stride, layout.width):
        for top in range(lines.start, lines.stop, depth):
            held = []
            for line in range(top, top + depth):
                for column in range(left, left + layout.width):
                    token = line * layout.stride + column
                    inside = column < layout.stride and axis.start <= token < axis.stop
                    held.append(token if inside else NOBODY)
            found.append(held)
    return found


@st.composite
def layouts(draw: st.DrawFn, tile: int) -> Layout:
    """Strides with lanes of one column, or of a power of two that divides the tile."""
    stride = draw(st.sampled_from(STRIDES))
    widths = [w for w in WIDTHS if tile % w == 0 and w <= stride]
    return Layout(stride, draw(st.sampled_from(widths)))


@st.composite
def axes(draw: st.DrawFn, start: int, stop: int) -> Axis:
    """An axis of the positions start .. stop - 1, or of some of them, or of none."""
    tile = draw(st.sampled_from(TILES))
    match draw(st.sampled_from(["consecutive", "layout", "layout", "listed"])):
        case "consecutive":
            return axis_of(CONSECUTIVE, start, stop, tile, None, NUMPY)
        case "layout":
            return axis_of(draw(layouts(tile)), start, stop, tile, None, NUMPY)
    share, seed = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])), draw(st.integers(0, 99))
    chosen = np.flatnonzero(np.random.default_rng(seed).random(stop - start) < share) + start
    return axis_of(LISTED, start, stop, tile, chosen, NUMPY)
