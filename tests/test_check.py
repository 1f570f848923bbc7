"""The checker: what it says to each mistake, that it is silent on sound programs, and that nothing makes it raise."""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn import Program, examples
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import mutants, programs

from patternc import ast
from patternc.builtins import NAMES
from patternc.checker import check
from patternc.errors import Code, Diagnostic, render
from patternc.loader import Definition, Module, load, open_source
from patternc.parser import parse
from patternc.source import Source

HERE = Path(__file__).parent
ERRORS = sorted((HERE / "errors" / "check").glob("*.spat"))
EXAMPLES = sorted((HERE.parent / "examples").glob("*.spat"))

ELSEWHERE = {Code.UNKNOWN_PATTERN, Code.NO_PATTERN}
"""Codes of names and types that are about calls from Python, not about texts."""


def judged(text: str, name: str = "<text>") -> list[Diagnostic]:
    """All that is said about a text."""
    module = load(Source(name, text))
    return [*module.diagnostics, *check(module)]


def codes(text: str) -> list[Code]:
    return [diagnostic.code for diagnostic in judged(text)]


# ------------------------------------------------------------------ messages


@pytest.mark.parametrize("path", ERRORS, ids=lambda path: path.stem)
def test_messages(path: Path, golden: Callable[[Path, str], None]) -> None:
    found = judged(path.read_text(encoding="utf-8"), path.name)
    golden(path.with_suffix(".stderr"), render(found) + "\n")


def test_every_code_has_a_message() -> None:
    pinned = {code for path in ERRORS for code in re.findall(r"\[(SPAT\d+)\]", path.with_suffix(".stderr").read_text())}
    wanted = {code for code in Code if code.startswith("SPAT1")} - ELSEWHERE | {Code.UNUSED_NAME}
    assert wanted <= pinned


@pytest.mark.parametrize("path", ERRORS, ids=lambda path: path.stem)
def test_what_is_called_fine_is_fine(path: Path) -> None:
    """Lines that declare `fine` or `allowed` stand in the files of mistakes to show what is none."""
    text = path.read_text(encoding="utf-8")
    spans = [d.span for d in judged(text) if d.severity == "error"]
    for fine in re.finditer(r"^(?:pattern|fn) (?:fine|allowed)\b.*$", text, re.MULTILINE):
        assert not [span.text for span in spans if fine.start() <= span.start < fine.end()]


# ------------------------------------------------------------------ sound programs


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_fifteen_programs_are_sound(path: Path) -> None:
    module = load(open_source(str(path)))
    assert [*module.diagnostics, *check(module)] == []


