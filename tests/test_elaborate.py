"""From the tree to the IR: what programs become, and which values are refused where."""

from __future__ import annotations

import pytest

from patternc import ast, ir
from patternc.elaborate import elaborate
from patternc.errors import Code, SpatError
from patternc.loader import load, open_source
from patternc.printer import text
from patternc.specialise import bind, of_head, specialise


def program(source: str, heads: int | None = 4, symbolic: bool = False, **values) -> ir.Program:
    module = load(open_source(source))
    assert not module.diagnostics, module.diagnostics
    last = [item for item in module.file.items if isinstance(item, ast.Pattern)][-1]
    given = None if symbolic else {key: _value(value) for key, value in values.items()}
    return specialise(elaborate(module.names[last.name.id], given, heads=heads), {"layer": 0})


def _value(value):
    return tuple(map(_value, value)) if isinstance(value, list | tuple) else ir.Const(value)


def shown(source: str, **values) -> str:
    return text(program(source, **values).pattern)


def made_for(source: str, n: int | None, h: int | None, **values) -> ir.Program:
    made = program(source, **values)
    made = of_head(made, h) if h is not None else made
    return bind(made, n) if n is not None else made


def code_of(source: str, n: int | None = None, h: int | None = None, **values) -> Code:
    with pytest.raises(SpatError) as caught:
        made_for(source, n, h, **values)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.span.source.text == source
    return diagnostic.code


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("pattern p(w: tokens = 3) = { q -> k : 0 <= q - k < w }", "{ q -> k : 0 <= q - k and q - k < 3 }"),
        ("pattern p() = { a -> b : a < b }", "{ q -> k : q < k }"),
        ("pattern p(w: tokens = inf) = { q -> k : abs(q - k) <= w // 2 }", "full"),
        ("pattern p(w: tokens = inf) = { q -> k : q - k < -w }", "empty"),
        ("pattern p() = { q -> k : q in (1, 2) }", "{ q -> k : q == 1 or q == 2 }"),
        ("pattern p() = { q -> k : q in 1..3 }", "{ q -> k : q >= 1 and q < 3 }"),
        ("pattern p() = { q -> k : q not in [1] }", "{ q -> k : not q == 1 }"),
        ("pattern p() = causal - diagonal", "{ q -> k : k <= q } & ~{ q -> k : q == k }"),
        ("pattern p() = full & causal | empty", "{ q -> k : k <= q }"),
        ("pattern p() = sum(causal for _i in [])", "empty"),
        ("pattern p() = match h % 2 { 0 => causal, 1 => full }", "{ q -> k : k <= q } if h % 2 == 0 else full"),
        ("pattern p() = causal if layer % 6 == 5 else full", "full"),
        ("pattern p() = { q -> k : (q < 3) == (k < 3) }", "{ q -> k : k < 3 if q < 3 else not k < 3 }"),
        ("pattern p(r: [int] = [1, 2]) = { q -> k : q % r[h % 2] == 0 }", "{ q -> k : q % [1, 2][h % 2] == 0 }"),
        ("pattern p() = { q -> k : cdiv(q, 4) == 7 ^ 2 }", "{ q -> k : -(-q // 4) == 5 }"),
        ("pattern p() = blocks(4) { q -> k : q == n - 1 }", "blocks(4) { q' -> k' : q' == n' - 1 }"),
        ("pattern p() = blocks(2) blocks(3) causal", "blocks(2) blocks(3) { q'' -> k'' : k'' <= q'' }"),
        (
            "pattern p() = { q -> k : any(q == 2 ** i for i in 0..log2(n)) }",
            "{ q -> k : any(q == 2 ** i#1 for i#1 in 0..log2(n)) }",
        ),
        ("fn half(x: tokens) = x // 2\npattern p() = { q -> k : half(q) == k }", "{ q -> k : q // 2 == k }"),
        (
            "pattern p(n2: int = n // 2) = blocks(4) { q -> k : q < n2 }",
            "blocks(4) { q' -> k' : q' < n // 2 }",
        ),
        (
            "pattern p(r: [[int]] = [[1], [2, 3]]) = { q -> k : any(q == i for i in r[h % 2]) }",
            "{ q -> k : [q == 1, q == 2 or q == 3][h % 2] }",
        ),
        (
            "pattern p() over (y: 4, x: 5) = { q -> k : q.y == k.y and q.x == 0 }",
            "{ q -> k : q // 5 == k // 5 and q % 5 == 0 }",
        ),
    ],
)  # fmt: skip
def test_meaning(source, expected):
    assert shown(source) == expected


