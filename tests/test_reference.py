"""The reference backend: what each node means, where it raises, and dense attention."""

from __future__ import annotations

import pytest
import torch

import patternc
from patternc import ir
from patternc.backends.reference import Reference, attention, hashed, mask
from patternc.backends.reference_attention import kept
from patternc.errors import Code, SpatError

Q, K, N, H = ir.Var("q"), ir.Var("k"), ir.Var("n"), ir.Var("h")
Q1, K1, N1 = ir.Var("q", 1), ir.Var("k", 1), ir.Var("n", 1)
C = ir.Const
FULL = ir.Where(C(True))


def program(pattern: ir.Pattern | ir.Scalar, *tensors: ir.Tensor, grids: tuple[ir.Grid, ...] = ()) -> ir.Program:
    if not isinstance(pattern, ir.Pattern):
        pattern = ir.Where(pattern)
    return ir.Program("p", pattern, tensors, grids)


def less(a: ir.Scalar, b: ir.Scalar) -> ir.Scalar:
    return ir.Compare("<", a, b)


def equal(a: ir.Scalar, b: ir.Scalar) -> ir.Scalar:
    return ir.Compare("==", a, b)


def op(name: str, a: ir.Scalar, b: ir.Scalar | int) -> ir.Scalar:
    return ir.Binary(name, a, C(b) if isinstance(b, int) else b)


CAUSAL = ir.Where(ir.Compare("<=", K, Q))


def cells(pattern: ir.Pattern | ir.Scalar, n: int, **kwargs: object) -> list[list[int]]:
    """M of head 0."""
    return mask(program(pattern), 1, n, **kwargs)[0].tolist()


# ------------------------------------------------------------------ scalars


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        (op("//", op("-", Q, K), 2), lambda q, k: (q - k) // 2),
        (op("%", op("-", Q, K), 3), lambda q, k: (q - k) % 3),
        (op("%", op("-", Q, K), -3), lambda q, k: (q - k) % -3),
        (op("^", Q, K), lambda q, k: q ^ k),
        (op("^", Q, op("-", C(0), K)), lambda q, k: q ^ -k),
        (op("**", Q, K), lambda q, k: q**k),
        (op("min", Q, K), min),
        (op("max", Q, K), max),
        (ir.Unary("abs", op("-", Q, K)), lambda q, k: abs(q - k)),
        (ir.Unary("-", op("*", Q, K)), lambda q, k: -q * k),
        (ir.Unary("log2", op("+", op("*", Q, 7), op("+", K, 1))), lambda q, k: (7 * q + k).bit_length()),
        (ir.If(less(Q, K), op("+", Q, 10), K), lambda q, k: q + 10 if q < k else k),
        (ir.Pick(op("%", Q, 3), (C(5), K, C(7))), lambda q, k: [5, k, 7][q % 3]),
    ],
)
def test_scalars_match_python(scalar: ir.Scalar, value: object) -> None:
    n = 7
    for q in range(n):
        for k in range(n):
            found = cells(equal(scalar, C(value(q, k))), n)
            assert found[q][k] == 1, (q, k)


def test_quantified_bounds_depend_on_n() -> None:
    i = ir.Var("i#0")
    some = ir.Quantified("any", "i#0", C(0), ir.Unary("log2", N), equal(op("^", Q, K), op("**", C(2), i)))
    assert cells(some, 4) == [[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]]
    every = ir.Quantified("all", "i#0", C(0), N, ir.Compare("<=", Q, i))
    assert cells(every, 2) == [[1, 1], [0, 0]]
    assert cells(ir.Quantified("all", "i#0", C(3), C(0), C(False)), 1) == [[1]]


