"""The second pass of planning: what can be computed together becomes one launch, and what is equal is there once."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from patternc.plan import Axis, Launch, Plan, Runs, TermTiles

Rows = tuple[int, ...] | None


def merge(plan: Plan, xp: Any) -> Plan:
    """The plan with the terms of a head (and batch row) that have the same layout of queries in one launch, and with
    equal launches of heads and batch rows as one. Terms without a tile are left out, and so are empty launches.

    Launches keep the order in which their terms first came.
    """
    distinct = _Distinct(xp)
    launches: dict[tuple[int, Rows], list[int]] = {}
    samples: dict[int, Launch] = {}
    for heads, users in _by_heads(plan).items():
        everywhere = {b for rows in users for b in rows or ()}
        found: dict[int, list[Rows]] = {}
        for rows, launches_of_user in users.items():
            for launch in _together(launches_of_user, xp):
                number = distinct.number(launch)
                samples.setdefault(number, launch)
                found.setdefault(number, []).append(rows)
        for number, parts in found.items():
            launches.setdefault((number, _joined(parts, everywhere)), []).extend(heads)
    made = (
        Launch(tuple(sorted(heads)), rows, samples[number].queries, samples[number].terms)
        for (number, rows), heads in launches.items()
    )
    return Plan(plan.n, plan.n_q, plan.heads, plan.tile_q, plan.tile_k, tuple(made))


def _by_heads(plan: Plan) -> dict[tuple[int, ...], dict[Rows, list[Launch]]]:
    """The launches by their heads, and then by their batch rows."""
    found: dict[tuple[int, ...], dict[Rows, list[Launch]]] = {}
    for launch in plan.launches:
        found.setdefault(launch.heads, {}).setdefault(launch.batch, []).append(launch)
    return found


def _joined(parts: list[Rows], everywhere: set[int]) -> Rows:
    """The batch rows of launches that are equal, or None if they are all."""
    rows = sorted(b for part in parts for b in part or ())
    return None if not rows or set(rows) == everywhere else tuple(rows)


def _together(launches: list[Launch], xp: Any) -> list[Launch]:
    """The launches of one head, those with the same queries as one, without terms that have no tile."""
    groups: list[tuple[Launch, list[TermTiles]]] = []
    for launch in launches:
        terms = [term for term in launch.terms if term.by_query.first.shape[0]]
        if not terms:
            continue
        for first, others in groups:
            if equal_axes(first.queries, launch.queries, xp):
                others += terms
                break
        else:
            groups.append((launch, terms))
    return [Launch(first.heads, first.batch, first.queries, tuple(terms)) for first, terms in groups]


# ------------------------------------------------------------------ what is equal


@dataclass(eq=False)
class _Distinct:
    """Different launches, but for who follows them, with their numbers."""

    xp: Any
    known: dict[Any, list[tuple[int, Launch]]] = field(default_factory=dict)
    count: int = 0

    def number(self, launch: Launch) -> int:
        """The number of an equal launch; a new one if there is none."""
        alike = self.known.setdefault(_looks(launch), [])
        for number, other in alike:
            if _equal_launches(launch, other, self.xp):
                return number
        alike.append((self.count, launch))
        self.count += 1
        return self.count - 1


def _looks(launch: Launch) -> Any:
    """What equal launches have in common, and is known without looking into tables."""
    return _shape(launch.queries), tuple((t.term, _shape(t.keys), t.by_query.first.shape[0]) for t in launch.terms)


def _shape(axis: Axis) -> Any:
    return axis.layout, axis.start, axis.stop, axis.tile, None if axis.index is None else axis.index.shape[0]


def _equal_launches(a: Launch, b: Launch, xp: Any) -> bool:
    return equal_axes(a.queries, b.queries, xp) and all(
        equal_axes(x.keys, y.keys, xp) and equal_runs(x.by_query, y.by_query, xp)
        for x, y in zip(a.terms, b.terms, strict=True)
    )


def equal_axes(a: Axis, b: Axis, xp: Any) -> bool:
    """Whether tiles of two axes hold the same positions in the same slots."""
    return _shape(a) == _shape(b) and (a.index is b.index or not xp.any(a.index != b.index))


def equal_runs(a: Runs, b: Runs, xp: Any) -> bool:
    """Whether two tables over the same axes say the same."""
    if a is b:
        return True
    if a.first.shape != b.first.shape or a.rows.shape != b.rows.shape:
        return False
    return not any(xp.any(getattr(a, f.name) != getattr(b, f.name)) for f in fields(a))
