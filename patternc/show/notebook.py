"""Patterns in notebooks: a small picture of the mask, and the main facts. All text is escaped: a program is not
trusted."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from patternc import ir
from patternc.compiler import Compiled, compile
from patternc.draws import draw
from patternc.errors import SpatError
from patternc.library import Pattern
from patternc.rewrite import walk
from patternc.show import palette
from patternc.show.compute import Sight
from patternc.show.picture import Picture, heads_title, size_text
from patternc.show.png import png
from patternc.specialise import specialise

LENGTHS = (256, 1024, 4096, 16384)
"""At the first of these at which at most half of the pairs are kept, a pattern shows what it is."""
HALF = 0.5
SIDE = 128
"""Display cells along the side of a panel, at most."""
HEADS = 8
"""Of a pattern that is not compiled, so many are shown."""
_GAP = 6
_STYLE = "font-family:sans-serif;font-size:12px;line-height:1.5"
_PANEL = "margin:0;display:inline-block;margin-right:12px;vertical-align:top"
_LEGEND = "queries run down, keys to the right; blue tiles are full, amber ones partial"


def of_compiled(compiled: Compiled, heading: str = "", params: Mapping[str, Any] | None = None) -> str:
    """HTML: the pattern, how it is compiled, the mask at a length at which it can be seen."""
    c = compiled
    facts = [f"{c.heads} head{'s' * (c.heads > 1)}"]
    facts += [f"{c.kv_heads} key head{'s' * (c.kv_heads > 1)}"] if c.kv_heads != c.heads else []
    facts += [f"layer {c.layer}"] if c.layer else []
    facts += [f"backend {c.backend}"]
    facts += [f"{name} = {value}" for name, value in (params or {}).items()]
    return _page(heading or "compiled pattern", c.pattern, facts, _picture(c.program, c.heads))


def of_pattern(pattern: Pattern) -> str:
    """HTML: the pattern, and if its parameters have defaults the mask that it then has."""
    facts = ["not compiled"] + [f"{name}: {kind}" for name, kind in pattern.parameters.items()]
    try:
        program = compile(pattern, heads=HEADS).program
    except (SpatError, TypeError):  # parameters without defaults, or defaults that do not suit so many heads
        return _page("pattern", pattern, facts, None)
    return _page("pattern", pattern, facts, _picture(program, HEADS))


def image_of(compiled: Compiled) -> bytes | None:
    """The panels beside each other as a PNG; None if the pattern admits none of the lengths."""
    picture = _picture(compiled.program, compiled.heads)
    if picture is None:
        return None
    parts = [palette.colours(picture, panel) for panel in picture.panels]
    gap = np.full((parts[0].shape[0], _GAP, 3), 255, np.uint8)
    row = [part for panel in parts for part in (panel, gap)][:-1]
    return png(np.concatenate(row, axis=1).repeat(2, axis=0).repeat(2, axis=1))


# ------------------------------------------------------------------ the picture


def _picture(program: ir.Program, heads: int) -> Picture | None:
    """At the length that its grid says, or the first of `LENGTHS` that shows something; with drawn run-time tensors."""
    first: Picture | None = None
    for n in _lengths(program):
        try:
            tensors = draw(program.tensors, n, heads=heads)
            sight = Sight(program, n, n, heads, tensors, side=SIDE)
        except (SpatError, ValueError):  # a length that the program does not admit, a tensor too large to be drawn
            continue
        panels = [sight.panel(members) for members in sight.classes]
        size = f"n = {size_text(n)}" + ("; run-time tensors are drawn" if program.tensors else "")
        picture = sight.picture(program.name, "", size, panels)
        if sum(panel.density for panel in panels) <= HALF * len(panels):
            return picture
        first = first or picture
    return first


def _lengths(program: ir.Program) -> tuple[int, ...]:
    if program.grids:
        extents = [specialise(extent, {}) for extent in program.grids[0].extents]
        if all(isinstance(extent, ir.Const) for extent in extents):
            return (int(np.prod([extent.value for extent in extents])),)
    chooses = any(isinstance(node, ir.Top | ir.Sample) for node in walk(program.pattern))
    return LENGTHS[:1] if chooses else LENGTHS


# ------------------------------------------------------------------ the page


def _page(heading: str, pattern: Pattern, facts: list[str], picture: Picture | None) -> str:
    lines = [
        f"<div><b>{escape(pattern.name)}</b> · {escape(heading)} · {escape(' · '.join(facts))}</div>",
        f'<pre style="margin:4px 0;white-space:pre-wrap">{escape(pattern.definition.node.span.text)}</pre>',
    ]
    lines += [] if picture is None else [_panels(picture), _caption(picture)]
    return f'<div style="{_STYLE}">{"".join(lines)}</div>'


def _panels(picture: Picture) -> str:
    figures = []
    for panel in picture.panels:
        data = b64encode(png(palette.colours(picture, panel))).decode("ascii")
        title = f"{heads_title(panel.heads)} · {panel.density_text}"
        image = (
            f'<img src="data:image/png;base64,{data}" alt="{escape(title)}" width="160" '
            'style="image-rendering:pixelated;border:1px solid #d4d4d0">'
        )
        figures.append(f'<figure style="{_PANEL}"><figcaption>{escape(title)}</figcaption>{image}</figure>')
    return f"<div>{''.join(figures)}</div>"


def _caption(picture: Picture) -> str:
    more = f"; {picture.omitted} more classes of heads are not shown" if picture.omitted else ""
    return f'<div style="color:#6b6b6b">{escape(f"{picture.size}; {_LEGEND}{more}")}</div>'
