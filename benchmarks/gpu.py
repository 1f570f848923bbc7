"""The triton backend on a GPU against FlexAttention and dense attention, forward and backward, side by side.

`python -m benchmarks.gpu` measures the suite in bfloat16 at 16,384 tokens, 16 heads of 128 channels, and writes
results/attention-gpu.json. The contenders take turns on the same inputs, each as a CUDA graph of one pass, so that the
device's time alone is counted; figures are medians. FlexAttention is compiled with `dynamic=False`; its BlockMask and
our plan are made beforehand, also those that hang on run-time tensors. `wanted` is the share of pairs that the pattern
keeps, `padding` the pairs computed over these. Useful TFLOP/s count wanted pairs only: 4 · D flops each forward, 2.5
times as many backward. Kernels are compiled before, in a process for each pattern.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

import patternc
from benchmarks import record, suite

HEADS, DIM, DTYPE = 16, 128, torch.bfloat16
REPEATS, WARM = 50, 3
MaskMod = Callable[[Any, Any, Any, Any], torch.Tensor]
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Run = Callable[[], Any]


# ------------------------------------------------------------------ the contenders


def mask_mod(name: str, tensors: Mapping[str, torch.Tensor]) -> MaskMod | None:
    """The pattern as a user of FlexAttention writes it; None where that cannot be done."""
    ids = tensors.get("ids")
    mods: dict[str, MaskMod] = {
        "causal": lambda b, h, q, k: q >= k,
        "local_causal": lambda b, h, q, k: (q >= k) & (q - k < 1024),
        "longformer": lambda b, h, q, k: ((q - k).abs() <= 256) | (q < 128) | (k < 128),
        "dilated_blocks": lambda b, h, q, k: _blocks((q // 64 - k // 64).abs()),
        "sinks": lambda b, h, q, k: (q >= k) & ((q - k < 2048) | (k < 64)),
        "dilated_window16": lambda b, h, q, k: ((q - k).abs() <= 4096) & (q % 16 == k % 16),
        "strided_st": lambda b, h, q, k: (q >= k) & ((q - k < 128) | (q % 128 == k % 128)),
        "inblock_dil": lambda b, h, q, k: ((q // 256 - k // 256).abs() <= 2) & ((k % 256 < 128) | (k % 2 == 0)),
        "hier": lambda b, h, q, k: ((q - k).abs() <= 64) | (((q - k).abs() <= 256) & (k % 4 == 0)) | (k % 16 == 0),
        "document": lambda b, h, q, k: (q >= k) & (ids[q] == ids[k]),  # type: ignore[index]
    }
    return mods.get(name)


def _blocks(distance: torch.Tensor) -> torch.Tensor:
    return (distance == 0) | (distance == 1) | (distance == 2) | (distance == 4) | (distance == 8)


def ours(case: suite.Case, tensors: Mapping[str, torch.Tensor]) -> tuple[Attention, Any]:
    """Attention, and the executor that keeps its plan."""
    compiled = patternc.compile(case.path, heads=HEADS, backend="triton")
    executor = compiled._artifact("triton").executor  # type: ignore[attr-defined]
    executor.ready = partial(executor.ready, again=True)  # plan once with run-time tensors, too
    return lambda q, k, v: compiled(q, k, v, **tensors), executor


def flex(case: suite.Case, n: int, tensors: Mapping[str, torch.Tensor]) -> Attention | None:
    mod = mask_mod(case.name, tensors)
    if mod is None:
        return None
    block_mask: BlockMask = create_block_mask(mod, None, None, n, n, device="cuda", _compile=True)
    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda q, k, v: compiled(q, k, v, block_mask=block_mask)


def contenders(case: suite.Case, n: int, tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, Attention], Any]:
    torch._dynamo.reset()  # every pattern is compiled anew, and has no say in how the next one is
    mine, executor = ours(case, tensors)
    found: dict[str, Attention] = {"ours": mine, "dense": scaled_dot_product_attention}
    if (peer := flex(case, n, tensors)) is not None:
        found["flex"] = peer
    return found, executor


def drawn(case: suite.Case, n: int) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(array, device="cuda") for name, array in case.tensors(n).items()}


def inputs(n: int) -> list[torch.Tensor]:
    generator = torch.Generator("cuda").manual_seed(0)
    return [torch.randn(1, HEADS, n, DIM, device="cuda", dtype=DTYPE, generator=generator) for _ in range(4)]


def warm(name: str, n: int) -> tuple[str, int]:
    """In a process of its own: compile all kernels of a pattern into the caches on disk, and count wanted pairs."""
    case = next(case for case in suite.CASES if case.name == name)
    begin = time.monotonic()
    wanted = case.wanted(n, HEADS, **case.tensors(n))
    counted = time.monotonic()
    q, k, v, d_out = inputs(n)
    for attention in contenders(case, n, drawn(case, n))[0].values():
        given = [t.detach().requires_grad_() for t in (q, k, v)]
        torch.autograd.grad(attention(*given), given, d_out)
    torch.cuda.synchronize()
    print(f"{name}: counted in {counted - begin:.0f} s, compiled in {time.monotonic() - counted:.0f} s", flush=True)
    return name, wanted


# ------------------------------------------------------------------ measuring


def captured(run: Run) -> tuple[torch.cuda.CUDAGraph, Any]:
    """One call as a graph, and what it returned."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        result = run()
    return graph, result


