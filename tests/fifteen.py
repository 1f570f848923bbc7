"""The fifteen programs of examples/ with parameters for tests, and run-time tensors for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import formulas
import numpy as np

import patternc

EXAMPLES = Path(__file__).parents[1] / "examples"
INF = float("inf")


@dataclass(frozen=True, eq=False)
class Case:
    """A program with parameters so small that every mechanism acts, save where `trivial` says so."""

    name: str
    heads: int = 1
    layer: int = 0
    params: dict[str, Any] = field(default_factory=dict)
    trivial: bool = False

    def __str__(self) -> str:
        shown = [f"{key}={value}" for key, value in self.params.items()]
        return f"{self.name}({', '.join(shown)}) heads={self.heads} layer={self.layer}"

    @property
    def path(self) -> Path:
        return EXAMPLES / f"{self.name}.spat"

    def compiled(self, **options: Any) -> patternc.Compiled:
        """`options` are more arguments of `patternc.compile`, or others in place of the case's own."""
        return patternc.compile(self.path, **{"heads": self.heads, "layer": self.layer, **self.params, **options})

    def length(self, other: int) -> int:
        """The one length that the case is made for; `other` if it takes any."""
        match self.name:
            case "neighborhood":
                return self.params["H"] * self.params["W"]
            case "block_diffusion":
                return 2 * self.params["m"]
            case _:
                return other


CASES = [
    Case("local", 1, 0, {"window": 5}),
    Case("local", 3, 0, {"window": 20}),
    Case("local", 1, 0, {"window": INF}, trivial=True),
    Case("global_local", 1, 0, {"hubs": 3, "window": 11}),
    Case("global_local", 2, 0, {"hubs": 10, "window": 6}),
    Case("dilated_sparse", 1, 0, {"block": 4}),
    Case("dilated_sparse", 2, 0, {"block": 7, "rates": [1, 3]}),
    Case("hierarchical", 1, 0, {"levels": [(4, 9, 4), (16, 40, 8), (64, INF, 8)]}),
    Case("hierarchical", 2, 0, {"levels": [(3, 10, 5), (11, INF, 7)]}),
    Case("longnet", 4, 0, {"levels": [(16, 1), (32, 2), (64, 4)]}),
    Case("longnet", 3, 0, {"levels": [(9, 1), (15, 2), (40, 3)]}),
    Case("longnet", 2, 0, {"levels": []}, trivial=True),
    Case("block_dilated", 1, 0, {"block": 8, "parts": [(0, 4, 1), (4, 8, 2)]}),
    Case("block_dilated", 2, 0, {"block": 7, "near": 2, "parts": [(1, 3, 1), (3, 7, 3)]}),
    Case("longformer", 3, 0, {"w": 3, "dilation": [1, 2, 5]}),
    Case("longformer", 8, 0, {"w": 5}),
    Case("bigbird", 2, 0, {"block": 4, "r": 2, "seed": 7}),
    Case("bigbird", 4, 0, {"block": 7, "r": 3}),
    Case("strided", 4, 0, {"l": 8}),
    Case("strided", 3, 0, {"l": 13}),
    Case("butterfly", 1, 0, {"block": 4}),
    Case("butterfly", 2, 0, {"block": 5}),
    Case("documents", 1),
    Case("documents", 3),
    Case("adaptive", 2, 0, {"block": 4, "keep": 3}),
    Case("adaptive", 3, 0, {"block": 7, "keep": 2}),
    Case("gemma", 2, 4, {"window": 9}),
    Case("gemma", 2, 11, {"window": 9}, trivial=True),
]


def tensors_of(case: Case, n: int, batch: int = 2) -> dict[str, np.ndarray]:
    """Run-time tensors for one length: two batch rows that differ, scores with ties and NaN."""
    random = np.random.default_rng(n)
    match case.name:
        case "longformer":
            return {"is_global": random.random((batch, n)) < 0.05}
        case "documents":
            return {"doc": np.sort(random.integers(0, 1 + n // 16, (batch, n)), axis=1)}
        case "adaptive":
            count = -(-n // case.params["block"])
            score = random.integers(0, 6, (batch, case.heads, count, count)).astype(np.float32)
            score[random.random(score.shape) < 0.1] = np.nan
            return {"score": score}
        case _:
            return {}


def formula(case: Case, n: int, n_q: int | None = None) -> np.ndarray:
    """The multiplicities that the case should have, with its tensors for this length."""
    write = getattr(formulas, case.name)
    return write(n, n_q, heads=case.heads, layer=case.layer, **case.params, **tensors_of(case, n))


def grids(longest: int) -> Iterator[tuple[int, int]]:
    return ((rows, columns) for rows in range(1, longest + 1) for columns in range(1, longest // rows + 1))


ON_GRIDS = [Case("neighborhood", 1, 0, {"H": 8, "W": 9, "size": 5})]
HALVED = [Case("block_diffusion", 1, 0, {"m": 36, "B": 6})]
ALL = [*CASES, *ON_GRIDS, *HALVED]
FIRST = {case.name: case for case in reversed(ALL)}
"""Each program by its name, with the first of its parameters."""
