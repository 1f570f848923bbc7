"""A picture as a file, PNG or SVG, drawn with matplotlib; the same picture gives the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from patternc.show import palette
from patternc.show.picture import FULL, PARTIAL, SKIPPED, Panel, Picture, shortened, size_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Lengths in inches, sizes of type in points.
SIDE = 3.1
GAP_ACROSS, GAP_DOWN = 0.32, 0.42
RIGHT, TOP, BOTTOM = 0.3, 0.78, 0.72
TYPE = 8.5
_LETTERS = 17
"""In an inch of small type, about."""
INK, SOFT, GRID = "#222222", "#6b6b6b", "#d4d4d0"
PIXELS = 620
"""Wanted along the side of a panel; a display cell is a whole number of pixels."""
_NUMBERED = 24
"""Up to this many cells along the side, bags write their multiplicities into the cells."""
_LINES = 64
"""Up to this many tiles along the side, their borders are drawn."""

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": TYPE,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "patternc",
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
}


def write(picture: Picture, path: Path, across: int | None = None) -> None:
    """Draws the picture into a file; its suffix says how. `across` panels are in a row; left out, up to four.

    Raises ValueError for other suffixes than .png and .svg, OSError where the file cannot be written.
    """
    save(lambda: draw(picture, across), path)


def save(drawn: Callable[[], Figure], path: Path) -> None:
    """Writes the figure that `drawn` makes, in the style of all pictures; as `write`."""
    kind = path.suffix.lower()
    if kind not in (".png", ".svg"):
        raise ValueError(f"a picture is written to a .png or .svg file, not to {path.name!r}")
    with matplotlib.rc_context(_STYLE):
        metadata = {"Date": None} if kind == ".svg" else {}
        drawn().savefig(path, format=kind[1:], metadata=metadata)


def left_margin(picture: Picture) -> float:
    """Room for the positions of queries, and the word."""
    return 0.4 + 0.062 * len(size_text(picture.n))


def draw(picture: Picture, across: int | None = None) -> Figure:
    """The figure: a heading, the panels in rows of `across` or, left out, up to four, a legend."""
    count = len(picture.panels)
    across = min(count, across) if across else count if count <= 3 else 2 if count == 4 else 3 if count <= 6 else 4
    down = -(-count // across)
    height = max(0.6, SIDE * picture.n_q / picture.n)
    left = left_margin(picture)
    total_w = left + across * SIDE + (across - 1) * GAP_ACROSS + RIGHT
    total_h = TOP + down * height + (down - 1) * GAP_DOWN + BOTTOM
    columns = picture.panels[0].values.shape[1]
    figure = Figure(figsize=(total_w, total_h), dpi=columns * max(1, round(PIXELS / columns)) / SIDE)
    for i, panel in enumerate(picture.panels):
        row, column = divmod(i, across)
        x = left + column * (SIDE + GAP_ACROSS)
        top = total_h - TOP - row * (height + GAP_DOWN)
        axes = figure.add_axes((x / total_w, (top - height) / total_h, SIDE / total_w, height / total_h))
        _draw_panel(axes, picture, panel, first=column == 0, last=i + across >= count)
    heading(figure, picture, total_w, total_h)
    legend(figure, picture, total_w, total_h)
    return figure


def _draw_panel(axes: Axes, picture: Picture, panel: Panel, *, first: bool, last: bool) -> None:
    start, n = picture.n - picture.n_q, picture.n
    rows, columns = panel.values.shape
    extent = (0, columns * picture.step, start + rows * picture.step, start)
    axes.imshow(palette.colours(picture, panel), extent=extent, interpolation="nearest", aspect="auto")
    axes.set_xlim(0, n)
    axes.set_ylim(n, start)
    if picture.exact:
        _draw_grid(axes, picture, start)
        if picture.most > 1 and n <= _NUMBERED:
            _write_numbers(axes, panel, start)
    axes.set_xticks(ticks(0, n), map(size_text, ticks(0, n)))
    axes.set_yticks(ticks(start, n), map(size_text, ticks(start, n)))
    axes.tick_params(length=2.5, width=0.5, pad=2, labelsize=TYPE - 1.5, labelleft=first, labelbottom=last)
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)
    if first:
        axes.set_ylabel("query", labelpad=3)
    if last:
        axes.set_xlabel("key", labelpad=2)
    axes.set_title(panel.title, loc="left", fontsize=TYPE, pad=4)
    axes.set_title(panel.density_text, loc="right", fontsize=TYPE, pad=4, color=SOFT)


def _draw_grid(axes: Axes, picture: Picture, start: int) -> None:
    """The borders of tiles, which start at the first query, and of cells where there are few."""
    n, tile = picture.n, picture.tile
    if n <= 48:
        axes.vlines(np.arange(1, n), start, n, colors="white", linewidth=0.5)
        axes.hlines(np.arange(start + 1, n), 0, n, colors="white", linewidth=0.5)
    if tile > 1 and n <= _LINES * tile:
        axes.vlines(np.arange(tile, n, tile), start, n, colors=GRID, linewidth=0.5)
        axes.hlines(np.arange(start + tile, n, tile), 0, n, colors=GRID, linewidth=0.5)


def _write_numbers(axes: Axes, panel: Panel, start: int) -> None:
    for (row, column), value in np.ndenumerate(panel.values):
        if value > 1:
            axes.text(
                column + 0.5, start + row + 0.53, f"{value:.0f}", ha="center", va="center", color="white",
                fontsize=min(TYPE, 150 / panel.values.shape[1]),
            )  # fmt: skip


def ticks(first: int, last: int) -> list[int]:
    """About five positions from `first` to `last`, both among them: equal parts, or round distances."""
    length = last - first
    parts = next((parts for parts in (4, 5, 6, 3, 8, 7, 2) if length >= parts and length % parts == 0), None)
    step = length // parts if parts else _round_up(length / 5)
    return [*(t for t in range(first, last, step) if last - t > step / 2), last]


def _round_up(length: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50, …"""
    power = 10 ** max(0, math.floor(math.log10(length)))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= length)


