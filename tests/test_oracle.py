"""The oracle itself: against the formulas of the fifteen programs, and on what they leave out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracle
import pytest
import relations
from fifteen import CASES, EXAMPLES, Case, formula, grids, tensors_of
from relations import OracleError

import patternc
from patternc import ast, parser
from patternc.source import Source


def parse(text: str) -> ast.File:
    tree, mistakes = parser.parse(Source("<test>", text))
    assert all(m.severity == "warning" for m in mistakes), mistakes
    return tree


LIBRARY = Path(patternc.__file__).parent


def example(name: str) -> list[ast.File]:
    """The files of the library that it imports, and its own last."""
    tree = parse((EXAMPLES / name).read_text())
    imports = [item.path for item in tree.items if isinstance(item, ast.Import)]
    return [*(parse((LIBRARY / f"{path}.spat").read_text()) for path in imports), tree]


def check(case: Case, n: int, n_q: int | None = None) -> None:
    *imported, tree = example(f"{case.name}.spat")
    values = {"heads": case.heads, "layer": case.layer, "params": case.params, "tensors": tensors_of(case, n)}
    got = oracle.mask(tree, n, n_q, **values, imported=imported)
    np.testing.assert_array_equal(got, formula(case, n, n_q))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_formulas(case: Case) -> None:
    for n, n_q in ((1, None), (7, 3), (24, 5), (33, None)):
        check(case, n, n_q)


def test_grids() -> None:
    for rows, columns in grids(24):
        check(Case("neighborhood", 1, 0, {"H": rows, "W": columns, "size": 3}), rows * columns)


def test_halves() -> None:
    for m in (1, 3, 8, 11):
        check(Case("block_diffusion", 2, 0, {"m": m, "B": 4}), 2 * m, m)


def cells(body: str, n: int, rest: str = "", **given: object) -> list[list[int]]:
    return oracle.mask(parse(f"{rest}\npattern p() = {body}"), n, **given)[0].tolist()


def test_blocks_of_blocks_have_their_own_length() -> None:
    """cdiv(cdiv(11, 2), 3) = 2 blocks, so the last one is number 1."""
    got = cells("blocks(2) blocks(3) { q -> k : k == n - 1 }", 11)
    assert got == [[0] * 6 + [1] * 5] * 11


def test_where_is_read_for_the_query_and_key_of_its_use() -> None:
    assert cells("{ i -> j : past }\n where past = k < q", 3) == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert cells("{ k -> q : k < q }", 3) == [[0, 1, 1], [0, 0, 1], [0, 0, 0]]


def test_guards_guard_and_nothing_else_does() -> None:
    assert cells("{ q -> k : k > 0 and q % k == 0 }", 3) == [[0, 1, 1], [0, 1, 0], [0, 1, 1]]
    with pytest.raises(OracleError):
        cells("{ q -> k : k > 0 } & { q -> k : q % k == 0 }", 3)


def test_floor_of_negatives_and_inf() -> None:
    assert cells("{ q -> k : (q - k) // 2 == -1 and (q - k) % 4 == 2 }", 3) == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert cells("{ q -> k : q - k <= inf // 2 - 3 }", 1) == [[1]]


def test_bags_add_and_multiply() -> None:
    assert cells("(causal + full) & (diagonal + full)", 2) == [[4, 1], [2, 4]]
    assert cells("support(sum({ q -> k : k == i } for i in 0..n))", 2) == [[1, 1], [1, 1]]


def test_a_share_takes_the_smallest_prefix() -> None:
    """Scores 2, 1, 0 have the masses 0.665, 0.245 and 0.090."""
    assert cells("top(0.66, by = -k)", 3)[0] == [1, 0, 0]
    assert cells("top(0.67, by = -k)", 3)[0] == [1, 1, 0]
    assert cells("top(1.0, by = k)", 3)[0] == [1, 1, 1]


def test_the_hash_of_sample() -> None:
    assert relations.sample_rank(seed=7, h=3, q=100, k=5) == 0xC4A78487
