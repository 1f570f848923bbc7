"""The triton backend on a GPU beside FlexAttention and dense attention, forward and backward.

`benchmarks/run.sh gpu` measures the suite in bfloat16 at 16,384 tokens, 16 heads of 128 channels, and writes
results/attention-gpu.json; `--only NAME,NAME` measures some patterns and writes nothing. Each pattern has a process of
its own, in which all contenders take turns on the same inputs; all kernels are compiled before the first pattern is
measured, and one process measures at a time.

FlexAttention has masks written by hand, for longnet those of our flex backend. Its BlockMask is made beforehand, and so
is our plan; of `document`, whose ids come with each call, our plan is made in every call, and FlexAttention is measured
without and with its mask. `inblock_dil` stands beside the pattern of its whole blocks, compiled by us too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

import patternc
from benchmarks import flex_masks, record, suite
from benchmarks.turns import in_turns
from patternc.bench.bench import bench
from patternc.bench.clocks import clock_of
from patternc.bench.contenders import Contender, Size, dense, flex, inputs, no_flash, ours, resolved
from patternc.bench.measure import Effort, tried
from patternc.bench.rows import Row, means, table

HEADS, DIM, DTYPE = 16, 128, torch.bfloat16
REPEATS, SECONDS = 50, 30.0
WHOLE_BLOCKS = "pattern whole_blocks() = blocks(256) { q -> k : abs(q - k) <= 2 }"
"""`inblock_dil` without the comb in the blocks."""


def peers(
    case: suite.Case, compiled: patternc.Compiled, size: Size, tensors: Mapping[str, torch.Tensor]
) -> tuple[list[Contender], dict[str, str]]:
    """The contenders beside ours, and why others are missing."""
    found, missing = [dense("dense", grouped=False)], {}
    if case.name == "causal":
        found.append(dense("causal", grouped=False))
    mask_mod = flex_masks.mask_mod(case.name, tensors)
    if reason := no_flash(size.device):
        missing["flash"] = reason
    names = ["flex"] if reason else ["flex", "flash"]
    if mask_mod is None:
        there, _ = resolved(names, compiled, size, tensors)
        found += there
    else:
        blocks = block_mask(mask_mod, size)
        found += [flex(name, blocks) for name in names]
        found += [with_mask(mask_mod, size)] if tensors else []
    if case.name == "inblock_dil":
        whole = patternc.compile(WHOLE_BLOCKS, heads=HEADS, backend="triton")
        found.append(ours(whole, {}, "whole blocks"))
    return found, missing


def block_mask(mask_mod: flex_masks.MaskMod, size: Size) -> BlockMask:
    return create_block_mask(mask_mod, None, None, size.n, size.n, device=str(size.device))


def with_mask(mask_mod: flex_masks.MaskMod, size: Size) -> Contender:
    """FlexAttention that makes its mask in every call, without compiling what makes it: for masks that read tensors,
    Triton 3.6 was not done with that after 80 seconds."""
    call = torch.compile(flex_attention, dynamic=False)

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return call(q, k, v, block_mask=block_mask(mask_mod, size))

    return Contender("flex and mask", attention)


@dataclass(frozen=True)
class Job:
    """Measures a pattern of the suite by name; see `turns.Job`."""

    n: int
    device: str
    effort: Effort

    def __call__(self, name: str, turn: Callable[[], None]) -> Row:
        case = next(case for case in suite.CASES if case.name == name)
        size = Size(self.n, DIM, DTYPE, torch.device(self.device))
        tensors = {key: torch.as_tensor(array, device=size.device) for key, array in case.tensors(self.n).items()}
        compiled = patternc.compile(case.path, heads=HEADS, backend="triton")
        beside, missing = peers(case, compiled, size, tensors)
        given = inputs(HEADS, HEADS, size)
        for contender in [ours(compiled, tensors), *beside]:
            begin = time.monotonic()
            tried(contender, given)  # compiles
            clock_of(size.device).settle()
            print(f"{name}: {contender.name} prepared in {time.monotonic() - begin:.0f} s", flush=True)
        turn()
        return bench(compiled, size, tensors, beside, self.effort, name=name, missing=missing)


def main() -> None:
    """Measures the suite, or the patterns named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=suite.LENGTH, help="tokens")
    parser.add_argument("--only", default="", help="names of patterns, with commas between")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=600, help="no pattern is begun after these")
    given = parser.parse_args()
    names = [name for name in given.only.split(",") if name]
    chosen = names or [case.name for case in suite.SUITE]
    found: list[Row] = []
    for _, row in in_turns(Job(given.n, given.device, Effort(given.repeats, SECONDS)), chosen, given.seconds):
        print(table([row]), dict(row.missing) or "", flush=True)
        found.append(row)
    if not found:
        raise SystemExit("nothing could be measured")
    print("\n" + table(found))
    averages = means(found)
    for direction, by_peer in averages.items():
        print(f"{direction}, geometric means: " + ", ".join(f"x {peer} {x:.3g}" for peer, x in by_peer.items()))
    if len(found) == len(suite.SUITE):
        shape = {"n": given.n, "heads": HEADS, "head_dim": DIM, "dtype": "bfloat16", "repeats": given.repeats}
        result = {**shape, "means": averages, "rows": [asdict(row) for row in found]}
        print(record.write("attention-gpu", result, torch.device(given.device)))


if __name__ == "__main__":
    main()
