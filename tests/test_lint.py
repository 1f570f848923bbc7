"""Warnings: what they say, that the examples have none, and that they are true."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from drawn import Program, examples
from fifteen import EXAMPLES
from hypothesis import given, note, settings
from programs import programs
from test_concrete import masks

from patternc import ast
from patternc.elaborate import elaborate
from patternc.errors import Code, Diagnostic, SpatError, render
from patternc.lint import lint
from patternc.loader import load
from patternc.source import Source

HERE = Path(__file__).parent
LINTS = sorted((HERE / "errors" / "lint").glob("*.spat"))
LIBRARY = sorted((HERE.parent / "patternc" / "std").glob("**/*.spat"))


def warnings(text: str, name: str = "<text>") -> list[Diagnostic]:
    """The warnings about every pattern of a text."""
    module = load(Source(name, text))
    assert all(d.severity == "warning" for d in module.diagnostics)
    patterns = [item for item in module.file.items if isinstance(item, ast.Pattern)]
    return [d for p in patterns for d in lint(elaborate(module.names[p.name.id], None), p)]


def codes(body: str) -> list[Code]:
    return [d.code for d in warnings(f"pattern p(w: tokens, r: int, b: bool, x: int[batch, n]) = {body}")]


@pytest.mark.parametrize("path", LINTS, ids=lambda path: path.stem)
def test_messages(path: Path, golden: Callable[[Path, str], None]) -> None:
    golden(path.with_suffix(".stderr"), render(warnings(path.read_text(encoding="utf-8"), path.name)) + "\n")


@pytest.mark.parametrize("path", [*sorted(EXAMPLES.glob("*.spat")), *LIBRARY], ids=lambda path: path.stem)
def test_good_programs_have_no_warnings(path: Path) -> None:
    assert warnings(path.read_text(encoding="utf-8")) == []


def test_good_programs_do_not_import_islpy() -> None:
    code = "\n".join(
        [
            "import sys",
            "from test_lint import EXAMPLES, warnings",
            "modules = set(sys.modules)",
            "for path in EXAMPLES.glob('*.spat'): warnings(path.read_text(encoding='utf-8'))",
            "print(sorted((set(sys.modules) - modules) & {'islpy', 'torch'}))",
        ]
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


SILENT = [
    "full",
    "empty",
    "causal | { q -> k : k < w }",
    "{ q -> k : k <= q } | { q -> k : abs(q - k) <= w }",
    "{ q -> k : q - k < w }",
    "{ q -> k : 0 <= q - k < w }",
    "{ q -> k : q % 2 == 0 or k <= q }",
    "{ q -> k : x[q] < x[k] } | diagonal if b else causal",
    "causal + { q -> k : k > q + w }",
    "{ q -> k : abs(q - k) < w } + { q -> k : q < w }",  # no overlap where w = 0
    "sum({ q -> k : k <= q + i } for i in 0..3)",
    "union({ q -> k : k <= q + i } for i in [1, 1])",
    "{ q -> k : k < q } if r < 3 else full",
    "{ q -> k : q - k < w and x[q] == x[k] }",
    "{ q -> k : k < q or k == 0 }",
    "causal & { q -> k : (q - k) % 2 == r }",
    "match h % 2 { 0 => causal - diagonal, 1 => full }",
    "top(3, by = x[k], of = causal) | diagonal",
    "{ q -> k : k <= q and k >= q - w }",
]


@pytest.mark.parametrize("body", SILENT)
def test_silent(body: str) -> None:
    assert codes(body) == []


FOUND = [
    ("{ q -> k : k < q }", Code.EMPTY_ROWS),
    ("{ q -> k : k == q + 1 }", Code.EMPTY_ROWS),
    ("causal - diagonal", Code.EMPTY_ROWS),
    ("blocks(4) { q -> k : k < q }", Code.EMPTY_ROWS),
    ("{ q -> k : k < q and x[q] == x[k] }", Code.EMPTY_ROWS),
    ("causal - full", Code.EMPTY_ROWS),
    ("causal | ~causal", Code.ALWAYS_FULL),
    ("{ q -> k : k <= q or k > q - w }", Code.ALWAYS_FULL),
    ("{ q -> k : x[q] == x[k] or q != k }", Code.ALWAYS_FULL),
    ("{ q -> k : q >= 0 and k <= q }", Code.CONSTANT_CONDITION),
    ("{ q -> k : k < n and k <= q }", Code.CONSTANT_CONDITION),
    ("{ q -> k : k <= q or q - k == n }", Code.CONSTANT_CONDITION),
    ("{ q -> k : k <= q or h < 0 }", Code.CONSTANT_CONDITION),
    ("{ q -> k : k <= q and h < heads }", Code.CONSTANT_CONDITION),
    ("{ q -> k : k <= q and k in 0..n }", Code.CONSTANT_CONDITION),
    ("blocks(4) { q -> k : k <= q and k < n }", Code.CONSTANT_CONDITION),
    ("blocks(w) { q -> k : k <= q and k < n }", Code.CONSTANT_CONDITION),
    ("{ q -> k : k <= q + w and abs(q - k) < n }", Code.CONSTANT_CONDITION),
    ("causal | diagonal", Code.REDUNDANT_ARM),
    ("diagonal | { q -> k : k < 3 } | { q -> k : k == q and q > 7 }", Code.REDUNDANT_ARM),
    ("{ q -> k : abs(q - k) <= w } | { q -> k : abs(q - k) <= w + 5 }", Code.REDUNDANT_ARM),
    ("cover(4) diagonal | diagonal", Code.REDUNDANT_ARM),
    ("causal | top(3, by = x[k], of = causal)", Code.REDUNDANT_ARM),
    ("~(causal | diagonal) | { q -> k : k == 0 }", Code.REDUNDANT_ARM),
    ("causal + diagonal", Code.COUNTED_TWICE),
    ("causal + { q -> k : k == q or k == q + w }", Code.COUNTED_TWICE),
    ("blocks(4) (causal + diagonal)", Code.COUNTED_TWICE),
]


@pytest.mark.parametrize(("body", "code"), FOUND)
def test_found(body: str, code: Code) -> None:
    assert codes(body) == [code]


def test_the_later_of_two_equal_arms() -> None:
    (found,) = warnings("pattern p() = { q -> k : q == k } | { q -> k : k == q } | { q -> k : k == q + 5 }")
    assert found.span.text == "{ q -> k : k == q }"


def test_counts() -> None:
    (found,) = warnings("pattern p() = causal + diagonal + { q -> k : k < 9 }")
    assert found.message == "the arms of this `+` overlap: keys are counted up to 3 times"


def test_what_is_called_is_judged_by_itself() -> None:
    text = "pattern narrow(w: int) = { q -> k : k * w <= q * 3 }\npattern p() = narrow(0) & causal"
    assert warnings(text) == []


@settings(max_examples=examples(60))
@given(programs())
def test_warnings_are_true(program: Program) -> None:
    """Of one drawn choice of parameters, tensors and length, for every warning whose claim it can contradict."""
    n = program.length(9)
    note(f"{program.text}{program} at n = {n}")
    found = warnings(program.text)
    made, _ = masks(program, n)
    last = program.text.rstrip().rfind("pattern ")
    for d in found:
        if d.span.start < last:
            continue
        if d.code == Code.ALWAYS_FULL:
            assert (made > 0).all()
        if d.code == Code.EMPTY_ROWS:
            assert not made[:, -1 if d.message.startswith("the last") else 0].any()
        if d.code == Code.COUNTED_TWICE and d.span.end == len(program.text.rstrip()):
            assert np.max(made) >= 2


@pytest.mark.parametrize(
    "text",
    [
        "pattern p() = " + " | ".join(f"{{ q -> k : q - k == {i} }}" for i in range(190)),
        "pattern p() = { q -> k : " + " or ".join(f"q - k == {i}" for i in range(190)) + " }",
        "pattern p() = union({ q -> k : q - k == i * i } for i in 0..4000)",
        "pattern p() = " + "blocks(2) " * 190 + "causal",
        "pattern p() = " + "cover(2) " * 190 + "causal",
        "pattern p() = { q -> k : " + "not " * 190 + "q < k }",
    ],
    ids=lambda text: text[:40],
)
def test_large_patterns_are_quick(text: str) -> None:
    start = time.process_time()
    with suppress(SpatError):  # deeper than the language allows
        warnings(text)
    assert time.process_time() - start < 6
