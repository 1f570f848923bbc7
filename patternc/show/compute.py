"""From a program to its picture, without a dense mask: cells where there is room for them, else tiles and samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from patternc import ir
from patternc.analysis.arrays import NumpyArrays
from patternc.analysis.meanings import Meanings, trivial
from patternc.analysis.measure import SAMPLES, looks, profile
from patternc.analysis.tiles import Area, Counter, Multiplicity, consecutive_area, tile_cells
from patternc.rewrite import children
from patternc.show.picture import FULL, PARTIAL, SKIPPED, Panel, Picture
from patternc.specialise import bind

MOST_PANELS = 8
MOST_SELECTED = 1 << 25
"""Pairs that the selections of all panels together choose from: a bound on time. One panel is shown in any case."""
MOST_TILES = 1 << 17
"""Display tiles of all panels together: a bound on the time, as each in doubt is judged by 256 of its cells."""
MOST_COMPUTED = 1 << 16
"""Longer axes have their covers and samples computed where the picture looks, at fewer cells of each tile."""
FEW = 3
_DRAWS, _AT_ONCE = 1 << 19, 1 << 13
"""Cells that are drawn to estimate a density, about, and tiles that are drawn from at once."""
_TILES = 12
"""Tiles along the side, about, where the picture shows cells."""


class Sight:
    """A program seen at one length, for batch row 0 of its run-time tensors.

    `tensors` are NumPy arrays, already checked; `side` is the most display cells along a panel, fewer where there are
    many panels; `tile` the side of the tiles in tokens, chosen here if None; `only` the heads to look at, all if there
    are none. Raises ValueError for more queries than keys, SpatError for a length that the
    program does not admit.
    """

    def __init__(
        self,
        program: ir.Program,
        n: int,
        n_q: int,
        heads: int,
        tensors: Mapping[str, np.ndarray],
        *,
        side: int,
        tile: int | None = None,
        only: Sequence[int] = (),
    ) -> None:
        if n_q > n:
            raise ValueError(f"the queries are the last of the n = {n} positions; found {n_q} queries")
        self.n, self.n_q = n, n_q
        lazy = n > MOST_COMPUTED
        plainly = trivial(program, heads)
        self.meanings = Meanings(plainly, n=n, n_q=n_q, tensors=tensors, xp=NumpyArrays(), lazy=lazy)
        self.selected = _selected(bind(program, n).pattern, n, FEW * side if lazy else n)
        """Pairs of positions that `top` and `sample` choose from in each panel; it costs time, beside the tiles."""
        self.samples = FEW if lazy else SAMPLES
        found, most = self._found(set(only)), max(1, min(MOST_PANELS, MOST_SELECTED // max(1, self.selected)))
        self.classes, self.omitted = found[:most], max(0, len(found) - most)
        """The heads of each panel, and how many panels more there would be."""
        self.step = 1 if n <= side else _step(n, min(side, math.isqrt(MOST_TILES // len(self.classes))), tile or 1)
        self.tile = (tile or _nice_tile(n)) if self.step == 1 else self.step

    def _found(self, only: set[int]) -> list[tuple[int, ...]]:
        """The classes of heads that look alike, without the heads that nobody asked for."""
        known = {h for members in self.meanings.classes for h in members}
        if unknown := sorted(only - known):
            raise ValueError(f"there is no head {unknown[0]}: heads are numbered 0 to {len(known) - 1}")
        wanted = only or known
        return [heads for members in self.meanings.classes if (heads := tuple(h for h in members if h in wanted))]

    def panel(self, heads: tuple[int, ...]) -> Panel:
        """What these heads keep."""
        multiplicity = self.meanings.of(heads[0], 0)
        return self._cells(heads, multiplicity) if self.step == 1 else self._tiles(heads, multiplicity)

    def picture(self, name: str, parameters: str, size: str, panels: Sequence[Panel]) -> Picture:
        return Picture(name, parameters, size, self.n, self.n_q, self.step, self.tile, tuple(panels), self.omitted)

    def _cells(self, heads: tuple[int, ...], multiplicity: Multiplicity) -> Panel:
        q, k = np.arange(self.n - self.n_q, self.n)[:, None], np.arange(self.n)[None, :]
        cells = tile_cells(multiplicity, q, k, NumpyArrays(), Counter())
        cells = np.broadcast_to(cells, (self.n_q, self.n))
        return Panel(heads, cells.astype(np.float32), tile_kinds(cells, self.tile), float((cells > 0).mean()))

    def _tiles(self, heads: tuple[int, ...], multiplicity: Multiplicity) -> Panel:
        area = consecutive_area(self.n - self.n_q, self.n_q, self.n, self.step, self.step)
        xp = NumpyArrays()
        found = profile(multiplicity, area, xp, samples=self.samples)
        kinds = np.where(found.full, FULL, np.where(found.possible, PARTIAL, SKIPPED)).astype(np.uint8)
        estimated = bool((kinds == PARTIAL).any())
        density = _density(multiplicity, area, kinds, self.samples)
        return Panel(heads, found.mean.astype(np.float32), kinds, density, estimated)


def _selected(node: ir.Node, n: int, rows: int) -> int:
    """The pairs that the selections of a bound pattern choose from in a space of n positions, if `rows` of them are
    looked at; those of `top` are computed in all rows."""
    inner = -(-n // node.size.value) if isinstance(node, ir.Blocks) and isinstance(node.size, ir.Const) else n
    own = n * n if isinstance(node, ir.Top) else n * min(n, rows) if isinstance(node, ir.Sample) else 0
    return own + sum(_selected(child, int(inner), rows) for child in children(node) if not isinstance(child, ir.Scalar))


def _step(n: int, side: int, tile: int) -> int:
    """Tokens along a display tile: `tile` times the first of 1, 2, 3, 4, 6, 8, 12, … with at most `side` of them."""
    factors = (factor << power for power in range(1, 64) for factor in (2, 3))
    least = -(-n // (tile * side))
    return tile * next(f // 2 for f in itertools.chain([2], factors) if f // 2 >= least)


def _nice_tile(n: int) -> int:
    """A power of two, about a twelfth of n, and 4 at least."""
    return 1 << max(2, round(math.log2(n / _TILES)))


def tile_kinds(cells: np.ndarray, tile: int) -> np.ndarray:
    """For each cell (rows, columns), the kind of the tile in which it lies; tiles at the end may be cut."""
    rows, columns = (np.arange(0, extent, tile) for extent in cells.shape)
    least = np.minimum.reduceat(np.minimum.reduceat(cells, rows, axis=0), columns, axis=1)
    most = np.maximum.reduceat(np.maximum.reduceat(cells, rows, axis=0), columns, axis=1)
    kinds = np.where(most == 0, SKIPPED, np.where(least == most, FULL, PARTIAL)).astype(np.uint8)
    return kinds.repeat(tile, axis=0).repeat(tile, axis=1)[: cells.shape[0], : cells.shape[1]]


def _density(multiplicity: Multiplicity, area: Area, kinds: np.ndarray, count: int) -> float:
    """The share of kept cells: full tiles are counted, partial ones judged by cells drawn within some of their rows."""
    heights = np.minimum(area.n_q - np.arange(area.rows) * area.tile_q, area.tile_q)
    widths = np.minimum(area.n - np.arange(area.columns) * area.tile_k, area.tile_k)
    kept = float(heights @ (kinds == FULL) @ widths)
    rows, columns = np.nonzero(kinds == PARTIAL)
    random = np.random.default_rng(0)
    draws = max(1, min(64, _DRAWS // max(1, len(rows))) // count)
    for at in range(0, len(rows), _AT_ONCE):
        row, column = rows[at : at + _AT_ONCE, None, None], columns[at : at + _AT_ONCE, None, None]
        down = looks(row[:, 0, 0], heights[row][:, 0, 0], count, NumpyArrays())[:, :, None]
        across = random.random((len(row), count, draws))
        q = area.queries.start + row * area.tile_q + down
        k = column * area.tile_k + (across * widths[column]).astype(np.int64)
        share = (tile_cells(multiplicity, q, k, NumpyArrays(), Counter()) > 0).mean(axis=(1, 2))
        kept += float((share * (heights[row] * widths[column])[:, 0, 0]).sum())
    return kept / (area.n_q * area.n)
