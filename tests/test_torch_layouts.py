"""The torch executor under drawn layouts: several terms and launches, lists, bags, groups of heads, fewer queries."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from drawn import examples
from executed import Tensors, call_of_plan, draw, positions, results
from hypothesis import given, note, settings
from hypothesis import strategies as st
from layout_plans import DrawnTerm, plan_of, tiles

from patternc.backends import torch_passes, torch_pieces
from patternc.backends.reference import attention as dense
from patternc.backends.torch_function import attention
from patternc.backends.torch_passes import counting
from patternc.backends.torch_places import Affine, Picked
from patternc.plan import CONSECUTIVE, LISTED, Layout, Plan

HEADS, BATCH = 4, 2
LAYOUTS = [CONSECUTIVE, *(Layout(*shape) for shape in ((3, 1), (4, 1), (16, 1), (5, 2), (8, 4), (7, 4)))]


@pytest.fixture(autouse=True, scope="module")
def _fused_at_every_length():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_passes, "FUSED_FROM", 0)
        yield


NOTHING = float("nan"), float("inf"), 1e300


@dataclass(frozen=True, eq=False)
class Case:
    """M (B, heads, n_q, n), and terms that add up to it."""

    m: torch.Tensor
    terms: list[DrawnTerm]
    tile: tuple[int, int]

    @property
    def n_q(self) -> int:
        return self.m.shape[2]

    @property
    def n(self) -> int:
        return self.m.shape[3]

    @property
    def plan(self) -> Plan:
        return plan_of(self.terms, *self.tile)

    def run(self, tensors: Tensors, kv_heads: int, *, of_lse: bool = True, **options: float) -> Tensors:
        call = call_of_plan(self.plan, [t.m for t in self.terms], kv_heads, tensors[0].dtype, **options)
        return results(lambda *t: attention(call, *t), tensors, of_lse=of_lse)


def multiplicities(kind: str, n_q: int, n: int) -> torch.Tensor:
    q, k = positions(n_q, n)
    each = {
        "dots": torch.rand(BATCH, HEADS, n_q, n) < 0.3,
        "causal": q >= k,
        "window": (q - k).abs() < 9,
        "strided": (q >= k) & ((q - k < 4) | ((q - k) % 4 == 0)),
        "mirror": (q + k - n).abs() < 6,
        "bag": (q >= k).long() + 2 * (q - k > 12) + ((q - k) % 3 == 0),
        "heads": torch.stack([((q - k) % (h + 2) == 0) & (k <= q - h) for h in range(HEADS)]),
    }
    return each[kind].long().expand(BATCH, HEADS, n_q, n)


def owners(kind: str, count: int, n_q: int, n: int) -> torch.Tensor:
    """Which term each cell belongs to."""
    q, k = positions(n_q, n)
    each = {
        "any": torch.randint(0, count, (BATCH, HEADS, n_q, n)),
        "keys": k % count,
        "distance": (q - k) // 5 % count,
        "queries": q // 7 % count,
    }
    return each[kind].expand(BATCH, HEADS, n_q, n)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    torch.manual_seed(draw(st.integers(0, 2**16)))
    n = draw(st.integers(1, 70))
    n_q = draw(st.one_of(st.just(n), st.integers(1, n)))
    count = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["dots", "causal", "window", "strided", "mirror", "bag", "heads"]))
    m, owner = (
        multiplicities(kind, n_q, n),
        owners(draw(st.sampled_from(["any", "keys", "distance", "queries"])), count, n_q, n),
    )
    shared = draw(st.booleans())  # one layout of queries for all terms that are not listed
    common, terms = draw(st.sampled_from(LAYOUTS)), []
    for number in range(count):
        held = [listed(draw, number, n - n_q, n), listed(draw, number, 0, n)]
        inside = torch.ones(n_q, n, dtype=torch.bool)
        for positions_held, axis in zip(held, (0, 1), strict=True):
            if positions_held is not None:
                start = n - n_q if axis == 0 else 0
                inside &= torch.isin(torch.arange(start, n), positions_held).view((-1, 1) if axis == 0 else (1, -1))
        owner = torch.where((owner == number) & ~inside, 0, owner)
        own = common if shared else draw(st.sampled_from(LAYOUTS))
        layouts = (
            LISTED if held[0] is not None else own,
            LISTED if held[1] is not None else draw(st.sampled_from(LAYOUTS)),
        )
        terms.append((*layouts, *held))
    parts = [DrawnTerm(m * (owner == number), *term) for number, term in enumerate(terms)]
    if kind == "bag" and draw(st.booleans()):  # terms that overlap
        parts.append(DrawnTerm(m, *terms[0]))
        m = 2 * m
    return Case(m, parts, draw(st.sampled_from([(4, 4), (16, 8), (8, 16), (16, 16)])))


def listed(draw: st.DrawFn, number: int, start: int, n: int) -> torch.Tensor | None:
    """Positions of a list, of some of the terms but the first, which takes what others leave."""
    if number == 0 or draw(st.integers(0, 3)):
        return None
    found = torch.arange(start, n)[torch.rand(n - start) < 0.5]
    return found if len(found) else None


def assert_close(found: Tensors, expected: Tensors) -> None:
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-10, atol=1e-12)


@settings(max_examples=examples(200))
@given(cases(), st.sampled_from([1, 2, 4]), st.booleans(), st.data())
def test_equals_dense_attention(case: Case, kv_heads: int, fused: bool, data: st.DataObject) -> None:
    """Outputs, lse and gradients; what nobody reads changes no bit; and the tiles are those of the plan."""
    note(f"n = {case.n}, n_q = {case.n_q}, tile {case.tile}, terms {[(t.queries, t.keys) for t in case.terms]}")
    options = {} if fused else {"dropout_p": data.draw(st.sampled_from([0.0, 0.4])), "seed": 9}
    tensors = draw(HEADS, kv_heads, case.n_q, case.n, dim_v=8 if fused else 5)
    direct = {"of_lse": not fused}
    with pytest.MonkeyPatch.context() as patch, counting() as tally:
        patch.setattr(torch_pieces, "ELEMENTS", data.draw(st.sampled_from([1 << 8, 1 << 21])))
        patch.setitem(torch_pieces.SCORES, "cpu", data.draw(st.sampled_from([1 << 8, 1 << 21])))
        found = case.run(tensors, kv_heads, **direct, **options)
        assert tally == dict(zip(("forward", "backward"), tiles(case.plan, BATCH), strict=True))
        p = options.get("dropout_p", 0.0)
        assert_close(found, results(lambda *t: dense(*t, case.m, 0.3, p, 9), tensors, **direct))
        again = case.run(spoilt(tensors, case.m, data.draw(st.sampled_from(NOTHING))), kv_heads, **direct, **options)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


def spoilt(tensors: Tensors, m: torch.Tensor, bad: float) -> Tensors:
    """The tensors with something bad where no pair reads them."""
    q, k, v = (t.detach().clone() for t in tensors)
    q[~(m > 0).any(-1)] = bad
    unread = ~(m > 0).any(-2).unflatten(1, (k.shape[1], -1)).any(2)
    k[unread], v[unread] = bad, bad
    return [t.requires_grad_() for t in (q, k, v)]


@settings(max_examples=examples(50))
@given(cases())
def test_dropout_does_not_hang_on_layouts(case: Case) -> None:
    """The same seed drops the same pairs in tiles of consecutive tokens."""
    tensors = draw(HEADS, 2, case.n_q, case.n)
    plain = Case(case.m, [DrawnTerm(case.m)], case.tile)
    options = {"dropout_p": 0.5, "seed": 3}
    assert_close(case.run(tensors, 2, **options), plain.run(tensors, 2, **options))


@settings(max_examples=examples(50))
@given(cases())
def test_same_inputs_same_bits(case: Case) -> None:
    tensors = draw(HEADS, 1, case.n_q, case.n, torch.float32, dim_v=8)
    first, second = (case.run(tensors, 1, of_lse=False) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# ------------------------------------------------------------------ how work is arranged


def strips_of(text: torch.Tensor, queries: Layout, keys: Layout, tile: tuple[int, int]) -> list:
    m = text.long().expand(1, 1, *text.shape)
    call = call_of_plan(plan_of([DrawnTerm(m, queries, keys)], *tile), [m[0]], 1, torch.float64)
    return list(call.schedule.parts[0].by_query)


def test_evenly_spaced_tokens_are_read_through_views() -> None:
    q, k = positions(512, 512)
    window = strips_of((q - k >= 0) & (q - k < 32), CONSECUTIVE, CONSECUTIVE, (16, 16))
    assert all(isinstance(side, Affine) for s in window for side in (s.queries, s.keys))
    assert max(s.queries.rows for s in window) == 30
    column = strips_of((q >= k) & ((q - k) % 16 == 0), Layout(16, 1), Layout(16, 1), (16, 16))
    assert [(s.queries.rows, s.keys.slots) for s in column] == [(16, 16), (16, 32)]
    assert all(isinstance(s.keys, Affine) for s in column)
    dots = strips_of(torch.rand(512, 512) < 0.002, CONSECUTIVE, CONSECUTIVE, (16, 16))
    assert any(isinstance(s.keys, Picked) for s in dots)


def test_rows_that_read_the_same_keys_are_one() -> None:
    (strip,) = strips_of(torch.ones(64, 64), CONSECUTIVE, CONSECUTIVE, (16, 16))
    assert (strip.queries.rows, strip.queries.slots, strip.keys.slots, strip.tiles) == (1, 64, 64, 16)


def test_slots_without_a_token_are_not_computed() -> None:
    """61 tokens in lanes of 8, in tiles of 16: every lane is one tile of 7 or 8 tokens."""
    every = strips_of(torch.ones(61, 61), Layout(8, 1), Layout(8, 1), (16, 16))
    assert sum(s.queries.rows * s.queries.slots * s.keys.slots for s in every) == 61 * 61
    assert not any(s.masked for s in every)
