"""A picture of layouts as a file: each term in the order of the tokens, and to the right in that of its tiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from patternc.plan import Axis
from patternc.show import figure as frame
from patternc.show import palette
from patternc.show.permuted import Pair, View
from patternc.show.picture import Picture, size_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Lengths in inches.
_GAP, _TITLE, _BELOW = 0.75, 0.62, 0.42
_TOP = frame.TOP - 0.15
_GRID = 96
"""Up to this many cells along both sides, their borders are drawn."""
_MOST_NAMES = 16
"""Up to this many lanes bear their names."""


def write(picture: Picture, pairs: list[Pair], path: Path) -> None:
    """Draws the terms one below the other; `picture` has all their panels. Errors as in `figure.write`."""
    frame.save(lambda: draw(picture, pairs), path)


def draw(picture: Picture, pairs: list[Pair]) -> Figure:
    """The figure: a heading, two panels for each term with cells of one size, a legend."""
    cell = frame.SIDE / max(max(view.panel.values.shape) for pair in pairs for view in pair.views)
    sizes = [[tuple(cell * side for side in view.panel.values.shape) for view in pair.views] for pair in pairs]
    heights = [max(height for height, _ in views) for views in sizes]
    left, second = frame.left_margin(picture), max(views[0][1] for views in sizes) + _GAP
    total_w = left + second + max(views[-1][1] for views in sizes) + frame.RIGHT
    total_h = _TOP + sum(heights) + (len(pairs) - 1) * (_TITLE + _BELOW) + _TITLE + frame.BOTTOM
    pixels = max(1, round(frame.PIXELS * cell / frame.SIDE))
    figure = Figure(figsize=(total_w, total_h), dpi=pixels / cell)
    top = total_h - _TOP - _TITLE
    for pair, views, height in zip(pairs, sizes, heights, strict=True):
        for x, view, (h, w) in zip((left, left + second), pair.views, views, strict=False):
            axes = figure.add_axes((x / total_w, (top - h) / total_h, w / total_w, h / total_h))
            _draw_view(axes, picture, view)
        figure.text(left / total_w, (top + 0.5) / total_h, pair.title, weight="bold", va="center")
        top -= height + _TITLE + _BELOW
    frame.heading(figure, picture, total_w, total_h)
    frame.legend(figure, picture, total_w, total_h)
    return figure


def _draw_view(axes: Axes, picture: Picture, view: View) -> None:
    rows, columns = view.panel.values.shape
    image = palette.colours(picture, view.panel)
    axes.imshow(image, extent=(0, columns, rows, 0), interpolation="nearest", aspect="auto")
    for lines, across, axis in ((axes.vlines, rows, view.keys), (axes.hlines, columns, view.queries)):
        slots = axis.tiles * axis.tile
        if max(rows, columns) <= _GRID:
            lines(np.arange(1, slots), 0, across, colors="white", linewidth=0.4)
        lines(np.arange(axis.tile, slots, axis.tile), 0, across, colors=frame.GRID, linewidth=0.6)
        if axis.lanes > 1:
            lane, width = axis.per_lane * axis.tile, 0.9 if axis.lanes <= _MOST_NAMES else 0.5
            lines(np.arange(lane, slots, lane), 0, across, colors=frame.SOFT, linewidth=width)
    axes.set_xticks(*_ticks(view.keys))
    axes.set_yticks(*_ticks(view.queries))
    axes.tick_params(length=2.5, width=0.5, pad=2, labelsize=frame.TYPE - 1.5)
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)
    axes.set_xlabel(_label("key", view.keys), labelpad=12 if view.keys.layout.listed else 2)
    axes.set_ylabel(_label("query", view.queries), labelpad=3)
    axes.set_title(view.caption, loc="left", fontsize=frame.TYPE - 1, pad=4, color=frame.SOFT)
    axes.annotate(
        view.title, (0, 1), (0, 15), xycoords="axes fraction", textcoords="offset points", fontsize=frame.TYPE - 1
    )


def _ticks(axis: Axis) -> tuple[list[float], list[str]]:
    """Places along the slots, and what stands there: positions, or the first column of lanes."""
    slots = axis.tiles * axis.tile
    if axis.index is not None:
        return [], []
    if axis.lanes == 1:
        places = frame.ticks(axis.start, axis.stop)
        return [float(place - axis.start) for place in places], [size_text(place) for place in places]
    lane, every = slots / axis.lanes, -(-axis.lanes // _MOST_NAMES)
    numbers = range(0, axis.lanes, every)
    return [(number + 0.5) * lane for number in numbers], [_lane(axis, number) for number in numbers]


def _lane(axis: Axis, number: int) -> str:
    """The columns of a lane."""
    first = number * axis.layout.width
    last = min(first + axis.layout.width, axis.layout.stride) - 1
    return str(first) if last == first else f"{first}–{last}"


def _label(side: str, axis: Axis) -> str:
    layout = axis.layout
    if axis.index is not None:
        return f"listed {side}"
    if axis.lanes == 1:
        return side
    return f"{side} % {layout.stride}"
