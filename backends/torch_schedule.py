"""A plan, arranged for batched products: who computes what, in which order.

Everything here is made of small integer tables; saved modules carry this file.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from patternc.backends.torch_strips import Side, Strip, side_of, strips
from patternc.plan import Axis


@dataclass(frozen=True)
class Streams:
    """`count` pairs of a query head and its key head, over all batch rows: of q (B · H, …) those from `q` on, every
    `q_step`-th, and of k and v (B · H_kv, …) likewise."""

    q: int
    q_step: int
    kv: int
    kv_step: int
    count: int

    def queries(self, t: torch.Tensor) -> torch.Tensor:
        """Of (B · H, …) the streams of this group, a view."""
        return _every(t, self.q, self.q_step, self.count)

    def keys(self, t: torch.Tensor) -> torch.Tensor:
        """Of (B · H_kv, …) the streams of this group, a view; several may share one."""
        return _every(t, self.kv, self.kv_step, self.count)

    def add_keys(self, t: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where to add values (count, …) of keys, those of shared key heads added up: a view of t, and what to add."""
        if self.kv_step == 0 and self.count > 1:
            return _every(t, self.kv, 1, 1), values.sum(0, keepdim=True)
        return self.keys(t), values

    def cut(self, at: slice) -> Streams:
        """Some of the streams."""
        q, kv = self.q + at.start * self.q_step, self.kv + at.start * self.kv_step
        return Streams(q, self.q_step, kv, self.kv_step, at.stop - at.start)

    def numbers(self, device: torch.device) -> torch.Tensor:
        """(count,): b · H + h."""
        return self.q + torch.arange(self.count, device=device) * self.q_step


def _every(t: torch.Tensor, first: int, step: int, count: int) -> torch.Tensor:
    strides = (t.stride(0) * step, *t.stride()[1:])
    return t.as_strided((count, *t.shape[1:]), strides, t.storage_offset() + first * t.stride(0))


@dataclass(frozen=True, eq=False)
class Part:
    """Heads and batch rows that follow one schedule with the same multiplicities."""

    head: int
    row: int
    """A head and a batch row that have these multiplicities."""
    streams: tuple[Streams, ...]
    by_query: tuple[Strip, ...]
    fresh: tuple[bool, ...]
    """Of each of these strips, whether its queries have no result yet."""
    by_key: tuple[Strip, ...]


@dataclass(frozen=True, eq=False)
class Schedule:
    """All parts of a plan, for one batch size."""

    n: int
    n_q: int
    heads: int
    kv_heads: int
    parts: tuple[Part, ...]
    complete: bool
    """Whether every query of every head has a strip."""


Class = Callable[[int, int], Hashable]
"""(head, batch row) -> what is equal where multiplicities are."""


def schedule(plan: Any, kv_heads: int, batch: int, class_of: Class, device: torch.device) -> Schedule:
    """The schedule of a plan (see plan.py) on the device."""
    sides: dict[Hashable, Side] = {}
    done: set[tuple[int, int]] = set()
    parts: list[Part] = []
    for launch in plan.launches:
        rows = range(batch) if launch.batch is None else launch.batch
        members = [(h, b) for b in rows for h in launch.heads]
        if not members:
            continue
        by_query, by_key = _strips(launch, sides, device)
        fresh = _fresh(by_query, seen=not done.isdisjoint(members))
        done.update(members)
        for same in _classes(members, class_of):
            groups = tuple(_groups(same, plan.heads, kv_heads))
            parts.append(Part(*same[0], groups, by_query, fresh, by_key))
    reached = sum(_reached(part) for part in parts)  # fresh strips do not overlap
    complete = reached == batch * plan.heads * plan.n_q
    return Schedule(plan.n, plan.n_q, plan.heads, kv_heads, tuple(parts), complete)


def _reached(part: Part) -> int:
    fresh = [strip.queries for strip, first in zip(part.by_query, part.fresh, strict=True) if first]
    return sum(s.count for s in part.streams) * sum(q.rows * q.slots for q in fresh)


def _strips(
    launch: Any, sides: dict[Hashable, Side], device: torch.device
) -> tuple[tuple[Strip, ...], tuple[Strip, ...]]:
    def side(axis: Axis) -> Side:
        key = (axis.layout, axis.start, axis.stop, axis.tile, id(axis.index))
        if key not in sides:
            sides[key] = side_of(axis, device)
        return sides[key]

    queries = side(launch.queries)
    by_query = [s for t in launch.terms for s in strips(t.by_query, queries, side(t.keys), t.term, by_query=True)]
    by_key = [s for t in launch.terms for s in strips(t.by_key, side(t.keys), queries, t.term, by_query=False)]
    return tuple(by_query), tuple(by_key)


def _fresh(by_query: Iterable[Strip], *, seen: bool) -> tuple[bool, ...]:
    """Whether the strips are the first of their rows, if their heads were not `seen` before."""
    rows: set[int] = set()
    fresh = []
    for strip in by_query:
        fresh.append(not seen and rows.isdisjoint(strip.rows))
        rows.update(strip.rows)
    return tuple(fresh)


def _classes(members: list[tuple[int, int]], class_of: Class) -> list[list[tuple[int, int]]]:
    groups: dict[Hashable, list[tuple[int, int]]] = {}
    for h, b in members:
        groups.setdefault(class_of(h, b), []).append((h, b))
    return list(groups.values())


def _groups(members: list[tuple[int, int]], heads: int, kv_heads: int) -> Iterator[Streams]:
    """Heads and batch rows in as few groups of equal steps as are found going through them in order."""
    pairs = [(b * heads + h, b * kv_heads + h // (heads // kv_heads)) for h, b in members]
    start = 0
    while start < len(pairs):
        stop, step = start + 1, (0, 0)
        if stop < len(pairs):
            step = _step(pairs, stop)
        while stop < len(pairs) and _step(pairs, stop) == step:
            stop += 1
        yield Streams(pairs[start][0], step[0], pairs[start][1], step[1], stop - start)
        start = stop


def _step(pairs: list[tuple[int, int]], i: int) -> tuple[int, int]:
    return pairs[i][0] - pairs[i - 1][0], pairs[i][1] - pairs[i - 1][1]
