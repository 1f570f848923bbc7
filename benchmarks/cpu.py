"""The torch backend on a CPU against dense attention with a mask, forward and backward, side by side.

`python -m benchmarks.cpu [NAME …]` runs the suite, or the patterns named, at 8,192 tokens, 8 heads of 64 channels, in
float32, alternating with `scaled_dot_product_attention` on the same inputs, and writes results/attention-cpu.json.
`--threads 1` asks for one thread in place of all cores, and writes results/attention-cpu-1-thread.json. `ratio` is the
dense time over ours; `ratio x wanted` is 1 when the time is in proportion to the pairs that are wanted. Masks and plans
are made beforehand; run-time tensors are the same in every call.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

import patternc
from benchmarks import record, suite

LENGTH, HEADS, HEAD_DIM = 8192, 8, 64
Tensors = Sequence[torch.Tensor]
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def dense_attention(case: suite.Case, n: int, **tensors: Any) -> tuple[Attention, float]:
    """Dense attention under the pattern's mask, and the share of pairs that it wants. The mask is of truth values,
    or of log M where the pattern is a bag."""
    m = torch.stack([torch.as_tensor(case.multiplicities(n, h=h, **tensors)) for h in range(case.kinds)])
    wanted = float((m > 0).float().mean())
    mask = torch.log(m.float()) if int(m.max()) > 1 else m > 0

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        folded = [x.reshape(HEADS // case.kinds, case.kinds, n, HEAD_DIM) for x in (q, k, v)]  # a mask for each kind
        return scaled_dot_product_attention(*folded, attn_mask=mask[None]).reshape(q.shape)

    return attention, wanted


def timed(attention: Attention, inputs: Tensors, dout: torch.Tensor) -> tuple[float, float, torch.Tensor]:
    """Seconds of the forward and of the backward pass, and the output."""
    q, k, v = (x.detach().requires_grad_() for x in inputs)
    start = time.perf_counter()
    out = attention(q, k, v)
    middle = time.perf_counter()
    torch.autograd.grad(out, (q, k, v), dout)
    return middle - start, time.perf_counter() - middle, out.detach()


def measured(case: suite.Case, n: int, repeats: int) -> dict[str, Any]:
    """A row of the table; AssertionError if the outputs differ."""
    tensors = case.tensors(n)
    compiled = patternc.compile(case.path, heads=HEADS, backend="torch")
    given = {name: torch.as_tensor(array) for name, array in tensors.items()}
    dense, wanted = dense_attention(case, n, **tensors)
    generator = torch.Generator().manual_seed(0)
    *inputs, dout = (torch.randn(1, HEADS, n, HEAD_DIM, generator=generator) for _ in range(4))
    contenders: dict[str, Attention] = {"dense": dense, "ours": lambda q, k, v: compiled(q, k, v, **given)}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    outs = {}
    for turn in range(repeats + 1):
        for name, attention in contenders.items():
            forward, backward, outs[name] = timed(attention, inputs, dout)
            if turn:  # the first is for warming up
                times[name].append((forward, backward))
    torch.testing.assert_close(outs["ours"], outs["dense"], rtol=1e-4, atol=1e-4)
    row: dict[str, Any] = {"pattern": case.name, "wanted": wanted}
    for i, direction in enumerate(("forward", "backward")):
        median = {name: statistics.median(pair[i] for pair in pairs) for name, pairs in times.items()}
        ratio = median["dense"] / median["ours"]
        row |= {f"{direction} {name} ms": seconds * 1e3 for name, seconds in median.items()}
        row |= {f"{direction} ratio": ratio, f"{direction} ratio x wanted": ratio * wanted}
    return row


def main() -> None:
    """Measures the patterns named on the command line, or the suite."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("-n", type=int, default=LENGTH, help="tokens")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    chosen = [case for case in suite.CASES if case.name in given.names] if given.names else list(suite.SUITE)
    rows = []
    for case in chosen:
        print(case.name, flush=True)
        rows.append(measured(case, given.n, given.repeats))
    print(record.table(rows))
    if not given.names:
        shape = {
            "n": given.n,
            "heads": HEADS,
            "head_dim": HEAD_DIM,
            "dtype": "float32",
            "repeats": given.repeats,
            "threads": torch.get_num_threads(),
        }
        name = "attention-cpu" + "-1-thread" * (given.threads == 1)
        print(record.write(name, {**shape, "rows": rows}))


if __name__ == "__main__":
    main()
