"""The parser: what it builds, where it says that things stand, and that no text makes it do anything else."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from random import Random

import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from syntax_trees import Trees, expr_text, file_text, respaced

from patternc import ast
from patternc.errors import Code, Diagnostic, SpatError
from patternc.grammar import __main__ as generator
from patternc.grammar.automaton import parser
from patternc.grammar.scan import KEYWORDS, lexemes
from patternc.grammar.text import MAX_BYTES
from patternc.parser import MAX_MISTAKES, decode, parse
from patternc.source import Source, Span

PROGRAM = Path(__file__).with_name("cases") / "format" / "fifteen.spat"


def expression(text: str) -> ast.Expr:
    """The tree of an expression."""
    file, mistakes = parse(Source("<test>", f"pattern p() = {text}"))
    assert mistakes == []
    (item,) = file.items
    assert isinstance(item, ast.Pattern)
    return item.body


def codes(text: str) -> list[Code]:
    return [m.code for m in parse(Source("<test>", text))[1]]


def nodes(node: object) -> Iterator[ast.Node]:
    """A node and all below it."""
    if isinstance(node, ast.Node):
        yield node
        for field in fields(node):
            yield from nodes(getattr(node, field.name))
    elif isinstance(node, tuple):
        for part in node:
            yield from nodes(part)


# ------------------------------------------------------------------ the grammar


def test_tables_are_those_of_the_grammar() -> None:
    pytest.importorskip("interegular", reason="strict mode looks for colliding terminals with it")
    written = Path(generator.__file__).with_name("tables.py").read_text(encoding="utf-8")
    assert generator.tables() == written, "run `python -m patternc.grammar`"


def test_keywords_are_those_of_the_grammar() -> None:
    pattern = next(t.pattern.value for t in parser().terminals if t.name == "NAME")
    reserved = re.match(r"\(\?!\(([\w|]+)\)", pattern)
    assert reserved is not None
    assert set(reserved[1].split("|")) == KEYWORDS


@pytest.mark.parametrize("word", sorted(KEYWORDS))
def test_keywords_are_reserved_everywhere(word: str) -> None:
    assert codes(f"pattern {word}() = full") == [Code.RESERVED_WORD]
    assert codes(f"pattern p({word}: int) = full") == [Code.RESERVED_WORD]
    assert codes(f"pattern p() = a where {word} = full") == [Code.RESERVED_WORD]
    assert codes(f"pattern p() = {{ {word} -> k : k < 3 }}") == [Code.RESERVED_WORD]
    assert codes(f"pattern p() = f({word} = 3)") == [Code.RESERVED_WORD]


# ------------------------------------------------------------------ precedence


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("A + B & C", "(A + B) & C"),
        ("A | B & C ^ D", "A | ((B & C) ^ D)"),
        ("A - B - C", "(A - B) - C"),
        ("a ** b ** c", "a ** (b ** c)"),
        ("-a ** -b", "-(a ** (-b))"),
        ("a * b // c % d", "((a * b) // c) % d"),
        ("~A & B", "(~A) & B"),
        ("blocks(2) A | B", "(blocks(2) A) | B"),
        ("blocks(2) cover(3) ~A & B", "(blocks(2) (cover(3) (~A))) & B"),
        ("not a < b", "not (a < b)"),
        ("not a and b or c", "((not a) and b) or c"),
        ("a or b if c and d else e if f else g", "(a or b) if (c and d) else (e if f else g)"),
        ("a | b < c | d", "(a | b) < (c | d)"),
        ("a.b(c)[d].e", "((a.b(c))[d]).e"),
        ("q in a + 1..b | 2", "q in (a + 1)..(b | 2)"),
    ],
)
def test_precedence(short: str, full: str) -> None:
    assert expression(short) == expression(full)


def test_comparisons_are_chains() -> None:
    a, b, c = ast.Name("a"), ast.Name("b"), ast.Name("c")
    assert expression("a < b not in c") == ast.Compare(a, (("<", b), ("not in", c)))
    assert expression("(a < b) < c") == ast.Compare(ast.Compare(a, (("<", b),)), (("<", c),))


def test_numbers() -> None:
    for text, value in [("12", 12), ("1_000", 1000), ("0.9", 0.9), ("0", 0), ("9223372036854775807", 2**63 - 1)]:
        number = expression(text)
        assert isinstance(number, ast.Number)
        assert (number.value, type(number.value), number.text) == (value, type(value), text)


@pytest.mark.parametrize("text", ["9223372036854775808", "9" * 5_000, "9" * 400 + ".0"])
def test_numbers_beyond_64_bits(text: str) -> None:
    assert codes(f"pattern p() = {text}") == [Code.NUMBER_TOO_LARGE]


def test_key_before_query_is_a_warning() -> None:
    file, mistakes = parse(Source("<test>", "pattern p() = { k -> q : k <= q } | { a -> b : a <= b }"))
    assert [(m.code, m.severity, m.span.text) for m in mistakes] == [(Code.KEY_BEFORE_QUERY, "warning", "k -> q")]
    assert len(file.items) == 1


@settings(max_examples=examples(80), deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_tree_is_read_as_it_was_written(seed: int) -> None:
    random = Random(seed)
    tree = Trees(random).file()
    text = file_text(tree)
    for written in (text, respaced(random, text), respaced(random, text, comments=0.1)):
        file, mistakes = parse(Source("<test>", written))
        assert [m for m in mistakes if m.severity == "error"] == []
        assert file == tree


# ------------------------------------------------------------------ places


@settings(max_examples=examples(100), deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_spans_are_the_text_of_their_nodes(seed: int) -> None:
    """Each expression, cut out of the text, is read as itself: so spans include parentheses, and nothing else."""
    random = Random(seed)
    text = respaced(random, f"pattern p() = {expr_text(Trees(random).expr())}", comments=0.1)
    file, _ = parse(Source("<test>", text))
    for node in nodes(file):
        assert 0 <= node.span.start <= node.span.end <= len(text)
        if isinstance(node, ast.Expr):
            assert expression(node.span.text) == node
            assert node.span.text == node.span.text.strip()


def test_spans_of_parts() -> None:
    source = Source("<test>", 'import "std/local" as lf\npattern p(w: int = (3)) = (a) | ((b)) where c = 4')
    imported, pattern = parse(source)[0].items
    assert isinstance(imported, ast.Import)
    assert isinstance(pattern, ast.Pattern)
    assert (imported.path_span.text, imported.alias and imported.alias.span.text) == ('"std/local"', "lf")
    assert isinstance(pattern.body, ast.Binary)
    assert (pattern.body.left.span.text, pattern.body.op_span.text, pattern.body.right.span.text) == (
        "(a)",
        "|",
        "((b))",
    )
    assert pattern.parameters[0].default.span.text == "(3)"  # type: ignore[union-attr]
    assert [pattern.parameters[0].span.text, pattern.where[0].span.text] == ["w: int = (3)", "c = 4"]


# ------------------------------------------------------------------ items, and mistakes in them


def test_each_item_reports_its_own_mistake() -> None:
    text = "pattern a() = = 1\npattern b() = full\n\npatern c() = full\ncheck b causal\nfn d(x) = x\nimport x\n"
    file, mistakes = parse(Source("<test>", text))
    assert [type(item).__name__ for item in file.items] == ["Pattern"]
    assert [m.span.source.position(m.span.start)[0] for m in mistakes] == [1, 4, 5, 6, 7]


def test_an_unclosed_bracket_hides_nothing_that_follows() -> None:
    file, mistakes = parse(Source("<test>", "pattern a() = (b\npattern c() = full\ncheck c : causal"))
    assert [m.code for m in mistakes] == [Code.UNCLOSED_BRACKET]
    assert len(file.items) == 2


def test_items_may_stand_on_one_line() -> None:
    file, mistakes = parse(Source("<test>", "pattern a() = full check a : causal fn\nb() = 3 check -a : set"))
    assert mistakes == []
    assert [type(item).__name__ for item in file.items] == ["Pattern", "Check", "Function", "Check"]


def test_the_end_is_behind_the_last_word() -> None:
    (mistake,) = parse(Source("<test>", "pattern a() = b |   # and then\n\n"))[1]
    assert (mistake.code, mistake.span.start, mistake.span.end) == (Code.UNEXPECTED_END, 17, 17)


# ------------------------------------------------------------------ hostile texts


def assert_all_places_are_in_the_text(source: Source, mistakes: list[Diagnostic]) -> None:
    for mistake in mistakes:
        for span in (mistake.span, *(related.span for related in mistake.related)):
            assert span.source is source
            assert 0 <= span.start <= span.end <= len(source.text)


@settings(max_examples=examples(300), deadline=None)
@given(st.text() | st.text(alphabet="pqk nfr()[]{}<>=-.:,|&!\"'#\n019_"))
def test_any_text_ends_in_mistakes_or_a_tree(text: str) -> None:
    source = Source("<test>", text)
    file, mistakes = parse(source)
    assert_all_places_are_in_the_text(source, mistakes)
    assert mistakes or file.items or not re.sub(r"#.*", "", text).strip()


@settings(max_examples=examples(300), deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_words_end_in_mistakes_or_a_tree(seed: int) -> None:
    """Programs with words taken out, put in, doubled and exchanged."""
    random = Random(seed)
    items = re.split(r"\n(?=pattern|check)", PROGRAM.read_text(encoding="utf-8"))
    words = [lexeme.text for lexeme in lexemes(random.choice(items))]
    others = [
        *words,
        *sorted(KEYWORDS),
        "=",
        "->",
        "<-",
        "..",
        "=>",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "&&",
        "2x",
        "!",
        '"',
    ]
    for _ in range(random.randint(1, 4)):
        i = random.randrange(len(words) + 1)
        words[i : i + random.randint(0, 2)] = random.choices(others, k=random.randint(0, 2))
    source = Source("<test>", " ".join(words))
    file, mistakes = parse(source)
    assert_all_places_are_in_the_text(source, mistakes)
    assert mistakes or file.items or not words


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=8).map(lambda b: b"pattern p() = " + b))
def test_any_bytes_end_in_mistakes_or_a_tree(data: bytes) -> None:
    refused: list[Diagnostic] = []
    try:
        source = decode(data, "<test>")
    except SpatError as e:
        refused += e.diagnostics
    else:
        assert source.text.encode() == data
        parse(source)
    assert {d.code for d in refused} <= {Code.NOT_UTF8, Code.CONTROL_CHARACTER}
    for mistake in refused:
        assert_all_places_are_in_the_text(mistake.span.source, [mistake])


@pytest.mark.parametrize(
    ("data", "code", "place"),
    [
        (b"\xef\xbb\xbfpattern", Code.CONTROL_CHARACTER, 0),
        (b"pattern \x00", Code.CONTROL_CHARACTER, 8),
        ("# \u202e".encode(), Code.CONTROL_CHARACTER, 2),
        ("# \u2067".encode(), Code.CONTROL_CHARACTER, 2),
        (b"# one\r# two", Code.CONTROL_CHARACTER, 5),
        (b"\x1b[2J", Code.CONTROL_CHARACTER, 0),
        (b"pattern \xff", Code.NOT_UTF8, 8),
        ("# ä".encode() + b"\xe4", Code.NOT_UTF8, 3),
        (b"\xed\xa0\x80", Code.NOT_UTF8, 0),
    ],
)
def test_characters_that_are_refused(data: bytes, code: Code, place: int) -> None:
    with pytest.raises(SpatError) as caught:
        decode(data, "<test>")
    (mistake,) = caught.value.diagnostics
    assert (mistake.code, mistake.span.start) == (code, place)


def test_half_characters_of_python_are_refused() -> None:
    assert codes("# \ud800") == [Code.NOT_UTF8]


def test_line_ends_of_windows_are_welcome() -> None:
    assert codes("pattern p() = full # one\r\n\tcheck p : causal\r\n") == []


HOSTILE = {
    "brackets": "pattern p() = " + "(" * 10_000,
    "closed brackets": "pattern p() = " + "(" * 10_000 + "a" + ")" * 10_000,
    "nots": "pattern p() = " + "not " * 5_000 + "a",
    "complements": "pattern p() = " + "~" * 5_000 + "a",
    "arms": "pattern p() = " + " | ".join(["a"] * 20_000),
    "comparisons": "pattern p() = " + " < ".join(["a"] * 20_000),
    "choices": "pattern p() = " + "a if b else " * 5_000 + "c",
    "attributes": "pattern p() = a" + ".b" * 10_000,
    "types": "pattern p(x: " + "[" * 190 + "int" + "]" * 190 + ") = full",
    "strings": 'import "' * 10_000,
    "items": "pattern" * 100_000 + " pattern" * 20_000,
    "one word": "a" * MAX_BYTES,
    "white space": " " * MAX_BYTES,
    "a comment": "#" * MAX_BYTES,
    "digits": "pattern p() = " + "9" * 1_000_000,
    "commas": "pattern p() = f(" + "a," * 40_000 + ")",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_quick(name: str) -> None:
    source = Source("<test>", HOSTILE[name])
    start = time.process_time()
    _, mistakes = parse(source)
    assert time.process_time() - start < 4
    assert_all_places_are_in_the_text(source, mistakes)


@pytest.mark.parametrize(
    "name", ["brackets", "closed brackets", "nots", "complements", "arms", "choices", "attributes"]
)
def test_depth_is_bounded(name: str) -> None:
    assert [m.code for m in parse(Source("<test>", HOSTILE[name]))[1]] == [Code.TOO_DEEP]


@pytest.mark.parametrize("form", ["-", "not ", "(", "[", "f(", "a[", "blocks(2) ", "a if b else ", "a | ", "a ** "])
def test_depth_within_the_bound_is_read(form: str) -> None:
    opened = form[-1] if form[-1] in "([" else ""
    closing = {"(": ")", "[": "]"}.get(opened, "")
    text = f"pattern p() = {form * 190}a{closing * 190}"
    assert codes(text) == []
    assert codes(text.replace(form * 190, form * 210).replace(closing * 190, closing * 210 or "")) == [Code.TOO_DEEP]


def test_too_large_texts() -> None:
    assert codes(" " * (MAX_BYTES + 1)) == codes("ä" * MAX_BYTES) == [Code.TEXT_TOO_LARGE]
    assert codes("a " * 150_000) == [Code.TEXT_TOO_LARGE]
    with pytest.raises(SpatError, match="SPAT022"):
        decode(b" " * (MAX_BYTES + 1), "<test>")


def test_span_helpers_know_their_text() -> None:
    source = Source("<test>", "pattern p() = a | b")
    assert Span(source, 14, 15).to(Span(source, 18, 19)).text == "a | b"


def test_as_many_mistakes_are_told_as_anybody_reads() -> None:
    file, mistakes = parse(
        Source("<test>", "pattern p() = { k -> q : True }\n" * 300 + "pattern q() =\n" * 300 + "pattern r() = full")
    )
    assert len(file.items) == 301
    assert [m.severity for m in mistakes] == ["warning"] * 300 + ["error"] * MAX_MISTAKES
