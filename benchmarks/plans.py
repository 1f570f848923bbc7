"""What planning costs: seconds and bytes of tables at long lengths, with parameters drawn at run time.

`python -m benchmarks.plans [--seed S]` plans every pattern at every length in a process of its own and writes
results/plans.json. What is measured is `compiled.plan(n)` for a length that the object has not seen; modules are loaded
by planning another pattern first.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from typing import Any

import patternc
from benchmarks import record
from patternc.analysis.arrays import NUMPY
from patternc.plan import Plan
from patternc.statistics import imbalance, plan_bytes

LENGTHS = (1 << 20, 10_000_000)
RUNS = 3
"""Processes for each pattern and length; the median counts."""
REPEATS = 1000
"""Calls for a length that is known already, of which the mean is taken."""
PATTERNS = {
    "window": "pattern p(w: tokens) = { q -> k : 0 <= q - k < w }",
    "dilation": "pattern p(w: tokens, r: int) = { q -> k : abs(q - k) <= w * r and (q - k) % r == 0 }",
    "causal": "pattern p() = causal",
}
OTHER = "pattern other() = { q -> k : abs(q - k) < 100 }"


def parameters(name: str, seed: int) -> dict[str, Any]:
    """Parameters of a pattern, by the seed."""
    draw = random.Random(f"{name} {seed}")
    match name:
        case "window":
            return {"w": draw.randint(256, 8192)}
        case "dilation":
            return {"w": draw.randint(64, 512), "r": draw.randint(2, 64)}
    return {}


def measured(name: str, n: int, seed: int) -> dict[str, Any]:
    """One pattern at one length, in this process."""
    patternc.compile(OTHER, heads=1).stats(64)
    params = parameters(name, seed)
    compiled = patternc.compile(PATTERNS[name], heads=8, **params)
    start = time.perf_counter()
    plan = compiled.plan(n)
    first = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(REPEATS):
        compiled.plan(n)
    again = (time.perf_counter() - start) / REPEATS
    start = time.perf_counter()
    compiled.plan(n + 1)
    return {
        "pattern": name,
        "params": params,
        "n": n,
        "seconds": first,
        "seconds_next_length": time.perf_counter() - start,
        "microseconds_again": again * 1e6,
        **_figures(plan),
    }


def _figures(plan: Plan) -> dict[str, Any]:
    layouts = [
        (launch.queries.layout.stride, [term.keys.layout.stride for term in launch.terms]) for launch in plan.launches
    ]
    return {"bytes": plan_bytes(plan), "imbalance": imbalance(plan, NUMPY), "strides": layouts}


def in_its_own_process(name: str, n: int, seed: int) -> dict[str, Any]:
    """The run of median time among `RUNS` fresh processes."""
    call = [sys.executable, "-m", "benchmarks.plans", "--seed", str(seed), "--one", name, str(n)]
    runs = [json.loads(subprocess.run(call, check=True, capture_output=True).stdout) for _ in range(RUNS)]
    median = statistics.median_low(run["seconds"] for run in runs)
    return next(run for run in runs if run["seconds"] == median)


def main() -> None:
    """Measures all patterns, or with --one a single one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=time.time_ns() % 2**32, help="of the parameters; drawn unless given"
    )
    parser.add_argument("--one", nargs=2, metavar=("PATTERN", "N"), help="this one only, as JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one[0], int(given.one[1]), given.seed)))
        return
    print(f"seed {given.seed}")
    rows = [in_its_own_process(name, n, given.seed) for n in LENGTHS for name in PATTERNS]
    print(record.table(rows))
    print(record.write("plans", {"seed": given.seed, "rows": rows}))


if __name__ == "__main__":
    main()