def heading(figure: Figure, picture: Picture, width: float, height: float) -> None:
    """Name and size on one line, the parameters, as many as there is room for, on the next."""
    left, right = left_margin(picture) / width, 1 - RIGHT / width
    figure.text(left, 1 - 0.24 / height, picture.name, fontsize=TYPE + 2.5, weight="bold", va="center")
    figure.text(right, 1 - 0.24 / height, picture.size, fontsize=TYPE - 1, color=SOFT, va="center", ha="right")
    parameters = shortened(picture.parameters, round((width - left_margin(picture) - RIGHT) * _LETTERS))
    figure.text(left, 1 - 0.45 / height, parameters, fontsize=TYPE - 1, color=SOFT, va="center")


def legend(figure: Figure, picture: Picture, width: float, height: float) -> None:
    entries = [_swatch(colour, text) for colour, text in legend_entries(picture)]
    figure.legend(
        handles=entries, loc="lower left", bbox_to_anchor=(left_margin(picture) / width, 0.08 / height),
        ncols=len(entries), frameon=False, fontsize=TYPE - 1, handlelength=1, handleheight=1, handletextpad=0.5,
        columnspacing=1.4, borderpad=0, borderaxespad=0,
    )  # fmt: skip


def _swatch(colour: palette.RGB, text: str) -> Patch:
    return Patch(facecolor=palette.hexadecimal(colour), edgecolor=SOFT, linewidth=0.4, label=text)


def legend_entries(picture: Picture) -> list[tuple[palette.RGB, str]]:
    """The colours that occur, and what they say."""
    most = picture.most
    times = ["", *(" twice" if m == 2 else f" {m} times" for m in range(2, min(most, 4) + 1))]
    occurring = {int(kind) for panel in picture.panels for kind in np.unique(panel.kinds)}
    entries = []
    if FULL in occurring:
        entries += [(palette.shade(palette.FULL_SCALE, m, most), f"full tile{t}") for m, t in enumerate(times, 1)]
    if PARTIAL in occurring and picture.exact:
        entries += [(palette.shade(palette.PARTIAL_SCALE, m, most), f"kept{t}") for m, t in enumerate(times, 1)]
        entries.append((palette.PARTIAL_TILE, "not kept"))
    elif PARTIAL in occurring:
        entries += [(palette.SHARE_SCALE[1], "partial, most kept"), (palette.SHARE_SCALE[0], "few")]
    if SKIPPED in occurring:
        entries.append((palette.SKIPPED_TILE, "skipped"))
    return entries
