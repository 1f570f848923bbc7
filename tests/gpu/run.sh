#!/usr/bin/env bash
# All GPU tests, from the repository's root, with the python that has torch. The checkout need not be installed.
# UNDER is a command that runs them.
# `tests/gpu/run.sh --results $PWD/benchmarks/results/gpu-tests.json` also writes what was found.
set -euo pipefail
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
.ci/stage "$stage"
cp -r tests examples benchmarks "$stage"  # saved modules are made of the suite, too
cd "$stage"
${UNDER:-} python3 -m pytest tests/gpu -q -o addopts= -p no:cacheprovider "$@"
