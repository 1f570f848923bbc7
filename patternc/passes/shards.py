"""Shards: parts of the sequence that need no keys or values of each other, so that devices can hold one each.

A layout tells tokens apart by the lane they lie in, and a plan says which lanes read which. Lanes are sets of residues
modulo a common period, so the parts are connected components of a graph of residues, whatever the length is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from patternc.plan import Axis, Launch, TermTiles

MOST_RESIDUES = 4096
"""The longest period whose residues are looked at: a bound on the nodes of the graph."""


@dataclass(frozen=True, slots=True)
class Shards:
    """Residues modulo `period` that no tile leads out of, each group in ascending order, by their least one."""

    period: int
    groups: tuple[tuple[int, ...], ...]

    @property
    def words(self) -> str:
        """Which tokens they are."""
        size, count = len(self.groups[0]), len(self.groups)
        if all(group == tuple(range(i, self.period, count)) for i, group in enumerate(self.groups)):
            return f"the residues modulo {count:,}"
        if self.groups[0] == tuple(range(size)) and self.period <= size * count:
            return f"{size:,} neighbouring residues modulo {self.period:,} each"
        return f"groups of residues modulo {self.period:,}"


def shards(launches: Sequence[Launch]) -> Shards | None:
    """The shards under the launches of some heads, which are computed together; None if their layouts have no common
    period of at most MOST_RESIDUES. Tables are arrays of NumPy.

    A query is in the shard of its position. Listed tokens lie in no lane: a launch with some has a single shard.
    """
    axes = [axis for launch in launches for axis in (launch.queries, *(term.keys for term in launch.terms))]
    period = math.lcm(*(axis.layout.stride for axis in axes))
    if period > MOST_RESIDUES:
        return None
    graph = nx.Graph()
    graph.add_nodes_from(range(period))
    for axis in axes:
        for lane in range(axis.lanes):
            nx.add_path(graph, _residues(axis, lane, period))
    for launch in launches:
        for term in launch.terms:
            graph.add_edges_from(
                (_residues(launch.queries, a, period)[0], _residues(term.keys, b, period)[0])
                for a, b in reads(launch, term)
            )
    groups = sorted(tuple(sorted(group)) for group in nx.connected_components(graph))
    return Shards(period, tuple(groups))


def reads(launch: Launch, term: TermTiles) -> list[tuple[int, int]]:
    """The pairs of a lane of queries and a lane of keys that it reads."""
    rows, first = np.asarray(term.by_query.rows), np.asarray(term.by_query.first)
    lane = np.repeat(np.arange(rows.shape[0] - 1), np.diff(rows)) // launch.queries.per_lane
    pairs = np.unique(lane * term.keys.lanes + first // term.keys.per_lane)
    return [divmod(pair, term.keys.lanes) for pair in pairs.tolist()]


def _residues(axis: Axis, lane: int, period: int) -> list[int]:
    """The tokens modulo the period that a lane may hold, ascending."""
    stride, width = axis.layout.stride, axis.layout.width
    columns = range(lane * width, min(stride, (lane + 1) * width))
    return [line * stride + column for line in range(period // stride) for column in columns]