def graphs(attention: Attention, given: Sequence[torch.Tensor]) -> tuple[dict[str, torch.cuda.CUDAGraph], list[Any]]:
    """The passes as graphs, and output and gradients."""
    q, k, v, d_out = given
    leaves = [t.detach().requires_grad_() for t in (q, k, v)]
    for _ in range(2):
        out = attention(*leaves)
        gradients = torch.autograd.grad(out, leaves, d_out, retain_graph=True)
    with torch.no_grad():
        forward, _ = captured(lambda: attention(q, k, v))
    backward, gradients = captured(lambda: torch.autograd.grad(out, leaves, d_out, retain_graph=True))
    backward.replay()
    return {"forward": forward, "backward": backward}, [out.detach(), *gradients]


def medians(runs: Mapping[str, Run], repeats: int) -> dict[str, float]:
    """Milliseconds of each, in turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(WARM + repeats):
        marks = []
        for name, run in runs.items():
            pair = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            pair[0].record()
            run()
            pair[1].record()
            marks.append((name, pair))
        torch.cuda.synchronize()
        if turn >= WARM:
            for name, (start, stop) in marks:
                times[name].append(start.elapsed_time(stop))
    return {name: statistics.median(found) for name, found in times.items()}


def difference(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> float:
    """The largest difference of outputs and gradients, relative to the largest value of each."""
    pairs = zip(a, b, strict=True)
    return max(float((x.float() - y.float()).abs().max() / y.float().abs().max()) for x, y in pairs)


def computed_pairs(executor: Any) -> int:
    """Pairs in the tiles of the plan that was made last, over all heads."""
    (*_, made) = executor._kept.values() or [found for *_, found in executor._drawn.values()]
    plan = made.plan
    tiles = sum(len(la.heads) * int(t.by_query.count.sum()) for la in plan.launches for t in la.terms)
    return tiles * plan.tile_q * plan.tile_k


def measured(case: suite.Case, n: int, wanted: int, repeats: int) -> dict[str, Any]:
    """A row of the table."""
    tensors, given = drawn(case, n), inputs(n)
    attentions, executor = contenders(case, n, tensors)
    passes, results = {}, {}
    for name, attention in attentions.items():
        passes[name], results[name] = graphs(attention, given)
    row: dict[str, Any] = {
        "pattern": case.name,
        "wanted": wanted / (HEADS * n * n),
        "padding": computed_pairs(executor) / wanted,
        "difference": difference(results["ours"], results["flex"]) if "flex" in results else math.nan,
    }
    for direction, factor in (("forward", 1.0), ("backward", 2.5)):
        found = medians({name: graph[direction].replay for name, graph in passes.items()}, repeats)
        short = {"forward": "fwd", "backward": "bwd"}[direction]
        row[f"{short} ms"] = found["ours"]
        row[f"{short} TFLOP/s"] = factor * 4 * DIM * wanted / found["ours"] / 1e9
        for peer in ("flex", "dense"):
            row[f"{short} {peer} ms"] = found.get(peer, math.nan)
            row[f"{short} x {peer}"] = found.get(peer, math.nan) / found["ours"]
    return row


def means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Geometric means of the ratios."""
    result = {}
    for key in rows[0]:
        if " x " in key:
            found = [row[key] for row in rows if not math.isnan(row[key])]
            result[key] = statistics.geometric_mean(found) if found else math.nan
    return result


def main() -> None:
    """Measures the suite, or the patterns named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=suite.LENGTH, help="tokens")
    parser.add_argument("--only", default="", help="names of patterns, with commas between")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--seconds", type=float, default=400, help="no pattern is begun after these")
    given = parser.parse_args()
    begin = time.monotonic()
    names = [name for name in given.only.split(",") if name]
    chosen = [case for case in suite.CASES if case.name in names] if names else list(suite.SUITE)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # in the workers, which are as many as the cores
    workers = min(len(chosen), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        wanted = dict(pool.map(partial(warm, n=given.n), [case.name for case in chosen]))
    print(f"compiled after {time.monotonic() - begin:.0f} s", flush=True)
    rows = []
    with torch.cuda.stream(torch.cuda.Stream()):  # graphs are captured where the forward pass ran
        for case in chosen:
            if time.monotonic() - begin > given.seconds:
                print("out of time; left out from", case.name)
                break
            rows.append(measured(case, given.n, wanted[case.name], given.repeats))
            print(record.table(rows[-1:]), flush=True)
    print("\n" + record.table(rows))
    print("\ngeometric means: " + ", ".join(f"{key} {value:.3g}" for key, value in means(rows).items()))
    shape = {"n": given.n, "heads": HEADS, "head_dim": DIM, "dtype": "bfloat16", "repeats": given.repeats}
    gpu = {"gpu": torch.cuda.get_device_name(), "triton": __import__("triton").__version__}
    if not names:
        print(record.write("attention-gpu", {**gpu, **shape, "means": means(rows), "rows": rows}))
    print(f"{time.monotonic() - begin:.0f} s in all")


if __name__ == "__main__":
    main()
