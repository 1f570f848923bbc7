#!/usr/bin/env bash
# A benchmark on a machine with a GPU, with the python that has torch, in a checkout that need not be installed:
# `benchmarks/run.sh gpu --only causal` is `python -m benchmarks.gpu --only causal`. Results go to benchmarks/results.
set -euo pipefail
cd "$(dirname "$0")/.."
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
.ci/stage "$stage"
ln -s "$PWD/benchmarks" "$PWD/docs" "$stage"
cd "$stage"
name=$1
shift
python3 -m "benchmarks.$name" "$@"
