"""What a picture shows, before anybody draws it: one panel of display cells for each class of heads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SKIPPED, PARTIAL, FULL, DEAD = 0, 1, 2, 3
"""Kinds of a tile: no cell is kept, some are, all are with one multiplicity. DEAD is no tile but a cell of one, without
a token."""


@dataclass(frozen=True, eq=False)
class Panel:
    """The cells of the heads that have the same pattern; axis 0 runs over queries, axis 1 over keys."""

    heads: tuple[int, ...]
    values: np.ndarray
    """(rows, columns) float32: the mean multiplicity of the `step` × `step` cells that a display cell stands for."""
    kinds: np.ndarray
    """(rows, columns) uint8: the kind of the tile in which a display cell lies."""
    density: float
    """Kept cells over all cells, of the n_q × n."""
    estimated: bool = False
    """Whether values and density come from samples."""

    @property
    def title(self) -> str:
        return heads_title(self.heads)

    @property
    def density_text(self) -> str:
        return f"{'≈ ' if self.estimated else ''}{percent(self.density)}"


@dataclass(frozen=True, eq=False)
class Picture:
    """Panels of one size. A display cell stands for `step` × `step` cells; `tile` is a multiple of `step`."""

    name: str
    parameters: str
    """`window = 8, …`, for the heading."""
    size: str
    """`n = 64 · 8 heads`, for the heading."""
    n: int
    n_q: int
    step: int
    tile: int
    panels: tuple[Panel, ...]
    omitted: int = 0
    """Classes of heads that are not shown."""

    @property
    def exact(self) -> bool:
        """Whether a display cell is one cell."""
        return self.step == 1

    @property
    def most(self) -> int:
        """The largest multiplicity shown, rounded up; at least 1."""
        return max(1, *(int(-(-float(panel.values.max(initial=0)) // 1)) for panel in self.panels))


def heads_title(heads: tuple[int, ...]) -> str:
    """`head 3`, `heads 0–5`, `heads 0, 2, 4, 6`, with runs of three or more written as a range."""
    runs: list[list[int]] = []
    for head in heads:
        if runs and head == runs[-1][1] + 1:
            runs[-1][1] = head
        else:
            runs.append([head, head])
    words: list[str] = []
    for first, last in runs:
        words += [f"{first}–{last}"] if last - first > 1 else [str(head) for head in range(first, last + 1)]
    text = ", ".join(words if len(words) <= 6 else [*words[:5], "…"])
    return f"head{'s' * (len(heads) > 1)} {text}"


def percent(share: float) -> str:
    """`12.3 %`, `0.41 %`, `0.00012 %`; `100 %` and `0 %` only where that is exact."""
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    value = min(share * 100, 99.9)
    digits = 1 if value >= 0.995 else 1 - math.floor(math.log10(value))
    return f"{value:.{digits}f} %"


def shortened(text: str, length: int) -> str:
    """At most so many characters of a text."""
    return text if len(text) <= length else text[: max(0, length - 1)] + "…"


def size_text(n: int) -> str:
    """`16,384`."""
    return f"{n:,}"
