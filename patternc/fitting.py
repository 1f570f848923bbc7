"""The value of a parameter that gives a pattern the density asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from patternc.backends.base import unknown
from patternc.compiler import Compiled, compile
from patternc.library import Pattern, load


@dataclass(frozen=True)
class Fit:
    """What `fit` found."""

    pattern: Pattern
    over: str
    value: int
    """Of the parameter `over`."""
    density: float
    """The share of pairs that is kept with this value, at the length n."""
    asked: float
    n: int
    heads: int
    layer: int
    params: Mapping[str, Any]
    """All parameters that were given, and the one found."""

    def compile(self, **options: Any) -> Compiled:
        """The pattern with the value found, for as many heads unless `heads` says otherwise; `kv_heads`, `backend` and
        the like are as in `patternc.compile`."""
        return compile(self.pattern, **{"heads": self.heads, "layer": self.layer, **self.params, **options})

    def __str__(self) -> str:
        found = f"{self.over} = {self.value} keeps {self.density:.4%} of the pairs at n = {self.n}"
        return f"{self.pattern.name}: {found}; {self.asked:.4%} was asked for"


def fit(
    source: str | Path | Pattern,
    density: float = 0.1,
    over: str = "window",
    n: int = 16384,
    *,
    pattern: str | None = None,
    heads: int = 1,
    layer: int = 0,
    tensors: Mapping[str, Any] | None = None,
    **params: Any,
) -> Fit:
    """The value from 1 to n of the integer parameter `over` whose density comes nearest to `density` at the length n.

    The other arguments are as in `patternc.compile`, `tensors` are the pattern's run-time tensors. The value is found
    by bisection, which counts the pairs of about log₂ n patterns exactly. ValueError if the densities at 1 and n do
    not enclose the one asked for, or if those that are counted do not rise or fall throughout; TypeError if there is
    no such parameter or it is no integer.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density is a share of the pairs, above 0 and at most 1; found {density}")
    chosen = source if isinstance(source, Pattern) else load(source).choose(pattern)
    _check_parameter(chosen, over, params)

    def counted(value: int) -> float:
        given: dict[str, Any] = {**params, over: value}
        return compile(chosen, heads=heads, layer=layer, **given).stats(n, **(tensors or {})).density

    value, found = _Search(counted, chosen.name, over).nearest(density, n)
    return Fit(chosen, over, value, found, density, n, heads, layer, {**params, over: value})


def _check_parameter(pattern: Pattern, over: str, params: Mapping[str, Any]) -> None:
    types = pattern.parameters
    if over not in types:
        raise TypeError(f"pattern {pattern.name!r}: {unknown('parameter', over, list(types))}")
    if types[over] not in ("int", "tokens", "blocks"):
        raise TypeError(f"{over!r} of pattern {pattern.name!r} must be an integer to be fitted; it is {types[over]}")
    if over in params:
        raise TypeError(f"{over!r} is to be found; it was also given, as {params[over]!r}")


class _Search:
    """Bisection over the densities that `counted` gives, each counted once."""

    def __init__(self, counted: Any, pattern: str, over: str) -> None:
        self._counted, self._pattern, self._over = counted, pattern, over
        self._known: dict[int, float] = {}

    def nearest(self, density: float, most: int) -> tuple[int, float]:
        """The value whose density is nearest, and that density."""
        low, high = 1, most
        rising = self._at(low) <= self._at(high)
        self._check_enclosed(density, low, high)
        while high - low > 1:
            middle = (low + high) // 2
            reached = self._at(middle) >= density if rising else self._at(middle) <= density
            self._check_monotone(rising)
            low, high = (low, middle) if reached else (middle, high)
        value = min((low, high), key=lambda v: (abs(self._at(v) - density), v))
        return value, self._at(value)

    def _at(self, value: int) -> float:
        if value not in self._known:
            self._known[value] = self._counted(value)
        return self._known[value]

    def _check_enclosed(self, density: float, low: int, high: int) -> None:
        ends = sorted((self._at(low), self._at(high)))
        if not ends[0] <= density <= ends[1]:
            raise ValueError(f"{self._pattern} does not reach density {density:.6g}: {self._ends()}")

    def _ends(self) -> str:
        low, high = min(self._known), max(self._known)
        return f"{self._over} = {low} gives {self._known[low]:.6g}, {self._over} = {high} gives {self._known[high]:.6g}"

    def _check_monotone(self, rising: bool) -> None:
        for (a, at_a), (b, at_b) in pairwise(sorted(self._known.items())):
            if (at_a > at_b) if rising else (at_a < at_b):
                message = f"the density of {self._pattern} neither rises nor falls throughout with {self._over}"
                raise ValueError(
                    f"{message}: {self._over} = {a} gives {at_a:.6g}, {b} gives {at_b:.6g}; {self._ends()}"
                )
