"""A picture of layouts in the terminal: each term in the order of the tokens, and beside it in that of its tiles."""

from __future__ import annotations

from collections.abc import Iterator

from patternc.show.halfblocks import GAP, coloured_rows, legend_boxes, plain_rows
from patternc.show.permuted import Pair, View
from patternc.show.picture import Picture, shortened


def lines(picture: Picture, pairs: list[Pair], width: int, *, colour: int = 0) -> Iterator[str]:
    """A heading, two panels for each term, side by side where they fit, a legend; `picture` has all their panels and
    `colour` is the number of colours as in `halfblocks`."""
    yield "  ".join(part for part in (picture.name, picture.size) if part)
    if picture.parameters:
        yield shortened(picture.parameters, width)
    for pair in pairs:
        yield ""
        yield pair.title
        blocks = [list(_view_lines(picture, view, colour)) for view in pair.views]
        widths = [_columns(view) for view in pair.views]
        if sum(widths) + len(GAP) > width:
            yield from (line.rstrip() for block in blocks for line in block)
        else:
            yield from (GAP.join(row).rstrip() for row in zip(*_level(blocks, widths), strict=True))
    yield ""
    what = "query ↓  key →  one cell each"
    if colour:
        yield f"{what}  {legend_boxes(picture, colour)}"
    else:
        yield f"{what}  █ kept"


def _columns(view: View) -> int:
    return max(view.panel.values.shape[1], len(view.title), len(view.caption))


def _level(blocks: list[list[str]], widths: list[int]) -> list[list[str]]:
    """Blocks of lines made equally high."""
    height = max(map(len, blocks))
    return [[*block, *[" " * width] * (height - len(block))] for block, width in zip(blocks, widths, strict=True)]


def _view_lines(picture: Picture, view: View, colour: int) -> Iterator[str]:
    """Titles and rows of half blocks, all of one width."""
    width, columns = _columns(view), view.panel.values.shape[1]
    yield f"{view.title:<{width}}"
    yield f"{view.caption:<{width}}"
    rows = coloured_rows(picture, view.panel, colour) if colour else plain_rows(picture, view.panel)
    yield from (row + " " * (width - columns) for row in rows)
