"""Where the forward pass of the torch backend on a CPU spends its time, by kind of step.

`python -m benchmarks.cpu_profile [NAME …]` profiles patterns of the suite (strided_st unless named) in the setting of
benchmarks.cpu and writes results/cpu-profile.json. By default on one thread, where the time of each step is its own;
`--threads` asks for more. `share` is of the whole pass; `python` is what lies between the operations.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import patternc
from benchmarks import record, suite
from benchmarks.cpu import HEAD_DIM, HEADS, LENGTH

STEPS = {
    "scores, softmax and values": (
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::bmm",
        "aten::baddbmm",
        "aten::exp_",
        "aten::amax",
    ),
    "merging": ("aten::lerp_", "aten::logaddexp", "aten::sigmoid", "aten::copy_"),
    "gathering keys": ("aten::index_select", "aten::index"),
    "looking for what is not finite": ("aten::aminmax",),
}
"""The operations of each step; others are few and small."""
PYTHON = "_Attention"
"""The function of the passes; its own time is what passes between operations."""


def profiled(case: suite.Case, n: int, repeats: int) -> list[dict[str, Any]]:
    """Rows of the table, for the fastest of some passes."""
    compiled = patternc.compile(case.path, heads=HEADS, backend="torch")
    given = {name: torch.as_tensor(array) for name, array in case.tensors(n).items()}
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, n, HEAD_DIM, generator=generator) for _ in range(3))
    compiled(q, k, v, **given)
    passes = []
    for _ in range(repeats):
        with profile(activities=[ProfilerActivity.CPU]) as found:
            compiled(q, k, v, **given)
        passes.append({event.key: (event.self_cpu_time_total, event.count) for event in found.key_averages()})
    best = min(passes, key=lambda times: sum(time for time, _ in times.values()))
    return _rows(case.name, best)


def _rows(name: str, times: dict[str, tuple[float, int]]) -> list[dict[str, Any]]:
    """By step, from microseconds and calls by operation."""
    total = sum(time for time, _ in times.values())
    steps = {**STEPS, "python": (PYTHON,)}
    named = {operation for operations in steps.values() for operation in operations}
    steps["other operations"] = tuple(operation for operation in times if operation not in named)
    rows = []
    for step, operations in steps.items():
        found = [times[operation] for operation in operations if operation in times]
        spent = sum(time for time, _ in found)
        calls = sum(count for _, count in found)
        rows.append({"pattern": name, "step": step, "ms": spent / 1e3, "share": spent / total, "operations": calls})
    return rows


def main() -> None:
    """Profiles the patterns named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["strided_st"])
    parser.add_argument("-n", type=int, default=LENGTH, help="tokens")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = [row for case in suite.CASES if case.name in given.names for row in profiled(case, given.n, given.repeats)]
    print(record.table(rows))
    print(record.write("cpu-profile", {"n": given.n, "heads": HEADS, "head_dim": HEAD_DIM, "rows": rows}))


if __name__ == "__main__":
    main()
