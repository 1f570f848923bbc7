"""Figures of the pages are those of the files in benchmarks/results/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import report

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", report.TABLES)
def test_tables_of_the_readme_are_those_of_the_files(name: str) -> None:
    told = README.split(f"(benchmarks/results/{name}.json)", 1)[1]
    assert report.TABLES[name]() in told


def test_paddings_of_the_page_on_layouts_are_those_of_the_file() -> None:
    page = (ROOT / "docs" / "layouts.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| \[(\w+)\]\(\S+\) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    found = {row["pattern"]: row for row in report.result("padding")["rows"]}
    assert len(told) > 10
    for name, before, after in told:
        expected = found[name]["consecutive 128x64"], found[name]["time 128x64"]
        assert (before, after) == tuple(f"{value:.3g}" for value in expected), name


def test_files_named_by_the_pages_are_there_and_say_what_made_them() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    for name in set(re.findall(r"benchmarks/results/([\w-]+)\.json", text)):
        assert {"command", "date", "device"} <= report.result(name).keys(), name
