"""Seconds from the text of a pattern to its first output: `python -m benchmarks.first_call`, on a CUDA device, writes
results/first-call.json.

Each figure is the median of some processes, which have imported torch and Triton and used the device before. `cold`:
with empty caches on disk, so that kernels are compiled. `warm`: the same pattern in another process, with what the
first one left on disk. `read`: the same again, after Triton has read its own files, which it does once in a process
before it finds a kernel. `next`: in that process, another pattern of a structure whose kernels are on disk. `length`:
a length that is new, of a pattern that is not.

Parts: `compile`, the text to the program; `load`, the backend's modules and masks; `plan`; `find`, kernels in the
caches or by compiling, of it `lookup` by Triton once its files are read; `start`, the rest. `files` is what Triton
needs to read its files, in a thread beside all that.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import triton.language  # noqa: F401 (there before the clock runs)

import patternc
from benchmarks import record
from patternc.backends import triton_adapter

HEADS, TOKENS, CHANNELS = 8, 4096, 64
PATTERNS = {
    "window": ("{{ q -> k : 0 <= q - k < {0} }}", (300, 200)),
    "strided": (
        "causal & ({{ q -> k : q - k < {0} }} if h % 2 == 0 else {{ q -> k : (q - k) % 32 == 0 }})",
        (96, 120),
    ),
}
PROCESSES = 3
"""With warm caches; their median counts. One has cold ones."""


def seconds(compiled: patternc.Compiled | None, text: str, n: int) -> tuple[patternc.Compiled, dict[str, float]]:
    """What it takes to compile, unless that is done, and to have an output, by parts."""
    q = torch.zeros(1, HEADS, n, CHANNELS, device="cuda", dtype=torch.bfloat16)
    torch.cuda.synchronize()
    parts: dict[str, float] = {}
    with ExitStack() as watching, watched(parts, "total"):
        watching.enter_context(watch(parts, "files", triton_adapter, "_read_triton"))
        with watched(parts, "compile"):
            compiled = compiled or patternc.compile(f"pattern p() = {text}", heads=HEADS)
        with watched(parts, "load"):
            compiled._artifact("triton")
            launch, executor = (import_module(f"patternc.backends.triton_{name}") for name in ("launch", "executor"))
        watching.enter_context(watch(parts, "lookup", triton_adapter, "_warmed"))
        watching.enter_context(watch(parts, "find", launch, "prepare"))
        watching.enter_context(watch(parts, "plan", executor.KernelExecutor, "_make"))
        compiled(q, q, q)
        torch.cuda.synchronize()
    beside = sum(parts.get(name, 0.0) for name in ("compile", "load", "find", "plan"))
    return compiled, {**parts, "start": parts["total"] - beside}


@contextmanager
def watched(parts: dict[str, float], part: str) -> Iterator[None]:
    """Adds to a part what the block takes."""
    start = time.perf_counter()
    yield
    parts[part] = parts.get(part, 0.0) + time.perf_counter() - start


@contextmanager
def watch(parts: dict[str, float], part: str, owner: Any, name: str) -> Iterator[None]:
    """Adds to a part what calls of a function take."""
    original = getattr(owner, name)

    def timed(*args: Any, **options: Any) -> Any:
        with watched(parts, part):
            return original(*args, **options)

    setattr(owner, name, timed)
    yield
    setattr(owner, name, original)


def in_this_process(name: str, read: bool) -> dict[str, dict[str, float]]:
    """The first output of the process, that of the next pattern, and at another length."""
    torch.ones(64, 64, device="cuda").matmul(torch.ones(64, 64, device="cuda"))
    if read:
        triton_adapter.look_ahead().join()
    text, values = PATTERNS[name]
    compiled, first = seconds(None, text.format(values[0]), TOKENS)
    _, following = seconds(None, text.format(values[1]), TOKENS)
    _, length = seconds(compiled, text, TOKENS - 100)
    return {"first": first, "next": following, "length": length}


def in_another(name: str, caches: Path, *read: str) -> dict[str, dict[str, float]]:
    """The same in a process of its own, with these caches."""
    places = {"XDG_CACHE_HOME": str(caches / "own"), "TRITON_CACHE_DIR": str(caches / "triton")}
    command = [sys.executable, "-m", "benchmarks.first_call", name, *read]
    done = subprocess.run(command, env={**os.environ, **places}, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def median(found: list[dict[str, float]]) -> dict[str, float]:
    """In seconds, to a tenth of a millisecond."""
    return {part: round(statistics.median(one[part] for one in found), 4) for part in found[0]}


def measured(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as caches:
        cold = in_another(name, Path(caches))
        runs = [in_another(name, Path(caches)) for _ in range(PROCESSES)]
        read = [in_another(name, Path(caches), "read") for _ in range(PROCESSES)]
    warm, following, length = (median([run[key] for run in runs]) for key in ("first", "next", "length"))
    return {
        "pattern": name, "cold": median([cold["first"]]), "warm": warm, "read": median([run["first"] for run in read]),
        "next": following, "length": length,
    }  # fmt: skip


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(in_this_process(sys.argv[1], read="read" in sys.argv[2:])))
        return
    rows = [measured(name) for name in PATTERNS]
    for row in rows:
        kinds = ("cold", "warm", "read", "next", "length")
        print(row["pattern"], *(f"{kind} {row[kind]['total']:.3f} s" for kind in kinds))
    shape = {"tokens": TOKENS, "heads": HEADS, "head_dim": CHANNELS, "dtype": "bfloat16", "processes": PROCESSES}
    print(record.write("first-call", {**shape, "rows": rows}, torch.device("cuda")))


if __name__ == "__main__":
    main()
