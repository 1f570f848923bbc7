"""Axes of tiles, as the bisection sees them: which positions a box of tiles holds, and which stand in a tile's slots.

The bisection numbers the tiles of an axis lane by lane, with every lane padded to a power of two, so that an aligned
box of 2^level numbers is a part of one lane or a range of whole lanes. Only tiles that hold a token count.
"""

from __future__ import annotations

import math
from typing import Any

from patternc.analysis.enclosures import Boxes, Symbol, interval
from patternc.plan import CONSECUTIVE, LISTED, Array, Axis, Layout


def axis_of(layout: Layout, start: int, stop: int, tile: int, positions: Array | None, xp: Any) -> Axis:
    """The axis of a layout, whose width is reduced to what divides a tile; `positions` are a list's ascending positions
    within start .. stop - 1, else None."""
    if positions is None:
        return Axis(Layout(layout.stride, math.gcd(layout.width, tile)), start, stop, tile)
    missing = -positions.shape[0] % tile
    index = xp.concatenate([positions, xp.full((missing,), stop)]) if missing else positions
    return Axis(LISTED, start, stop, tile, index)


def consecutive_axis(start: int, stop: int, tile: int) -> Axis:
    """Tiles of consecutive tokens."""
    return Axis(CONSECUTIVE, start, stop, tile)


# ------------------------------------------------------------------ numbers of the bisection


def lane_bits(axis: Axis) -> int:
    """The b for which a lane has 2^b numbers."""
    return max(0, axis.per_lane - 1).bit_length()


def padded(axis: Axis) -> int:
    """How many numbers the bisection gives to the tiles of the axis."""
    return axis.lanes << lane_bits(axis)


def within_lane(axis: Axis, level: int) -> bool:
    """Whether every box of 2^level numbers lies in one lane."""
    return axis.lanes == 1 or level <= lane_bits(axis)


def tile_numbers(axis: Axis, box: Array) -> Array:
    """The tile numbers of numbers of the bisection."""
    if axis.lanes == 1:
        return box
    bits = lane_bits(axis)
    return (box >> bits) * axis.per_lane + (box & ((1 << bits) - 1))


