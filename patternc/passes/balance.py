"""The last pass of planning: rows of tiles are ordered heaviest first. Those too long for one processor are cut, and so
are those of a last round that would keep few processors busy.

Launches of different heads do not wait for each other and share the processors; those of one head continue each other's
online softmax, and dk and dv are added term by term. So a plan is done in stages, the i-th launches of all heads, and
the rows of a stage are balanced together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from patternc.plan import Array, Launch, Plan, Runs, Work

PROCESSORS = 132
"""For how many processors plans are balanced where there is no GPU: those of an H100 or H200."""

LEAST_PIECE = 8
"""Tiles that a piece of a cut row has at least. Its partial result, 128 rows of 128 channels in float32, is written and
read again: 128 KiB, about what an H200 moves for one of its processors while that computes four tiles of 128 x 64."""

MOST_PIECES = 4
"""Pieces of a row of the last round; more would only be smaller."""

UNEVEN = 0.05
"""The share of a table's time that may be lost to the order of its rows before a table of work is worth its bytes."""


def balance(plan: Plan, xp: Any, processors: int = PROCESSORS) -> Plan:
    """The plan with items of work for those tables of its launches whose order or cuts matter on so many processors.

    Precondition: the launches are final. The same plan gets the same items, whatever the device.
    """
    made = list(plan.launches)
    for stage in stages(plan.launches):
        terms = {i: made[i].terms for i in stage}
        rows = {i: row_costs([term.by_query for term in terms[i]], xp) for i in stage}
        by_query = _works([(rows[i], followers(made[i])) for i in stage], xp, processors)
        by_key: dict[int, list[Work | None]] = {i: [] for i in stage}
        costs = {i: [row_costs([term.by_key], xp) for term in terms[i]] for i in stage}
        for t in range(max(map(len, costs.values()))):
            users = [i for i in stage if t < len(costs[i])]
            works = _works([(costs[i][t], followers(made[i])) for i in users], xp, processors)
            for i, work in zip(users, works, strict=True):
                by_key[i].append(work)
        for i, work in zip(stage, by_query, strict=True):
            made[i] = replace(made[i], by_query=work, by_key=_complete(by_key[i], costs[i], xp))
    return replace(plan, launches=tuple(made))


def stages(launches: Sequence[Launch]) -> list[list[int]]:
    """The numbers of launches that can run at the same time: of each head and batch row at most one."""
    found: list[list[int]] = []
    next_stage: dict[int, dict[int | None, int]] = {}
    for i, launch in enumerate(launches):
        rows = launch.batch or (None,)
        known = [next_stage.setdefault(h, {}) for h in launch.heads]
        meets = lambda b, rows=rows: b is None or rows == (None,) or b in rows
        stage = max((s for own in known for b, s in own.items() if meets(b)), default=0)
        for own in known:
            own.update(dict.fromkeys(rows, stage + 1))
        found += [[]] if stage == len(found) else []
        found[stage].append(i)
    return found


def followers(launch: Launch) -> int:
    """How many heads, times batch rows where the launch is for some only, compute the launch; the number of batch rows
    is not known when all follow."""
    return len(launch.heads) * (1 if launch.batch is None else len(launch.batch))


def row_costs(tables: list[Runs], xp: Any) -> Array:
    """(rows,): the tiles that each row has in all tables together."""
    cost = xp.full((tables[0].rows.shape[0] - 1,), 0)
    for runs in tables:
        before = xp.concatenate([xp.full((1,), 0), xp.cumsum(xp.integer(runs.count))])
        ends = before[xp.integer(runs.rows)]
        cost = cost + ends[1:] - ends[:-1]
    return cost


