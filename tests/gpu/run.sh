#!/usr/bin/env bash
# All GPU tests, from the repository's root, with the python that has torch. The checkout need not be installed.
# `tests/gpu/run.sh --results $PWD/benchmarks/results/gpu-tests.json` also writes what was found.
set -euo pipefail
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp -r patternc tests examples "$stage"
cp -r grammar "$stage/patternc/grammar"
cp -r backends "$stage/patternc/backends"
python3 - "$stage" <<'PY'
# What an installed package has: its name, version and entry points.
import sys, tomllib
from pathlib import Path
project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
info = Path(sys.argv[1], f"{project['name']}-{project['version']}.dist-info")
info.mkdir()
info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
points = project["entry-points"]["patternc.backends"]
info.joinpath("entry_points.txt").write_text("[patternc.backends]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
PY
cd "$stage"
python3 -m pytest tests/gpu -q -o addopts= -p no:cacheprovider "$@"
