"""Goldens of what is said about values: of defaults, by `check`; of heads and lengths, when a pattern is compiled.

A first line `# compile: heads = 4, n = 16` asks for the latter.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import patternc
from patternc import budget
from patternc.errors import Code, SpatError, render

FOLDER = Path(__file__).parent / "errors" / "values"
PROGRAMS = sorted(FOLDER.glob("*.spat"))


def compile_and_look(name: str, options: dict[str, str]) -> None:
    patternc.compile(name, options.get("pattern"), heads=int(options["heads"])).plan(int(options["n"]))


def messages(path: Path) -> str:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    if not first.startswith("# compile:"):
        return render(patternc.check(path.name).diagnostics)
    options = dict(re.findall(r"(\w+) = (\w+)", first))
    with pytest.raises(SpatError) as caught:
        compile_and_look(path.name, options)
    return render(caught.value.diagnostics)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_messages(path, golden, monkeypatch):
    monkeypatch.chdir(FOLDER)
    golden(path.with_suffix(".stderr"), messages(path) + "\n")


def test_a_program_that_takes_too_long_to_expand(monkeypatch):
    monkeypatch.setattr(budget, "MAX_SECONDS", 0.0)
    text = "pattern p() = { q -> k : any(q == i * j for i in 0..9) and " + " and ".join(["q < k"] * 150) + " }"
    with pytest.raises(SpatError) as caught:
        patternc.compile(text.replace("j", "3"), heads=1)
    assert render(caught.value.diagnostics).startswith(
        "error[SPAT212]: expanding the program takes more than 0 s\n --> <text>:1:"
    )


def test_every_code_has_a_golden():
    told = {
        code for path in FOLDER.parent.rglob("*.stderr") for code in re.findall(r"SPAT\d+", path.read_text("utf-8"))
    }
    assert {str(code) for code in Code} - told == {"SPAT212"}, "which the test above pins"
