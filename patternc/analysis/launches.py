"""Plans, and their launches: heads and batch rows that follow one schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from patternc.analysis.tiles import Area, Counter, Tiling, classify
from patternc.plan import Launch, Plan, Runs


def tiled_plan(
    meanings: Any,
    *,
    heads: int,
    n: int,
    n_q: int,
    tile_q: int,
    tile_k: int,
    xp: Any,
    counter: Counter | None = None,
    exact: bool = True,
) -> Plan:
    """The plan of all heads at one length, in tiles of consecutive tokens, `exact` as in `classify`.

    `meanings` has `classes`, the heads that have one multiplicity; `rows_of(head)`, the number of batch rows on which
    it depends, or None; and `of(head, batch row)`, the multiplicity itself.
    """
    area = Area(n - n_q, n_q, n, tile_q, tile_k)

    def tiling(h: int, b: int | None) -> Tiling:
        return classify(meanings.of(h, b), area, xp, counter, exact=exact)

    rows = [meanings.rows_of(members[0]) for members in meanings.classes]
    return Plan(n, n_q, heads, tile_q, tile_k, grouped(meanings.classes, rows, tiling, xp))


def grouped(
    classes: Sequence[tuple[int, ...]],
    batch: Sequence[int | None],
    tiling: Callable[[int, int | None], Tiling],
    xp: Any,
) -> tuple[Launch, ...]:
    """The launches of heads in `classes`, where `tiling(h, b)` is the tiling of a class that holds head h, in batch row
    b; `batch[i]` is the number of batch rows on which class i depends, or None. Equal tilings share a launch."""
    distinct: list[Tiling] = []
    schedules: dict[tuple[tuple[int, tuple[int, ...] | None], ...], list[int]] = {}
    for heads, rows in zip(classes, batch, strict=True):
        found = [_number(tiling(heads[0], b), distinct, xp) for b in ([None] if rows is None else range(rows))]
        parts = {t: tuple(b for b, other in enumerate(found) if other == t) for t in dict.fromkeys(found)}
        whole = rows is None or len(parts) == 1
        key = tuple((t, None if whole else b) for t, b in parts.items())
        schedules.setdefault(key, []).extend(heads)
    return tuple(
        Launch(tuple(sorted(heads)), rows, distinct[t].by_query, distinct[t].by_key)
        for key, heads in schedules.items()
        for t, rows in key
    )


def _number(tiling: Tiling, distinct: list[Tiling], xp: Any) -> int:
    """The place of an equal tiling in the list; a new one is added."""
    for i, other in enumerate(distinct):
        if _equal_runs(tiling.by_query, other.by_query, xp):
            return i
    distinct.append(tiling)
    return len(distinct) - 1


def _equal_runs(a: Runs, b: Runs, xp: Any) -> bool:
    if a.first.shape != b.first.shape:
        return False
    return not any(xp.any(getattr(a, field.name) != getattr(b, field.name)) for field in fields(a))