def box_tiles(axis: Axis, level: int, box: Array, xp: Any) -> tuple[Array, Array]:
    """The first tile number of boxes within one lane, and how many tiles from there on hold a token."""
    lane, along = _places(axis, level, box)
    last = along + ((1 << level) - 1)
    if axis.index is not None:
        last = xp.minimum(last, (_held(axis, xp) - 1) // axis.tile)
        return along, last - along + 1
    top, bottom = _lane_lines(axis, lane)
    first = xp.maximum(along, (top - axis.first_line) // axis.depth)
    last = xp.minimum(last, (bottom - axis.first_line) // axis.depth)
    return lane * axis.per_lane + first, last - first + 1


def _places(axis: Axis, level: int, box: Array) -> tuple[Array, Array]:
    """The lane of boxes within one lane, and the place of their first tile in it."""
    if axis.lanes == 1:
        return box * 0, box << level
    bits = lane_bits(axis) - level
    return box >> bits, (box & ((1 << bits) - 1)) << level


def _lane_lines(axis: Axis, lane: Array) -> tuple[Any, Any]:
    """The first and the last line on which lanes hold a token; the last lies before the first if there is none."""
    stride, width = axis.layout.stride, axis.layout.width
    first, last = axis.first_line, (axis.stop - 1) // stride
    if stride == 1:
        return first, last
    left = lane * width
    return first + (left + (width - 1) < axis.start % stride), last - 1 + (left <= (axis.stop - 1) % stride)


def _held(axis: Axis, xp: Any) -> Array:
    """How many tokens a list holds, as an array (1,), for nothing must wait for a device."""
    assert axis.index is not None, "only lists hold their own tokens"
    return xp.searchsorted(axis.index, xp.full((1,), axis.stop))


# ------------------------------------------------------------------ positions of boxes


def enclose(axis: Axis, level: int, box: Array, xp: Any) -> tuple[Boxes, Array]:
    """The positions in boxes of 2^level numbers, and which boxes hold a token. The enclosure is exact for single
    columns and lists; wider lanes may reach beyond the axis on their first and last lines, and a box of several lanes
    holds all lines of each."""
    if within_lane(axis, level):
        return _enclose_part(axis, *_places(axis, level, box), 1 << level, xp)
    across = level - lane_bits(axis)
    left = (box << across) * axis.layout.width
    right = xp.minimum(left + ((axis.layout.width << across) - 1), axis.layout.stride - 1)
    occupied = left < axis.layout.stride
    lines = _lines(axis, box * 0 + axis.first_line, box * 0 + (axis.first_line + axis.lines - 1))
    columns = Symbol(xp.minimum(left, right), right, 0, axis.layout.stride - 1)
    return Boxes(xp, {lines: axis.layout.stride, columns: 1}, 0, (0, 0)), occupied


def enclose_tiles(axis: Axis, number: Array, xp: Any) -> tuple[Boxes, Array]:
    """The same for single tiles, by tile number."""
    return _enclose_part(axis, number // axis.per_lane, number % axis.per_lane, 1, xp)


def part_numbers(axis: Axis, fine: Axis, number: Array, xp: Any) -> tuple[Array, Array]:
    """(…, parts): the tiles of `fine`, which has the layout of the axis and smaller tiles of whole lines, that make up
    tiles; and whether there is such a tile, for a lane may end before."""
    parts = axis.tile // fine.tile
    along = (number % axis.per_lane * parts)[..., None] + xp.arange(0, parts)
    inside = along < fine.per_lane
    return (number // axis.per_lane * fine.per_lane)[..., None] + xp.minimum(along, fine.per_lane - 1), inside


def _enclose_part(axis: Axis, lane: Array, along: Array, tiles: int, xp: Any) -> tuple[Boxes, Array]:
    """So many tiles of one lane, from one place on."""
    if axis.index is not None:
        return _enclose_listed(axis, along, tiles, xp)
    top, bottom = _lane_lines(axis, lane)
    line = axis.first_line + along * axis.depth
    first, last = xp.maximum(line, top), xp.minimum(line + (tiles * axis.depth - 1), bottom)
    occupied = (first <= last) & (lane < axis.lanes)
    first = xp.minimum(first, axis.first_line + axis.lines - 1)  # empty boxes stay within the axis
    last = xp.maximum(last, first)
    stride, width = axis.layout.stride, axis.layout.width
    lines = _lines(axis, first, last, tiles * axis.depth - 1)
    if stride == 1:
        return Boxes(xp, {lines: 1}, 0, (0, 0)), occupied
    left = xp.minimum(lane * width, stride - 1)
    if width == 1:
        return Boxes(xp, {lines: stride}, left, (0, stride - 1)), occupied
    columns = Symbol(left, xp.minimum(left + (width - 1), stride - 1), 0, stride - 1, breadth=width - 1)
    return Boxes(xp, {lines: stride, columns: 1}, 0, (0, 0)), occupied


def _lines(axis: Axis, first: Array, last: Array, breadth: int | None = None) -> Symbol:
    return Symbol(first, last, axis.first_line, axis.first_line + axis.lines - 1, breadth=breadth)


def _enclose_listed(axis: Axis, along: Array, tiles: int, xp: Any) -> tuple[Boxes, Array]:
    assert axis.index is not None, "only lists hold their own tokens"
    held = _held(axis, xp)
    start = along * axis.tile
    last = xp.minimum(xp.minimum(start + tiles * axis.tile, held) - 1, axis.index.shape[0] - 1)
    first = xp.minimum(start, axis.index.shape[0] - 1)
    lo, hi = (xp.minimum(axis.index[at], axis.stop - 1) for at in (first, xp.maximum(last, 0)))
    return interval(xp, lo, xp.maximum(lo, hi), axis.start, axis.stop - 1), start < held


# ------------------------------------------------------------------ positions of slots


def slots_held(axis: Axis, number: Array, offset: Array, xp: Any) -> Array:
    """`axis.tokens` of tiles that hold a token, where a slot without one stands for another token of its tile."""
    if axis.index is not None:
        held = _held(axis, xp)
        return axis.index[xp.minimum(number * axis.tile + offset, held - 1)]
    stride, width = axis.layout.stride, axis.layout.width
    if stride == width == 1:
        return xp.minimum(number * axis.tile + axis.start + offset, axis.stop - 1)
    lane, line = number // axis.per_lane, axis.first_line + number % axis.per_lane * axis.depth
    token = (line * stride + lane * width) + (offset // width * stride + offset % width)
    if not ragged(axis):
        return token
    first, last = _ends(axis, lane, line, xp)
    if width == 1:
        return xp.minimum(xp.maximum(token, first), last)
    outside = (token < axis.start) | (token >= axis.stop) | (lane * width + offset % width >= stride)
    return xp.where(outside, last, token)


def ragged(axis: Axis) -> bool:
    """Whether a slot may hold no token."""
    stride, width = axis.layout.stride, axis.layout.width
    whole = axis.start % stride == 0 and axis.stop % stride == 0 and stride % width == 0
    return axis.index is not None or not whole or axis.lines % axis.depth > 0


def _ends(axis: Axis, lane: Array, line: Array, xp: Any) -> tuple[Array, Array]:
    """A first token of tiles, if their lanes are one column wide, and the last one."""
    stride, width = axis.layout.stride, axis.layout.width
    top, bottom = _lane_lines(axis, lane)
    first = xp.maximum(line, top) * stride + lane * width
    low = xp.minimum(line + (axis.depth - 1), bottom)
    right = xp.minimum(lane * width + (width - 1), stride - 1)
    return first, xp.minimum(low * stride + right, axis.stop - 1)


def tile_sizes(axis: Axis, number: Array, xp: Any) -> Array:
    """How many tokens tiles hold."""
    if axis.index is not None:
        return xp.minimum(xp.maximum(_held(axis, xp) - number * axis.tile, 0), axis.tile)
    return _before(axis, number, axis.stop, xp) - _before(axis, number, axis.start, xp)


def _before(axis: Axis, number: Array, end: int, xp: Any) -> Array:
    """How many slots of tiles stand for positions below `end` on the lines and in the columns of the layout."""
    stride, width = axis.layout.stride, axis.layout.width
    left = number // axis.per_lane * width
    width_held = xp.minimum(stride - left, width)
    lines = end // stride - axis.first_line - number % axis.per_lane * axis.depth
    whole = xp.minimum(xp.maximum(lines, 0), axis.depth) * width_held
    broken = xp.minimum(xp.maximum(end % stride - left, 0), width_held)
    return whole + xp.where((lines >= 0) & (lines < axis.depth), broken, 0)
