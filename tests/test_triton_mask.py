"""Printed masks, run in Triton's interpreter, against a plain evaluation cell by cell; and how they read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fifteen
import numpy as np
import pytest
import torch
from brute import Brute, bags, conditions, sets, tensors
from drawn import examples
from hypothesis import given, note, settings
from hypothesis import strategies as st
from triton_interpreter import Triton

import patternc
from patternc import ir
from patternc.analysis.arrays import NUMPY
from patternc.analysis.evaluate import Meaning
from patternc.analysis.overflow import overflowing
from patternc.analysis.tables import Table
from patternc.backends import triton_mask_tables
from patternc.backends.triton_mask import MaskSource, UnsupportedPatternError, mask_function
from patternc.backends.triton_mask_tables import MaskArguments
from patternc.backends.triton_mask_tables import mask_arguments as arguments_of
from patternc.backends.triton_masks import relations_of
from patternc.rewrite import walk
from patternc.specialise import specialise

N = ir.Var("n")
DECLARED = (
    ir.Tensor("ids", "int", (N,), False),
    ir.Tensor("flags", "bool", (N,), False),
    ir.Tensor("score", "float", (N,), False),
    ir.Tensor("table", "int", (ir.Const(3), N), False),
    ir.Tensor("mask", "bool", (N, N), False),
)
"""The tensors of brute.py."""


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Triton]:
    pytest.importorskip("triton")
    process = Triton(interpret=True)
    yield process
    process.close()


@pytest.fixture(scope="module")
def compiler() -> Iterator[Triton]:
    pytest.importorskip("triton")
    process = Triton(interpret=False)
    yield process
    process.close()


def computed(
    interpreter: Triton,
    source: MaskSource,
    n: int,
    n_q: int,
    h: int,
    arrays: dict[str, np.ndarray],
    turned: bool = False,
) -> np.ndarray:
    """M of one head, by the printed function, from tensors without a batch axis."""
    meaning = meaning_of(source, n, n_q, h, arrays)
    given = {name: torch.from_numpy(array) for name, array in arrays.items()}
    made = mask_arguments([source], [[meaning]], n, n_q, given)
    pointers = {a.name: memory(made.tensors[a.name], a.batched) for a in source.arguments if a.kind == "tensor"}
    return interpreter.mask(source, pointers, made.numbers[0], n, n_q, h, turned)


def mask_arguments(
    sources: list[MaskSource], meanings: list[list[Meaning]], n: int, n_q: int, tensors: dict[str, torch.Tensor]
) -> MaskArguments:
    pairs = zip(sources, meanings, strict=True)
    relations = [[relations_of(source, m, n, n_q) for m in rows] for source, rows in pairs]
    return arguments_of(sources, relations, tensors=tensors, device="cpu")


def meaning_of(source: MaskSource, n: int, n_q: int, h: int, arrays: dict[str, np.ndarray]) -> Meaning:
    is_open = any(isinstance(node, ir.Var) and node.name == "n" for node in walk(source.pattern))
    pattern = specialise(source.pattern, {"n": n}) if is_open else source.pattern
    tables = {name: Table(NUMPY, array) for name, array in arrays.items()}
    return Meaning(pattern, n=n, n_q=n_q, h=h, tables=tables, xp=NUMPY)


def memory(tensor: torch.Tensor, batched: bool, row: int = 0) -> np.ndarray:
    """All elements from the first one on of a batch row, as they lie there."""
    start = tensor.storage_offset() + (row % tensor.shape[0] * tensor.stride(0) if batched else 0)
    count = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.as_strided((count - start,), (1,), start).numpy()


# ------------------------------------------------------------------ drawn patterns


@settings(max_examples=examples(150))
@given(
    bags(), st.integers(1, 40), st.integers(0, 5), st.integers(0, 3), st.sampled_from([0, 40, 1 << 24]), st.booleans()
)
def test_drawn_patterns(
    interpreter: Triton, pattern: ir.Pattern, n: int, seed: int, h: int, longest: int, turned: bool
) -> None:
    compare(interpreter, pattern, n, seed, h, longest, turned)


@settings(max_examples=examples(300))
@given(st.builds(ir.Where, conditions(0)), st.integers(1, 24), st.integers(0, 5), st.sampled_from([24, 1 << 33]))
def test_drawn_conditions(interpreter: Triton, pattern: ir.Pattern, n: int, seed: int, longest: int) -> None:
    compare(interpreter, pattern, n, seed, 0, longest, False)


def compare(interpreter: Triton, pattern: ir.Pattern, n: int, seed: int, h: int, longest: int, turned: bool) -> None:
    n_q = 1 + seed * (n - 1) // 5
    arrays = tensors(n, seed)
    try:
        source = mask_function(pattern, "mask", DECLARED, max(n, longest))
    except UnsupportedPatternError as error:
        note(str(error))
        return
    note(source.text)
    if overflowing(pattern, {t.name: t.element for t in DECLARED}, n) is not None:
        return  # no plan is made of these
    with np.errstate(all="ignore"):
        found = computed(interpreter, source, n, n_q, h, arrays, turned)
    brute = Brute(n, h, arrays)
    expected = [[brute.cell(pattern, q, k) for k in range(n)] for q in range(n - n_q, n)]
    np.testing.assert_array_equal(found, expected)


# ------------------------------------------------------------------ programs


def head_pattern(program: ir.Program, h: int) -> ir.Pattern:
    return specialise(program.pattern, {"h": h})


@pytest.mark.parametrize("case", fifteen.ALL, ids=str)
def test_the_fifteen(interpreter: Triton, case: fifteen.Case) -> None:
    """Every head and batch row, with fewer queries than keys."""
    n, n_q = 72, 45
    program = case.compiled().program
    arrays = fifteen.tensors_of(case, n)
    expected = fifteen.formula(case, n, n_q)
    for h in range(case.heads):
        source = mask_function(head_pattern(program, h), "mask", program.tensors)
        assert not source.wide
        for b in range(2 if arrays else 1):
            rows = {name: array[b] for name, array in arrays.items()}
            found = computed(interpreter, unbatched(source), n, n_q, h, rows, turned=h % 2 == 1)
            np.testing.assert_array_equal(found, expected[b, h] if arrays else expected[h])


def unbatched(source: MaskSource) -> MaskSource:
    """The same function, of tensors of one batch row."""
    tensors = tuple(replace(t, batched=False) for t in source.tensors)
    arguments = tuple(replace(a, batched=a.batched and a.name.startswith("set")) for a in source.arguments)
    return replace(source, tensors=tensors, arguments=arguments)


def test_heads_and_batch_rows_share_one_table(interpreter: Triton) -> None:
    """Sources of one text: their covers and selections lie in one tensor, a row for each batch row."""
    program = patternc.compile(fifteen.EXAMPLES / "adaptive.spat", heads=2, block=4, keep=3).program
    case, n = fifteen.Case("adaptive", 2, 0, {"block": 4, "keep": 3}), 50
    arrays = fifteen.tensors_of(case, n)
    sources = [mask_function(head_pattern(program, h), "mask", program.tensors) for h in range(2)]
    assert sources[0].text == sources[1].text
    meanings = [
        [meaning_of(s, n, n, h, {"score": arrays["score"][b]}) for b in range(2)] for h, s in enumerate(sources)
    ]
    made = mask_arguments(sources, meanings, n, n, {})
    expected = fifteen.formula(case, n)
    for b, h in np.ndindex(2, 2):
        pointers = {"set0": memory(made.tensors["set0"], True, b)}
        found = interpreter.mask(sources[h], pointers, made.numbers[h], n, n, h)
        np.testing.assert_array_equal(found, expected[b, h])


@settings(max_examples=examples(50))
@given(sets(0, 2), st.integers(1, 40), st.integers(0, 5), st.integers(0, 3))
def test_lists_of_runs_in_place_of_bitmaps(interpreter: Triton, pattern: ir.Pattern, n: int, seed: int, h: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_mask_tables, "MOST_BITS", 0)
        compare(interpreter, ir.Top(ir.Const(3), ir.Var("k"), pattern), n, seed, h, 40, False)
        compare(interpreter, ir.Blocks(ir.Const(2), ir.Cover(ir.Const(3), pattern)), n, seed, h, 40, False)


# ------------------------------------------------------------------ text


LOOPS = ir.Where(
    ir.Quantified(
        "any", "i#1", ir.Const(0), ir.Unary("log2", N),
        ir.Quantified(
            "all", "j#2", ir.Const(1), ir.Const(4),
            ir.Compare(
                "!=",
                ir.Binary("%", ir.Binary("^", ir.Var("q"), ir.Var("k")), ir.Binary("-", ir.Var("k"), ir.Var("j#2"))),
                ir.Read("ids", (ir.Binary("+", ir.Var("k"), ir.Var("i#1")),)),
            ),
        ),
    )
)  # fmt: skip
"""Nested loops over a condition that often has no value."""
OPEN_BLOCKS = ir.Blocks(
    ir.Binary("+", ir.Binary("//", N, ir.Const(7)), ir.Const(1)),
    ir.Family(
        "sum", "i#1", ir.Const(0), ir.Var("n", 1),
        ir.Where(ir.Compare("==", ir.Binary("+", ir.Var("k", 1), ir.Var("i#1")), ir.Var("q", 1))),
    ),
)  # fmt: skip
"""Blocks whose size, and a sum whose range, hang on n."""


@pytest.mark.parametrize("pattern", [LOOPS, OPEN_BLOCKS], ids=["loops", "blocks"])
@pytest.mark.parametrize("n", [1, 2, 9, 40])
def test_what_hangs_on_n(interpreter: Triton, pattern: ir.Pattern, n: int) -> None:
    source = mask_function(pattern, "mask", DECLARED)
    assert "for step in range(" in source.text
    arrays = tensors(n, 1)
    brute = Brute(n, 0, arrays)
    bound = specialise(pattern, {"n": n})
    expected = [[brute.cell(bound, q, k) for k in range(n)] for q in range(n)]
    np.testing.assert_array_equal(computed(interpreter, source, n, n, 0, arrays), expected)


def example(name: str, h: int = 0, heads: int = 2, **params: object) -> tuple[ir.Pattern, tuple[ir.Tensor, ...]]:
    program = patternc.compile(fifteen.EXAMPLES / f"{name}.spat", heads=heads, **params).program
    return head_pattern(program, h), program.tensors


def window(w: int) -> ir.Pattern:
    return example("local", window=w)[0]


def test_windows_of_any_width_are_one_function() -> None:
    one, other = (mask_function(window(w), "mask") for w in (16, 4096))
    assert one.text == other.text
    assert (one.numbers, other.numbers) == ((16,), (4096,))


def test_samples_of_all_heads_are_one_function() -> None:
    one, other = (mask_function(example("bigbird", h)[0], "mask").text for h in range(2))
    assert one == other


def test_integers_are_as_wide_as_they_must_be() -> None:
    assert not mask_function(window(5), "mask").wide
    assert mask_function(window(1 << 40), "mask").wide
    assert mask_function(window(5), "mask", longest=1 << 32).wide
    square = ir.Where(ir.Compare("<", ir.Binary("*", ir.Var("q"), ir.Var("q")), N))
    assert mask_function(square, "mask").wide
    assert not mask_function(square, "mask", longest=1 << 15).wide


def too_often(times: int) -> ir.Pattern:
    pattern: ir.Pattern = ir.Sum((ir.Where(ir.Compare("<", ir.Var("q"), ir.Var("k"))),) * 2)
    for _ in range(times):
        pattern = ir.Product((pattern, pattern))
    return pattern


MANY_ARMS = ir.Union(
    tuple(ir.Where(ir.Compare("==", ir.Binary("%", ir.Var("q"), ir.Const(i)), ir.Var("k"))) for i in range(3, 900))
)
SCORE = ir.Read("score", (ir.Var("q"),))
DRAWN_IN_A_LOOP = ir.Family(
    "union", "i#1", ir.Const(0), N, ir.Cover(ir.Const(4), ir.Where(ir.Compare("==", ir.Var("q"), ir.Var("i#1"))))
)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (ir.Where(ir.Compare("<", ir.Var("q"), ir.Param("w", "int"))), "a parameter has no value"),
        (ir.Where(ir.Compare("<", ir.Var("q"), ir.Var("heads"))), "`heads` has no value"),
        (ir.Where(ir.Compare("<", ir.Binary("%", SCORE, SCORE), SCORE)), "`%` of floats"),
        (too_often(5), "exceed 2^31"),
        (MANY_ARMS, "more than 8,000 characters"),
        (DRAWN_IN_A_LOOP, "range hangs on n"),
    ],
)
def test_what_cannot_be_printed_is_refused(pattern: ir.Pattern, reason: str) -> None:
    with pytest.raises(UnsupportedPatternError, match=reason.replace("^", r"\^")):
        mask_function(pattern, "mask", DECLARED)


def test_no_name_is_given_twice() -> None:
    """Of three values in a row the second of one tensor would have the name of the first of another."""
    reads = [ir.Read(name, (place,)) for name, place in (("x", ir.Var("q")), ("x", ir.Var("k")), ("x_2", ir.Var("k")))]
    pattern = ir.Where(ir.And((*reads, reads[1])))
    source = mask_function(pattern, "mask", [ir.Tensor(name, "bool", (N,), False) for name in ("x", "x_2")])
    given = [line.split(" = ")[0] for line in source.text.splitlines() if " = " in line]
    assert len(given) == len(set(given))


def test_names_of_tensors_stay_names() -> None:
    """Two tensors whose names differ in letters beyond ASCII, and one with the name of another's argument."""
    names = ("größe", "gröse", "size0_doc", "doc")
    reads = [ir.Read(name, (ir.Var("k"),)) for name in names]
    pattern = ir.Where(ir.Or(tuple(reads)))
    source = mask_function(pattern, "mask", [ir.Tensor(name, "bool", (N,), False) for name in names])
    assert source.text.isascii()
    assert len({a.name for a in source.arguments}) == 3 * len(names)