def test_families_run_over_their_variable() -> None:
    near = ir.Where(ir.Compare("<=", ir.Unary("abs", op("-", Q, K)), ir.Var("i#0")))
    assert cells(ir.Family("sum", "i#0", C(0), N, near), 3) == [[3, 2, 1], [2, 3, 2], [1, 2, 3]]
    assert cells(ir.Family("union", "i#0", C(0), op("-", N, 1), near), 3) == [[1, 1, 0], [1, 1, 1], [0, 1, 1]]
    assert cells(ir.Family("sum", "i#0", C(0), C(0), near), 1) == [[0]]


def test_positions_are_absolute() -> None:
    assert cells(CAUSAL, 4, n_q=2) == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_heads() -> None:
    m = mask(program(less(K, H)), 3, 2)
    assert m.tolist() == [[[0, 0]] * 2, [[1, 0]] * 2, [[1, 1]] * 2]


# ------------------------------------------------------------------ patterns


def test_bags() -> None:
    bag = ir.Sum((CAUSAL, FULL, FULL))
    assert cells(bag, 2) == [[3, 2], [3, 3]]
    assert cells(ir.Product((bag, ir.Complement(CAUSAL))), 2) == [[0, 2], [0, 0]]
    assert cells(ir.Support(bag), 2) == [[1, 1], [1, 1]]
    assert cells(ir.Union((CAUSAL, ir.Where(equal(Q, C(0))))), 2) == [[1, 1], [1, 1]]
    assert (cells(ir.Union(()), 1), cells(ir.Sum(()), 1)) == ([[0]], [[0]])


def test_blocks_read_block_indices_and_counts() -> None:
    last = ir.Blocks(C(2), ir.Where(equal(K1, op("-", N1, 1))))
    assert cells(last, 5) == [[0, 0, 0, 0, 1]] * 5
    assert cells(last, 5, n_q=1) == [[0, 0, 0, 0, 1]]
    outer = ir.Blocks(C(2), ir.Where(equal(K1, op("-", N, 3))))  # n of tokens, seen from blocks
    assert cells(outer, 5) == [[0, 0, 0, 0, 1]] * 5


def test_blocks_of_blocks_are_blocks_of_the_product() -> None:
    diagonal = lambda depth: ir.Where(equal(ir.Var("q", depth), ir.Var("k", depth)))
    nested = ir.Blocks(C(2), ir.Blocks(C(3), diagonal(2)))
    assert cells(nested, 13) == cells(ir.Blocks(C(6), diagonal(1)), 13)


def test_cover_rounds_out_and_is_clipped() -> None:
    dot = ir.Where(ir.And((equal(Q, C(0)), equal(K, C(3)))))
    assert cells(ir.Cover(C(2), dot), 5) == [[0, 0, 1, 1, 0]] * 2 + [[0] * 5] * 3
    assert cells(ir.Cover(C(2), dot), 5, n_q=4)[0] == [0, 0, 1, 1, 0]  # the dot lies above the rows asked for


def test_top_takes_the_best_and_breaks_ties_by_the_smaller_key() -> None:
    by = op("%", K, 3)  # 0 1 2 0 1 2 …
    assert cells(ir.Top(C(2), by, FULL), 6)[0] == [0, 0, 1, 0, 0, 1]
    assert cells(ir.Top(C(3), by, FULL), 6)[0] == [0, 1, 1, 0, 0, 1]
    assert cells(ir.Top(C(2), by, CAUSAL), 3) == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]


def test_top_never_takes_nan_and_reads_scores_on_candidates_only() -> None:
    score = ir.Tensor("s", "float", (N,), False)
    s = torch.tensor([0.5, float("nan"), float("-inf"), 3.0])
    top = lambda count, of: mask(program(ir.Top(C(count), ir.Read("s", (K,)), of), score), 1, 4, tensors={"s": s})
    assert top(3, FULL)[0, 0].tolist() == [1, 0, 1, 1]
    assert top(4, FULL)[0, 0].tolist() == [1, 0, 1, 1]
    beyond = ir.Top(C(1), ir.Read("s", (op("+", K, 1),)), ir.Where(less(K, C(3))))
    assert mask(program(beyond, score), 1, 4, tensors={"s": s})[0, 0].tolist() == [0, 0, 1, 0]


