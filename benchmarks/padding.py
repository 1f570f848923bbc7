"""Padding of the suite and of other patterns: pairs computed over pairs wanted, for each shape of tiles and objective.

`python -m benchmarks.padding [NAME …]` prints the table and writes it to results/padding.json. What is wanted, and what
tiles of consecutive tokens would compute, is counted on the dense mask by NumPy, not by the compiler.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import patternc
from benchmarks import record, suite
from patternc.machine import OBJECTIVES

SHAPES = ((128, 128), (128, 64), (64, 64))
"""Queries and keys of a tile."""
HEADS = 16


def consecutive_tiles(case: suite.Case, n: int, **tensors: Any) -> dict[tuple[int, int], int]:
    """Tiles of consecutive tokens that hold a wanted pair, over the kinds of heads, for each shape."""
    counts = dict.fromkeys(SHAPES, 0)
    height = max(tile_q for tile_q, _ in SHAPES)
    k = np.arange(n, dtype=np.int32)[None]
    for h in range(case.kinds):
        for first in range(0, n, height):
            q = np.arange(first, min(first + height, n), dtype=np.int32)[:, None]
            strip = np.broadcast_to(case.formula(q, k, h, **tensors) != 0, (q.shape[0], n))
            for shape in SHAPES:
                counts[shape] += _touched(strip, *shape)
    return counts


def _touched(strip: np.ndarray, tile_q: int, tile_k: int) -> int:
    by_row = np.logical_or.reduceat(strip, np.arange(0, strip.shape[0], tile_q), axis=0)
    return int(np.logical_or.reduceat(by_row, np.arange(0, strip.shape[1], tile_k), axis=1).sum())


def measured(case: suite.Case, n: int) -> dict[str, Any]:
    """A row of the table. AssertionError if the compiler counts other pairs as wanted than the formula has."""
    tensors = case.tensors(n)
    compiled = patternc.compile(case.path, heads=HEADS)
    wanted = case.wanted(n, **tensors)
    before = consecutive_tiles(case, n, **tensors)
    row: dict[str, Any] = {"pattern": case.name, "wanted": wanted / n**2 / case.kinds}
    for q, k in SHAPES:
        row[f"consecutive {q}x{k}"] = before[q, k] * q * k / wanted
    for objective in OBJECTIVES:
        for shape in SHAPES:
            found = compiled.stats(n, tile=shape, objective=objective, **tensors)
            pairs = found.wanted_pairs * case.kinds // HEADS
            assert pairs == wanted, f"{case.name}: {pairs} pairs are said to be wanted, the formula has {wanted}"
            row[f"{objective} {shape[0]}x{shape[1]}"] = found.padding
            if (objective, shape) == ("time", (128, 64)):
                row |= {"launches": found.launches, "imbalance": found.imbalance}
    return row


def main() -> None:
    """Measures the patterns named on the command line, or all."""
    names = sys.argv[1:]
    rows = []
    for case in suite.CASES:
        if not names or case.name in names:
            print(case.name, flush=True)
            rows.append(measured(case, suite.LENGTH))
    print(record.table(rows))
    if not names:
        print(record.write("padding", {"n": suite.LENGTH, "heads": HEADS, "rows": rows}))


if __name__ == "__main__":
    main()
