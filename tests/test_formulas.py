"""The fifteen programs against NumPy formulas, cell for cell, at every length from 1 to 200."""

from __future__ import annotations

from functools import cache

import formulas
import numpy as np
import pytest
from drawn import in_torch
from fifteen import CASES, EXAMPLES, HALVED, ON_GRIDS, Case, formula, grids, tensors_of

import patternc

LONGEST = 200


@cache
def compiled_example(case: Case) -> patternc.Compiled:
    return case.compiled()


def masks(case: Case, n: int, n_q: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The compiler's mask and the formula's."""
    tensors = tensors_of(case, n)
    got = compiled_example(case).mask(n, n_q, **in_torch(tensors))
    return got.numpy(), formula(case, n, n_q)


def check(case: Case, n: int, n_q: int | None = None) -> None:
    got, expected = masks(case, n, n_q)
    assert got.shape == expected.shape
    wrong = np.argwhere(got != expected)
    assert not len(wrong), (
        f"{case} at n = {n}, n_q = {n_q}: M{tuple(map(int, wrong[0]))} is {got[tuple(wrong[0])]}, "
        f"expected {expected[tuple(wrong[0])]}"
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_length(case: Case) -> None:
    """All of them for a program's first parameters, every third for its others."""
    first = next(other for other in CASES if other.name == case.name)
    for n in range(1, LONGEST + 1, 1 if case is first else 3):
        check(case, n)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_last_queries_alone(case: Case) -> None:
    for n in (1, 2, 16, 37, 64, 101, 200):
        for n_q in {1, min(3, n), (n + 1) // 2, n - 1 or 1, n}:
            check(case, n, n_q)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_every_grid(size: int) -> None:
    """Every H × W up to 200; each size takes every third of them, and all that it does not fit into."""
    for i, (rows, columns) in enumerate(grids(LONGEST)):
        if i % 3 == size // 2 - 1 or (min(rows, columns) <= size and rows * columns <= 60):
            case = Case("neighborhood", 1 + i % 2, 0, {"H": rows, "W": columns, "size": size})
            check(case, rows * columns)
            check(case, rows * columns, 1 + i % (rows * columns))


@pytest.mark.parametrize("block", [4, 7])
def test_every_half_length(block: int) -> None:
    for m in range(1, LONGEST // 2 + 1):
        case = Case("block_diffusion", 1 + m % 3, 0, {"m": m, "B": block})
        check(case, 2 * m)
        check(case, 2 * m, m)


DISTINCT = [*(case for case in CASES if not case.trivial), *ON_GRIDS, *HALVED]


@pytest.mark.parametrize("case", DISTINCT, ids=str)
def test_the_mask_is_not_a_trivial_one(case: Case) -> None:
    """Else a compiler that ignores a mechanism would pass."""
    n = 72
    got, _ = masks(case, n)
    trivial = [np.tril(np.ones((n, n), int)), np.ones((n, n), int), np.zeros((n, n), int)]
    assert not any((head == t).all() for head in got.reshape(-1, n, n) for t in trivial)


def test_the_hash_of_sample() -> None:
    assert formulas.rank(seed=7, h=3, q=100, k=5) == 0xC4A78487


def test_all_fifteen_are_here() -> None:
    assert {case.name for case in DISTINCT} == {path.stem for path in EXAMPLES.glob("*.spat")}
