"""Axes against a list of what their tiles hold."""

from __future__ import annotations

import numpy as np
import pytest
from axes import NOBODY, axes, filled
from hypothesis import given, settings
from hypothesis import strategies as st

from patternc.analysis.arrays import NUMPY
from patternc.analysis.axes import (
    box_tiles,
    enclose,
    enclose_tiles,
    padded,
    slots_held,
    tile_numbers,
    tile_sizes,
    within_lane,
)
from patternc.analysis.boxes import bounds
from patternc.plan import Axis, Layout


@st.composite
def drawn(draw: st.DrawFn) -> Axis:
    stop = draw(st.integers(1, 60))
    return draw(axes(draw(st.one_of(st.just(0), st.integers(0, stop - 1))), stop))


@given(drawn())
def test_slots_and_tokens(axis: Axis) -> None:
    expected = np.array(filled(axis)).reshape(-1, axis.tile)
    assert axis.tiles == len(expected)
    number, offset = np.arange(axis.tiles)[:, None], np.arange(axis.tile)[None]
    token = axis.tokens(number, offset)
    assert np.array_equal(np.where(token == axis.stop, NOBODY, token), expected)
    held = expected != NOBODY
    assert np.array_equal(tile_sizes(axis, number[:, 0], NUMPY), held.sum(1))
    if not axis.layout.listed:
        assert sorted(expected[held]) == list(range(axis.start, axis.stop))
        assert np.array_equal(axis.slots(expected[held]), np.flatnonzero(held))


@given(drawn())
def test_a_slot_without_a_token_stands_for_another_of_its_tile(axis: Axis) -> None:
    tiles = filled(axis)
    some = np.array([i for i, tile in enumerate(tiles) if set(tile) != {NOBODY}], int)
    found = slots_held(axis, some[:, None], np.arange(axis.tile)[None], NUMPY)
    for i, tokens in zip(some, found, strict=True):
        assert set(tokens) == set(tiles[i]) - {NOBODY}
        assert [t for t, slot in zip(tokens, tiles[i], strict=True) if slot != NOBODY] == [
            slot for slot in tiles[i] if slot != NOBODY
        ]


@settings(max_examples=200)
@given(drawn())
def test_boxes_hold_their_tiles(axis: Axis) -> None:
    """On every level the boxes hold each tile that has a token once, and all its positions."""
    tiles = filled(axis)
    if not tiles:
        return
    some = {i for i, tile in enumerate(tiles) if set(tile) != {NOBODY}}
    exact = axis.layout.width == 1
    for level in range((padded(axis) - 1).bit_length() + 1):
        box = np.arange(-(-padded(axis) >> level))
        form, occupied = enclose(axis, level, box, NUMPY)
        ends = [np.broadcast_to(end, box.shape) for end in form.bounds]
        assert form.extent[0] <= ends[0].min()
        assert ends[1].max() <= form.extent[1]
        if not within_lane(axis, level):
            continue
        first, count = box_tiles(axis, level, box[occupied], NUMPY)
        covered = [range(a, a + c) for a, c in zip(first, count, strict=True)]
        assert sorted(t for part in covered for t in part) == sorted(some)
        for numbers, lo, hi in zip(covered, ends[0][occupied], ends[1][occupied], strict=True):
            assert len({t // axis.per_lane for t in numbers}) == 1
            tokens = {token for t in numbers for token in tiles[t]} - {NOBODY}
            assert lo <= min(tokens)
            assert max(tokens) <= hi
            assert not exact or (lo, hi) == (min(tokens), max(tokens))


@given(drawn())
def test_boxes_of_lanes_are_sound(axis: Axis) -> None:
    tiles = filled(axis)
    per_lane = padded(axis) // axis.lanes  # numbers, of which the last may be no tiles
    for level in range((padded(axis) - 1).bit_length() + 1 if tiles else 0):
        form, occupied = enclose(axis, level, np.arange(-(-padded(axis) >> level)), NUMPY)
        lo, hi = (np.broadcast_to(end, occupied.shape) for end in form.bounds)
        for number in range(padded(axis)):
            tile = int(tile_numbers(axis, np.array([number]))[0])
            if number % per_lane < axis.per_lane:
                tokens = set(tiles[tile]) - {NOBODY}
                box = number >> level
                assert occupied[box] or not tokens
                assert all(lo[box] <= token <= hi[box] for token in tokens)


@given(drawn())
def test_single_tiles_are_boxes_of_the_lowest_level(axis: Axis) -> None:
    if axis.tiles:
        number = np.arange(axis.tiles)
        form, occupied = enclose_tiles(axis, number, NUMPY)
        for tile, some, lo, hi in zip(filled(axis), occupied, *form.bounds, strict=True):
            tokens = set(tile) - {NOBODY}
            assert some == bool(tokens)
            assert all(lo <= token <= hi for token in tokens)


@pytest.mark.parametrize(
    ("layout", "divisor"), [(Layout(16), 16), (Layout(16), 4), (Layout(128, 16), 128), (Layout(8, 4), 4)]
)
def test_forms_fold_what_divides_their_stride(layout: Layout, divisor: int) -> None:
    """What a layout is for: the remainder of a tile hangs on its lane alone, and is known exactly."""
    axis = Axis(layout, 0, 4096, 64)
    form, _ = enclose_tiles(axis, np.arange(axis.tiles), NUMPY)
    lo, hi = (np.broadcast_to(end, axis.tiles) for end in bounds(form % divisor))
    rests = [{token % divisor for token in tile} for tile in filled(axis)]
    assert list(zip(lo, hi, strict=True)) == [(min(rest), max(rest)) for rest in rests]
