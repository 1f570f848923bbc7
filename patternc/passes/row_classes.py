"""Rows of tiles that are alike: ranges of rows whose runs begin and end at a place that is fixed or follows the row.

A window has three classes of rows, at the start, inside and at the end, however long the sequence is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from patternc.analysis.strips import spread_out
from patternc.plan import Array, Axis, Launch, Runs


@dataclass(frozen=True, slots=True)
class MovingRun:
    """A run of the first row of a class; `every` rows further down it starts `first_step` tiles further on and has
    `count_step` tiles more."""

    first: int
    first_step: int
    count: int
    count_step: int
    kind: int
    weight: int


@dataclass(frozen=True, slots=True)
class RowClass:
    """Rows `first` up to first + count, where each has the runs of the one `every` rows before it, moved."""

    first: int
    count: int
    every: int
    runs: tuple[MovingRun, ...]


@dataclass(frozen=True, eq=False)
class _Moves:
    """From each row to the one `every` rows on; NumPy, or on the host."""

    linked: list[bool]
    """(rows - every,): whether the runs are those of the other row, each end of them fixed or moved by one step."""
    agree: list[bool]
    """(rows - 2 · every,): whether the next move is the same."""
    first: list[int]
    count: list[int]
    """By run: how far it moves, and how much it grows."""


def row_classes(runs: Runs, rows: Axis, columns: Axis, xp: Any) -> tuple[RowClass, ...]:
    """The classes of the rows of a table, in order and each as long as can be. `rows` and `columns` are the axes of
    its rows and of the tiles along its runs: a step is as many tiles as `every` rows reach further along a diagonal."""
    depth = math.gcd(rows.depth, columns.depth)
    every, step = columns.depth // depth, rows.depth // depth
    moves = _moves(runs, every, step, xp)
    bounds = _starts(moves, runs.rows.shape[0] - 1, every)
    tables = [a.tolist() for a in (runs.rows, runs.first, runs.count, runs.kind, runs.weight)]
    return tuple(_class_of(start, end - start, every, moves, *tables) for start, end in pairwise(bounds))


def classes_of(launch: Launch, xp: Any) -> list[int]:
    """How many rows of queries each class of a launch has, in order: a class of all terms ends where one of theirs
    does."""
    starts = {own.first for term in launch.terms for own in row_classes(term.by_query, launch.queries, term.keys, xp)}
    return [end - start for start, end in pairwise([*sorted(starts), launch.queries.tiles])]


def _moves(runs: Runs, every: int, step: int, xp: Any) -> _Moves:
    lengths = runs.rows[1:] - runs.rows[:-1]
    row, place = spread_out(lengths, xp)
    reach = xp.concatenate([lengths[every:], xp.full((min(every, lengths.shape[0]),), -1)])
    like = reach == lengths
    other = xp.where(like[row], xp.integer(runs.rows)[xp.minimum(row + every, lengths.shape[0] - 1)] + place, 0)
    first = xp.integer(runs.first)[other] - runs.first
    count = xp.integer(runs.count)[other] - runs.count
    one_step = lambda move: (move == 0) | (move == step)
    good = one_step(first) & one_step(first + count)
    good = good & (runs.kind[other] == runs.kind) & (runs.weight[other] == runs.weight)
    linked = like & _all_of_row(good, runs.rows, xp)
    same = (first[other] == first) & (count[other] == count)
    agree = linked & _all_of_row(same, runs.rows, xp)
    return _Moves(linked.tolist(), agree.tolist(), first.tolist(), count.tolist())


def _all_of_row(good: Array, pointers: Array, xp: Any) -> Array:
    """Whether a condition holds of every run of a row."""
    bad = xp.concatenate([xp.full((1,), 0), xp.cumsum(xp.integer(~good))])
    return bad[pointers[1:]] == bad[pointers[:-1]]


def _starts(moves: _Moves, rows: int, every: int) -> Iterator[int]:
    """Where classes start, and the end."""
    start = 0
    for row in range(rows):
        before = row - every
        goes_on = before < start or (moves.linked[before] and (before - every < start or moves.agree[before - every]))
        if row == 0 or not goes_on:
            yield row
            start = row
    yield rows


def _class_of(
    start: int,
    count: int,
    every: int,
    moves: _Moves,
    rows: list[int],
    first: list[int],
    length: list[int],
    kind: list[int],
    weight: list[int],
) -> RowClass:
    moved = count > every
    return RowClass(
        start,
        count,
        every,
        tuple(
            MovingRun(first[r], moves.first[r] * moved, length[r], moves.count[r] * moved, kind[r], weight[r])
            for r in range(rows[start], rows[start + 1])
        ),
    )