def test_a_where_binding_is_read_in_the_space_of_its_use():
    source = "pattern p() = blocks(4) a & a where a = { q -> k : q < n - 1 }"
    assert shown(source) == "blocks(4) { q' -> k' : q' < n' - 1 } & { q -> k : q < n - 1 }"


def test_bindings_are_hygienic():
    source = "pattern p() = union({ q -> k : w == i } for i in [1, 2]) where w = q\ni = 7".replace("\ni", "\n  i")
    assert shown(source) == "{ q -> k : q == 1 } | { q -> k : q == 2 }"


def test_symbolic_parameters_stay_open():
    made = program("pattern p(w: tokens = 4, r: [int] = [1]) = { q -> k : q - k < w and q % r[0] == 0 }", symbolic=True)
    assert text(made.pattern) == "{ q -> k : q - k < w and q % r[0] == 0 }"


def test_tensors_keep_the_names_of_the_caller():
    source = (
        "pattern inner(doc: int[batch, n]) = { q -> k : doc[q] == doc[k] }\n"
        "pattern p(ids: int[batch, n], s: float[heads]) = inner(ids) & { q -> k : s[h] > 0.5 }"
    )
    made = program(source)
    assert text(made).splitlines() == [
        "program p",
        "  tensor ids: int[batch, n]",
        "  tensor s: float[4]",
        "  { q -> k : ids[q] == ids[k] } & { q -> k : s[h] > 0.5 }",
    ]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("pattern p(w: int = 0) = { q -> k : q % w == 0 }", Code.DIVISION_BY_ZERO),
        ("pattern p(w: int = 0) = { q -> k : 5 // w == q }", Code.DIVISION_BY_ZERO),
        ("pattern p(r: [int] = [1, 2]) = { q -> k : q == r[2] }", Code.INDEX_OUT_OF_RANGE),
        ("pattern p(r: [int] = [1, 2]) = { q -> k : q == r[-1] }", Code.INDEX_OUT_OF_RANGE),
        ("pattern p() = match h % 3 { 0 => causal, 1 => full }", Code.MATCH_GAP),
        ("pattern p() = match layer { 0 => causal, 1..9 => full }", Code.MATCH_GAP),
        ("pattern p() = match n { 4 => causal }", Code.MATCH_GAP),
        ("pattern p(w: tokens = inf) = { q -> k : q % w == 0 }", Code.BAD_INF),
        ("pattern p(w: tokens = inf) = { q -> k : q < w - w }", Code.BAD_INF),
        ("pattern p(w: tokens = inf) = { q -> k : q * w < 4 }", Code.BAD_INF),
        ("pattern f(w: tokens) = { q -> k : q < w }\npattern p() = f(0 - 3)", Code.NEGATIVE_TOKENS),
        ("pattern p() = { q -> k : q == 2 ** 63 }", Code.INTEGER_OVERFLOW),
        ("pattern p() = { q -> k : q == 2 ** (2 ** 60) }", Code.INTEGER_OVERFLOW),
        ("pattern p() = { q -> k : q == 9_000_000_000_000_000_000 * 2 }", Code.INTEGER_OVERFLOW),
        ("pattern p(e: int = 1) = { q -> k : q == 2 ** -e }", Code.NEGATIVE_EXPONENT),
        ("pattern p(e: int = 0) = { q -> k : q == log2(e) }", Code.LOG_OF_NONPOSITIVE),
        ("pattern p(b: tokens = 0) = blocks(b) causal", Code.BAD_BLOCK_SIZE),
        ("pattern p(b: tokens = inf) = cover(b) causal", Code.BAD_BLOCK_SIZE),
        ("pattern p(c: int = -1) = top(c, by = q - k)", Code.BAD_COUNT),
        ("pattern p(c: float = 1.5) = top(c, by = q - k)", Code.BAD_COUNT),
        ("pattern p() = { q -> k : any(q == i for i in 0..1_000_000_000_000) }", Code.TOO_MANY_ITEMS),
        (
            "pattern p() = { q -> k : any(any(q == i * j for i in 0..4000) for j in 0..4000) }",
            Code.PROGRAM_TOO_LARGE,
        ),
    ],
)
def test_values_that_are_refused(source, code):
    assert code_of(source) == code


