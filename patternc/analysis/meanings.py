"""The multiplicities of a program at one length: of its heads, of their terms, and the lists that layouts hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from patternc import ir
from patternc.analysis.binding import binding, patterns, reads
from patternc.analysis.elementwise import Array
from patternc.analysis.evaluate import Meaning, Sharing, Unread, shared
from patternc.analysis.tables import Table, as_table
from patternc.analysis.tiles import Counter, tile_cells
from patternc.arrangement import Arrangement, HeadClass, Term
from patternc.plan import Layout
from patternc.rewrite import walk
from patternc.specialise import of_head


def trivial(program: ir.Program, heads: int) -> Arrangement:
    """Every head's pattern as one term in tiles of consecutive tokens."""
    if not any(node == ir.Var("h") for node in walk(program.pattern)):
        pattern = shared(program.pattern)
        return Arrangement(program, heads, (HeadClass(tuple(range(heads)), pattern, (Term(pattern),)),))
    sharing = Sharing()
    members: dict[int, list[int]] = {}
    patterns: dict[int, ir.Pattern] = {}
    for h in range(heads):
        own = shared(of_head(program, h).pattern, sharing)
        members.setdefault(id(own), []).append(h)
        patterns[id(own)] = own
    classes = (HeadClass(tuple(members[key]), own, (Term(own),)) for key, own in patterns.items())
    return Arrangement(program, heads, tuple(classes))


