"""The generated kernels that make the lists of tokens of a call: those of which a condition on run-time tensors holds,
in ascending order, with room for all tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from patternc.backends.triton_launch import Launch
from patternc.backends.triton_static import STATIC
from patternc.backends.triton_trace import TracedArrays, TracedIndex, TracedList
from patternc.backends.triton_traced import ARGUMENTS, Elements, given, head, traced_module
from patternc.backends.triton_values import Kernel
from patternc.backends.triton_writer import Writer
from patternc.plan import LISTED, Axis

BLOCK = 2048
"""Tokens that the program of a list takes at a time."""
_TENSORS = ("lists", "ranks", "lengths", *ARGUMENTS)
_NUMBERS = ("start", "stop", "room", "first", "rank", "number")


@dataclass(frozen=True, eq=False)
class Listing:
    """A list of each batch row, or of all, and where it lies among the lists of a call, the ranks of all positions and
    the lengths of lists."""

    axis: Axis
    """With room for all tokens."""
    rows: int
    first: int
    rank: int
    number: int
    text: str
    kernel: Kernel

    @property
    def room(self) -> int:
        assert self.axis.index is not None, "a list has an index"
        return int(self.axis.index.shape[0])

    def traced(self, xp: TracedArrays) -> TracedIndex:
        return TracedIndex(xp, (self.room,), self.first, self.number, self.rows > 1)

    def launch(self, elements: Elements, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Launch:
        bound: dict[str, Any] = {
            **elements.bound(self.kernel, tensors, device), "start": self.axis.start, "stop": self.axis.stop,
            "room": self.room, "first": self.first, "rank": self.rank, "number": self.number, "BLOCK": BLOCK,
            "num_warps": 8,
        }  # fmt: skip
        values = {**given(self.kernel), **{name: name for name in ("lists", "ranks", "lengths")}}
        return Launch(traced_module(self.text).listing, self.rows, bound, values)


@dataclass(frozen=True, eq=False)
class Listings:
    """All lists of a program at a length."""

    all: tuple[Listing, ...]
    of: Mapping[tuple[int, int], tuple[Axis | None, Axis | None]]
    """See `passes.fixed.Lists`."""
    n: int

    @property
    def by_index(self) -> dict[int, Listing]:
        return {id(one.axis.index): one for one in self.all}

    def sizes(self) -> dict[str, int]:
        """The numbers of 32 bits of the tables of a call."""
        rows = sum(one.rows for one in self.all)
        return {"lists": sum(one.rows * one.room for one in self.all), "ranks": rows * self.n, "lengths": rows}


def listings(meanings: Any, xp: TracedArrays, tile: tuple[int, int]) -> Listings:
    """The lists of a program whose multiplicities speak of traced tensors; UntraceableError if one cannot be made by
    the device."""
    known: dict[int, tuple[TracedList, Listing]] = {}
    of = {}
    for heads in meanings.classes:
        count = meanings.rows_of(heads[0])
        for i in range(len(meanings.terms(heads[0]))):
            axes: list[Axis | None] = []
            for side in (0, 1):
                xp.kernel = Kernel(listing=True)
                found = meanings.listed(heads[0], None if count is None else 0, i)[side]
                if found is not None and id(found) not in known:
                    start = meanings.n - meanings.n_q if side == 0 else 0
                    before = [one for _, one in known.values()]
                    known[id(found)] = found, _listing(found, before, start, meanings.n, tile[side], count or 1)
                axes.append(None if found is None else known[id(found)][1].axis)
            of[heads[0], i] = (axes[0], axes[1])
    return Listings(tuple(one for _, one in known.values()), of, meanings.n)


def _listing(found: TracedList, before: Sequence[Listing], start: int, n: int, tile: int, rows: int) -> Listing:
    room = -(-(n - start) // tile) * tile
    index = STATIC.minimum(STATIC.arange(start, start + room), n)
    places = list(_starts(before, n))
    kernel = found.chosen.kernel
    name = kernel.text_of(found.chosen, "bool")
    pointers = tuple(kernel.pointers.values())
    text = _text(tuple(kernel.lines), tuple(sorted(kernel.words)), pointers, name)
    return Listing(Axis(LISTED, start, n, tile, index), rows, *places[-1], text, kernel)


def _starts(before: Sequence[Listing], n: int) -> Iterator[tuple[int, int, int]]:
    """Where each list lies, and the next one."""
    first, number = 0, 0
    for one in before:
        yield first, number * n, number
        first, number = first + one.rows * one.room, number + one.rows
    yield first, number * n, number


@cache
def _text(lines: tuple[str, ...], words: tuple[str, ...], pointers: tuple[str, ...], chosen: str) -> str:
    w = Writer()
    head(w, words, "listing", (*_TENSORS, *pointers), _NUMBERS)
    with w.body():
        w("""
            batch = tl.program_id(0).to(tl.int64)
            home = lists + first + batch * room
            before = 0
        """)
        with w.block("for block in range(start, stop, BLOCK):"):
            w("""
                token = block + tl.arange(0, BLOCK)
                inside = token < stop
                position = tl.minimum(token, stop - 1).to(tl.int64)
            """)
            for line in lines:
                w(line)
            w(f"""
                chosen = ({chosen}) & inside
                place = before + tl.cumsum(chosen.to(tl.int32), 0) - 1
                tl.store(home + place, token, mask=chosen)
                tl.store(ranks + rank + batch * stop + token, tl.where(chosen, place, -1), mask=inside)
                before += tl.sum(chosen.to(tl.int32), 0)
            """)
        w("tl.store(lengths + number + batch, before)")
        with w.block("for block in range(0, room, BLOCK):"):
            w("""
                place = block + tl.arange(0, BLOCK)
                tl.store(home + place, stop, mask=(place >= before) & (place < room))
            """)
        with w.block("for block in range(0, start, BLOCK):"):
            w("""
                token = block + tl.arange(0, BLOCK)
                tl.store(ranks + rank + batch * stop + token, -1, mask=token < start)
            """)
    return w.text()