@pytest.mark.parametrize(
    "text",
    [
        # units
        "pattern p(w: tokens) = { q -> k : q - w < k * 2 and q // w == k // 3 and q % w < w and 5 - k < 2 ** w }",
        "pattern p(w: tokens, b: tokens) = blocks(b) { q -> k : q - k < w // b and q < n and h + q < layer }",
        "pattern p(w: int) = blocks(w) { q -> k : q * w < k } & blocks(w) blocks(w) causal & cover(w) diagonal",
        "pattern p(w: tokens) = blocks(w) near(n // 2)\npattern near(w: tokens) = { q -> k : q - k < w }",
        "fn d(a: tokens, b: tokens) = abs(a - b)\npattern p(w: blocks) = blocks(4) { q -> k : d(q, k) < w }",
        "fn f(w: tokens) = w // 2\npattern p(b: tokens) = blocks(b) { q -> k : q < f(4) }",
        # where names are read in the space of their use
        "pattern p(b: tokens) = near & blocks(b) near\n  where near = { q -> k : q - k < last }\n        last = n - 1",
        "pattern p() = { i -> j : old and i < j }\n  where old = q < 4 or k < 4",
        # values
        "pattern p(ls: [(tokens, [int])] = [(inf, [1]), (3, [])]) = { q -> k : any(q < w and k in l for w, l in ls) }",
        "pattern p(t: (int, bool) = (1, True)) = { q -> k : q < t[0] and t[1] }",
        "pattern p(f: bool = False) = { q -> k : f == (q < k) and (q < 4) != f } if f else causal",
        "pattern p(w: [tokens]) = { q -> k : q < (inf if h == 0 else w[h % len(w)]) }",
        "pattern p() = { q -> k : k < match h { 0 => 1, else => n } }",
        "pattern p(s: float = 1) = top(s, 0.5 * k - abs(q - k), full) & sample(2, causal, 3)",
        "pattern p() = union(causal, diagonal) & sum(causal, full)",
        "pattern p() = { q -> k : any(q < k, k < 3) and all(x < q for x in (1, 2)) }",
        # patterns and bags
        "pattern p() = support(causal + full) | match h { 0..heads // 2 => causal(), else => empty }",
        "pattern p() = (causal + full) & (full + full if h == 0 else causal) & blocks(2) (causal + full)",
        # tensors
        "pattern p(d: int[batch, n], l: int[batch]) = inner(d = d, l = l) & { q -> k : l < q }\n"
        "pattern inner(d: int[n], l: int[batch]) = { q -> k : d[q] == l }",
        "pattern p(b: tokens, s: float[cdiv(n, b), cdiv(n, b)]) = blocks(b) top(2, by = s[q, k])",
        "fn same(a: int, b: int) = a == b\npattern p(d: int[batch, n]) = { q -> k : same(d[q], d[k]) }",
        # checks
        "check causal & full at n = 2 ** 3, heads = 4, layer = 0 : causal, row <= 4, density < 0.5, equals(causal())",
        "pattern p(d: int[n], w: int = 2) = { q -> k : d[q] < w }\ncheck p : set, symmetric\ncheck p(w = 3) : nonempty",
        # names
        'import "std/local"\nimport "std/longformer" as lf\ncheck local | lf.longformer(w = 3) : nonempty',
        "pattern a() = full\npattern p() = a\n  where a = causal",
    ],
)
def test_sound(text: str) -> None:
    assert render(judged(text)) == ""


@settings(max_examples=examples(500))
@given(programs())
def test_drawn_programs_have_no_errors(program: Program) -> None:
    assert [d for d in judged(program.text) if d.severity == "error"] == []


# ------------------------------------------------------------------ what follows from a mistake


def test_a_mistake_is_told_once() -> None:
    assert codes("pattern p(w: tokens) = { q -> k : widow < w or widow + 3 == w * widow or not widow }") == [
        Code.UNKNOWN_NAME
    ]


def test_names_lost_by_a_syntax_error_are_not_missed() -> None:
    text = "pattern near(w: tokens = 4 = { q -> k : q - k < w }\npattern p() = near(3) | naer"
    assert [code for code in codes(text) if code.startswith("SPAT1")] == [Code.UNKNOWN_NAME]


def test_names_lost_by_a_failed_import_are_not_missed() -> None:
    assert codes('import "std/nothing"\npattern p() = hub | causal') == [Code.FILE_NOT_FOUND]


def test_mistakes_of_an_imported_file(tmp_path: Path) -> None:
    (tmp_path / "deep.spat").write_text("pattern deep() = causl\n")
    (tmp_path / "inner.spat").write_text('import "deep.spat"\npattern inner(w: tokens) = deep & full\n')
    (tmp_path / "outer.spat").write_text('import "inner.spat" as lib\npattern p() = lib.inner(4)\n')
    found = check(load(open_source(str(tmp_path / "outer.spat"))))
    assert [d.code for d in found] == [Code.UNKNOWN_NAME, Code.IMPORT_BROKEN]
    assert Path(found[0].span.source.name).name == "deep.spat"


def test_warnings_of_an_imported_file_are_its_own_affair(tmp_path: Path) -> None:
    (tmp_path / "inner.spat").write_text("pattern inner(w: tokens = 1) = full + full\n")
    (tmp_path / "outer.spat").write_text('import "inner.spat"\npattern p() = inner | full\n')
    assert [d.code for d in check(load(open_source(str(tmp_path / "outer.spat"))))] == [Code.BAG_NOT_ALLOWED]


