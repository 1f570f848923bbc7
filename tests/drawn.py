"""What the strategies of programs.py draw: a program's text, the values of its parameters, its run-time tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from hypothesis import note

import patternc

CI_EXAMPLES = 2000


def examples(ci: int) -> int:
    """How many examples a property gets that has `ci` of them in CI; `--examples` states what 2,000 become."""
    return max(1, ci * int(os.environ.get("PATTERNC_EXAMPLES", CI_EXAMPLES)) // CI_EXAMPLES)


def in_torch(tensors: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(t) for name, t in tensors.items()}


@dataclass(frozen=True)
class TensorSpec:
    """A run-time tensor of a program; `dims` are program text over n, heads and parameters."""

    name: str
    element: str
    dims: tuple[str, ...]
    batched: bool

    @property
    def declaration(self) -> str:
        return f"{self.name}: {self.element}[{', '.join(('batch', *self.dims) if self.batched else self.dims)}]"

    def make(self, names: Mapping[str, Any], batch: int) -> np.ndarray:
        """Values that hang on its name only; `names` are what its dims speak of."""
        shape = [eval(dim, {"__builtins__": {}, "cdiv": lambda a, b: -(-a // b)}, names) for dim in self.dims]
        random = np.random.default_rng(list(self.name.encode()))
        full = (batch, *shape) if self.batched else tuple(shape)
        match self.element:
            case "bool":
                return random.random(full) < 0.4
            case "int":
                return np.sort(random.integers(0, 4, full), axis=-1) if shape else random.integers(0, 9, full)
            case _:
                return random.integers(-8, 9, full) / 4  # ties are wanted, and exact sums


@dataclass(frozen=True)
class Program:
    """A text whose last pattern is compiled with `params`; `n` is fixed on a grid, else None."""

    text: str
    heads: int
    layer: int
    params: Mapping[str, Any] = field(default_factory=dict)
    known: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The values of all parameters, defaults too."""
    tensors: tuple[TensorSpec, ...] = ()
    n: int | None = None
    seed: bytes = field(default=bytes(10), repr=False)

    def make_tensors(self, n: int, batch: int = 2) -> dict[str, np.ndarray]:
        names = {**self.known, "n": n, "heads": self.heads}
        return {t.name: t.make(names, batch) for t in self.tensors}

    def compile(self, **options: Any) -> patternc.Compiled:
        return patternc.compile(self.text, heads=self.heads, layer=self.layer, **options, **self.params)

    def at(self, longest: int) -> tuple[int, int, dict[str, np.ndarray]]:
        """The n, n_q and tensors to test it at, which a failure tells."""
        n = self.length(longest)
        n_q = self.queries(n)
        note(f"{self.text}{self} at n = {n}, n_q = {n_q}")
        return n, n_q, self.make_tensors(n)

    def length(self, longest: int) -> int:
        """The n to test it at, drawn with the program."""
        return self.n or 1 + self.seed[1] * longest // 256

    def queries(self, n: int) -> int:
        """The n_q to test it at: n for half of the programs."""
        return 1 + min(n - 1, self.seed[2] * n // 128)
