"""The prices of patternc/machine.py, fitted to times of the triton backend on a GPU.

`benchmarks/run.sh costs` measures families of patterns whose tiles are known: more or fewer full tiles, partial tiles,
keys from a list, several terms in a launch, several launches. The time of a pass is taken for a sum of prices, each
times what the plan has of it, and the prices that fit best (least squares of relative errors) are written to
results/costs.json beside all that was measured, in the unit of machine.py: pairs of a full tile.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

import patternc
from benchmarks import record, suite
from benchmarks.turns import in_turns
from patternc.bench.bench import executed
from patternc.bench.clocks import clock_of
from patternc.bench.contenders import Contender, Size, inputs, ours
from patternc.bench.measure import Effort, Times, alternated, tried
from patternc.plan import PARTIAL, Launch, Plan

HEADS, DIM, DTYPE = 16, 128, torch.bfloat16
EFFORT = Effort(30, 10.0)
OWN = "{ q -> k : q // w == k // w }"
FAMILIES: dict[str, tuple[str, Sequence[Mapping[str, int]]]] = {
    "full": (f"pattern p(w: tokens) = {OWN}", [{"w": w} for w in (256, 512, 1024, 2048, 4096)]),
    "modulus": (
        f"pattern p(w: tokens) = {OWN} & {{ q -> k : (q ^ k) % 64 != 5 }}",
        [{"w": w} for w in (256, 512, 1024, 2048, 4096)],
    ),
    "window": ("pattern p(w: tokens) = { q -> k : 0 <= q - k < w }", [{"w": w} for w in (256, 512, 1024, 2048, 4096)]),
    "comb": ("pattern p(s: int) = { q -> k : k % s == 0 }", [{"s": s} for s in (64, 32, 16, 8)]),
    "listed": ("pattern p(c: int) = { q -> k : (k ^ k // 64) % 64 < c }", [{"c": c} for c in (1, 2, 4, 8)]),
    "terms": (
        "pattern p(w: tokens, far: tokens) = { q -> k : q // w == k // w"
        " or (q // w != k // w and q // far == k // far and k % 4 == 0) or (q // far != k // far and k % 16 == 0) }",
        [{"w": w, "far": far} for w, far in ((512, 1024), (512, 2048), (512, 4096), (1024, 4096), (1024, 8192))],
    ),
    "hier": (
        (suite.HERE / "suite" / "hier.spat").read_text(encoding="utf-8"),
        [{"near": near, "reach": reach} for near, reach in ((64, 256), (64, 1024), (256, 1024), (512, 2048))],
    ),
    "launches": (
        "pattern p(w: tokens) = { q -> k : q // w == k // w or (q // w != k // w and (q - k) % 128 == 0) }",
        [{"w": w} for w in (128, 256, 512, 1024, 2048)],
    ),
}
"""Programs, each with the values that its parameters take in turn."""
PRICES = ("pair", "partial", "modulus", "listed", "term", "opening", "row")
"""What a pass pays for: pairs of all tiles; besides, those of partial tiles, more for a mask with a modulus, and those
of tiles with a list; queries of each launch times its terms after the first; queries of launches after the first;
queries."""


@dataclass(frozen=True)
class Sample:
    """A pattern with its times, and what its plan has of each price, for all heads together."""

    family: str
    params: Mapping[str, int]
    forward_ms: float
    backward_ms: float
    amounts: tuple[float, ...]
    """In the order of PRICES."""


def amounts(plan: Plan, family: str = "") -> tuple[float, ...]:
    """What a plan for one batch row has of each price; the masks of one family have a modulus."""
    rows = np.array([_of_launch(plan, launch) for launch in plan.launches])
    pairs, partial, listed, terms, queries = rows.sum(0).tolist()
    every = float(plan.heads * plan.n_q)
    modulus = partial if family == "modulus" else 0.0
    return pairs, partial, modulus, listed, terms - queries, queries - every, every


def _of_launch(plan: Plan, launch: Launch) -> tuple[float, ...]:
    """Pairs, partial ones, those with listed keys, queries times terms, and queries."""
    heads, area = len(launch.heads), plan.tile_q * plan.tile_k
    queries = float(heads * launch.queries.tiles * plan.tile_q)
    tiles = [int(t.by_query.count.sum()) for t in launch.terms]
    partial = sum(int(t.by_query.count[t.by_query.kind == PARTIAL].sum()) for t in launch.terms)
    listed = sum(x for x, t in zip(tiles, launch.terms, strict=True) if t.keys.index is not None)
    return heads * area * sum(tiles), heads * area * partial, heads * area * listed, len(tiles) * queries, queries


def fitted(found: Sequence[tuple[float, Sequence[float]]]) -> tuple[dict[str, float], float]:
    """The prices in pairs, and the root mean square of the relative errors, for times with amounts."""
    ms, have = np.array([t for t, _ in found]), np.array([a for _, a in found])
    prices, *_ = np.linalg.lstsq(have / ms[:, None], np.ones(len(ms)), rcond=None)
    errors = have @ prices / ms - 1
    return dict(zip(PRICES, (prices / prices[0]).tolist(), strict=True)), float(np.sqrt(np.mean(errors**2)))


@dataclass(frozen=True)
class Job:
    """Measures a family by name; see `turns.Job`."""

    n: int
    device: str

    def __call__(self, name: str, turn: Callable[[], None]) -> list[Sample]:
        size = Size(self.n, DIM, DTYPE, torch.device(self.device))
        given = inputs(HEADS, HEADS, size)
        text, values = FAMILIES[name]
        samples, contenders = [], []
        for params in values:
            compiled = patternc.compile(text, heads=HEADS, backend="triton", **params)
            contender = ours(compiled, {}, " ".join(f"{key} = {value}" for key, value in params.items()))
            failure = tried(contender, given)
            assert not isinstance(failure, str), failure
            plan = executed("triton", compiled, size, given, {})
            assert plan is not None, "the triton backend has plans"
            contenders.append(contender)
            samples.append((params, amounts(plan, name)))
        turn()
        times = self._times(contenders, given, size)
        return [
            Sample(name, params, *times[contender.name].medians()[:2], have)
            for (params, have), contender in zip(samples, contenders, strict=True)
        ]

    @staticmethod
    def _times(contenders: Sequence[Contender], given: Sequence[torch.Tensor], size: Size) -> dict[str, Times]:
        return alternated(contenders, given, clock_of(size.device), EFFORT)


def main() -> None:
    """Measures all families, or those named, and fits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=suite.LENGTH, help="tokens")
    parser.add_argument("--only", default="", help="names of families, with commas between")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=600, help="no family is begun after these")
    given = parser.parse_args()
    names = [name for name in given.only.split(",") if name]
    found: list[Sample] = []
    for name, samples in in_turns(Job(given.n, given.device), names or list(FAMILIES), given.seconds):
        for one in samples:
            millions = ", ".join(f"{x / 1e6:.4g}" for x in one.amounts)
            print(
                f"{name} {dict(one.params)}: {one.forward_ms:.4g} ms, {one.backward_ms:.4g} ms; {millions} M",
                flush=True,
            )
        found += samples
    whole = {one.family for one in found} == FAMILIES.keys()
    prices: dict[str, Any] = {}
    for direction in ("forward", "backward"):
        fit, error = fitted([(getattr(one, f"{direction}_ms"), one.amounts) for one in found])
        prices[direction] = {**fit, "error": error}
        print(direction, ", ".join(f"{key} {value:.4g}" for key, value in prices[direction].items()))
    if whole:
        shape = {"n": given.n, "heads": HEADS, "head_dim": DIM, "dtype": "bfloat16"}
        result = {**shape, "prices": prices, "samples": [asdict(one) for one in found]}
        print(record.write("costs", result, torch.device(given.device)))


if __name__ == "__main__":
    main()