GOLDENS = {
    "window": lambda: (window(4096), ()),
    "dilated": lambda: example("longformer", 7, 8),
    "longnet": lambda: example("longnet", 1, 4),
    "documents": lambda: example("documents"),
    "bigbird": lambda: example("bigbird"),
    "butterfly": lambda: example("butterfly"),
    "neighborhood": lambda: example("neighborhood", H=64, W=48),
    "loops": lambda: (LOOPS, DECLARED),
}
ELEMENTS = {"int": "i64", "bool": "u8", "float": "fp32"}


@pytest.mark.parametrize("name", GOLDENS)
def test_printed_functions(name: str, golden: Callable[[Path, str], None]) -> None:
    golden(Path(__file__).parent / "cases" / "triton" / f"{name}.golden", mask_function(*printed(name)).text)


def printed(name: str) -> tuple[ir.Pattern, str, tuple[ir.Tensor, ...]]:
    pattern, declared = GOLDENS[name]()
    return pattern, f"mask_{name}", declared


@settings(max_examples=examples(40))
@given(bags(), st.sampled_from([1 << 10, 1 << 40]))
def test_drawn_patterns_have_types_on_a_gpu(compiler: Triton, pattern: ir.Pattern, longest: int) -> None:
    """The interpreter lets pass what has the wrong type."""
    try:
        source = mask_function(pattern, "mask", DECLARED, longest)
    except UnsupportedPatternError:
        return
    note(source.text)
    assert "tt.func" in compiler.typed(source, elements_of(source))


def elements_of(source: MaskSource) -> dict[str, str]:
    """The types of the elements of the tensors that a function is given."""
    kinds = {f"table_{t.name}": ELEMENTS[t.element] for t in source.tensors}
    return {a.name: kinds.get(a.name, "i32") for a in source.arguments if a.kind == "tensor"}


@pytest.mark.parametrize("name", ["window", "longnet", "bigbird", "butterfly", "loops"])
def test_they_compile_for_a_gpu(compiler: Triton, name: str) -> None:
    source = mask_function(*printed(name))
    text = compiler.compiled(source, elements_of(source))
    if name == "window":
        cells = [line for line in text.splitlines() if "128x64" in line and "arith." in line]
        assert any("subi" in line and "xi32" in line for line in cells)
        assert not any("arith.subi" in line and "xi64" in line for line in cells)
