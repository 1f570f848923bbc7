"""Plans that the host only enqueues: never wrong, and made without waiting for a tensor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from axes import layouts
from brute import TENSORS, Brute, conditions, tensors
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiles import check_plan

from patternc import ir
from patternc.analysis.meanings import Meanings
from patternc.analysis.planner import plan
from patternc.arrangement import Arrangement, HeadClass, Term
from patternc.backends.torch_arrays import UnwaitingArrays
from patternc.errors import SpatError
from patternc.passes.fixed import FixedPlanner, can_be_enqueued
from patternc.plan import LISTED

Q, K, N = ir.Var("q"), ir.Var("k"), ir.Var("n")
WAITING = ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "nonzero", "cpu", "numpy")
"""Methods of a tensor for which the host waits until a device has computed it."""
EMPTY = ir.Union(())


def program(pattern: ir.Pattern) -> ir.Program:
    dims = {"mask": (N, N), "table": (ir.Const(3), N)}
    declared = tuple(ir.Tensor(name, kind, dims.get(name, (N,)), True) for name, kind in TENSORS.items())
    return ir.Program("drawn", pattern, declared)


def arranged(pattern: ir.Pattern, *terms: Term) -> Arrangement:
    return Arrangement(program(pattern), 2, (HeadClass((0, 1), pattern, terms),))


def batch(n: int, seed: int) -> dict[str, torch.Tensor]:
    rows = [tensors(n, seed + b) for b in range(2)]
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in TENSORS}


class Unwaited:
    """While it is entered, to wait for a tensor is an error."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch

    def __enter__(self) -> None:
        for name in WAITING:
            self.patch.setattr(torch.Tensor, name, self._refused)
        self.patch.setattr(torch, "repeat_interleave", self._refused)

    def __exit__(self, *_: object) -> None:
        self.patch.undo()

    @staticmethod
    def _refused(*_: object, **__: object) -> None:
        raise AssertionError("the host waits for a tensor")


def made(arrangement: Arrangement, n: int, n_q: int, tile: tuple[int, int], seed: int) -> tuple[object, np.ndarray]:
    """The plan, and the mask (B, heads, n_q, n)."""
    arrays, xp = batch(n, seed), UnwaitingArrays("cpu")
    planner = FixedPlanner(arrangement, n, n_q, xp, *tile)
    options = {"n": n, "n_q": n_q, "tensors": arrays, "xp": xp}
    planner.plan(Meanings(arrangement, **options))  # finds what may be kept
    with pytest.MonkeyPatch.context() as patch, Unwaited(patch):
        result = planner.plan(Meanings(arrangement, **options))
    pattern = arrangement.classes[0].pattern
    mask = np.zeros((2, 2, n_q, n), int)
    for b, h in np.ndindex(2, 2):
        brute = Brute(n, h, {name: array[b].numpy() for name, array in arrays.items()})
        mask[b, h] = [[brute.cell(pattern, q, k) for k in range(n)] for q in range(n - n_q, n)]
    return result, mask


@settings(max_examples=60)
@given(conditions(0), st.integers(1, 40), st.integers(0, 9), st.data())
def test_plans_are_sound(condition: ir.Scalar, n: int, seed: int, data: st.DataObject) -> None:
    n_q, tile = data.draw(st.integers(1, n)), data.draw(st.sampled_from([(4, 4), (16, 4), (8, 16)]))
    pattern = ir.Where(condition)
    arrangement = arranged(pattern, Term(pattern, *(data.draw(layouts(t)) for t in tile)))
    try:
        result, mask = made(arrangement, n, n_q, tile, seed)
    except SpatError:
        assume(False)
    check_plan(result, mask, exact=False)


GLOBAL = ir.Where(ir.Read("flags", (K,)))
FROM_GLOBAL = ir.Where(ir.Read("flags", (Q,)))
NEAR = ir.Where(ir.Compare("<=", ir.Unary("abs", ir.Binary("-", Q, K)), ir.Const(3)))


@pytest.mark.parametrize("n", [1, 23, 64])
def test_lists_have_room_for_all_tokens(n: int) -> None:
    """Hub rows, hub columns, and a window for the rest."""
    rest = ir.Complement(FROM_GLOBAL)
    terms = (
        Term(ir.Where(ir.Const(True)), queries=LISTED, listed_queries=FROM_GLOBAL),
        Term(rest, keys=LISTED, listed_keys=GLOBAL),
        Term(ir.Product((NEAR, rest, ir.Complement(GLOBAL)))),
    )
    result, mask = made(arranged(ir.Union((NEAR, GLOBAL, FROM_GLOBAL)), *terms), n, n, (8, 4), 3)
    assert [[term.term for term in launch.terms] for launch in result.launches] == [[0], [1, 2]] * 2
    check_plan(result, mask, exact=False)


def test_documents_are_skipped_and_full_where_the_tensors_say_so() -> None:
    """With sorted ids the bounds of a tile's ids decide all but the tiles on a border."""
    same = ir.Where(ir.And((ir.Compare("<=", K, Q), ir.Compare("==", ir.Read("ids", (Q,)), ir.Read("ids", (K,))))))
    arrangement = Arrangement(
        ir.Program("p", same, (ir.Tensor("ids", "int", (N,), False),)), 1, (HeadClass((0,), same, (Term(same),)),)
    )
    n, xp = 512, UnwaitingArrays("cpu")
    options = {"n": n, "tensors": {"ids": torch.arange(n) // 100}, "xp": xp}
    result = FixedPlanner(arrangement, n, n, xp, 16, 16).plan(Meanings(arrangement, **options))
    exact = plan(arrangement, **options, tile_q=16, tile_k=16)
    for a, b in zip(result.launches, exact.launches, strict=True):
        for table in ("by_query", "by_key"):
            mine, theirs = getattr(a.terms[0], table), getattr(b.terms[0], table)
            used = int(mine.rows[-1])
            for name in ("first", "count", "kind", "weight"):
                assert torch.equal(getattr(mine, name)[:used].long(), getattr(theirs, name).long())


def test_selections_wait() -> None:
    assert can_be_enqueued(arranged(NEAR, Term(NEAR)))
    top = ir.Top(ir.Const(2), ir.Read("score", (K,)), NEAR)
    assert not can_be_enqueued(arranged(top, Term(top)))
