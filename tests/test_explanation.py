"""What `explain` says: goldens that a person has read, and that its figures are those of the plan."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import patternc
from patternc.cli import commands
from patternc.layout_words import amount, layout_words, layouts_words, ordinal, ranges
from patternc.plan import CONSECUTIVE, LISTED, Layout

ROOT = Path(__file__).parent.parent
CASES = ROOT / "tests" / "cases" / "explain"
OPTIONS = {"neighborhood": ["--set", "H=64", "--set", "W=64"], "block_diffusion": ["--set", "m=2048", "--set", "B=64"]}
EXAMPLES = sorted((ROOT / "examples").glob("*.spat"))
SUITE = sorted((ROOT / "benchmarks" / "suite").glob("*.spat"))


def explain(*words: object) -> str:
    result = CliRunner().invoke(commands, ["explain", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples(path, golden):
    golden(CASES / f"{path.stem}.golden", explain(path, "-n", 4096, *OPTIONS.get(path.stem, [])))


@pytest.mark.parametrize("path", SUITE, ids=lambda path: path.stem)
def test_suite(path, golden):
    golden(CASES / "suite" / f"{path.stem}.golden", explain(path, "-n", 16384, "--heads", 16))


@pytest.mark.parametrize("path", SUITE, ids=lambda path: path.stem)
def test_figures_are_those_of_the_plan(path):
    attention = patternc.compile(path, heads=4)
    if attention.program.tensors:
        pytest.skip("needs a tensor")
    found, text = attention.stats(2048), attention.explain(2048)
    numbers = lambda pattern: [int(x.replace(",", "")) for x in re.findall(pattern, text)]
    assert sum(numbers(r"([\d,]+) computed")) == found.computed_pairs
    if "≈ " not in "".join(line for line in text.splitlines() if line.startswith("pairs")):
        assert sum(numbers(r"([\d,]+) wanted")) == found.wanted_pairs
    here = [line for line in text.splitlines() if "full," in line and "in consecutive tokens" not in line]
    counted = [[int(x.replace(",", "")) for x in re.findall(r"([\d,]+) (?:full|partial)", line)] for line in here]
    assert [sum(column) for column in zip(*counted, strict=True)] == [found.full_tiles, found.partial_tiles]
    assert f"imbalance {found.imbalance:.3f}" in text
    assert len(numbers(r"launch (\d+)")) == found.launches


def test_figures_of_consecutive_tokens_are_counted():
    text = patternc.compile("pattern p() = { q -> k : (q - k) % 16 == 0 }", heads=1).explain(2048, tile=(64, 64))
    assert "1,024: 0 full, 1,024 partial; padding 16, in consecutive tokens" in text


def test_options_of_the_command():
    text = explain(ROOT / "benchmarks/suite/strided_st.spat", "-n", 4096, "--tile", "64x32", "--objective", "padding")
    assert "tiles of 64 queries x 32 keys" in text
    assert "weighed by time" not in text
    assert "weighed by time" in explain(ROOT / "benchmarks/suite/strided_st.spat", "-n", 4096)


def test_fewer_queries_and_no_pairs():
    text = explain("std/strided", "-n", 4096, "--queries", 3, "--heads", 2)
    assert "on the last 3 of 4,096 tokens, 2 heads" in text
    nothing = patternc.compile("pattern p() = empty", heads=1).explain(64)
    assert "0 wanted (density 0), 0 computed" in nothing
    assert "launch" not in nothing


def test_words():
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111, 1128)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "111th", "1,128th",
    ]  # fmt: skip
    assert layout_words(CONSECUTIVE) == "consecutive tokens"
    assert layout_words(LISTED) == "listed tokens"
    assert layout_words(Layout(128, 8)) == "8 columns of lines of 128 tokens"
    assert layouts_words(Layout(4), Layout(4)) == "every 4th token"
    assert layouts_words(CONSECUTIVE, Layout(4)) == "queries: consecutive tokens, keys: every 4th token"
    assert ranges((0, 1, 2, 5)) == "0-2, 5"
    assert ranges((0, 2, 4, 6)) == "0, 2, … 6"
    assert ranges((3,)) == "3"
    assert [amount(x) for x in (0, 1.23456, 45.678, 99.96, 1234.5)] == ["0", "1.23", "45.7", "100.0", "1,234"]


def test_explain_is_light():
    """Neither torch nor networkx for a pattern without lanes."""
    program = (
        "import sys; from patternc.cli import commands\n"
        "commands(['explain', 'std/local', '-n', '16384'], standalone_mode=False)\n"
        "print({'torch', 'networkx', 'islpy', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
