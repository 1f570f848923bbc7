"""What planning costs: seconds and bytes of tables at long lengths, with parameters drawn at run time; what a new
length costs a single query; what a fresh process pays first.

`python -m benchmarks.plans [--seed S]` measures each thing in processes of its own and writes results/plans.json. The
fastest of several runs counts, for the machine may have other work. What is measured is `compiled.plan(n)` for a length
that the object has not seen; modules are loaded by planning another pattern first.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import patternc
from benchmarks import record
from patternc.analysis.arrays import NUMPY
from patternc.plan import Plan
from patternc.statistics import imbalance, plan_bytes

LENGTHS = (1 << 20, 10_000_000)
RUNS = 3
"""Processes for each pattern and length, of which the fastest counts."""
REPEATS = 1000
"""Calls for a length that is known already, of which the mean is taken."""
HEADS = 8
PATTERNS = {
    "window": "pattern p(w: tokens) = { q -> k : 0 <= q - k < w }",
    "dilation": "pattern p(w: tokens, r: int) = { q -> k : abs(q - k) <= w * r and (q - k) % r == 0 }",
    "causal": "pattern p() = causal",
    "hierarchical": "std/hierarchical",
    "longnet": "std/longnet",
}
SHORTER = ("hierarchical", "longnet")
"""Planned at the first length only."""
QUERIED = {"causal": PATTERNS["causal"], **{name: f"std/{name}" for name in ("local", "bigbird", "longnet")}}
"""Patterns planned for one query."""
QUERIED_AT = (4096, 1 << 16, 1 << 20)
NEW_LENGTHS = 20
"""Successive lengths that are planned for one query; the fastest counts."""
OTHER = "pattern other() = { q -> k : abs(q - k) < 100 }"


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


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
    compiled = patternc.compile(PATTERNS[name], heads=HEADS, **params)
    first, plan = timed(lambda: compiled.plan(n))
    again, _ = timed(lambda: [compiled.plan(n) for _ in range(REPEATS)])
    return {
        "pattern": name,
        "params": params,
        "n": n,
        "seconds": first,
        "seconds_next_length": timed(lambda: compiled.plan(n + 1))[0],
        "seconds_statistics": timed(lambda: compiled.stats(n))[0],
        "microseconds_again": again / REPEATS * 1e6,
        **_figures(plan),
    }


def one_query(name: str, n: int) -> dict[str, Any]:
    """Plans of the last query, at lengths from n on, in this process."""
    patternc.compile(OTHER, heads=1).stats(64)
    compiled = patternc.compile(QUERIED[name], heads=HEADS)
    compiled.plan(n - 1, 1)
    seconds = min(timed(lambda i=i: compiled.plan(n + i, 1))[0] for i in range(NEW_LENGTHS))
    return {"pattern": name, "n": n, "seconds": seconds}


def _figures(plan: Plan) -> dict[str, Any]:
    layouts = [
        (launch.queries.layout.stride, [term.keys.layout.stride for term in launch.terms]) for launch in plan.launches
    ]
    return {"bytes": plan_bytes(plan), "imbalance": imbalance(plan, NUMPY), "strides": layouts}


def printed(module: str, *arguments: str) -> dict[str, Any]:
    """What a fresh process prints as JSON."""
    call = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    result: dict[str, Any] = json.loads(subprocess.run(call, check=True, capture_output=True).stdout)
    return result


def fastest(module: str, *arguments: str) -> dict[str, Any]:
    """The same, of the fastest of `RUNS` processes."""
    return min((printed(module, *arguments) for _ in range(RUNS)), key=lambda run: run["seconds"])


def main() -> None:
    """Measures everything, or with --one or --query a single pattern in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=time.time_ns() % 2**32, help="of the parameters; drawn unless given"
    )
    parser.add_argument("--one", nargs=2, metavar=("PATTERN", "N"), help="this one only, as JSON")
    parser.add_argument("--query", nargs=2, metavar=("PATTERN", "N"), help="the same for one query")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one[0], int(given.one[1]), given.seed)))
        return
    if given.query:
        print(json.dumps(one_query(given.query[0], int(given.query[1]))))
        return
    print(f"seed {given.seed}")
    seed = "--seed", str(given.seed)
    planned = [(name, n) for n in LENGTHS for name in PATTERNS if n == LENGTHS[0] or name not in SHORTER]
    found = {
        "rows": [fastest("plans", *seed, "--one", name, str(n)) for name, n in planned],
        "one_query": [printed("plans", "--query", name, str(n)) for name in QUERIED for n in QUERIED_AT],
        "fresh_process": [fastest("fresh")],
    }
    for rows in found.values():
        print(record.table(rows), end="\n\n")
    print(record.write("plans", {"seed": given.seed, **found}))


if __name__ == "__main__":
    main()
