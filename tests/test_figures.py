"""Figures of the pages are those of the files in benchmarks/results/."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from benchmarks import report
from patternc.backends.triton_module import source
from patternc.backends.triton_structure import Mask, Structure

ROOT = Path(__file__).parent.parent
PAGES = [page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("name", report.TABLES)
def test_tables_of_the_pages_are_those_of_the_files(name: str) -> None:
    told = [page.split(f"benchmarks/results/{name}.json)", 1)[-1] for page in PAGES]
    assert any(report.TABLES[name]() in page for page in told)


def test_paddings_of_the_page_on_layouts_are_those_of_the_file() -> None:
    page = (ROOT / "docs" / "layouts.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| \[(\w+)\]\(\S+\) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    found = {row["pattern"]: row for row in report.result("padding")["rows"]}
    assert len(told) > 10
    for name, before, after in told:
        expected = found[name]["consecutive 128x64"], found[name]["time 128x64"]
        assert (before, after) == tuple(f"{value:.3g}" for value in expected), name


def test_files_named_by_the_pages_are_there_and_say_what_made_them() -> None:
    for name in set(re.findall(r"benchmarks/results/([\w-]+)\.json", "\n".join(PAGES))):
        assert {"command", "date", "device"} <= report.result(name).keys(), name


def kernels_of(text: str) -> set[str]:
    """The functions that are started: those that ask which program they are."""
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    return {re.sub(r"\d", "", f.name) for f in functions if "program_id" in ast.unparse(f)}


def test_memcheck_found_no_error_in_any_kernel() -> None:
    found = report.result("memcheck-h200")
    assert found["errors"] == 0
    assert set(found["outcomes"]) == {"passed"}
    attention = kernels_of(source(Structure((Mask("def MASK(q, k, n, h):\n    return k <= q\n"),))))
    planning = kernels_of((ROOT / "backends" / "triton_compaction.py").read_text(encoding="utf-8"))
    assert set(found["kernels"]) == attention | planning | {"listing", "look"}  # the last are written for a pattern
    for kernel in ("forward", "backward_queries", "backward_keys"):
        assert {"ALIKE", "BOXES", "CHAINED", "CUT", "DROPOUT", "KEEPS", "READS"} <= set(found["kernels"][kernel])
    assert "FEW" in found["kernels"]["forward"]


def test_all_gpu_tests_passed() -> None:
    found = report.result("gpu-tests-h200")
    assert set(found["outcomes"]) == {"passed"}
    files = {test.split("::")[0] for test in found["tests"]}
    assert files == {f"tests/gpu/{path.name}" for path in (ROOT / "tests" / "gpu").glob("test_*.py")}
