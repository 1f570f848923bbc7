"""Measure the Triton kernels on a GPU in several forms and with several options, without the compiler.

    python3 benchmarks/gpu_probe.py [--out FOLDER] [--n 16384] [--only NAME,NAME]

First every variant is compiled and checked at n = 2048 against dense attention, in several processes; then each is
timed alone by replays of a CUDA graph. Prints a table and writes FOLDER/probe.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADS, DIM = 16, 128
# FlexAttention on one H200, torch 2.11, bf16, 16 heads, n = 16384, D = 128: milliseconds forward and backward.
FLEX = {
    "causal": (2.741, 7.027), "local_causal": (0.436, 1.119), "longformer": (0.636, 1.344),
    "dilated_blocks": (0.485, 1.018), "sinks": (0.758, 2.394), "dilated_window16": (2.952, 7.290),
    "strided_st": (3.604, 8.278), "inblock_dil": (0.556, 1.309), "hier": (9.649, 20.44), "document": (0.272, 0.700),
}  # fmt: skip
MATMULS = {"forward": 2, "backward_queries": 3, "backward_keys": 4}


@dataclass(frozen=True)
class Variant:
    case: str
    name: str
    tile_q: int
    tile_k: int
    form: str
    """b: loads by descriptors where that can be done, p: by pointers; s: partial and full tiles in two loops."""
    warps: int
    stages: int
    registers: int | None = None
    processors: int = 0
    """For how many processors rows are cut; 0: not at all."""

    def __str__(self) -> str:
        limit = f" r{self.registers}" if self.registers else ""
        cut = f" c{self.processors}" if self.processors else ""
        return f"{self.tile_q}x{self.tile_k} {self.form} w{self.warps} s{self.stages}{limit}{cut}"


VARIANTS = {
    "forward": [
        (64, 64, "b", 4, 3), (64, 64, "b", 4, 2), (64, 64, "p", 4, 2), (64, 64, "p", 4, 3), (64, 64, "ps", 4, 3),
        (64, 64, "bs", 4, 3), (64, 64, "b", 4, 3, None, 528),
    ],
    "backward_queries": [
        (64, 64, "b", 4, 2), (64, 64, "p", 4, 2), (64, 64, "bs", 4, 2), (64, 64, "b", 4, 2, None, 528),
    ],
    "backward_keys": [
        (64, 64, "b", 4, 2), (64, 64, "p", 4, 2), (64, 64, "p", 8, 2), (64, 64, "b", 4, 2, None, 528),
    ],
}  # fmt: skip


def variants(only: list[str]) -> list[Variant]:
    import probe_patterns

    cases = [case.name for case in probe_patterns.cases() if not only or case.name in only]
    return [Variant(case, name, *options) for case in cases for name, rows in VARIANTS.items() for options in rows]


# ------------------------------------------------------------------ one variant


_kept: dict = {}


def setting(variant: Variant, n: int, heads: int):
    """The schedule of a variant's plan, and how many tiles it computes; plans are kept."""
    import probe_patterns
    import torch

    from patternc.backends.torch_arrays import TorchArrays
    from patternc.backends.triton_schedule import schedule
    from patternc.passes.balance import balance

    device = torch.device("cuda")
    case = next(c for c in probe_patterns.cases() if c.name == variant.case)
    key = (variant.case, variant.tile_q, variant.tile_k, n, heads)
    if key not in _kept:
        for other in [k for k in _kept if k[0] != variant.case]:
            del _kept[other]
        _kept[key] = (*probe_patterns.plan_of(case, n, heads, variant.tile_q, variant.tile_k, device), {})
    plan, masks, schedules = _kept[key]
    tiles = probe_patterns.tiles(plan)
    form = "s" in variant.form, variant.processors
    if form not in schedules:
        if variant.processors:
            cut = balance(plan, TorchArrays(torch.device("cpu")), variant.processors)
            masks = dict(zip(cut.launches, map(masks, plan.launches), strict=True)).__getitem__
            plan = cut
        schedules[form] = schedule(plan, masks, heads, 1, device, split=form[0], title=case.name)
    return case, schedules[form], tiles


def tensors(n: int, heads: int):
    import torch

    torch.manual_seed(0)
    shape = (1, heads, n, DIM)
    return [torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(4)]