def test_top_by_share_of_the_softmax_mass() -> None:
    score = ir.Tensor("s", "float", (N,), False)
    s = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()
    top = lambda share: mask(program(ir.Top(C(share), ir.Read("s", (K,)), FULL), score), 1, 4, tensors={"s": s})
    assert top(0.3)[0, 0].tolist() == [0, 1, 0, 0]
    assert top(0.69)[0, 0].tolist() == [0, 1, 0, 1]
    assert top(0.95)[0, 0].tolist() == [1, 1, 1, 1]
    equal_scores = mask(
        program(ir.Top(C(0.5), ir.Read("s", (K,)), FULL), score), 1, 4, tensors={"s": torch.full((4,), -torch.inf)}
    )
    assert equal_scores[0, 0].tolist() == [1, 1, 0, 0]


def test_hash_vector() -> None:
    assert hashed(7, 3, 100, 5) == 0xC4A78487
    assert hashed(7, 3, torch.tensor([100]), torch.tensor([5])).tolist() == [0xC4A78487]


def test_sample_takes_the_largest_hashes() -> None:
    m = mask(program(ir.Sample(C(2), CAUSAL, C(7))), 2, 9)
    for h in range(2):
        for q in range(9):
            best = sorted(range(q + 1), key=lambda k: -hashed(7, h, q, k))[:2]
            assert m[h, q].nonzero().flatten().tolist() == sorted(best)


def test_choose_evaluates_one_side() -> None:
    broken = ir.Where(equal(op("//", Q, 0), Q))
    m = mask(program(ir.Choose(equal(H, C(0)), CAUSAL, FULL)), 2, 2)
    assert m.tolist() == [[[1, 0], [1, 1]], [[1, 1], [1, 1]]]
    assert cells(ir.Choose(C(True), FULL, broken), 1) == [[1]]


# ------------------------------------------------------------------ run-time tensors


def test_batched_tensors_give_a_batch_axis() -> None:
    doc = ir.Tensor("doc", "int", (N,), True)
    same = equal(ir.Read("doc", (Q,)), ir.Read("doc", (K,)))
    m = mask(program(same, doc), 2, 3, tensors={"doc": torch.tensor([[0, 0, 1], [0, 1, 1]])})
    assert m.shape == (2, 2, 3, 3)
    assert m[:, 1].tolist() == [[[1, 1, 0], [1, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1], [0, 1, 1]]]


def test_dims_are_of_n_and_heads() -> None:
    table = ir.Tensor("t", "int", (ir.Var("heads"), op("//", N, 2)), False)
    read = less(K, ir.Read("t", (H, op("//", Q, 2))))
    m = mask(program(read, table), 2, 4, tensors={"t": torch.tensor([[1, 2], [3, 4]])})
    assert m.sum(-1).tolist() == [[1, 1, 2, 2], [3, 3, 4, 4]]
    with pytest.raises(ValueError, match=r"'t' must have shape \(2, 3\); found \(2, 2\)"):
        mask(program(read, table), 2, 6, tensors={"t": torch.zeros(2, 2, dtype=torch.int64)})


# ------------------------------------------------------------------ errors

TABLE = ir.Tensor("t", "int", (C(3),), False)
READ = ir.Read("t", (op("-", Q, K),))