class Meanings:
    """The multiplicities of an arrangement at one length, each made when it is first asked for.

    `tensors` are the program's run-time tensors as arrays of the namespace `xp`, already checked; of those left out
    nothing is assumed (NumPy only). Queries are the last n_q (all, unless given) of n positions. If `lazy`, covers and
    samples are computed where cells are asked for. SpatError if the program does not admit the length.
    """

    def __init__(
        self,
        arrangement: Arrangement,
        *,
        n: int,
        n_q: int | None = None,
        tensors: Mapping[str, Any],
        xp: Any,
        counter: Counter | None = None,
        lazy: bool = False,
    ) -> None:
        program, bound = arrangement.program, binding(arrangement).at(n)
        self.arrangement, self.heads, self._lazy = arrangement, arrangement.heads, lazy
        self.n, self.n_q, self.xp, self.counter = n, n if n_q is None else n_q, xp, counter or Counter()
        self._arrays = {name: xp.asarray(array) for name, array in tensors.items()}
        self.exact = len(tensors) == len(program.tensors)
        """Whether all run-time tensors are there, so that cells may be asked for."""
        self._elements = {t.name: t.element for t in program.tensors}
        self._batched = {t.name for t in program.tensors if t.batched and t.name in tensors}
        self._sharing, self._read = bound.sharing, dict[int, frozenset[str]]()
        self._known = bound.known(frozenset(tensors))
        self.classes = [own.heads for own in self._known]
        """Heads whose terms, with their layouts, are the same."""
        self._class = {h: own for own in self._known for h in own.heads}
        self._rows = {own.heads[0]: self._row_count(own) for own in self._known}
        self._tables: dict[tuple[str, int | None], Table] = {}
        self._meanings: dict[tuple[int, int | None, int], Meaning] = {}
        self._families: dict[tuple[int, int | None, bool], Meaning] = {}
        self._known_chosen: dict[tuple[int, int | None, int, str], Array] = {}
        self._known_positions: dict[tuple[int, int | None, int, str], Array] = {}

    def rearranged(self, arrangement: Arrangement) -> Meanings:
        """Those of another arrangement of the program, for the same length and tensors."""
        same: dict[str, Any] = {"tensors": self._arrays, "xp": self.xp, "counter": self.counter, "lazy": self._lazy}
        return Meanings(arrangement, n=self.n, n_q=self.n_q, **same)

    # -------------------------------------------------------------- heads, batch rows, terms

    def rows_of(self, h: int) -> int | None:
        """The number of batch rows, if the head's pattern depends on them."""
        return self._rows[self._class[h].heads[0]]

    @property
    def batch(self) -> int | None:
        """The number of batch rows, if the pattern of any head depends on them."""
        return next((count for count in self._rows.values() if count is not None), None)

    def terms(self, h: int) -> tuple[tuple[Layout, Layout], ...]:
        """The layouts of queries and of keys of the head's terms."""
        return tuple((term.queries, term.keys) for term in self._class[h].terms)

    def of(self, h: int, b: int | None = None) -> Meaning:
        """The multiplicity of head h in batch row b, as a function of numbers q and k; queries are the last n_q."""
        return self._meaning(self._class[h].heads[0], self._class[h].pattern, b)

    def term(self, h: int, b: int | None, i: int) -> Meaning:
        """The multiplicity of term i, on the tokens that its layouts hold."""
        return self._meaning(self._class[h].heads[0], self._class[h].terms[i].pattern, b)

    def listed(self, h: int, b: int | None, i: int) -> tuple[Array | None, Array | None]:
        """The ascending positions that are listed queries and keys of term i; None for a layout that is no list."""
        queries, keys = (self._positions(h, b, *side) for side in self._lists(h, i))
        return queries, keys

    def _lists(self, h: int, i: int) -> tuple[tuple[str, ir.Pattern | None], tuple[str, ir.Pattern | None]]:
        term = self._class[h].terms[i]
        return ("q", term.listed_queries), ("k", term.listed_keys)

    def _positions(self, h: int, b: int | None, side: str, wanted: ir.Pattern | None) -> Array | None:
        chosen = self._chosen(h, b, side, wanted)
        if wanted is None or chosen is None:
            return None
        key = (self._class[h].heads[0], self._row(wanted, b), id(wanted), side)
        if key not in self._known_positions:
            first = self.n - self.n_q if side == "q" else 0
            self._known_positions[key] = self.xp.flatnonzero(chosen) + first
        return self._known_positions[key]

    def _chosen(self, h: int, b: int | None, side: str, wanted: ir.Pattern | None) -> Array | None:
        if wanted is None:
            return None
        head, row = self._class[h].heads[0], self._row(wanted, b)
        key = (head, row, id(wanted), side)
        if key not in self._known_chosen:
            parts = list(self._holding(self._meaning(head, wanted, b), side))
            self._known_chosen[key] = self.xp.concatenate(parts)
        return self._known_chosen[key]

    def _holding(self, wanted: Meaning, side: str) -> Iterator[Array]:
        """Whether a set holds that depends on one side only, some positions at a time."""
        start = self.n - self.n_q if side == "q" else 0
        for first in range(start, self.n, self.xp.chunk):
            here = self.xp.arange(first, min(first + self.xp.chunk, self.n))
            other = self.xp.full(here.shape, 0 if side == "q" else self.n - 1)
            q, k = (here, other) if side == "q" else (other, here)
            yield self.xp.broadcast_to(tile_cells(wanted, q, k, self.xp, self.counter), here.shape) > 0

    # -------------------------------------------------------------- making them

    def _meaning(self, head: int, pattern: ir.Pattern, b: int | None) -> Meaning:
        row = self._row(pattern, b)
        key = (head, row, id(pattern))
        if key not in self._meanings:
            tables = {name: self._table(name, row) for name in self._reads(pattern)}
            exact = not any(isinstance(table, Unread) for table in tables.values())
            made = Meaning(
                pattern,
                n=self.n,
                n_q=self.n_q,
                h=head,
                tables=tables,
                xp=self.xp,
                counter=self.counter,
                lazy=self._lazy,
                beside=self._families.get((head, row, exact)),
                sharing=self._sharing,
            )
            self._families.setdefault((head, row, exact), made)
            self._meanings[key] = made
        return self._meanings[key]

    def _row(self, pattern: ir.Pattern, b: int | None) -> int | None:
        """The batch row, where a pattern depends on it."""
        return b if self._reads(pattern) & self._batched else None

    def _reads(self, pattern: ir.Pattern) -> frozenset[str]:
        """The run-time tensors that a pattern of the arrangement reads."""
        if not self._elements:
            return frozenset()
        if id(pattern) not in self._read:
            self._read[id(pattern)] = reads(pattern)
        return self._read[id(pattern)]

    def _table(self, name: str, b: int | None) -> Table | Unread:
        if name not in self._arrays:
            return Unread(self._elements[name])
        row = b if name in self._batched else None
        if (name, row) not in self._tables:
            array = self._arrays[name]
            self._tables[name, row] = as_table(self.xp, array if row is None else array[row])
        return self._tables[name, row]

    def _row_count(self, own: HeadClass) -> int | None:
        batched = frozenset().union(*(self._reads(pattern) for pattern in patterns(own))) & self._batched
        return self._arrays[min(batched)].shape[0] if batched else None
