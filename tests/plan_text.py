"""Plans as text, short and complete, for goldens.

A line covers tile rows whose runs change evenly: `rows 2..6: full 1..2 → 5..6` says that row 2 has a full run of tiles
1 and 2, row 3 one of tiles 2 and 3, and row 6 one of tiles 5 and 6. With `rows 2..7 by 2`, rows 2 and 3 are equal, and
so are 4 and 5. Rows without runs are left out. Work stands in its order: rows, or pieces `row: first..last` of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from patternc.plan import FULL, Axis, Launch, Plan, Runs, TermTiles, Work

Run = tuple[int, int, int, int]
"""Kind, weight, first tile, last tile."""


def text(plan: Plan) -> str:
    """The whole plan, with a line break at its end."""
    head = f"{plan.n_q} queries, {plan.n} keys, {plan.heads} heads, tiles {plan.tile_q} × {plan.tile_k}"
    lines = [head, *(line for launch in plan.launches for line in _launch(launch))]
    return "\n".join(lines) + "\n"


def _launch(launch: Launch) -> Iterator[str]:
    batch = "" if launch.batch is None else f", batch rows {_numbers(launch.batch)}"
    yield ""
    yield f"launch: heads {_numbers(launch.heads)}{batch}"
    yield f"  queries {_axis(launch.queries)}"
    if launch.by_query is not None:
        yield f"  work {_work(launch.by_query, [term.by_query for term in launch.terms])}"
    works: Sequence[Work | None] = launch.by_key or [None] * len(launch.terms)
    for term, work in zip(launch.terms, works, strict=True):
        yield from _term(term, work)


def _term(term: TermTiles, work: Work | None) -> Iterator[str]:
    yield f"  term {term.term}: keys {_axis(term.keys)}"
    yield "    by query"
    yield from _rows(term.by_query)
    yield "    by key"
    yield from _rows(term.by_key)
    if work is not None:
        yield f"    work {_work(work, [term.by_key])}"


def _axis(axis: Axis) -> str:
    stride, width = axis.layout.stride, axis.layout.width
    size = f"{axis.tiles} tiles"
    if axis.index is not None:
        index = np.asarray(axis.index)
        return f"listed: {_numbers(index[index != axis.stop].tolist())}; {size}"
    if (stride, width) == (1, 1):
        return f"consecutive; {size}"
    box = "" if width == 1 else f", {width} columns"
    return f"stride {stride}{box}; {axis.lanes} lanes of {axis.per_lane}, {size}"


def _numbers(numbers: Sequence[int]) -> str:
    """Ascending numbers, with ranges from three on."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}..{p[-1]}" if len(p) > 2 else ", ".join(map(str, p)) for p in parts)


def _work(work: Work, tables: Sequence[Runs]) -> str:
    costs = [
        sum(last - first + 1 for runs in row for _, _, first, last in runs)
        for row in zip(*(_runs(table) for table in tables), strict=True)
    ]
    items = list(zip(*(np.asarray(a).tolist() for a in (work.row, work.start, work.stop)), strict=True))
    parts = []
    for whole, some in groupby(items, key=lambda item: item[1:] == (0, costs[item[0]])):
        rows = list(some)
        parts += [_numbers([row for row, _, _ in rows])] if whole else [f"{r}: {a}..{b - 1}" for r, a, b in rows]
    return "; ".join(parts)


def _rows(runs: Runs) -> Iterator[str]:
    """Equal rows are put together first, then those groups of equal size whose runs change evenly."""
    groups = [(run, len(list(rows))) for run, rows in groupby(_runs(runs))]
    i, row = 0, 0
    while i < len(groups):
        end = _even(groups, i)
        (first, size), last = groups[i], groups[end - 1][0]
        stop = row + size * (end - i)
        if first:
            place = f"row {row}" if stop == row + 1 else f"rows {row}..{stop - 1}"
            by = f" by {size}" if size > 1 and end > i + 1 else ""
            yield f"      {place}{by}: {', '.join(_run(a, b) for a, b in zip(first, last, strict=True))}"
        i, row = end, stop


def _runs(runs: Runs) -> list[list[Run]]:
    bounds, first, count, kind, weight = (
        np.asarray(a).tolist() for a in (runs.rows, runs.first, runs.count, runs.kind, runs.weight)
    )
    each = [(kind[r], weight[r], first[r], first[r] + count[r] - 1) for r in range(len(first))]
    return [each[bounds[i] : bounds[i + 1]] for i in range(len(bounds) - 1)]


def _even(groups: list[tuple[list[Run], int]], i: int) -> int:
    """The end of the groups of rows from i on that are equally large, and whose runs change by the same steps."""
    steps: Any = None
    end = i + 1
    while end < len(groups) and groups[end][1] == groups[i][1]:
        step = _step(groups[end - 1][0], groups[end][0])
        if step is None or steps not in (None, step):
            break
        steps, end = step, end + 1
    return end


def _step(a: list[Run], b: list[Run]) -> tuple[tuple[int, int], ...] | None:
    """By how much the ends of each run change; None if the rows are not alike."""
    if [run[:2] for run in a] != [run[:2] for run in b]:
        return None
    return tuple((y[2] - x[2], y[3] - x[3]) for x, y in zip(a, b, strict=True))


def _run(a: Run, b: Run) -> str:
    kind = "partial" if a[0] != FULL else "full" if a[1] == 1 else f"full × {a[1]}"
    places = [str(run[2]) if run[2] == run[3] else f"{run[2]}..{run[3]}" for run in (a, b)]
    return f"{kind} {places[0]}" if places[0] == places[1] else f"{kind} {places[0]} → {places[1]}"