@pytest.mark.parametrize(
    ("scalar", "code", "note"),
    [
        (equal(READ, C(0)), Code.INDEX_OUT_OF_RANGE, "at n = 4, head 0, query 0, key 1"),
        (equal(ir.Pick(Q, (C(1), C(2))), C(1)), Code.INDEX_OUT_OF_RANGE, "query 2, key 0"),
        (equal(op("//", C(6), K), Q), Code.DIVISION_BY_ZERO, "query 0, key 0"),
        (equal(op("%", C(6), op("-", K, 3)), Q), Code.DIVISION_BY_ZERO, "query 0, key 3"),
        (equal(ir.Unary("log2", op("-", Q, 1)), C(1)), Code.LOG_OF_NONPOSITIVE, "query 0, key 0"),
        (equal(op("**", C(2), op("-", C(2), Q)), C(1)), Code.NEGATIVE_EXPONENT, "query 3, key 0"),
        (ir.Quantified("any", "i#0", C(0), C(5000), equal(Q, K)), Code.TOO_MANY_ITEMS, "at n = 4"),
    ],
)
def test_live_cells_raise(scalar: ir.Scalar, code: Code, note: str) -> None:
    with pytest.raises(SpatError) as caught:
        mask(program(scalar, TABLE), 1, 4, tensors={"t": torch.zeros(3, dtype=torch.int64)})
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.code, note in diagnostic.notes[0]) == (code, True)


def test_guarded_cells_do_not_raise() -> None:
    inside = ir.And((ir.Compare("<=", K, Q), less(op("-", Q, K), C(3)), equal(READ, C(0))))
    outside = ir.Or((ir.Compare(">", K, Q), less(C(2), op("-", Q, K)), equal(READ, C(0))))
    chosen = ir.If(equal(K, C(0)), C(True), equal(op("//", C(6), K), C(6)))
    zeros = {"t": torch.zeros(3, dtype=torch.int64)}
    assert mask(program(inside, TABLE), 1, 4, tensors=zeros).sum() == 9
    assert mask(program(outside, TABLE), 1, 4, tensors=zeros).sum() == 16
    assert cells(chosen, 3) == [[1, 1, 0]] * 3


def test_reading_an_axis_of_length_zero() -> None:
    empty = ir.Tensor("t", "int", (C(0),), False)
    guarded = ir.And((C(False), equal(ir.Read("t", (Q,)), C(0))))
    assert mask(program(guarded, empty), 1, 2, tensors={"t": torch.zeros(0, dtype=torch.int64)}).sum() == 0


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        (ir.Blocks(op("-", N, 4), FULL), Code.BAD_BLOCK_SIZE),
        (ir.Cover(C(float("inf")), FULL), Code.BAD_BLOCK_SIZE),
        (ir.Top(op("-", C(1), N), K, FULL), Code.BAD_COUNT),
        (ir.Top(C(1.5), K, FULL), Code.BAD_COUNT),
    ],
)
def test_bad_sizes_and_counts(pattern: ir.Pattern, code: Code) -> None:
    with pytest.raises(SpatError) as caught:
        mask(program(pattern), 1, 4)
    assert caught.value.diagnostics[0].code == code


def test_lengths_and_grids() -> None:
    with pytest.raises(ValueError, match="n = 0"):
        mask(program(CAUSAL), 1, 0)
    with pytest.raises(ValueError, match="n_q = 5, n = 4"):
        mask(program(CAUSAL), 1, 4, 5)
    with pytest.raises(SpatError, match=r"n = 4 tokens do not fill the grid of 2 \* 3 = 6"):
        mask(program(CAUSAL, grids=(ir.Grid((C(2), C(3))),)), 1, 4)


# ------------------------------------------------------------------ attention


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def test_a_bag_is_a_key_repeated() -> None:
    torch.manual_seed(0)
    q, k, v = draw(1, 1, 3, 4), draw(1, 1, 2, 4), draw(1, 1, 2, 5)
    out, lse = attention(q, k, v, torch.tensor([[[1, 3]] * 3]), 0.5)
    repeated = torch.tensor([0, 1, 1, 1])
    score = q @ k[:, :, repeated].transpose(-1, -2) * 0.5
    torch.testing.assert_close(out, score.softmax(-1) @ v[:, :, repeated])
    torch.testing.assert_close(lse, score.logsumexp(-1))