def test_values_that_are_refused_at_a_head_or_length():
    listed = "pattern p(r: [int] = [1, 0]) = { q -> k : q % r[h] == 0 }"
    assert code_of(listed, h=1) == Code.DIVISION_BY_ZERO
    assert code_of(listed, h=2) == Code.INDEX_OUT_OF_RANGE
    assert code_of("pattern p() = { q -> k : q < log2(n - 3) }", n=3) == Code.LOG_OF_NONPOSITIVE
    assert code_of("pattern p() = blocks(n - 4) causal", n=4) == Code.BAD_BLOCK_SIZE
    assert code_of("pattern p() = { q -> k : any(q == i for i in 0..n) }", n=5000) == Code.TOO_MANY_ITEMS
    assert code_of("pattern p() over (y: 2, x: 3) = { q -> k : q.y == k.y }", n=7) == Code.GRID_LENGTH


def test_a_condition_that_fails_guards_its_right_hand_side():
    assert shown("pattern p(w: int = 0) = { q -> k : w > 0 and q % w == 0 }") == "empty"
    assert shown("pattern p(w: int = 0) = { q -> k : w == 0 or q % w == 0 }") == "full"
    assert shown("pattern p(w: int = 0) = { q -> k : (q % w if w > 0 else q) == 0 }") == "{ q -> k : q == 0 }"
    guarded = program("pattern p(r: [int] = [1, 0]) = { q -> k : r[h] > 0 and q % r[h] == 0 }")
    assert text(of_head(guarded, 1).pattern) == "empty"


def test_what_may_have_no_value_is_read_before_the_condition_that_settles_it():
    assert shown("pattern p() = { q -> k : q < 3 and False }") == "empty"
    listed = "pattern p(r: [int] = [1]) = { q -> k : r[q] == k and False or q < 3 } & empty"
    assert shown(listed) == "{ q -> k : [1][q] == k and False or q < 3 } & empty"


def test_binding_a_length_unrolls_and_computes():
    butterfly = program("pattern p() = blocks(4) { q -> k : any(q ^ k == 2 ** i for i in 0..log2(n)) }")
    bound = bind(butterfly, 30)
    assert text(bound.pattern) == ("blocks(4) { q' -> k' : q' ^ k' == 1 or q' ^ k' == 2 or q' ^ k' == 4 }")
    family = program("pattern p() = union(blocks(2 ** i) diagonal for i in 0..log2(n))")
    assert text(bind(family, 4).pattern) == "blocks(1) { q' -> k' : q' == k' } | blocks(2) { q' -> k' : q' == k' }"


def test_deep_chains_of_bindings_end_in_a_diagnostic():
    bindings = "\n".join(f"        a{i} = a{i - 1} + 1" for i in range(1, 400))
    source = f"pattern p() = {{ q -> k : a399 == k }}\n  where a0 = q\n{bindings}"
    assert code_of(source) == Code.TOO_DEEP


def test_doubling_bindings_end_in_a_diagnostic():
    bindings = "\n".join(f"        a{i} = a{i - 1} + a{i - 1}" for i in range(1, 40))
    source = f"pattern p() = {{ q -> k : a39 == k }}\n  where a0 = q\n{bindings}"
    assert code_of(source) == Code.PROGRAM_TOO_LARGE


def test_long_chains_of_calls_end_in_a_diagnostic():
    fns = "\n".join(f"fn f{i}(x: int) = f{i - 1}(x) + 1" for i in range(1, 120))
    source = f"fn f0(x: int) = x\n{fns}\npattern p() = {{ q -> k : f119(3) == q }}"
    assert code_of(source) == Code.TOO_DEEP


def test_inf_survives_lists_chosen_by_head():
    source = "pattern p(w: [tokens] = [4, inf]) = { q -> k : q - k < w[h % 2] * 2 }"
    assert text(of_head(program(source), 0).pattern) == "{ q -> k : q - k < 8 }"
    assert text(of_head(program(source), 1).pattern) == "full"
