"""A picture in the terminal: a character is two display cells, one above the other."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from patternc.show import palette
from patternc.show.palette import RGB
from patternc.show.picture import Panel, Picture, shortened, size_text

GAP = "  "
_GLYPHS = " ▄▀█"
"""Nothing, the lower, the upper, both."""
_SHADES = " ░▒▓█"
_RESET = "\x1b[0m"


def side_limit(width: int, across: int = 1) -> int:
    """The most display cells along the side of a panel, `across` of them beside each other in a terminal of `width`
    columns."""
    return max(8, min(72, (width - (across - 1) * len(GAP)) // across - 8))


def lines(picture: Picture, width: int, *, colour: int = 0) -> Iterator[str]:
    """The lines of a picture: a heading, panels side by side as far as they fit, a legend.

    `colour` is the number of colours: 0 (kept cells are told by glyphs alone), 256, or 2²⁴.
    """
    yield "  ".join(part for part in (picture.name, picture.size) if part)
    if picture.parameters:
        yield shortened(picture.parameters, width)
    blocks = [list(_panel_lines(picture, panel, colour)) for panel in picture.panels]
    each = _panel_width(picture) + len(GAP)
    across = max(1, (width + len(GAP)) // each)
    for first in range(0, len(blocks), across):
        yield ""
        for row in zip(*blocks[first : first + across], strict=True):
            yield GAP.join(row).rstrip()
    yield ""
    if picture.omitted:
        yield f"{picture.omitted} more classes of heads are not shown"
    yield from _legend(picture, colour)


def _label_width(picture: Picture) -> int:
    return len(size_text(picture.n)) + 1


def _panel_width(picture: Picture) -> int:
    return _label_width(picture) + max(picture.panels[0].values.shape[1], 2 * len(size_text(picture.n)) + 1)


def _panel_lines(picture: Picture, panel: Panel, colour: int) -> Iterator[str]:
    """Title, rows of half blocks with the query's position at every eighth, axis; all of one width."""
    label, width = _label_width(picture), _panel_width(picture)
    rows, columns = panel.values.shape
    title = f"{panel.title} · {panel.density_text}"
    title = title if len(title) <= width - label else shortened(panel.title, width - label)
    yield f"{' ' * label}{title:<{width - label}}"
    every = 8 if rows > 8 else 2
    body = coloured_rows(picture, panel, colour) if colour else plain_rows(picture, panel)
    for i, row in enumerate(body):
        position = picture.n - picture.n_q + 2 * i * picture.step
        text = size_text(position) if 2 * i % every == 0 else ""
        yield f"{text:>{label - 1}} {row}{' ' * (width - label - columns)}"
    end = size_text(picture.n)
    yield f"{' ' * label}{'0'}{end:>{columns - 1}}".ljust(width)


def plain_rows(picture: Picture, panel: Panel) -> Iterator[str]:
    """Rows without colour: the kept cells, or the share that is kept of two display cells."""
    rows = panel.values.clip(max=1).tolist()
    if len(rows) % 2:
        rows.append([0] * len(rows[0]) if picture.exact else rows[-1])
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        if picture.exact:
            yield "".join(_GLYPHS[2 * bool(up) + bool(low)] for up, low in zip(upper, lower, strict=True))
        else:
            yield "".join(_shade((up + low) / 2) for up, low in zip(upper, lower, strict=True))


def _shade(share: float) -> str:
    return _SHADES[0] if share <= 0 else _SHADES[4] if share >= 1 else _SHADES[1 + min(2, int(share * 3))]


def coloured_rows(picture: Picture, panel: Panel, colour: int) -> Iterator[str]:
    """`▀` with the upper cell as its ink and the lower one as its ground; below an odd last row there is no ground."""
    image = [[tuple(cell) for cell in row] for row in palette.colours(picture, panel).tolist()]
    for i in range(0, len(image), 2):
        below = image[i + 1] if i + 1 < len(image) else [None] * len(image[i])
        text, ink, ground = [], None, None
        for up, low in zip(image[i], below, strict=True):
            if up != ink:
                text.append(_ink(up, colour))
            if low is not None and low != ground:
                text.append(_ground(low, colour))
            text.append("▀")
            ink, ground = up, low
        yield "".join(text) + _RESET


def _ink(rgb: RGB, colour: int) -> str:
    return f"\x1b[38;2;{rgb[0]};{rgb[1]};{rgb[2]}m" if colour > 256 else f"\x1b[38;5;{_of_256(rgb)}m"


def _ground(rgb: RGB, colour: int) -> str:
    return f"\x1b[48;2;{rgb[0]};{rgb[1]};{rgb[2]}m" if colour > 256 else f"\x1b[48;5;{_of_256(rgb)}m"


@cache
def _of_256(rgb: RGB) -> int:
    """The nearest colour of the 6×6×6 cube or the 24 greys of a terminal with 256 colours."""
    steps = (0, 95, 135, 175, 215, 255)
    distances = [[abs(step - value) for step in steps] for value in rgb]
    cube = [distance.index(min(distance)) for distance in distances]
    grey = max(0, min(23, round((sum(rgb) / 3 - 8) / 10)))
    cube_error = sum((steps[i] - value) ** 2 for i, value in zip(cube, rgb, strict=True))
    grey_error = sum((8 + 10 * grey - value) ** 2 for value in rgb)
    return 16 + 36 * cube[0] + 6 * cube[1] + cube[2] if cube_error <= grey_error else 232 + grey


def _legend(picture: Picture, colour: int) -> Iterator[str]:
    what = f"query ↓  key →  {size_text(picture.n)} keys"
    scale = "one cell each" if picture.exact else f"{picture.step} × {picture.step} cells each"
    if not colour:
        shown = "█ kept" if picture.exact else "░▒▓ kept in part  █ wholly"
        yield f"{what}  {scale}  {shown}"
        return
    tiles = f"tiles of {picture.tile} × {picture.tile}"
    yield f"{what}  {tiles if picture.exact else scale}  {legend_boxes(picture, colour)}"


def legend_boxes(picture: Picture, colour: int) -> str:
    """A box of each colour, and what it says."""
    entries = [
        (palette.FULL_SCALE[0], "full tile"),
        (palette.PARTIAL_SCALE[0] if picture.exact else palette.SHARE_SCALE[1], "partial"),
        (palette.SKIPPED_TILE, "skipped"),
    ]
    return "  ".join(f"{_ink(rgb, colour)}█{_RESET} {text}" for rgb, text in entries)
