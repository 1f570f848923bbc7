"""The formatter: nothing is lost, nothing changes meaning, and the result is a fixed point."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from syntax_trees import Trees, file_text, respaced

from patternc import ast
from patternc.errors import SpatError
from patternc.format import format
from patternc.format_document import WIDTH
from patternc.grammar.scan import comments
from patternc.parser import parse
from patternc.source import Source

CASES = Path(__file__).parent / "cases" / "format"
LIBRARY = sorted(Path(__file__).parents[1].glob("patternc/std/**/*.spat"))
"""Programs as people write them."""


def formatted(text: str) -> str:
    return format(Source("<test>", text))


def words(text: str) -> list[str]:
    """The words of all comments, sorted: a comment that is too long to stand behind an item moves above it."""
    return sorted(" ".join(text[a:b] for a, b in comments(text)).replace("#", " ").split())


files = st.integers(0, 2**32 - 1).map(Random).map(lambda random: (random, Trees(random).file()))
"""Trees from a seed: hypothesis takes seconds to draw a tree choice by choice."""


@pytest.mark.parametrize("path", sorted(CASES.glob("*.spat")), ids=lambda p: p.stem)
def test_layout(path: Path, golden: Callable[[Path, str], None]) -> None:
    golden(path.with_suffix(".formatted"), formatted(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", [*LIBRARY, *sorted(CASES.glob("*.spat"))], ids=lambda p: p.stem)
def test_programs_keep_meaning_comments_and_width(path: Path) -> None:
    assert_formatted_well(path.read_text(encoding="utf-8"))


def assert_formatted_well(text: str) -> str:
    result = formatted(text)
    tree, mistakes = parse(Source("<formatted>", result))
    assert not [m for m in mistakes if m.severity == "error"]
    assert tree == parse(Source("<test>", text))[0]
    assert words(result) == words(text)
    assert formatted(result) == result
    assert not re.search(r"[ \t]$|\r|\n\n\n|\A\n|[^\n]\Z", result, re.MULTILINE)
    return result


def assert_narrow(result: str) -> None:
    """No line exceeds the width, but for a few words at the end of deep nesting."""
    for line in result.split("\n"):
        assert len(line) <= WIDTH or len(line) - len(line.lstrip()) > WIDTH // 2


@settings(max_examples=examples(150))
@given(files)
def test_any_tree_is_formatted_and_read_back(drawn: tuple[Random, ast.File]) -> None:
    random, file = drawn
    result = assert_formatted_well(file_text(file))
    assert parse(Source("<test>", result))[0] == file
    assert_narrow(result)
    assert formatted(respaced(random, result)) == result


@settings(max_examples=examples(150))
@given(files)
def test_comments_are_kept_wherever_they_stand(drawn: tuple[Random, ast.File]) -> None:
    random, file = drawn
    assert_narrow(assert_formatted_well(respaced(random, file_text(file), comments=0.2)))


def test_names_that_fill_a_line_are_all_that_exceeds_it() -> None:
    name = "n" * 120
    result = formatted(f"pattern p() = f({name}, a | {name}) | {{ {name} -> k : {name} < 3 }}")
    for line in result.splitlines():
        assert len(line.replace(name, "")) <= 20


def test_deep_trees_are_quick() -> None:
    for text in (
        "(" * 199 + "a" + ")" * 199,
        "-" * 190 + "a",
        "f(" * 150 + "a" + ")" * 150,
        "a | (" * 95 + "a" + ")" * 95,
    ):
        assert_formatted_well(f"pattern p() = {text}")


def test_syntax_errors_are_raised() -> None:
    with pytest.raises(SpatError, match="SPAT002"):
        formatted("pattern p() =")


def test_empty_texts() -> None:
    assert formatted("") == formatted(" \n\n") == ""
    assert formatted("\n\n# only this") == "# only this\n"
