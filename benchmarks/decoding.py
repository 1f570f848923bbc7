"""Decoding steps of the triton backend beside dense attention over the same cache, on a CUDA device.

`benchmarks/run.sh decoding` measures single queries in bfloat16, 32 heads over 8 key heads of 128 channels, at
successive lengths from about 4 thousand, 65 thousand and a million tokens on, and writes results/decoding.json;
`--only NAME,NAME` measures some patterns and writes nothing. The cache has room for all lengths, and each step reads a
view of it, token by token as in decoding. Of the steps there are four times, in microseconds:

- `host_us`: until the call returns; `wall_us`: until its result is there. Medians over the lengths; `longest_us` is the
  longest of the latter: of ours that of the step that makes a plan.
- `device_us`: the kernels alone, out of empty caches, at some of the lengths; see patternc/bench/clocks.py.

Dense attention is `scaled_dot_product_attention` with grouped heads: by its flash kernel, and by that of cuDNN, which
PyTorch prefers on some devices, and which is prepared anew for each length.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

import patternc
from benchmarks import record
from benchmarks.turns import in_turns
from patternc.bench.clocks import Clock, clock_of

HEADS, KV_HEADS, DIM, DTYPE = 32, 8, 128, torch.bfloat16
LENGTHS = (4_000, 65_500, 1_048_500)
STEPS = 128
"""Successive lengths; at one of them a plan is made, for the next 1,024."""
DEVICE_STEPS = 16
"""Of these, evenly spread, times on the device."""
PATTERNS: dict[str, tuple[str, dict[str, Any]]] = {
    "causal": ("pattern p() = causal", {}),
    "window": ("std/local", {"window": 1024}),
    "sinks": ("pattern p() = causal & ({ q -> k : q - k < 1024 } | { q -> k : k < 4 })", {}),
    "strided": ("std/strided", {"l": 128}),
    "columns": ("pattern p() = causal & ({ q -> k : q - k < 512 } | { q -> k : (q - k) % 128 == 0 })", {}),
    "longnet": ("std/longnet", {}),
}
CUDNN_STEPS = 6
"""Lengths at which cuDNN is measured, for it takes tens of milliseconds."""
Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]


@dataclass(frozen=True)
class Row:
    """A contender at lengths from n on."""

    pattern: str
    n: int
    contender: str
    host_us: float
    wall_us: float
    longest_us: float
    device_us: float


def by_cudnn(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Dense attention by cuDNN's kernel."""
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return scaled_dot_product_attention(q, k, v, enable_gqa=True)


def contenders(name: str) -> dict[str, Step]:
    source, params = PATTERNS[name]
    ours = patternc.compile(source, heads=HEADS, kv_heads=KV_HEADS, backend="triton", **params)
    dense = partial(scaled_dot_product_attention, enable_gqa=True)
    return {"ours": ours, "dense": dense, "dense, cuDNN": by_cudnn}


@dataclass(frozen=True)
class Cache:
    """The query of a step, and keys and values of all."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor

    @classmethod
    def of(cls, n: int) -> Cache:
        draw = partial(torch.randn, device="cuda", dtype=DTYPE)
        k, v = (draw(1, KV_HEADS, n, DIM) for _ in range(2))
        return cls(draw(1, HEADS, 1, DIM), k, v)

    def step(self, run: Step, n: int) -> Any:
        return run(self.q, self.k[:, :, :n], self.v[:, :, :n])


def waited(clock: Clock, run: Callable[[], Any]) -> tuple[float, float]:
    """Microseconds until a call returns, and until its result is there."""
    clock.settle()
    begin = time.perf_counter()
    run()
    returned = time.perf_counter()
    clock.settle()
    return (returned - begin) * 1e6, (time.perf_counter() - begin) * 1e6


def measured(name: str, first: int, rivals: dict[str, Step], clock: Clock) -> list[Row]:
    """All contenders at successive lengths from `first` on."""
    cache, rows = Cache.of(first + STEPS), []
    for rival, run in rivals.items():
        lengths = range(first, first + (CUDNN_STEPS if run is by_cudnn else STEPS))
        cache.step(run, first)
        waits = [waited(clock, partial(cache.step, run, n)) for n in lengths]
        readings = [clock.timed(partial(cache.step, run, n))[1] for n in lengths[:: -(-len(lengths) // DEVICE_STEPS)]]
        clock.settle()
        host, wall = ([times[i] for times in waits] for i in (0, 1))
        device = median(read() for read in readings) * 1e3
        rows.append(Row(name, first, rival, median(host), median(wall), max(wall), device))
    return rows


@dataclass(frozen=True)
class Job:
    """Measures a pattern by name; see `turns.Job`."""

    lengths: tuple[int, ...]

    def __call__(self, name: str, turn: Callable[[], None]) -> list[Row]:
        rivals = contenders(name)
        torch.backends.cuda.enable_cudnn_sdp(False)
        with torch.inference_mode():
            for n in self.lengths:  # compiles
                cache = Cache.of(n + STEPS)
                for run in rivals.values():
                    cache.step(run, n)
            torch.cuda.synchronize()
            turn()
            clock = clock_of(torch.device("cuda"))
            return [row for n in self.lengths for row in measured(name, n, rivals, clock)]


def main() -> None:
    """Measures all patterns, or those named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of patterns, with commas between")
    parser.add_argument("--seconds", type=float, default=300, help="no pattern is begun after these")
    given = parser.parse_args()
    names = [name for name in given.only.split(",") if name] or list(PATTERNS)
    rows: list[dict[str, Any]] = []
    for _, found in in_turns(Job(LENGTHS), names, given.seconds):
        rows += map(asdict, found)
        print(record.table(list(map(asdict, found))), flush=True)
    if {row["pattern"] for row in rows} == set(PATTERNS):
        shape = {"heads": HEADS, "kv_heads": KV_HEADS, "head_dim": DIM, "dtype": "bfloat16", "steps": STEPS}
        print(record.write("decoding", {**shape, "rows": rows}, torch.device("cuda")))


if __name__ == "__main__":
    main()
