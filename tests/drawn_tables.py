"""What the tables of a schedule say of cells, read as the kernels read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from patternc.backends.triton_plans import Ready
from patternc.backends.triton_schedule import Step
from patternc.backends.triton_structure import launch_columns


@dataclass(frozen=True)
class Tile:
    """A tile of a head in a batch row: its tokens, its term, and the bits of log2 of the multiplicity of all cells, or
    None if it is partial."""

    b: int
    h: int
    queries: tuple[int, ...]
    keys: tuple[int, ...]
    term: int
    bits: int | None


def tiles(ready: Ready, major: str) -> list[Tile]:
    """All tiles that the tables `by_query` or `by_key` name; no program may name one twice."""
    values = ready.tables(major)
    found = [tile for step in getattr(ready.schedule, major) for tile in _of_step(ready, step, values)]
    assert len(found) == len(set(found))
    return found


def _of_step(ready: Ready, step: Step, values: Any) -> Iterator[Tile]:
    schedule, columns = ready.schedule, launch_columns(step.structure)
    items, runs, index, followers = (_table(step, name, values) for name in ("items", "runs", "index", "followers"))
    items, runs = items.reshape(-1, step.tables.items.shape[1]), runs.reshape(-1, 5)
    members = step.tables.members.tolist()
    starts = {"q": schedule.n - schedule.n_q, "k": 0}
    sizes = {"q": schedule.tile_q, "k": schedule.tile_k}

    def tokens(side: str, line: list[int], base: int) -> tuple[int, ...]:
        stride, bits, place = (line[columns[f"{side}_{name}"]] for name in ("stride", "bits", "index"))
        kind = side[0]
        if step.structure.listed_queries if kind == "q" else step.structure.listed_keys:
            held = index[place + base : place + base + sizes[kind]]
            return tuple(int(t) for t in held if t < schedule.n)
        slots = np.arange(sizes[kind])
        across = slots & ((1 << bits) - 1)
        held = base + (slots >> bits) * stride + across
        inside = (held >= starts[kind]) & (held < schedule.n) & (base % stride + across < stride)
        return tuple(int(t) for t in held[inside])

    for head, b, launch, first, count, low, high, _ in followers.reshape(-1, 8).tolist():
        line = step.tables.launches[launch].tolist()
        for item in items[first : first + count].tolist():
            for term, base, bits in _walk(item, runs, line, columns, step, sizes):
                sides = ("q", f"k{term}") if step.term < 0 else (f"k{step.term}", "q")
                row, column = (tokens(side, line, at) for side, at in zip(sides, (item[0], base), strict=True))
                q, k = (row, column) if step.term < 0 else (column, row)
                for h in [head] if step.term < 0 else members[low:high]:
                    if q and k:
                        yield Tile(b, h, q, k, term, bits)


def _walk(
    item: list[int], runs: np.ndarray, line: list[int], columns: dict[str, int], step: Step, sizes: dict[str, int]
) -> Iterator[tuple[int, int, int | None]]:
    """Term, first token and bits of an item's tiles, in order."""
    run, (_, _, count, base, left, code, *_) = item[1], item
    for _ in range(count):
        term = code // 2
        yield term, base, None if code % 2 else int(runs[run, 3])
        side = f"k{term}" if step.term < 0 else "q"
        stride, bits = (line[columns[f"{side}_{name}"]] for name in ("stride", "bits"))
        listed = step.structure.listed_keys if step.term < 0 else step.structure.listed_queries
        tile = sizes[side[0]]
        left, base = left - 1, base + (tile if listed else (tile >> bits) * stride)
        if left == 0:
            run += 1
            base, left, code = (int(x) for x in runs[run, :3])


def _table(step: Step, name: str, values: Any) -> np.ndarray:
    room: torch.Tensor = getattr(step.tables, name)
    if name in step.drawn:  # tables of a call are rounded up
        return values[step.drawn[name]].numpy()[: room.numel()]
    return room.numpy().reshape(-1)


def check(found: list[Tile], m: np.ndarray) -> None:
    """Of programs of one term, against multiplicities (B, heads, n_q, n): each cell is named at most once, those that
    are kept are, and full tiles say what they are."""
    n_q, n = m.shape[2:]
    times = np.zeros(m.shape, int)
    for tile in found:
        cells = np.ix_(np.array(tile.queries) - (n - n_q), tile.keys)
        times[tile.b, tile.h][cells] += 1
        if tile.bits is not None:
            weight = 2.0 ** float(np.array(tile.bits, np.int32).view(np.float32))
            assert np.allclose(m[tile.b, tile.h][cells], weight)
    assert times.max(initial=0) <= 1
    assert not (m > 0)[times == 0].any()


def cut_rows(ready: Ready, major: str) -> dict[tuple[int, int, int, int], int]:
    """How many pieces each row has that is cut, by step, batch row, head and first token. Pieces have places of their
    own, in the order in which they are merged, and together they are the row."""
    values, found = ready.tables(major), {}
    for number, step in enumerate(getattr(ready.schedule, major)):
        if (merge := step.tables.merge) is None:
            continue
        places = set()
        items, followers = (_lines(_table(step, name, values), room) for name, room in _shaped(step.tables))
        cuts, merged = (_lines(_merge_table(step, name, values), room) for name, room in _shaped(merge))
        for own, of_merge in zip(followers, merged, strict=True):
            assert own[4] <= step.tables.per_follower
            assert of_merge[4] <= merge.per_follower
            pieces = [item for item in items[own[3] : own[3] + own[4]].tolist() if item[8] >= 0]
            for token, first, count, *_ in cuts[of_merge[3] : of_merge[3] + of_merge[4]].tolist():
                held = [item for item in pieces if item[0] == token]
                assert sorted(item[8] for item in held) == list(range(first, first + count))
                assert [item[1] for item in sorted(held, key=lambda item: item[8])] == sorted(item[1] for item in held)
                places |= {own[7] + item[8] for item in held}
                found[number, own[1], own[0], token] = count
            assert own[7] == of_merge[7]
            assert {item[0] for item in pieces} == set(cuts[of_merge[3] : of_merge[3] + of_merge[4], 0].tolist())
        assert len(places) == sum(count for key, count in found.items() if key[0] == number)
        assert max(places, default=-1) < step.tables.pieces
    return found


def _shaped(tables: Any) -> list[tuple[str, torch.Tensor]]:
    return [("items", tables.items), ("followers", tables.followers)]


def _lines(table: np.ndarray, room: torch.Tensor) -> np.ndarray:
    return table.reshape(room.shape)


def _merge_table(step: Step, name: str, values: Any) -> np.ndarray:
    room: torch.Tensor = getattr(step.tables.merge, name)
    return values[step.drawn_merge[name]].numpy()[: room.numel()] if step.drawn_merge else room.numpy().reshape(-1)