# ------------------------------------------------------------------ nothing makes it raise

NESTS = {
    "parentheses": lambda n: f"{{ q -> k : {'(' * n}q{')' * n} < k }}",
    "sums": lambda n: f"{{ q -> k : {'1 + ' * n}q < k }}",
    "negations": lambda n: f"{{ q -> k : {'not ' * n}(q < k) }}",
    "calls": lambda n: f"{{ q -> k : {'abs(' * n}q{')' * n} < k }}",
    "functions": lambda n: f"{{ q -> k : {'f(' * n}q{')' * n} < k }}",
    "patterns": lambda n: f"{'~' * n}causal",
    "blocks": lambda n: f"{'blocks(1) ' * n}causal",
    "choices": lambda n: f"{'causal if h == 0 else ' * n}full",
    "matches": lambda n: f"{'match h { else => ' * n}full{' }' * n}",
    "lists": lambda n: f"{{ q -> k : len({'[' * n}1{']' * n}) < k }}",
    "comprehensions": lambda n: f"{{ q -> k : {'any(' * n}q < k{' for _ in 0..2)' * n} }}",
    "comparisons": lambda n: f"{{ q -> k : {'(' * n}q < k{') == True' * n} }}",
    "tops": lambda n: f"{'top(1, by = k, of = ' * n}causal{')' * n}",
    "indices": lambda n: f"{{ q -> k : {'[1][' * n}0{']' * n} < k }}",
}


@pytest.mark.parametrize("nest", NESTS.values(), ids=NESTS)
def test_the_deepest_trees(nest: Callable[[int], str]) -> None:
    """At the limit of the parser, with `where` names and callers that are as deep."""
    head = "fn f(x: int) = x\n"
    depths = range(40, 201)
    depth = depths[bisect_left(depths, True, key=lambda n: bool(parse(Source("", f"pattern p() = {nest(n)}"))[1])) - 1]
    text = nest(depth)
    judged(f"{head}pattern p() = {text}\npattern q_() = b & p\n  where b = {text}\n        c = b & {nest(depth - 2)}")


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"pattern p{i}() = p{i + 1} & p{i + 2}" for i in range(5000)),
        "pattern p() = x0\n  where " + "\n".join(f"x{i} = x{i + 1} & blocks(2) x{i + 2}" for i in range(5000)),
        "\n".join(f"pattern p{i}(x{i}: int = {i}) = {{ q -> k : q < y{i} + z{i} * w }}" for i in range(2500)),
        "pattern p() = { q -> k : q in [" + ", ".join(["1", "w", "inf"] * 8_000) + "] }",
        "pattern p(" + ", ".join(f"x{i}: tokens = n" for i in range(10_000)) + ") = causal",
    ],
    ids=["chain", "bindings", "unknown names", "list", "parameters"],
)
def test_large_files_take_no_more_than_seconds(text: str) -> None:
    module = load(Source("<text>", text))
    start = time.thread_time()
    check(module)
    assert time.thread_time() - start < 5


TEXTS = [path.read_text(encoding="utf-8") for path in (*EXAMPLES, *ERRORS)]


@settings(max_examples=examples(500))
@given(mutants(TEXTS))
def test_mutated_texts(data: bytes) -> None:
    text = data.decode(errors="replace")
    assert_sane(judged(text), text)


def assert_sane(found: list[Diagnostic], text: str) -> None:
    assert all(0 <= d.span.start <= d.span.end <= len(d.span.source.text) for d in found)
    assert all(d.message and not d.message.endswith(".") for d in found)
    render(found)


NAME = st.sampled_from([*sorted(NAMES), "a", "b", "p", "f", "w", "i", "nothing"]).map(ast.Name)
OPERATORS = st.sampled_from(["+", "-", "*", "//", "%", "**", "^", "&", "|", "and", "or"])
RELATIONS = st.sampled_from(["<", "<=", ">", ">=", "==", "!=", "in"]) | st.just("not in")


