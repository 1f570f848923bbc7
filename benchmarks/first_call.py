"""Seconds from the text of a pattern to its first output: `python -m benchmarks.first_call`, on a CUDA device, writes
results/first-call.json.

Each figure is the median of some processes, which have imported torch and Triton and used the device before. `cold`:
with empty caches on disk, so that kernels are compiled. `warm`: the same pattern in another process, with what the
first one left on disk. `next`: in that process, another pattern of a structure whose kernels are on disk. `length`:
a length that is new, of a pattern that is not.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import triton.language  # noqa: F401 (there before the clock runs)

import patternc
from benchmarks import record

HEADS, TOKENS, CHANNELS = 8, 4096, 64
PATTERNS = {
    "window": ("{{ q -> k : 0 <= q - k < {0} }}", (300, 200)),
    "strided": (
        "causal & ({{ q -> k : q - k < {0} }} if h % 2 == 0 else {{ q -> k : (q - k) % 32 == 0 }})",
        (96, 120),
    ),
}
PROCESSES = 5
"""With warm caches; their median counts. One has cold ones."""


def seconds(compiled: patternc.Compiled | None, text: str, n: int, parts: dict[str, float]) -> patternc.Compiled:
    """Adds to `parts` what it takes to compile, unless that is done, and to have an output."""
    q = torch.zeros(1, HEADS, n, CHANNELS, device="cuda", dtype=torch.bfloat16)
    torch.cuda.synchronize()
    start = time.perf_counter()
    if compiled is None:
        compiled = patternc.compile(f"pattern p() = {text}", heads=HEADS)
    middle = time.perf_counter()
    compiled(q, q, q)
    torch.cuda.synchronize()
    parts["compile"], parts["call"] = middle - start, time.perf_counter() - middle
    return compiled


def in_this_process(name: str) -> dict[str, dict[str, float]]:
    """The first output of the process, that of the next pattern, and at another length."""
    torch.ones(64, 64, device="cuda").matmul(torch.ones(64, 64, device="cuda"))
    text, values = PATTERNS[name]
    found: dict[str, dict[str, float]] = {"first": {}, "next": {}, "length": {}}
    compiled = seconds(None, text.format(values[0]), TOKENS, found["first"])
    seconds(None, text.format(values[1]), TOKENS, found["next"])
    seconds(compiled, text, TOKENS - 100, found["length"])
    return found


def in_another(name: str, caches: Path) -> dict[str, dict[str, float]]:
    """The same in a process of its own, with these caches."""
    places = {"XDG_CACHE_HOME": str(caches / "own"), "TRITON_CACHE_DIR": str(caches / "triton")}
    command = [sys.executable, "-m", "benchmarks.first_call", name]
    done = subprocess.run(command, env={**os.environ, **places}, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def median(found: list[dict[str, float]]) -> dict[str, float]:
    return {part: statistics.median(one[part] for one in found) for part in found[0]}


def measured(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as caches:
        cold = in_another(name, Path(caches))
        runs = [in_another(name, Path(caches)) for _ in range(PROCESSES)]
    of = {key: median([run[key] for run in runs]) for key in ("first", "next", "length")}
    return {"pattern": name, "cold": cold["first"], "warm": of["first"], "next": of["next"], "length": of["length"]}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(in_this_process(sys.argv[1])))
        return
    rows = [measured(name) for name in PATTERNS]
    for row in rows:
        print(row["pattern"], *(f"{key} {sum(row[key].values()):.3f} s" for key in ("cold", "warm", "next", "length")))
    shape = {"tokens": TOKENS, "heads": HEADS, "head_dim": CHANNELS, "dtype": "bfloat16", "processes": PROCESSES}
    print(record.write("first-call", {**shape, "rows": rows}, torch.device("cuda")))


if __name__ == "__main__":
    main()
