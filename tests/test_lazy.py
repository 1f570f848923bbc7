"""Covers and samples computed where somebody looks are those computed ahead."""

from __future__ import annotations

import numpy as np
import pytest

import patternc
from patternc.analysis.arrays import NUMPY
from patternc.analysis.boxes import bounds, interval
from patternc.analysis.planner import Meanings, trivial
from patternc.analysis.tiles import Counter, tile_cells

PROGRAMS = {
    "cover": "pattern p() = cover(8) { q -> k : q % 24 == 5 and abs(q - k) <= 30 } | cover(5) { q -> k : k == 2 * q }",
    "cover in blocks": "pattern p() = blocks(3) cover(4) { q -> k : q ^ k == 9 or q + k == 31 }",
    "sample": "pattern p() = blocks(4) (diagonal | sample(3, of = causal - diagonal, seed = 7))",
    "sample of few": "pattern p() = sample(5, of = { q -> k : q - k in (1, 2, 9) })",
    "sample of none": "pattern p() = sample(0) + sample(1000, of = { q -> k : k % 7 == 0 })",
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("n", [1, 50, 171])
def test_cells_and_boxes(name, n):
    program = patternc.compile(PROGRAMS[name], heads=2).program
    options = {"n": n, "tensors": {}, "xp": NUMPY}
    ahead, lazy = (Meanings(trivial(program, 2), **options, lazy=value).of(1) for value in (False, True))
    q, k = np.arange(n)[:, None], np.arange(n)[None, :]
    expected = np.broadcast_to(tile_cells(ahead, q, k, NUMPY, Counter()), (n, n))
    found = np.broadcast_to(tile_cells(lazy, q, k, NUMPY, Counter()), (n, n))
    assert np.array_equal(found, expected)
    ends = np.sort(np.random.default_rng(n).integers(0, n, (2, 2, 40)), axis=1)
    low, high = bounds(lazy(*(interval(NUMPY, side[0], side[1], 0, n - 1) for side in ends)))
    for i, (q0, q1, k0, k1) in enumerate(ends.reshape(4, 40).T):
        inside = expected[q0 : q1 + 1, k0 : k1 + 1]
        assert np.broadcast_to(low, (40,))[i] <= inside.min()
        assert np.broadcast_to(high, (40,))[i] >= inside.max()
