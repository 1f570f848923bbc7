"""The GPU tests marked `memcheck`, which start every kind of kernel, under compute-sanitizer, which looks at each
access to memory: `python tests/gpu/memcheck.py --results FILE`, from the repository's root; other arguments are those
of run.sh. Fails if a test does, or if there is one error."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SANITIZER = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
ALONE = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
"""Each tensor in memory of its own, so that a step beyond it is seen."""


def checked(results: Path, arguments: list[str]) -> tuple[int, int]:
    """The exit status of the tests, and the errors that were found."""
    command = ["bash", "tests/gpu/run.sh", "-m", "memcheck", "--results", str(results), *arguments]
    under = {"UNDER": f"{SANITIZER} --tool memcheck"}
    with subprocess.Popen(command, env={**os.environ, **ALONE, **under}, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        errors = 0
        for line in run.stdout:
            print(line, end="", flush=True)
            summary = re.search(r"ERROR SUMMARY: (\d+) error", line)
            errors += int(summary.group(1)) if summary else 0
    return run.returncode, errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="the JSON file that is written")
    options, arguments = parser.parse_known_args()
    results: Path = options.results.absolute()
    status, errors = checked(results, arguments)
    found = json.loads(results.read_text(encoding="utf-8"))
    version = subprocess.run([SANITIZER, "--version"], capture_output=True, text=True, check=True).stdout
    found["command"] = "python tests/gpu/memcheck.py --results FILE"
    found["versions"]["compute-sanitizer"] = re.findall(r"Version (\S+)", version)[0]
    found["errors"] = errors
    results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return status or int(errors > 0)


if __name__ == "__main__":
    sys.exit(main())