def _works(tables: list[tuple[Array, int]], xp: Any, processors: int) -> list[Work | None]:
    """The items of tables that are computed at the same time: the costs of their rows, and how often each is done. None
    where the natural order of whole rows is as good."""
    total = sum(int(cost.sum()) * times for cost, times in tables)
    share = max(2 * LEAST_PIECE, -(-total // processors))
    alone = sum(cost.shape[0] * times for cost, times in tables) <= processors
    if len(tables) == 1 and not alone:
        ((cost, times),) = tables
        if int(cost.max()) < share + LEAST_PIECE and (levelled := _levelled(cost, times, xp, processors)) is not None:
            return [levelled]
    return [_work(cost, share, total / processors, alone, xp) for cost, _ in tables]


def _work(cost: Array, share: int, mean: float, alone: bool, xp: Any) -> Work | None:
    """The items of a table. `share` is what a row may cost, `mean` what a processor has; `alone` says that there is one
    for every row."""
    if not cost.shape[0]:
        return None
    longest, shortest = int(cost.max()), int(cost.min())
    if longest >= share + LEAST_PIECE:
        return _cut(cost, share, xp)
    if alone or longest == shortest or longest <= UNEVEN * mean:
        return None
    row = xp.argsort(-cost)
    return _table(row, xp.full(row.shape, 0), cost[row], xp)


def _levelled(cost: Array, times: int, xp: Any, processors: int) -> Work | None:
    """The items of a table of about equal rows of which each processor computes a few, where the rows of the last round
    would leave most processors idle: these are cut, so that all share them. None where that saves too little."""
    busy = int((cost > 0).sum())
    rounds, rest = divmod(busy * times, processors)
    if not rounds or not rest:
        return None
    order = xp.argsort(-cost)
    longest, shortest, over = int(cost[order[0]]), int(cost[order[busy - 1]]), -(-rest // times)
    if longest > 2 * shortest:
        return None
    ends = [
        (-(-over * times * pieces // processors) * -(-longest // pieces), pieces)
        for pieces in range(2, MOST_PIECES + 1)
        if shortest // pieces >= LEAST_PIECE
    ]
    last, pieces = min(ends, default=(longest, 1))
    if longest - last < max(LEAST_PIECE, UNEVEN * (rounds + 1) * longest):
        return None
    cut, whole = order[busy - over : busy], xp.concatenate([order[: busy - over], order[busy:]])
    bounds = cost[cut][:, None] * xp.arange(0, pieces + 1) // pieces
    row = xp.concatenate([(cut[:, None] + xp.full((1, pieces), 0)).reshape(-1), whole])
    start = xp.concatenate([bounds[:, :-1].reshape(-1), xp.full(whole.shape, 0)])
    stop = xp.concatenate([bounds[:, 1:].reshape(-1), cost[whole]])
    order = xp.argsort(start - stop)
    return _table(row[order], start[order], stop[order], xp)


def _complete(works: list[Work | None], costs: list[Array], xp: Any) -> tuple[Work, ...] | None:
    """The items of all terms, or None if no term needs any: where others do, the rows of one that does not are items in
    their order."""
    if all(work is None for work in works):
        return None
    return tuple(
        _table(xp.arange(0, cost.shape[0]), xp.full(cost.shape, 0), cost, xp) if work is None else work
        for work, cost in zip(works, costs, strict=True)
    )


def _table(row: Array, start: Array, stop: Array, xp: Any) -> Work:
    return Work(xp.small(row), xp.small(start), xp.small(stop))


def _cut(cost: Array, share: int, xp: Any) -> Work:
    """Rows that exceed a share by a piece or more, laid end to end and cut after every share, the others whole.

    That is McNaughton's wrap-around rule ("Scheduling with deadlines and loss functions", 1959), which makes the fewest
    cuts. A cut less than LEAST_PIECE from an end of its row is moved away from it; pieces never exceed a share.
    """
    long, whole = (xp.flatnonzero(chosen) for chosen in (cost >= share + LEAST_PIECE, cost < share + LEAST_PIECE))
    end = xp.cumsum(cost[long])
    begin = end - cost[long]
    cut = xp.arange(1, -(-int(end[-1]) // share)) * share
    at = xp.searchsorted(end, cut, right=True)
    at, cut = (a[xp.flatnonzero(cut > begin[at])] for a in (at, cut))
    cut = xp.minimum(xp.maximum(cut, begin[at] + LEAST_PIECE), end[at] - LEAST_PIECE)
    first = xp.concatenate([begin, cut])
    first = first[xp.argsort(first)]
    last = xp.concatenate([first[1:], end[-1:]])
    at = xp.searchsorted(end, first, right=True)
    row = xp.concatenate([long[at], whole])
    start = xp.concatenate([first - begin[at], xp.full(whole.shape, 0)])
    stop = xp.concatenate([last - begin[at], cost[whole]])
    order = xp.argsort(start - stop)
    return _table(row[order], start[order], stop[order], xp)
