"""The fifteen programs: they are clean, laid out, checked, and the library has the same text."""

import re
from pathlib import Path

import pytest

import patternc
from patternc import format as formatter
from patternc import parser

ROOT = Path(__file__).parent.parent
PROGRAMS = (
    "local", "global_local", "dilated_sparse", "hierarchical", "longnet", "block_dilated", "longformer", "bigbird",
    "strided", "butterfly", "neighborhood", "documents", "adaptive", "gemma", "block_diffusion",
)  # fmt: skip
CAUSAL = ("local", "strided", "longnet", "documents", "gemma")
"""Those that the library promises to be causal at every length."""
NONEMPTY = ("local", "global_local")
PATHS = [ROOT / "examples" / f"{name}.spat" for name in PROGRAMS]
LIBRARY = sorted((ROOT / "patternc" / "std").glob("*.spat"))


def _name(path: Path) -> str:
    return path.stem


def test_the_examples_are_the_fifteen_programs():
    assert {path.stem for path in (ROOT / "examples").glob("*.spat")} == set(PROGRAMS)


@pytest.mark.parametrize("path", LIBRARY, ids=_name)
def test_the_library_has_the_text_of_the_example(path):
    assert path.read_bytes() == (ROOT / "examples" / path.name).read_bytes(), "run `make std`"


@pytest.mark.parametrize("path", PATHS, ids=_name)
def test_an_example_is_named_after_its_last_pattern_and_cites_its_paper(path):
    tree, diagnostics = parser.parse(parser.decode(path.read_bytes(), path.name))
    assert diagnostics == []
    patterns = [item.name.id for item in tree.items if type(item).__name__ == "Pattern"]
    assert patterns[-1] == path.stem
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert re.search(r'"[^"]+",\s#?\s?\d{4},\s(#\s)?arXiv:\d{4}\.\d{5}', header.replace("\n", " "))


@pytest.mark.parametrize("path", PATHS, ids=_name)
def test_an_example_is_laid_out_as_fmt_does(path):
    source = parser.decode(path.read_bytes(), path.name)
    assert formatter.format(source) == source.text


@pytest.mark.parametrize("path", PATHS, ids=_name)
def test_an_example_has_no_messages_and_its_checks_hold(path):
    report = patternc.check(str(path))
    assert report.diagnostics == ()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_promises_hold_for_every_length(name):
    text = (ROOT / "examples" / f"{name}.spat").read_text(encoding="utf-8")
    for names, property_name in ((CAUSAL, "causal"), (NONEMPTY, "nonempty")):
        if name in names:
            assert re.search(rf"^check {name} : .*\b{property_name}\b", text, re.MULTILINE)
