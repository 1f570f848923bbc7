"""Properties at one length, with nothing left open: exact, by counting tiles, at lengths up to a million."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from patternc import ir
from patternc.analysis.arrays import NUMPY
from patternc.analysis.evaluate import Meaning
from patternc.analysis.meanings import Meanings, trivial
from patternc.analysis.measure import row_counts
from patternc.analysis.presburger import most
from patternc.analysis.properties import Failure, Property, cell_failure, row_failure, wrong_density
from patternc.analysis.tiles import Counter, TooMuchWorkError, classify, consecutive_area, tile_cells
from patternc.rewrite import rebuild, walk

TILE = 128
MAX_DENSE = 4096
"""Longest length at which bags are compared, cell by cell: a bound on time."""

Head = int


MOST_TOKENS, MOST_HEADS, MOST_WORK = 1 << 24, 4096, 1 << 25
"""Longest length and most heads that are looked at, and most boxes and cells: a bound on time."""


class TooLongError(Exception):
    """The length is too long, or the pattern too dense, to be looked at."""


_LATER = ir.Where(ir.Compare(">", ir.Var("k"), ir.Var("q")))


class At:
    """A program, closed but for h and n, at a length."""

    def __init__(self, program: ir.Program, n: int, heads: int) -> None:
        self.program, self.n, self.heads = program, n, heads
        self.xp, self.counter = NUMPY, Counter(limit=MOST_WORK)

    def failure(self, wanted: Property) -> tuple[Failure, Head] | None:
        """The first failure and its head. TooLongError if that takes too much work, or bags would be compared."""
        if self.n > MOST_TOKENS or self.heads > MOST_HEADS:
            raise TooLongError
        try:
            return self._failure(wanted)
        except TooMuchWorkError as error:
            raise TooLongError from error

    def _failure(self, wanted: Property) -> tuple[Failure, Head] | None:
        match wanted.name:
            case "density":
                return self._density(wanted)
            case "causal":
                return self._first(ir.Product((self.program.pattern, _LATER)), wanted)
            case "symmetric":
                return self._symmetric(wanted)
            case "equals":
                return self._equals(wanted)
        for heads, meaning, keys, total in self._counts(self.program.pattern):
            for q in self._suspects(wanted, keys, total):
                found = row_failure(wanted, q, self._row(meaning, q))
                if found is not None:
                    return found, heads[0]
        return None

    def _suspects(self, wanted: Property, keys: Any, total: Any) -> list[int]:
        """Rows whose counts do not fit, the first ones."""
        match wanted.name:
            case "nonempty":
                wrong = keys == 0
            case "set":
                wrong = keys != total
            case _:
                distinct, at = np.unique(keys, return_inverse=True)
                wrong = np.array([not wanted.accepts(int(x)) for x in distinct])[at]
        return [int(q) for q in np.flatnonzero(wrong)[:1]]

    def _meanings(self, pattern: ir.Pattern) -> Meanings:
        program = ir.Program(self.program.name, pattern, (), self.program.grids)
        return Meanings(trivial(program, self.heads), n=self.n, tensors={}, xp=self.xp, counter=self.counter)

    def _counts(self, pattern: ir.Pattern) -> Iterator[tuple[tuple[Head, ...], Meaning, Any, Any]]:
        """For each class of heads its keys per row (n,) and their multiplicities' sums (n,)."""
        meanings = self._meanings(pattern)
        area = consecutive_area(0, self.n, self.n, TILE, TILE)
        for heads in meanings.classes:
            meaning = meanings.of(heads[0])
            runs = classify(meaning, area, self.xp, self.counter).by_query
            yield (heads, meaning, *row_counts(meaning, runs, area, self.xp, self.counter))

    def _row(self, meaning: Meaning, q: int) -> list[int]:
        return self._cells(meaning, self.xp.arange(q, q + 1)[:, None], self.xp.arange(0, self.n)[None, :])[0].tolist()

    def _cells(self, meaning: Meaning, q: Any, k: Any) -> Any:
        cells = tile_cells(meaning, q, k, self.xp, self.counter)
        return np.broadcast_to(cells, np.broadcast_shapes(q.shape, k.shape))

    def _first(self, witness: ir.Pattern, wanted: Property) -> tuple[Failure, Head] | None:
        """The failure in the first cell of a pattern that holds the failures."""
        for heads, meaning, keys, _ in self._counts(witness):
            rows = keys.nonzero()[0]
            if rows.shape[0]:
                q = int(rows[0])
                k = next(k for k, m in enumerate(self._row(meaning, q)) if m)
                return self._at(wanted, heads[0], q, k), heads[0]
        return None

    def _at(self, wanted: Property, h: Head, q: int, k: int) -> Failure:
        """The failure in the cell (q, k)."""
        cell = lambda pattern, i, j: int(self._row(self._meanings(pattern).of(h), i)[j])
        back = cell(self.program.pattern, k, q) if wanted.name == "symmetric" else 0
        other = cell(wanted.other.pattern, q, k) if wanted.other is not None else 0
        failure = cell_failure(wanted, q, k, cell(self.program.pattern, q, k), back, other)
        assert failure is not None, "the cell that was found holds no failure"
        return failure

    # ------------------------------------------------------------------ comparisons

    def _density(self, wanted: Property) -> tuple[Failure, Head] | None:
        kept = sum(len(heads) * int(keys.sum()) for heads, _, keys, _ in self._counts(self.program.pattern))
        density = kept / (self.heads * self.n**2)
        return None if wanted.accepts(density) else (wrong_density(density, wanted), 0)

    def _symmetric(self, wanted: Property) -> tuple[Failure, Head] | None:
        pattern = self.program.pattern
        selects = any(isinstance(x, ir.Top | ir.Sample) for x in walk(pattern))
        if most(pattern) == 1 and not selects:
            return self._first(ir.Product((pattern, ir.Complement(_mirrored(pattern)))), wanted)
        return self._densely(wanted)

    def _equals(self, wanted: Property) -> tuple[Failure, Head] | None:
        assert wanted.other is not None
        mine, others = self.program.pattern, wanted.other.pattern
        if most(mine) == most(others) == 1:
            differences = [ir.Product((a, ir.Complement(b))) for a, b in ((mine, others), (others, mine))]
            return self._first(ir.Union(tuple(differences)), wanted)
        return self._densely(wanted)

    def _densely(self, wanted: Property) -> tuple[Failure, Head] | None:
        """The first failure, by looking at all cells."""
        if self.n > MAX_DENSE:
            raise TooLongError
        other = wanted.other.pattern if wanted.other is not None else self.program.pattern
        mine, others = self._meanings(self.program.pattern), self._meanings(other)
        keys = self.xp.arange(0, self.n)
        for h in range(self.heads):
            for start in range(0, self.n, TILE):
                queries = self.xp.arange(start, min(start + TILE, self.n))
                a = self._cells(mine.of(h), queries[:, None], keys[None, :])
                if wanted.name == "symmetric":
                    b = self._cells(mine.of(h), keys[None, :], queries[:, None])
                else:
                    b = self._cells(others.of(h), queries[:, None], keys[None, :])
                rows, columns = (a != b).nonzero()
                if rows.shape[0]:
                    return self._at(wanted, h, start + int(rows[0]), int(columns[0])), h
        return None


def _mirrored(node: ir.Node) -> Any:
    """The pattern with query and key exchanged; it has no selections."""
    if isinstance(node, ir.Var) and node.name in ("q", "k"):
        return ir.Var("k" if node.name == "q" else "q", node.depth, span=node.span)
    return rebuild(node, _mirrored)