def _deeper(inner: st.SearchStrategy[ast.Expr]) -> st.SearchStrategy[ast.Expr]:
    several = st.lists(inner, max_size=3).map(tuple)
    ranges = st.builds(ast.Range, inner, inner)
    arms = st.builds(ast.Arm, st.none() | inner | ranges, inner)
    gathering = st.sampled_from(["any", "all", "union", "sum", "f"]).map(ast.Name)
    return st.one_of(
        st.builds(ast.Unary, st.sampled_from(["-", "~", "not"]), inner),
        st.builds(ast.Binary, OPERATORS, inner, inner),
        st.builds(ast.Compare, inner, st.lists(st.tuples(RELATIONS, inner), min_size=1, max_size=3).map(tuple)),
        st.builds(ast.Compare, inner, st.tuples(st.tuples(st.just("in"), ranges))),
        st.builds(ast.IfElse, inner, inner, inner),
        st.builds(ast.Match, inner, st.lists(arms, min_size=1, max_size=3).map(tuple)),
        st.builds(ast.Call, NAME, several, st.lists(st.builds(ast.Keyword, NAME, inner), max_size=2).map(tuple)),
        st.builds(
            ast.Comprehension, gathering, inner, st.lists(NAME, min_size=1, max_size=3).map(tuple), inner | ranges
        ),
        st.builds(ast.Index, inner, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(ast.Attribute, inner, NAME),
        st.builds(ast.Tuple, several),
        st.builds(ast.List, several),
        st.builds(ast.SetBuilder, NAME, NAME, inner),
        st.builds(ast.Blocks, inner, inner),
        st.builds(ast.Cover, inner, inner),
    )


LEAVES = st.one_of(
    NAME,
    st.integers(0, 9).map(ast.Number),
    st.floats(0, 2).map(ast.Number),
    st.just(ast.Inf()),
    st.booleans().map(ast.Bool),
)
EXPRESSIONS = st.recursive(LEAVES, _deeper, max_leaves=12)
TYPE_NAMES = st.sampled_from(["int", "float", "bool", "tokens", "blocks"]).map(ast.TypeName)
TYPES = st.recursive(
    TYPE_NAMES | st.builds(ast.TensorType, TYPE_NAMES, st.lists(EXPRESSIONS, min_size=1, max_size=3).map(tuple)),
    lambda inner: inner.map(ast.ListType) | st.lists(inner, min_size=2, max_size=3).map(tuple).map(ast.TupleType),
    max_leaves=3,
)


def _few(of: st.SearchStrategy) -> st.SearchStrategy[tuple]:
    return st.lists(of, max_size=2).map(tuple)


PARAMETERS = _few(st.builds(ast.Parameter, NAME, TYPES, st.none() | EXPRESSIONS))
BINDINGS = _few(st.builds(ast.Binding, NAME, EXPRESSIONS))
PROPERTIES = st.builds(ast.Property, NAME, st.none() | st.just("<="), st.none() | EXPRESSIONS)
ITEMS = st.one_of(
    st.builds(ast.Pattern, NAME, PARAMETERS, _few(st.builds(ast.Axis, NAME, EXPRESSIONS)), EXPRESSIONS, BINDINGS),
    st.builds(ast.Function, NAME, PARAMETERS, EXPRESSIONS, BINDINGS),
    st.builds(ast.Check, EXPRESSIONS, _few(st.builds(ast.Keyword, NAME, EXPRESSIONS)), _few(PROPERTIES)),
)


@settings(max_examples=examples(250))
@given(st.lists(ITEMS, min_size=1, max_size=4))
def test_random_trees(items: list[ast.Item]) -> None:
    assert_sane(check(_module(items)), "")


def _module(items: list[ast.Item]) -> Module:
    """A module as the loader makes it, of items without a text."""
    module = Module(Source("<tree>", ""), ast.File(tuple(items)))
    for item in items:
        if isinstance(item, ast.Pattern | ast.Function):
            module.names.setdefault(item.name.id, Definition(item, module))
    return module