def pass_of(variant: Variant, schedule, q, k, v, d_out, out=None, lse=None):
    """A function that runs the pass once."""
    from patternc.backends import triton_run
    from patternc.backends.triton_options import Options

    chosen = {variant.name: Options(variant.warps, variant.stages, variant.registers)}
    call = triton_run.Call(schedule, DIM**-0.5, options=chosen, boxes="b" in variant.form)
    if variant.name == "forward":
        return lambda: triton_run.forward(call, q, k, v)
    log, delta = triton_run._prepare(call, out, lse, d_out, None)
    shared = {"q_ptr": q, "k_ptr": k, "v_ptr": v, "d_out_ptr": d_out, "lse_ptr": log, "delta_ptr": delta}
    shared["alarm_ptr"] = triton_run.no_alarm(q.device)
    if variant.name == "backward_queries":
        return lambda: (triton_run._backward_queries(call, shared),)
    return lambda: triton_run._backward_keys(call, shared)


_references: dict = {}


def reference(name: str, n: int, heads: int):
    """Dense attention: in float64-like precision (float32 products in IEEE) and as eager bf16 computes it."""
    import probe_patterns
    import torch

    if name in _references:
        return _references[name]
    case = next(c for c in probe_patterns.cases() if c.name == name)
    i = torch.arange(n, device="cuda")
    ids = probe_patterns.doc_ids(n, torch.device("cuda"))
    m = torch.zeros(heads, n, n, device="cuda", dtype=torch.float64)
    for h in range(heads):
        for _, pieces in case.launches:
            for piece in pieces:
                more = (ids,) if case.documents else ()
                m[h] += piece.cells(i[:, None], i[None, :], h, *more)
    results = []
    for dtype in (torch.float64, torch.bfloat16):
        q, k, v, d_out = (t.to(dtype).requires_grad_() for t in tensors(n, heads))
        score = q @ k.mT * DIM**-0.5 + m.log().to(dtype)
        out = score.softmax(-1) @ v
        dq, dk, dv = torch.autograd.grad((out * d_out.detach()).sum(), (q, k, v))
        lse = score.double().logsumexp(-1)
        results.append([t.detach() for t in (out, lse, dq, dk, dv)])
    _references[name] = results
    return results


def check(variant: Variant) -> tuple[Variant, str]:
    """Compile, run at n = 2048, and compare; says what is wrong, or nothing."""
    try:
        n, heads = 2048, 4
        _, schedule, _ = setting(variant, n, heads)
        exact, eager = reference(variant.case, n, heads)
        q, k, v, d_out = tensors(n, heads)
        found = pass_of(variant, schedule, q, k, v, d_out, exact[0].bfloat16(), exact[1].float())()
        places = {"forward": (0, 1), "backward_queries": (2,), "backward_keys": (3, 4)}[variant.name]
        for place, result in zip(places, found, strict=True):
            error = (result.double() - exact[place]).abs().max().item()
            allowed = (
                2 * (eager[place].double() - exact[place]).abs().max().item()
                + 4 * 2**-8 * exact[place].abs().max().item()
            )
            if not error <= allowed:
                return variant, f"WRONG: error {error:.3g}, allowed {allowed:.3g}, result {place}"
        return variant, ""
    except Exception as error:  # the report says which variants cannot run, and why
        return variant, f"{type(error).__name__}: {str(error)[:150]}"


def compile_and_check(found: list[Variant], processes: int) -> dict[Variant, str]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        return dict(pool.imap_unordered(check, found, chunksize=4))


# ------------------------------------------------------------------ timing


def milliseconds(run, repeats: int = 15) -> float:
    """The median of replays of a CUDA graph of one call."""
    import torch

    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    for _ in range(3):
        graph.replay()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    marks[0].record()
    for mark in marks[1:]:
        graph.replay()
        mark.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in pairwise(marks))


def measure(found: list[Variant], n: int, deadline: float) -> list[dict]:
    q, k, v, d_out = tensors(n, HEADS)
    results, forwards = [], {}
    for variant in sorted(found, key=lambda x: (x.case, x.name != "forward")):
        if time.time() > deadline:
            print("out of time; left out the rest, from", variant, flush=True)
            break
        _, schedule, tiles = setting(variant, n, HEADS)
        if variant.name == "forward" and variant.case not in forwards:
            forwards.clear()
            forwards[variant.case] = pass_of(variant, schedule, q, k, v, d_out)()
        more = () if variant.name == "forward" else forwards[variant.case]
        time_ms = milliseconds(pass_of(variant, schedule, q, k, v, d_out, *more))
        flops = MATMULS[variant.name] * 2 * DIM * tiles * variant.tile_q * variant.tile_k
        results.append({**asdict(variant), "ms": time_ms, "tiles": tiles, "executed_tflops": flops / time_ms / 1e9})
    return results


