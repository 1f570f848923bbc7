"""The generated kernels, under Triton's interpreter, on plans made by brute force: outputs, lse and gradients against
dense float64 attention."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

import triton_plans as plans
from layout_plans import axis

from patternc.backends import triton_run
from patternc.backends.triton_boxes import inverse
from patternc.backends.triton_options import PASSES, options
from patternc.backends.triton_schedule import schedule
from patternc.plan import LISTED, Layout

pytestmark = pytest.mark.usefixtures("interpreted")
DEVICE = torch.device("cpu")


def reference(m, q, k, v, scale, d_out, d_lse):
    """Dense attention in float64 under multiplicities (B or 1, heads, n_q, n): out, lse, dq, dk, dv."""
    q, k, v = (t.double().requires_grad_() for t in (q, k, v))
    group = q.shape[1] // k.shape[1]
    score = (q @ k.repeat_interleave(group, 1).mT * scale).exp() * m
    total = score.sum(-1)
    lse = total.log()
    empty = total == 0
    out = score / total.masked_fill(empty, 1)[..., None] @ v.repeat_interleave(group, 1)
    loss = (out * d_out.double()).sum() + (total.masked_fill(empty, 1).log() * d_lse.double()).sum()
    return out, lse, *torch.autograd.grad(loss, (q, k, v))


def check(
    plan, masks, m, *, cut=0, kv_heads=None, batch=1, dim=16, dim_v=None, dtype=torch.float32, scale=0.3,
    boxes=False, unread=None,
):  # fmt: skip
    """Compare all passes of a plan with the reference for M in positions: (heads, n, n) or (B, heads, n, n). Queries
    and keys that M leaves alone hold the number `unread`, if it is given."""
    torch.manual_seed(0)
    n, n_q, heads = plan.n, plan.n_q, plan.heads
    if cut:  # launches are known by identity
        pieces, masks_of = plans.cut(plan, cut), masks
        whole = {id(c): la for c, la in zip(pieces.launches, plan.launches, strict=True)}
        plan, masks = pieces, lambda launch: masks_of(whole[id(launch)])
    kv_heads, dim_v = kv_heads or heads, dim_v or dim
    q = torch.randn(batch, heads, n_q, dim, dtype=dtype)
    k = torch.randn(batch, kv_heads, n, dim, dtype=dtype)
    v = torch.randn(batch, n, kv_heads, dim_v, dtype=dtype).transpose(1, 2)
    d_out = torch.randn(batch, heads, n_q, dim_v, dtype=dtype)
    d_lse = torch.randn(batch, heads, n_q)
    m = (m if m.ndim == 4 else m[None])[..., n - n_q :, :]
    wanted = reference(m, q, k, v, scale, d_out, d_lse)
    if unread is not None:
        read = m.expand(batch, heads, n_q, n) > 0
        q, d_out = (t.masked_fill(~read.any(-1)[..., None], unread) for t in (q, d_out))
        none = ~read.unflatten(1, (kv_heads, -1)).any(2).any(-2)
        k, v = (t.masked_fill(none[..., None], unread) for t in (k, v))
    made = schedule(plan, masks, kv_heads, batch, DEVICE)
    call = triton_run.Call(made, scale, boxes=boxes)
    out, lse = triton_run.forward(call, q, k, v)
    found = out, lse, *triton_run.backward(call, q, k, v, out, lse, d_out, d_lse)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    for name, a, b in zip(("out", "lse", "dq", "dk", "dv"), found, wanted, strict=True):
        torch.testing.assert_close(
            a.double(), b, rtol=tolerance, atol=tolerance, msg=lambda t, name=name: f"{name}: {t}"
        )


def banded(n, width, stride=1):
    i = torch.arange(n)
    d = i[:, None] - i[None, :]
    return ((d.abs() <= width) & (d % stride == 0)).int()


@pytest.mark.parametrize("cut", [0, 2], ids=["whole", "cut"])
@pytest.mark.parametrize(
    ("queries", "keys"),
    [(Layout(), Layout(6, 4)), (Layout(3, 1), Layout(3, 1)), (Layout(8, 4), Layout(16, 1)), (Layout(6, 4), Layout())],
    ids=str,
)
def test_layouts(queries, keys, cut):
    n, n_q = 51, 40
    m = banded(n, 21, 3)[None]
    launch = plans.launch((0,), None, axis(queries, n - n_q, n, 16), [(m[0], axis(keys, 0, n, 16))])
    check(plans.plan(n, n_q, 1, 16, 16, [launch]), lambda _: [plans.dense(m, False)], m, cut=cut)


@pytest.mark.parametrize("cut", [0, 1], ids=["whole", "cut"])
def test_terms_launches_heads_and_batch_rows(cut):
    n, heads = 40, 4
    i = torch.arange(n)
    near, far = banded(n, 9), ((i[None, :] % 4 == 0) & (i[:, None] >= 20)).int().expand(n, n) * (1 - banded(n, 9))
    column = banded(n, n, 3) * (1 - near) * (1 - far)
    whole = near + far + column
    other = banded(n, 30, 2)
    consecutive = Layout()
    both = plans.launch(
        (0, 1),
        None,
        axis(consecutive, 0, n, 16),
        [(near, axis(consecutive, 0, n, 16)), (far, axis(Layout(4, 1), 0, n, 16))],
    )
    rest = plans.launch((0, 1), None, axis(Layout(3, 1), 0, n, 16), [(column, axis(Layout(3, 1), 0, n, 16))])
    alone = plans.launch((2, 3), (0, 1), axis(Layout(2, 1), 0, n, 16), [(other, axis(Layout(2, 1), 0, n, 16))])
    masks = {
        both: [plans.dense(t.expand(heads, n, n), False) for t in (near, far)],
        rest: [plans.dense(column.expand(heads, n, n), False)],
        alone: [plans.dense(other.expand(heads, n, n), False)],
    }
    m = torch.stack([whole, whole, other, other])
    check(
        plans.plan(n, n, heads, 16, 16, [both, rest, alone]),
        masks.get,
        m,
        kv_heads=2,
        batch=2,
        dim=24,
        dim_v=40,
        cut=cut,
    )


def test_bags():
    n = 60
    m = banded(n, 40) + 2 * banded(n, 17) + (torch.arange(n)[None, :] < 16)
    m[5] = 0
    launch = plans.launch((0,), None, axis(Layout(), 0, n, 16), [(m, axis(Layout(2, 1), 0, n, 16))])
    check(plans.plan(n, n, 1, 16, 16, [launch]), lambda _: [plans.dense(m[None], True)], m[None])


@pytest.mark.parametrize(
    ("queries", "keys", "n", "n_q"),
    [
        (Layout(), Layout(), 45, 40), (Layout(4, 1), Layout(8, 4), 48, 48), (Layout(6, 4), Layout(3, 1), 48, 36),
        (Layout(3, 1), Layout(5, 1), 48, 40), (Layout(5, 1), Layout(2, 2), 48, 48),
    ],
    ids=str,
)  # fmt: skip
def test_boxes(queries, keys, n, n_q):
    """Tiles by tensor descriptors; the last two have lines that are not whole."""
    m = banded(n, 21, 3)[None]
    launch = plans.launch((0,), None, axis(queries, n - n_q, n, 16), [(m[0], axis(keys, 0, n, 16))])
    plan = plans.plan(n, n_q, 1, 16, 16, [launch])
    check(plan, lambda _: [plans.dense(m, False)], m, boxes=True, dim=24, dim_v=16, batch=2)


@pytest.mark.parametrize("unread", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("boxes", [False, True], ids=["pointers", "boxes"])
@pytest.mark.parametrize("cut", [0, 1], ids=["whole", "cut"])
def test_what_nobody_reads_may_hold_anything(boxes, cut, unread):
    n = 46
    near, far = banded(n, 9), banded(n, n, 8) * (1 - banded(n, 9))
    for m in (near, far):
        m[5:20], m[:, 11::3] = 0, 0
    launches = [
        plans.launch((0, 1), None, axis(layout, 0, n, 16), [(m, axis(layout, 0, n, 16))])
        for m, layout in ((near, Layout()), (far, Layout(2, 1)))
    ]
    masks = {la: [plans.dense(m.expand(2, n, n), False)] for la, m in zip(launches, (near, far), strict=True)}
    plan, m = plans.plan(n, n, 2, 16, 16, launches), (near + far).expand(2, n, n)
    check(plan, masks.get, m, kv_heads=1, cut=cut, boxes=boxes, unread=unread)


def test_rows_without_tiles_take_no_program():
    """Of later launches; the first one writes what no launch computes."""
    n = 64
    near, far = banded(n, 5), torch.zeros(n, n, dtype=torch.int32)
    near[48:], far[16:32, 40:] = 0, 1
    launches = [plans.launch((0,), None, axis(Layout(), 0, n, 16), [(m, axis(Layout(), 0, n, 16))])
                for m in (near, far)]  # fmt: skip
    masks = {la: [plans.dense(m[None], False)] for la, m in zip(launches, (near, far), strict=True)}
    plan = plans.plan(n, n, 1, 16, 16, launches)
    made = schedule(plan, masks.get, 1, 1, DEVICE)
    assert [len(step.tables.items) for step in made.by_query] == [4, 1]
    assert [len(step.tables.items) for step in made.by_key] == [4, 2]
    check(plan, masks.get, (near + far)[None])


@pytest.mark.parametrize("overlap", [False, True], ids=["disjoint", "overlapping"])
def test_lists(overlap):
    n = 61
    hub = torch.arange(n) % 7 == 2
    rows = (hub[:, None] & (torch.arange(n)[None, :] % 3 > 0)).int()
    others = banded(n, 9) * (1 if overlap else (~hub)[:, None]) * (1 - rows)
    first, second = hub.nonzero().flatten(), torch.arange(n) if overlap else (~hub).nonzero().flatten()
    keys = torch.arange(n)[torch.arange(n) % 3 > 0]
    a = plans.launch((0,), None, axis(LISTED, 0, n, 16, first), [(rows, axis(LISTED, 0, n, 16, keys))])
    b = plans.launch((0,), None, axis(LISTED, 0, n, 16, second), [(others, axis(Layout(), 0, n, 16))])
    masks = {a: [plans.dense(rows[None], False)], b: [plans.dense(others[None], False)]}
    check(plans.plan(n, n, 1, 16, 16, [a, b]), masks.get, (rows + others)[None])


def test_half_precision_and_uneven_tiles():  # the interpreter has no products of bfloat16
    n = 70
    m = torch.tril(torch.ones(n, n, dtype=torch.int32))[None]
    launch = plans.launch((0,), None, axis(Layout(), 0, n, 32), [(m[0], axis(Layout(), 0, n, 16))])
    check(plans.plan(n, n, 1, 32, 16, [launch]), lambda _: [plans.dense(m, False)], m, dtype=torch.float16)


def test_long_rows_of_all_heads_start_first():
    n, heads = 128, 3
    m = banded(n, 5)
    m[20:22] = 1
    launch = plans.launch((0, 1, 2), None, axis(Layout(), 0, n, 16), [(m, axis(Layout(), 0, n, 16))])
    plan, m = plans.plan(n, n, heads, 16, 16, [launch]), m.expand(heads, n, n)
    (step,) = schedule(plan, lambda _: [plans.dense(m, False)], heads, 1, DEVICE).by_query
    assert step.tables.items[:, 2].tolist() == [8, 3, 3, 3, 3, 3, 2, 2]
    assert step.tables.early == 1
    check(plan, lambda _: [plans.dense(m, False)], m)


def test_full_tiles_of_one_term_come_last():
    n = 64
    comb = torch.arange(n)[None, :] % 4 == 0
    near, far = banded(n, 9) * ~comb, comb.int().expand(n, n)
    keys = [(near, axis(Layout(), 0, n, 16)), (far, axis(Layout(4, 1), 0, n, 16))]
    plan = plans.plan(n, n, 1, 16, 16, [plans.launch((0,), None, axis(Layout(), 0, n, 16), keys)])
    masks = [plans.dense(near[None], False), plans.dense(far[None], False)]
    (step,) = schedule(plan, lambda _: masks, 1, 1, DEVICE).by_query
    assert step.tables.items[:, [2, 7]].tolist() == [[4, 1], [4, 1], [3, 1], [3, 1]]
    assert step.tables.tiles == 3.5
    check(plan, lambda _: masks, (near + far)[None])


def test_options_change_with_the_length_of_chained_rows_alone():
    for name in PASSES:
        assert options(name, 128, 16, False, 3) == options(name, 128, 16, False, 300)
    assert options("forward", 128, 16, True, 3) != options("forward", 128, 16, True, 300)


def test_gradients_of_keys_do_not_hang_on_those_of_queries():
    """Who finds the numbers of queries: the kernels of dq, or one before all where nobody asks for dq."""
    n = 48
    m = banded(n, 13)[None]
    launch = plans.launch((0,), None, axis(Layout(2, 1), 0, n, 16), [(m[0], axis(Layout(), 0, n, 16))])
    made = schedule(plans.plan(n, n, 1, 16, 16, [launch]), lambda _: [plans.dense(m, False)], 1, 1, DEVICE)
    torch.manual_seed(0)
    q, k, v, d_out = (torch.randn(1, 1, n, 16) for _ in range(4))
    call = triton_run.Call(made, 0.3)
    out, lse = triton_run.forward(call, q, k, v)
    both, alone = (triton_run.backward(call, q, k, v, out, lse, d_out, None, queries=asked) for asked in (True, False))
    assert alone[0] is None
    torch.testing.assert_close(both[1:], alone[1:], rtol=1e-5, atol=1e-6)
    wanted = reference(m, q, k, v, 0.3, d_out, torch.zeros(1, 1, n))
    torch.testing.assert_close([t.double() for t in both], list(wanted[2:]), rtol=1e-5, atol=1e-5)


def test_strides_divide_exactly():
    most = 2**31 - 1
    for stride in (1, 2, 3, 7, 12, 128, 641, 2**20, 2**30 + 1, most):
        numbers = inverse(stride)
        assert 2**31 <= numbers["line_inverse"] <= 2**32
        last = most // stride * stride
        for place in (0, 1, stride - 1, stride, last - 1, last, most):
            assert place * numbers["line_inverse"] < 2**63
            assert place * numbers["line_inverse"] >> numbers["line_shift"] == place // stride
