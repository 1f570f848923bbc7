"""The generated kernel that looks at candidate tiles: what the enclosures of a term say under the tensors of a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from patternc.analysis.fixed import has_gaps, looked_at
from patternc.analysis.tiles import Area
from patternc.backends.triton_launch import Launch
from patternc.backends.triton_lists import Listing
from patternc.backends.triton_trace import TracedArrays
from patternc.backends.triton_traced import ARGUMENTS, Elements, given, head, traced_module
from patternc.backends.triton_values import Kernel, Traced
from patternc.backends.triton_writer import Writer
from patternc.passes.fixed import Possible
from patternc.plan import Axis

BLOCK = 128
"""Candidates of a program."""
_TENSORS = ("rows", "columns", "lists", "lengths", "found", *ARGUMENTS)
_NUMBERS = ("tiles", "blocks", "first", "places")


@dataclass(frozen=True, eq=False)
class Look:
    """The kernel for the candidates of a term, traced."""

    possible: Possible
    text: str
    kernel: Kernel

    def launch(
        self, places: int, elements: Elements, tensors: Mapping[str, torch.Tensor], device: torch.device
    ) -> Launch:
        """It writes what it found at the candidates' places in `found`, twice: for walks over keys, then, `places`
        later, for walks over queries."""
        possible, tiles = self.possible, len(self.possible.tiles)
        blocks = -(-tiles // BLOCK)
        bound: dict[str, Any] = {
            **elements.bound(self.kernel, tensors, device),
            "rows": torch.as_tensor(possible.tiles.row, dtype=torch.int32, device=device),
            "columns": torch.as_tensor(possible.tiles.column, dtype=torch.int32, device=device),
            "tiles": tiles, "blocks": blocks, "first": possible.start, "places": places, "BLOCK": BLOCK, "num_warps": 4,
        }  # fmt: skip
        values = {**given(self.kernel), "found": "found", "lists": "lists", "lengths": "lengths"}
        return Launch(traced_module(self.text).look, blocks * possible.rows, bound, values)


def look(multiplicity: Any, possible: Possible, lists: Mapping[int, Listing], xp: TracedArrays) -> Look:
    """The kernel of a term whose multiplicity speaks of traced tensors; UntraceableError if there is none. `lists` are
    those of axes, by the identity of the room that they have."""
    kernel = xp.kernel = Kernel()
    row, column = Traced(kernel, "int", "row"), Traced(kernel, "int", "column")
    area = Area(_traced(possible.area.queries, lists, xp), _traced(possible.area.keys, lists, xp))
    kept, weight = looked_at(multiplicity, area, row, column, xp)
    gaps = (has_gaps(area.queries, row, xp), has_gaps(area.keys, column, xp))
    names = kernel.text_of(kept, "bool"), kernel.text_of(weight, "int"), *(kernel.text_of(gap, "bool") for gap in gaps)
    pointers = tuple(kernel.pointers.values())
    return Look(possible, _text(tuple(kernel.lines), tuple(sorted(kernel.words)), pointers, names), kernel)


def _traced(axis: Axis, lists: Mapping[int, Listing], xp: TracedArrays) -> Axis:
    return axis if axis.index is None else replace(axis, index=lists[id(axis.index)].traced(xp))


@cache
def _text(lines: tuple[str, ...], words: tuple[str, ...], pointers: tuple[str, ...], names: tuple[str, ...]) -> str:
    kept, weight, query_gaps, key_gaps = names
    w = Writer()
    head(w, words, "look", (*_TENSORS, *pointers), _NUMBERS)
    with w.body():
        w("""
            place = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
            batch = (tl.program_id(0) // blocks).to(tl.int64)
            inside = place < tiles
            row = tl.load(rows + place, mask=inside, other=0).to(tl.int64)
            column = tl.load(columns + place, mask=inside, other=0).to(tl.int64)
        """)
        for line in lines:
            w(line)
        w(f"""
            weight = {weight} + row * 0
            kept = {kept} & inside
            bits = tl.log2(tl.maximum(weight, 1).to(tl.float32)).to(tl.int32, bitcast=True)
            bits = tl.where(weight == 1, 0, bits)
            home = found + first + batch * tiles + place
            sure = (weight > 0) & (({key_gaps}) == 0)
            tl.store(home, tl.where(kept, tl.where(sure, bits, -2), -1), mask=inside)
            sure = (weight > 0) & (({query_gaps}) == 0)
            tl.store(home + places, tl.where(kept, tl.where(sure, bits, -2), -1), mask=inside)
        """)
    return w.text()
