"""What a call costs on the host, next to scaled_dot_product_attention: `python -m benchmarks.host`, on a CUDA device,
writes results/host.json.

Sequences are short, so that the device is not what is waited for; microseconds, best of several rounds of calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import patternc
from benchmarks import record

DENSE = "scaled_dot_product_attention"
PATTERNS = {
    "causal, one launch": ("pattern p() = causal", 0.0),
    "strided, two launches": (
        "pattern p() = causal & ({ q -> k : q - k < 96 } if h % 2 == 0 else { q -> k : (q - k) % 32 == 0 })",
        0.0,
    ),
    "window with dropout": ("pattern p() = { q -> k : 0 <= q - k < 128 }", 0.1),
}
HEADS, TOKENS, CHANNELS = 8, 256, 128
CALLS, ROUNDS = 50, 8


def microseconds(call: Callable[[], Any]) -> float:
    """On the host, of one call."""
    best = float("inf")
    for _ in range(ROUNDS + 1):  # the first round warms up
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(CALLS):
            call()
        best = min(best, time.perf_counter() - begin)
    torch.cuda.synchronize()
    return best / CALLS * 1e6


def measured(attention: Callable[..., torch.Tensor]) -> tuple[float, float]:
    """Forward without gradients, and forward with backward."""
    shape = 1, HEADS, TOKENS, CHANNELS
    q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    d_out = torch.randn_like(q)
    with torch.no_grad():
        forward = microseconds(lambda: attention(q, k, v))
    return forward, microseconds(lambda: torch.autograd.grad(attention(q, k, v), (q, k, v), d_out))


def main() -> None:
    dense = torch.nn.functional.scaled_dot_product_attention
    contenders: dict[str, Callable[..., torch.Tensor]] = {DENSE: lambda q, k, v: dense(q, k, v, is_causal=True)}
    for name, (text, dropout_p) in PATTERNS.items():
        contenders[name] = partial(patternc.compile(text, heads=HEADS, backend="triton"), dropout_p=dropout_p)
    rows = []
    print(f"{'':32}forward  forward and backward, us")
    for name, attention in contenders.items():
        forward, both = measured(attention)
        print(f"{name:32}{forward:7.1f}  {both:7.1f}", flush=True)
        rows.append({"call": name, "forward_us": forward, "forward_backward_us": both})
    shape = {"tokens": TOKENS, "heads": HEADS, "head_dim": CHANNELS, "dtype": "bfloat16"}
    print(record.write("host", {**shape, "rows": rows}, torch.device("cuda")))


if __name__ == "__main__":
    main()
