"""What a module's attention costs at a length: over all heads, and for each class of heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from html import escape
from typing import Any

from patternc.compiler import Compiled
from patternc.planning import Planned, planned
from patternc.show.picture import heads_title, percent, size_text
from patternc.statistics import plan_bytes

MATMULS_FORWARD, MATMULS_BACKWARD = 2, 5
"""Products of the kept pairs with head_dim channels: q·k and p·v; and for dq, dk, dv the scores again, dp, and three
more."""
_COLUMNS = ("heads", "density", "GFLOP forward", "tiles full", "partial", "skipped", "padding", "MB of keys and values")


@dataclass(frozen=True, slots=True)
class HeadStats:
    """Of some heads together, and all batch rows if a run-time tensor tells them apart."""

    heads: tuple[int, ...]
    density: float
    """The share of (query, key) pairs that are kept."""
    wanted_pairs: int
    """Pairs that are kept."""
    computed_pairs: int
    """Pairs of the tiles that are computed."""
    full_tiles: int
    partial_tiles: int
    skipped_tiles: int
    flops: int
    """Of the forward pass of attention, over the kept pairs, without the projections; the backward pass has 2.5 times
    as many."""
    kv_bytes: int
    """Bytes of keys and values that the tiles read, each as often as a tile of queries and a head reads it."""

    @property
    def padding(self) -> float:
        """computed_pairs / wanted_pairs, and 1 if nothing is wanted."""
        return self.computed_pairs / self.wanted_pairs if self.wanted_pairs else 1.0


@dataclass(frozen=True, slots=True)
class ModuleStats:
    """Of one module at one length, for one sequence."""

    name: str
    n: int
    n_q: int
    head_dim: int
    itemsize: int
    """Bytes of a number."""
    total: HeadStats
    """All heads together."""
    per_head: tuple[HeadStats, ...]
    """Each class of heads that have the same pattern."""
    launches: int
    plan_bytes: int
    """Size of the plan's tables."""
    dense_flops: int
    """Of the forward pass, if all pairs were kept."""

    @property
    def density(self) -> float:
        return self.total.density

    @property
    def flops(self) -> int:
        return self.total.flops

    @property
    def backward_flops(self) -> int:
        return self.flops * MATMULS_BACKWARD // MATMULS_FORWARD

    def __str__(self) -> str:
        table = [_COLUMNS, *map(_row, self._rows())]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(_placed(cell, width, i) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
                 for row in table]  # fmt: skip
        return "\n".join([self._title(), *lines])

    def _repr_html_(self) -> str:
        """For notebooks."""
        head = "".join(f"<th>{escape(word)}</th>" for word in _COLUMNS)
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _row(own))}</tr>" for own in self._rows())
        return f"<div>{escape(self._title())}</div><table><tr>{head}</tr>{rows}</table>"

    def _rows(self) -> tuple[HeadStats, ...]:
        return self.per_head if len(self.per_head) == 1 else (*self.per_head, self.total)

    def _title(self) -> str:
        launches = f"{self.launches} launch{'es' * (self.launches > 1)}"
        queries = "" if self.n_q == self.n else f"the last {size_text(self.n_q)} · "
        size = f"n = {size_text(self.n)} · {queries}head_dim {self.head_dim} · {self.itemsize} bytes a number"
        return f"{self.name} · {size} · {launches} · plan of {self.plan_bytes / 1e3:,.1f} kB"


def module_stats(
    name: str, compiled: Compiled, n: int, n_q: int | None, head_dim: int, itemsize: int, tensors: Mapping[str, Any]
) -> ModuleStats:
    """Exact counts of the plan for the last n_q (all, unless given) of n positions."""
    found = planned(compiled.arrangement(), n, n if n_q is None else n_q, tensors, "cpu")
    each = tuple(_of_heads(found, tuple(heads), head_dim, itemsize) for heads in found.meanings.classes)
    rows = (found.meanings.batch or 1) * found.plan.n_q
    dense = 2 * MATMULS_FORWARD * compiled.heads * rows * n * head_dim
    tables = len(found.plan.launches), plan_bytes(found.plan)
    return ModuleStats(name, n, found.plan.n_q, head_dim, itemsize, _together(each, rows * n), each, *tables, dense)


def _of_heads(found: Planned, heads: tuple[int, ...], head_dim: int, itemsize: int) -> HeadStats:
    part = found.of_heads(heads).statistics()
    return HeadStats(
        heads=heads,
        density=part.wanted_pairs / (len(heads) * (found.meanings.batch or 1) * found.plan.n_q * found.plan.n),
        wanted_pairs=part.wanted_pairs,
        computed_pairs=part.computed_pairs,
        full_tiles=part.full_tiles,
        partial_tiles=part.partial_tiles,
        skipped_tiles=part.skipped_tiles,
        flops=2 * MATMULS_FORWARD * part.wanted_pairs * head_dim,
        kv_bytes=(part.full_tiles + part.partial_tiles) * found.plan.tile_k * 2 * head_dim * itemsize,
    )


def _together(parts: tuple[HeadStats, ...], pairs_of_head: int) -> HeadStats:
    """The sums over classes of heads."""
    heads = tuple(sorted(h for part in parts for h in part.heads))
    counted = [field.name for field in fields(HeadStats) if field.name not in ("heads", "density")]
    sums = {name: sum(getattr(part, name) for part in parts) for name in counted}
    return HeadStats(heads, sums["wanted_pairs"] / (len(heads) * pairs_of_head), **sums)


def _row(own: HeadStats) -> tuple[str, ...]:
    counts = (own.full_tiles, own.partial_tiles, own.skipped_tiles)
    return (
        heads_title(own.heads), percent(own.density), _short(own.flops / 1e9), *map(size_text, counts),
        f"{own.padding:.2f}", _short(own.kv_bytes / 1e6),
    )  # fmt: skip


def _short(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _placed(cell: str, width: int, column: int) -> str:
    """Words at the left, numbers at the right."""
    return cell.ljust(width) if column == 0 else cell.rjust(width)
