"""The plan of a program at one length, in tiles of consecutive tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from patternc import ir
from patternc.analysis.evaluate import Meaning, Sharing, Unread, shared
from patternc.analysis.launches import tiled_plan
from patternc.analysis.numbers import Table
from patternc.analysis.overflow import check_overflow
from patternc.analysis.tiles import Counter
from patternc.plan import TILE, Plan
from patternc.rewrite import walk
from patternc.specialise import bind, specialise


def plan(
    program: ir.Program,
    *,
    heads: int,
    n: int,
    n_q: int | None = None,
    tensors: Mapping[str, Any],
    xp: Any,
    tile_q: int = TILE,
    tile_k: int = TILE,
    counter: Counter | None = None,
) -> Plan:
    """Which tiles to compute for the last n_q (all, unless given) of n positions.

    `program` is closed but for h and n; `tensors` are its run-time tensors as arrays of the namespace `xp`, already
    checked. Of those left out nothing is assumed: their tiles are kept, as partial ones (NumPy only).
    SpatError if the program does not admit the length.
    """
    meanings = Meanings(program, heads=heads, n=n, n_q=n_q, tensors=tensors, xp=xp, counter=counter)
    return plan_of(meanings, tile_q, tile_k)


def plan_of(meanings: Meanings, tile_q: int = TILE, tile_k: int = TILE) -> Plan:
    """The plan of multiplicities at their length."""
    m = meanings
    return tiled_plan(
        m, heads=m.heads, n=m.n, n_q=m.n_q, tile_q=tile_q, tile_k=tile_k, xp=m.xp, counter=m.counter, exact=m.exact
    )


class Meanings:
    """The multiplicities of a program at one length, by head and batch row, each made when it is first asked for."""

    def __init__(
        self,
        program: ir.Program,
        *,
        heads: int,
        n: int,
        n_q: int | None = None,
        tensors: Mapping[str, Any],
        xp: Any,
        counter: Counter | None = None,
        lazy: bool = False,
    ) -> None:
        self.heads, self._lazy = heads, lazy
        self.n, self.n_q, self.xp, self.counter = n, n if n_q is None else n_q, xp, counter or Counter()
        self._arrays = {name: xp.asarray(array) for name, array in tensors.items()}
        self.exact = len(tensors) == len(program.tensors)
        """Whether all run-time tensors are there, so that cells may be asked for."""
        self._elements = {t.name: t.element for t in program.tensors}
        self._batched = {t.name for t in program.tensors if t.batched and t.name in tensors}
        patterns, self.classes = head_classes(bind(program, n).pattern, heads)
        for pattern in patterns:
            check_overflow(pattern, program.tensors, n)
        self._pattern = {h: p for p, members in zip(patterns, self.classes, strict=True) for h in members}
        self._head = {h: members[0] for members in self.classes for h in members}
        self._tables: dict[tuple[str, int | None], Table] = {}
        self._meanings: dict[tuple[int, int | None], Meaning] = {}

    def rows_of(self, h: int) -> int | None:
        """The number of batch rows, if the head's pattern depends on them."""
        batched = {node.tensor for node in walk(self._pattern[h]) if isinstance(node, ir.Read)} & self._batched
        return self._arrays[min(batched)].shape[0] if batched else None

    @property
    def batch(self) -> int | None:
        """The number of batch rows, if the pattern of any head depends on them."""
        counts = [count for members in self.classes if (count := self.rows_of(members[0])) is not None]
        return counts[0] if counts else None

    def of(self, h: int, b: int | None = None) -> Meaning:
        """The multiplicity of head h in batch row b, as a function of numbers q and k; queries are the last n_q."""
        key = (self._head[h], b if self.rows_of(h) is not None else None)
        if key not in self._meanings:
            names = {node.tensor for node in walk(self._pattern[h]) if isinstance(node, ir.Read)}
            tables = {name: self._table(name, key[1]) for name in names}
            self._meanings[key] = Meaning(
                self._pattern[h],
                n=self.n,
                n_q=self.n_q,
                h=key[0],
                tables=tables,
                xp=self.xp,
                counter=self.counter,
                lazy=self._lazy,
            )
        return self._meanings[key]

    def _table(self, name: str, b: int | None) -> Table | Unread:
        if name not in self._arrays:
            return Unread(self._elements[name])
        row = b if name in self._batched else None
        if (name, row) not in self._tables:
            array = self._arrays[name]
            self._tables[name, row] = Table(self.xp, array if row is None else array[row])
        return self._tables[name, row]


def head_classes(pattern: ir.Pattern, heads: int) -> tuple[list[ir.Pattern], list[tuple[int, ...]]]:
    """The different patterns that the heads have, and who has each: the pattern is bound to a length."""
    if not any(isinstance(node, ir.Sample) or node == ir.Var("h") for node in walk(pattern)):
        return [shared(pattern)], [tuple(range(heads))]
    sharing = Sharing()
    members: dict[tuple[int, int], list[int]] = {}
    patterns: dict[tuple[int, int], ir.Pattern] = {}
    for h in range(heads):
        own = shared(specialise(pattern, {"h": h}), sharing)
        drawn = h if any(isinstance(node, ir.Sample) for node in walk(own)) else -1  # the hash takes the head
        members.setdefault((id(own), drawn), []).append(h)
        patterns[id(own), drawn] = own
    return list(patterns.values()), [tuple(m) for m in members.values()]