def test_gqa_serves_heads_in_groups() -> None:
    torch.manual_seed(0)
    q, k, v = draw(2, 4, 3, 4), draw(2, 2, 6, 4), draw(2, 2, 6, 5)
    out, _ = attention(q, k, v, torch.ones(4, 3, 6, dtype=torch.int64), 0.5)
    dense = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.5, enable_gqa=True)
    torch.testing.assert_close(out, dense)


def test_gradients() -> None:
    torch.manual_seed(0)
    m = torch.tensor([[[1, 0, 2], [0, 0, 0], [1, 1, 1]]])
    assert torch.autograd.gradcheck(
        lambda q, k, v: tuple(t[:, :, ::2] for t in attention(q, k, v, m, 0.7, 0.3, 5)),
        (draw(1, 2, 3, 4), draw(1, 1, 3, 4), draw(1, 1, 3, 2)),
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_nobody_reads_changes_nothing(bad: float) -> None:
    torch.manual_seed(0)
    m = torch.tensor([[[1, 0, 1], [0, 0, 0], [1, 0, 0]]])
    q, k, v = draw(1, 1, 3, 4), draw(1, 1, 3, 4), draw(1, 1, 3, 4)
    spoilt = [t.detach().clone() for t in (q, k, v)]
    for t in spoilt:
        t[:, :, 1] = bad
    results = []
    for tensors in ((q, k, v), [t.requires_grad_() for t in spoilt]):
        out, lse = attention(*tensors, m, 0.5)
        assert (out[0, 0, 1] == 0).all()
        assert lse[0, 0, 1] == -torch.inf
        results.append((out, *torch.autograd.grad(out.sum() + lse[:, :, ::2].sum(), tensors)))
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)
        assert (found[:, :, 1] == 0).all()


def test_dropout() -> None:
    p = kept(11, 0.25, 2, 3, 40, 50, torch.device("cpu"))
    assert sorted(p.unique().tolist()) == [0.0, 1 / 0.75]
    assert abs((p == 0).double().mean() - 0.25) < 0.02
    assert (p[1, 2, 3, 4] == 0) == (hashed(11, 1, 2, 13, 4) < 2**30)
    q, k, v = draw(1, 1, 4, 4), draw(1, 1, 4, 4), draw(1, 1, 4, 4)
    m = torch.ones(1, 4, 4, dtype=torch.int64)
    assert (attention(q, k, v, m, 0.5, 1.0)[0] == 0).all()
    assert torch.equal(attention(q, k, v, m, 0.5, 0.5, 3)[1], attention(q, k, v, m, 0.5)[1])  # lse is undropped


def test_half_precision_has_lse_in_float32() -> None:
    q = torch.randn(1, 1, 4, 8, dtype=torch.bfloat16)
    out, lse = attention(q, q, q, torch.ones(1, 4, 4, dtype=torch.int64), 0.5)
    assert (out.dtype, lse.dtype) == (torch.bfloat16, torch.float32)


def test_artifact() -> None:
    artifact = Reference().emit(program(CAUSAL), 2, 1)
    q, k, v = draw(1, 2, 3, 4), draw(1, 1, 3, 4), draw(1, 1, 3, 4)
    dense = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    out, lse = artifact(q, k, v, return_lse=True)
    torch.testing.assert_close(out, dense)
    assert lse.shape == (1, 2, 3)
    torch.manual_seed(1)
    first = artifact(q, k, v, dropout_p=0.5)
    second = artifact(q, k, v, dropout_p=0.5)
    torch.manual_seed(1)
    assert torch.equal(artifact(q, k, v, dropout_p=0.5), first)
    assert not torch.equal(first, second)


def test_elements_of_tensors_may_be_infinite_or_nan() -> None:
    text = "pattern finite(x: float[n]) = { q -> k : x[q] > -inf and min(x[k], inf) < inf }"
    x = torch.tensor([1.0, -torch.inf, torch.nan, torch.inf])
    mask = patternc.compile(text, heads=1).mask(4, x=x)
    assert mask[0].tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]]
