"""Cells equal a plain evaluation; boxes hold every value of their cells."""

from __future__ import annotations

import math

import numpy as np
import pytest
from brute import Brute, InvalidError, conditions, numbers, reals, tensors
from hypothesis import given
from hypothesis import strategies as st

from patternc import ir
from patternc.analysis.arrays import NUMPY
from patternc.analysis.enclosures import Boxes, Reals, Truths, interval
from patternc.analysis.evaluate import Evaluation, Meaning
from patternc.analysis.numbers import (
    Cells,
    Table,
    constant,
    exists,
    forall,
    indicator,
    log2,
    maximum,
    minimum,
    negate,
    pick,
    read,
    select,
)
from patternc.analysis.overflow import check_overflow, overflowing
from patternc.errors import SpatError
from patternc.rewrite import walk

Q, K = np.arange(0, 16)[:, None], np.arange(0, 24)[None, :]


def cells(values: np.ndarray) -> Cells:
    return Cells(values, True, NUMPY)


def evaluator(n: int, seed: int) -> tuple[Brute, Meaning]:
    arrays = tensors(n, seed)
    tables = {name: Table(NUMPY, array) for name, array in arrays.items()}
    return Brute(n, 0, arrays), Meaning(ir.Where(ir.Const(True)), n=n, n_q=n, h=0, tables=tables, xp=NUMPY)


def brute_value(brute: Brute, node: ir.Scalar, q: int, k: int) -> object:
    try:
        return brute.scalar(node, q, k)
    except InvalidError:
        return None


def same(a: object, b: object) -> bool:
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


@given(st.one_of(numbers(0), reals(0), conditions(0)), st.integers(1, 40), st.integers(0, 5))
def test_cells_equal_a_plain_evaluation(node: ir.Scalar, n: int, seed: int) -> None:
    brute, meaning = evaluator(n, seed)
    q, k = np.arange(n)[:, None], np.arange(0, n, 3)[None, :]
    with NUMPY.quiet():
        result = Evaluation(meaning, (), cells(q), cells(k)).scalar(node)
    result = result if isinstance(result, Cells) else constant(result)
    value, ok = (np.broadcast_to(a, (n, k.shape[1])) for a in (result.value, result.ok))
    for i, j in np.ndindex(*value.shape):
        expected = brute_value(brute, node, i, 3 * j)
        assert ok[i, j] == (expected is not None), (node, i, 3 * j)
        assert expected is None or same(value[i, j].item(), expected), (node, i, 3 * j)


def holds(enclosure: object, box: int, value: object) -> bool:
    """Whether the enclosure of that box admits the value; None is an invalid one."""

    def at(a: object) -> object:
        return a[box].item() if isinstance(a, np.ndarray) and a.ndim else a

    match enclosure:
        case Cells():
            return same(enclosure.value, value) if enclosure.ok is True else value is None
        case bool() | int() | float():
            return same(enclosure, value)
    if value is None:
        return bool(at(enclosure.bad))
    match enclosure:
        case Truths():
            return bool(at(enclosure.true if value else enclosure.false))
        case Reals():
            lo, hi = at(enclosure.lo), at(enclosure.hi)
            return math.isnan(lo) or math.isnan(hi) or lo <= value <= hi
        case Boxes():
            lo, hi = (at(end) for end in enclosure.bounds)
            m, r = enclosure.modulus, at(enclosure.residue)
            return lo <= value <= hi and ((value - r) % m == 0 if m else value == r)
    raise AssertionError(enclosure)


@st.composite
def boxes(draw: st.DrawFn, n: int) -> list[tuple[int, int, int, int]]:
    ends = st.tuples(*[st.integers(0, n - 1)] * 4)
    return [(min(a, b), max(a, b), min(c, d), max(c, d)) for a, b, c, d in draw(st.lists(ends, min_size=1, max_size=4))]


