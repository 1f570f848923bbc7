"""`.ci/stage` and the scripts on it: the tree as it is when installed, for machines on which it is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from patternc.backends import base

ROOT = Path(__file__).parent.parent


def environment() -> dict[str, str]:
    """In which `python3` is this one."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": ""}


@pytest.mark.skipif(os.name != "posix", reason="they are shell scripts")
def test_a_staged_tree_has_what_an_installed_one_has(tmp_path: Path) -> None:
    subprocess.run([ROOT / ".ci" / "stage", tmp_path], check=True, cwd=ROOT, env=environment())
    question = "import patternc; from patternc.backends import base; print(patternc.__file__, *base.names())"
    call = [sys.executable, "-c", question]
    found = subprocess.run(call, check=True, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    place, *names = found.stdout.split()
    assert Path(place) == tmp_path / "patternc" / "__init__.py"
    assert names == base.names()


@pytest.mark.skipif(os.name != "posix", reason="they are shell scripts")
def test_benchmarks_run_in_a_staged_tree(tmp_path: Path) -> None:
    call = [ROOT / "benchmarks" / "run.sh", "plans", "--help"]
    found = subprocess.run(call, check=True, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert "What planning costs" in found.stdout