def prepare_time(n: int) -> float:
    """Milliseconds of the kernel that makes delta."""
    from patternc.backends import triton_run

    variant = Variant("causal", "forward", 64, 64, "p", 4, 2)
    _, schedule, _ = setting(variant, n, HEADS)
    q, k, v, d_out = tensors(n, HEADS)
    out, lse = pass_of(variant, schedule, q, k, v, d_out)()
    call = triton_run.Call(schedule, DIM**-0.5)
    return milliseconds(lambda: triton_run._prepare(call, out, lse, d_out, None))


def report(results: list[dict], delta: float) -> None:
    for name in MATMULS:
        print(f"\n== {name}: ms (executed TFLOP/s), best first")
        for case in dict.fromkeys(r["case"] for r in results):
            rows = sorted((r for r in results if r["case"] == case and r["name"] == name), key=lambda r: r["ms"])
            shown = [
                f"{Variant(*(r[f] for f in Variant.__dataclass_fields__))}: {r['ms']:.3f} ({r['executed_tflops']:.0f})"
                for r in rows[:11]
            ]
            print(f"{case:17s} " + " | ".join(shown))
    print(f"\n== best of each pass; delta {delta:.3f} ms")
    print(f"{'pattern':17s} {'fwd':>7s} {'x flex':>7s} {'dq':>7s} {'dkv':>7s} {'bwd':>7s} {'x flex':>7s}")
    for case in dict.fromkeys(r["case"] for r in results):
        best = {
            m: min((r["ms"] for r in results if r["case"] == case and r["name"] == m), default=float("nan"))
            for m in MATMULS
        }
        backward = best["backward_queries"] + best["backward_keys"] + delta
        flex = FLEX.get(case, (float("nan"), float("nan")))
        print(
            f"{case:17s} {best['forward']:7.3f} {flex[0] / best['forward']:7.2f} {best['backward_queries']:7.3f} "
            f"{best['backward_keys']:7.3f} {backward:7.3f} {flex[1] / backward:7.2f}"
        )


def stage() -> None:
    """Put patternc together as it is installed, and let this process and its children import it."""
    folder = os.environ.get("PROBE_STAGE")
    if not folder:
        folder = tempfile.mkdtemp()
        for source, target in (
            ("patternc", "patternc"),
            ("grammar", "patternc/grammar"),
            ("backends", "patternc/backends"),
        ):
            shutil.copytree(ROOT / source, Path(folder, target))
        os.environ["PROBE_STAGE"] = folder
    sys.path[:0] = [folder, str(ROOT / "benchmarks")]


stage()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")))
    parser.add_argument("--n", type=int, default=16384)
    parser.add_argument("--only", default="")
    parser.add_argument("--processes", type=int, default=14)
    parser.add_argument("--seconds", type=float, default=330, help="when to stop measuring")
    given = parser.parse_args()
    begin = time.time()
    import torch
    import triton

    found = variants([name for name in given.only.split(",") if name])
    device, versions = torch.cuda.get_device_name(), {"torch": torch.__version__, "triton": triton.__version__}
    print(f"{len(found)} variants; {device}, {versions}", flush=True)
    verdicts = compile_and_check(found, given.processes)
    for variant, verdict in verdicts.items():
        if verdict:
            print("FAILED", variant.case, variant.name, variant, verdict)
    print(f"compiled and checked in {time.time() - begin:.0f} s", flush=True)
    good = [v for v in found if not verdicts[v]]
    results = measure(good, given.n, begin + given.seconds)
    delta = prepare_time(given.n)
    report(results, delta)
    written = {
        "command": "python3 benchmarks/gpu_probe.py", "date": time.strftime("%Y-%m-%d"), "n": given.n,
        "device": device, **versions, "delta_ms": delta, "results": results,
        "failed": {f"{v.case} {v.name} {v}": x for v, x in verdicts.items() if x},
    }  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    Path(given.out, "probe.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(f"{time.time() - begin:.0f} s in all")


if __name__ == "__main__":
    main()