@given(st.data(), st.one_of(numbers(0), reals(0), conditions(0)), st.integers(1, 60), st.integers(0, 5))
def test_boxes_hold_every_value_of_their_cells(data: st.DataObject, node: ir.Scalar, n: int, seed: int) -> None:
    brute, meaning = evaluator(n, seed)
    drawn = data.draw(boxes(n))
    q0, q1, k0, k1 = (np.array(ends) for ends in zip(*drawn, strict=True))
    q, k = interval(NUMPY, q0, q1, 0, n - 1), interval(NUMPY, k0, k1, 0, n - 1)
    evaluation = Evaluation(meaning, (), q, k)
    for part in walk(node):
        with NUMPY.quiet():
            enclosure = evaluation.scalar(part)
        for box, (a, b, c, d) in enumerate(drawn):
            for i in {a, b, (a + b) // 2, a + (b - a) // 3}:
                for j in {c, d, (c + d) // 2, c + (d - c) // 3}:
                    value = brute_value(brute, part, i, j)
                    assert holds(enclosure, box, value), (part, i, j, value)


# ------------------------------------------------------------------ sharpness


def box(q: tuple[int, int], k: tuple[int, int]) -> tuple[Boxes, Boxes]:
    return tuple(interval(NUMPY, np.array([a]), np.array([b]), a, b) for a, b in (q, k))


def surely(c: object) -> str:
    """What an enclosure of a condition, of one box, says: "true", "false" or "perhaps"."""
    if isinstance(c, bool):
        return "true" if c else "false"
    if isinstance(c, Cells):
        return surely(bool(c.value))
    return "perhaps" if np.all(c.true) and np.all(c.false) else surely(bool(np.all(c.true)))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (lambda q, k: q - (q - 5) == 5, "true"),
        (lambda q, k: q - k <= q + 3, "true"),
        (lambda q, k: (16 * q + 3) % 16 == 3, "true"),
        (lambda q, k: (16 * q + 3) // 16 == q, "true"),
        (lambda q, k: (k + 16 * q) % 16 == k, "true"),
        (lambda q, k: q % 64 < 32, "true"),
        (lambda q, k: (4 * (q // 3) + 1) % 2 == 0, "false"),
        (lambda q, k: 4 * (q // 3) == 4 * (k // 5) + 2, "false"),
        (lambda q, k: q // 64 == k // 64, "false"),
        (lambda q, k: (q ^ k) >= 64, "true"),
        (lambda q, k: 2 ** (q // 64) == 2, "true"),
        (lambda q, k: log2(q) == 7, "perhaps"),
        (lambda q, k: log2(k) <= 4, "true"),
        (lambda q, k: abs(k - q) >= 49, "true"),
        (lambda q, k: minimum(q, 1000) == q, "true"),
        (lambda q, k: maximum(minimum(q, 10), 3) == 10, "true"),
        (lambda q, k: select(k < 32, 1, 2) == 1, "true"),
        (lambda q, k: q <= math.inf, "true"),
        (lambda q, k: (k < 16) & negate(q < 64), "true"),
        (lambda q, k: exists(0, 5, lambda i: q // 64 == i), "true"),
        (lambda q, k: pick(q // 64, (3, 4, 5)) == 4, "true"),
    ],
)
def test_enclosures_are_sharp(condition: object, expected: str) -> None:
    assert surely(condition(*box((64, 95), (0, 15)))) == expected


def test_a_tensor_is_read_by_its_least_and_greatest_elements() -> None:
    ids = Table(NUMPY, np.repeat(np.arange(8), 16))
    q, k = box((32, 47), (64, 79))
    assert surely(read(ids, q) == 2) == "true"
    assert surely(read(ids, q) < read(ids, k)) == "true"
    plane = Table(NUMPY, np.arange(128)[:, None] // 16 == np.arange(128) // 32)
    assert surely(read(plane, q, k)) == "true"
    assert surely(read(plane, k, q)) == "false"


# ------------------------------------------------------------------ guards, width


def test_invalid_cells_count_as_false_and_read_nothing() -> None:
    q, k = cells(Q), cells(K)
    table = Table(NUMPY, np.arange(5))
    assert np.array_equal(indicator(read(table, q - k) == q - k).value, (Q - K >= 0) & (Q - K < 5))
    assert np.array_equal(indicator(negate(k % q == 0)).value, (Q > 0) & (K % np.maximum(Q, 1) != 0))
    assert np.array_equal(indicator((q > 0) & (k % q == 0)).value, (Q > 0) & (K % np.maximum(Q, 1) == 0))
    assert np.array_equal(indicator((q == 0) | (k % q == 0)).value, K % np.maximum(Q, 1) == 0)
    assert np.array_equal(
        indicator(select(q == 0, k == 3, k % q == 0)).value, np.where(Q, K % np.maximum(Q, 1) == 0, K == 3)
    )
    assert indicator(constant(5) // 0 == 1).value == 0
    assert indicator(pick(7, (1, 2)) == 1).value == 0
    assert indicator(read(Table(NUMPY, np.zeros((0,), int)), q) == 0).value == 0


def test_integers_wrap_and_boxes_know_that_they_do_not_know() -> None:
    q, k = cells(Q), cells(K)
    assert np.array_equal((q * 2**62 + k * 2**62).value, (Q + K) * np.int64(2**62))
    big, _ = box((0, 9), (0, 9))
    assert (big * 2**62).unbounded
    assert not (big * 2**40).unbounded
    assert surely(big * 2**62 > 0) == "perhaps"
    assert surely(big < 2**63 - 1) == "true"
    assert (3 ** (big * 100)).unbounded


def test_ranges_of_quantifiers_are_bounded() -> None:
    assert forall(3, 3, lambda i: constant(False)).value is True
    with pytest.raises(ValueError, match="at most 4096 items, found 5000"):
        exists(0, 5000, lambda i: constant(True))
    with pytest.raises(ValueError, match="the same in every cell"):
        exists(0, cells(Q), lambda i: constant(True))


def test_a_condition_has_no_single_truth_value() -> None:
    with pytest.raises(TypeError, match="no single truth value"):
        bool(cells(Q) < 3)


# ------------------------------------------------------------------ overflow

_Q, _K = ir.Var("q"), ir.Var("k")


def power(base: int, exponent: ir.Scalar) -> ir.Scalar:
    return ir.Binary("**", ir.Const(base), exponent)


_CUBES = power(3, ir.Binary("%", _Q, ir.Const(40)))


@pytest.mark.parametrize(
    ("condition", "cell"),
    [
        (ir.Compare("<", power(2, _K), ir.Const(9)), (range(100), range(63, 100))),
        (ir.And((ir.Compare("<", _K, ir.Const(10)), ir.Compare("<", power(2, _K), ir.Const(9)))), None),
        (ir.Or((ir.Compare(">=", _K, ir.Const(10)), ir.Compare("<", power(2, _K), ir.Const(9)))), None),
        (ir.Compare("<", ir.If(ir.Compare("<", _K, ir.Const(63)), power(2, _K), _Q), ir.Const(9)), None),
        (ir.Compare("<", ir.Binary("*", ir.Read("ids", (_Q,)), ir.Read("ids", (_K,))), _K), None),
        (ir.Compare("<", ir.Binary("*", ir.Read("ids", (_Q,)), ir.Const(2**33)), _K), (range(100), range(100))),
        (ir.Compare("<", _Q, ir.Const(2**63 - 1)), None),
        (ir.Compare("==", ir.Binary("*", _CUBES, ir.Const(3)), _K), (range(39, 100, 40), range(100))),
    ],
)  # fmt: skip
def test_overflow_is_found_in_cells_that_count(condition: ir.Scalar, cell: tuple[range, range] | None) -> None:
    found = overflowing(ir.Where(condition), {"ids": "int"}, 100)
    assert (found is None) == (cell is None)
    if found is not None and cell is not None:
        assert found[1] in cell[0]
        assert found[2] in cell[1]


def test_an_overflow_is_an_error_with_its_place() -> None:
    twice = ir.Where(ir.Const(True))
    for _ in range(70):
        twice = ir.Sum((twice, twice))
    with pytest.raises(SpatError, match="multiplicities of this pattern do not fit into 64 bits"):
        check_overflow(twice, (), 10)
    with pytest.raises(SpatError, match=r"SPAT205.*does not fit into 64 bits\n.*key 63"):
        check_overflow(ir.Where(ir.Compare("==", power(2, _K), ir.Binary("*", _Q, _Q))), (), 64)
    check_overflow(ir.Where(ir.Compare("==", power(2, _K), ir.Binary("*", _Q, _Q))), (), 63)
