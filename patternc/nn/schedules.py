"""Parameters of patterns that change in the course of training."""

from __future__ import annotations

from typing import Any

import torch

from patternc.backends.base import unknown
from patternc.nn.held import Patterned


class ProgressiveSparsity:
    """Leads an integer parameter of the patterns in a module from `start` to `end` in `steps` steps, along a line.

    It sets `over` in every module within `module` whose pattern has that parameter (PatternAttention and
    MultiheadAttention), at once and at every `step()`. Values are rounded to multiples of `multiple`, but for the
    ends: a pattern is compiled and planned anew whenever its value changes.

    ValueError if no pattern has the parameter, or for steps or a multiple below 1.
    """

    def __init__(
        self, module: torch.nn.Module, over: str = "window", *, start: int, end: int, steps: int, multiple: int = 1
    ) -> None:
        for name, value in (("steps", steps), ("multiple", multiple)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1; found {value}")
        self._modules = _with_parameter(module, over)
        self.over, self.start, self.end, self.steps, self.multiple = over, start, end, steps, multiple
        self.count = 0
        """Steps that were taken."""
        self._set()

    @property
    def value(self) -> int:
        """The parameter's value now."""
        if self.count in (0, self.steps):
            return self.end if self.count else self.start
        exact = self.start + (self.end - self.start) * self.count / self.steps
        rounded = round(exact / self.multiple) * self.multiple
        low, high = sorted((self.start, self.end))
        return min(max(rounded, low), high)

    def step(self) -> None:
        """To be called after each step of the optimiser; beyond the last step nothing changes."""
        if self.count < self.steps:
            self.count += 1
            self._set()

    def _set(self) -> None:
        for module in self._modules:
            module.set_params(**{self.over: self.value})

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands; not what it was made with."""
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where another schedule stood, and sets the parameter; ValueError if it has fewer steps."""
        if not 0 <= state["count"] <= self.steps:
            raise ValueError(f"expected a count of 0 to {self.steps} steps; found {state['count']}")
        self.count = state["count"]
        self._set()


def _with_parameter(module: torch.nn.Module, over: str) -> list[Patterned]:
    patterned: list[Any] = [part for part in module.modules() if isinstance(part, Patterned)]
    found = [part for part in patterned if over in part.compiled.pattern.parameters]
    if not found:
        names = sorted({name for part in patterned for name in part.compiled.pattern.parameters})
        raise ValueError(f"no pattern in the module has it: {unknown('parameter', over, names)}")
    return found
