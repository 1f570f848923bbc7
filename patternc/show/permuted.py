"""What a picture of layouts shows: each term's cells in the order of the tokens, and in that of its tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from patternc.analysis.arrays import NUMPY
from patternc.analysis.meanings import Meanings
from patternc.analysis.tiles import Counter, Multiplicity, tile_cells
from patternc.layout_words import layouts_words
from patternc.plan import CONSECUTIVE, Axis, Plan
from patternc.show.picture import DEAD, FULL, PARTIAL, SKIPPED, Panel, Picture, heads_title

MOST_TOKENS = 512
"""Longer sequences have no picture of layouts."""


@dataclass(frozen=True, eq=False)
class View:
    """The cells of a term in the order of two axes: slot by slot, tile by tile, lane by lane."""

    panel: Panel
    queries: Axis
    keys: Axis
    tiles: int
    """Those that hold a kept cell, and are computed."""

    @property
    def padding(self) -> float:
        """Cells of computed tiles over kept cells."""
        kept = int((self.panel.values > 0).sum())
        return self.tiles * self.queries.tile * self.keys.tile / kept if kept else 1.0

    @property
    def title(self) -> str:
        return layouts_words(self.queries.layout, self.keys.layout)

    @property
    def caption(self) -> str:
        return f"{self.tiles:,} tile{'s' * (self.tiles != 1)}, padding {self.padding:.3g}"


@dataclass(frozen=True, eq=False)
class Pair:
    """A term of some heads, before and after; `after` is None where the layout is consecutive tokens."""

    title: str
    before: View
    after: View | None

    @property
    def views(self) -> tuple[View, ...]:
        return (self.before,) if self.after is None else (self.before, self.after)


def check_length(n: int) -> None:
    """ValueError for a sequence that is too long to show all its cells."""
    if n > MOST_TOKENS:
        raise ValueError(f"a picture of layouts shows every cell: at most n = {MOST_TOKENS}; found n = {n:,}")


def pairs(plan: Plan, meanings: Meanings, only: Sequence[int] = ()) -> Iterator[Pair]:
    """The terms of a plan with the batch row 0, launch by launch; of the heads `only` if there are some. ValueError for
    a head that does not exist."""
    if unknown := sorted(set(only) - set(range(plan.heads))):
        raise ValueError(f"there is no head {unknown[0]}: heads are numbered 0 to {plan.heads - 1}")
    for launch in plan.launches:
        heads = tuple(h for h in launch.heads if not only or h in only)
        if not heads or (launch.batch is not None and 0 not in launch.batch):
            continue
        for term in launch.terms:
            m = meanings.term(heads[0], 0, term.term)
            count = len(meanings.terms(heads[0]))
            title = heads_title(heads) + (f", term {term.term + 1} of {count}" if count > 1 else "")
            own = (launch.queries, term.keys)
            plain = launch.queries.layout == term.keys.layout == CONSECUTIVE
            before = view(heads, m, _consecutive(own[0]), _consecutive(own[1]), own)
            yield Pair(title, before, None if plain else view(heads, m, *own, own))


def picture(name: str, parameters: str, size: str, plan: Plan, found: Sequence[Pair]) -> Picture:
    """What the pairs have in common; its panels are theirs. ValueError if there are none."""
    if not found:
        raise ValueError("there is nothing to show: no pair is kept")
    panels = tuple(view.panel for pair in found for view in pair.views)
    return Picture(name, parameters, size, plan.n, plan.n_q, 1, plan.tile_k, panels)


def _consecutive(axis: Axis) -> Axis:
    return Axis(CONSECUTIVE, axis.start, axis.stop, axis.tile)


def view(heads: tuple[int, ...], m: Multiplicity, queries: Axis, keys: Axis, held: tuple[Axis, Axis]) -> View:
    """The cells in the order of `queries` and `keys`; those of tokens that the axes `held` do not have count as not
    kept."""
    q, k = slot_tokens(queries), slot_tokens(keys)
    cells = tile_cells(
        m, np.minimum(q, queries.stop - 1)[:, None], np.minimum(k, keys.stop - 1)[None, :], NUMPY, Counter()
    )
    own = np.isin(q, slot_tokens(held[0]))[:, None] & np.isin(k, slot_tokens(held[1]))[None, :]
    token = (q < queries.stop)[:, None] & (k < keys.stop)[None, :]
    values = np.where(token & own, np.broadcast_to(cells, token.shape), 0)
    kinds = _kinds(values, token, queries.tile, keys.tile)
    tiles = int((kinds != SKIPPED).sum())
    kinds = np.where(token, kinds.repeat(queries.tile, axis=0).repeat(keys.tile, axis=1), DEAD).astype(np.uint8)
    panel = Panel(heads, values.astype(np.float32), kinds, float((values > 0).sum() / token.sum()))
    return View(panel, queries, keys, tiles)


def slot_tokens(axis: Axis) -> np.ndarray:
    """The position in each slot, (tiles · tile,); `stop` where there is none."""
    slot = np.arange(axis.tiles * axis.tile)
    return np.asarray(axis.tokens(slot // axis.tile, slot % axis.tile))


def _kinds(values: np.ndarray, token: np.ndarray, tile_q: int, tile_k: int) -> np.ndarray:
    """The kind of each tile, from its cells of two tokens."""
    shape = (values.shape[0] // tile_q, tile_q, values.shape[1] // tile_k, tile_k)
    least = np.where(token, values, np.iinfo(np.int64).max).reshape(shape).min((1, 3))
    most = values.reshape(shape).max((1, 3))
    return np.where(most == 0, SKIPPED, np.where(least == most, FULL, PARTIAL)).astype(np.uint8)
